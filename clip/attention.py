"""Attention of queries to keys and values, and the split of the width into heads. Both towers use it."""

import torch
import torch.nn.functional as F

_FEW_KEYS = 128  # up to this number of keys, see `prefers_matrix_products`


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Split the width into heads: (..., length, width) -> (..., heads, length, width / heads)"""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def join_heads(x: torch.Tensor) -> torch.Tensor:
    """Undo `split_heads`: (..., heads, length, width / heads) -> (..., length, width)"""
    return x.transpose(-2, -3).flatten(-2)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """Compute the attention of queries (..., length, width) to keys and values (..., keys, width).

    Args:
        mask: (length, keys), added to the attention scores.
        causal: if True, a query ignores later keys. Queries and keys must then belong to the same positions.

    Returns:
        One row per query, (..., length, width).
    """
    if not prefers_matrix_products(k):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # (..., length, keys)
    if causal:
        mask = torch.full_like(scores[0, 0], -torch.inf).triu_(1)
    return (scores if mask is None else scores + mask).softmax(-1) @ v


def prefers_matrix_products(k: torch.Tensor) -> bool:
    """Return whether attention to the keys `k` is faster as matrix products and a softmax than with torch's kernel.

    This is so on a CPU, in bfloat16 or for few keys. There, the kernel's backward pass is up to 5 times slower. See
    benchmarks/NOTES.md.
    """
    return k.device.type == "cpu" and (k.dtype == torch.bfloat16 or k.shape[-2] <= _FEW_KEYS)
