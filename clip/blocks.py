"""The residual attention block that both towers are made of."""

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


class LayerNorm(nn.LayerNorm):
    """Computes in float32 whatever the input's type is, as CLIP's half precision needs it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps).type_as(
            x
        )


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), which OpenAI's models were trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class FrozenMLP(torch.autograd.Function):
    """The MLP of a block whose weights are frozen: it keeps the hidden layer before its activation, and nothing else.

    QuickGELU is silu(1.702 h) / 1.702: the factors go into the matrix products, and cancel in the backward pass.
    """

    @staticmethod
    def forward(ctx, x, w_fc, b_fc, w_proj, b_proj, quick):
        factor = 1.702 if quick else 1.0
        hidden = torch.addmm(b_fc, x.flatten(0, -2), w_fc.t(), beta=factor, alpha=factor)  # (rows, mlp)
        ctx.save_for_backward(hidden, w_fc, w_proj)
        ctx.quick = quick
        active = F.silu(hidden) if quick else F.gelu(hidden)
        return torch.addmm(b_proj, active, w_proj.t(), alpha=1 / factor).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, w_fc, w_proj = ctx.saved_tensors
        through = grad.flatten(0, -2) @ w_proj  # (rows, mlp)
        backward = torch.ops.aten.silu_backward if ctx.quick else torch.ops.aten.gelu_backward
        through = backward.grad_input(through, hidden, grad_input=through)  # in place
        return (through @ w_fc).view(grad.shape), None, None, None, None, None


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(..., length, width) -> (..., heads, length, width / heads)"""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def join_heads(x: torch.Tensor) -> torch.Tensor:
    """(..., heads, length, width / heads) -> (..., length, width)"""
    return x.transpose(-2, -3).flatten(-2)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """What queries (..., length, width) get from keys and values (..., keys, width); `mask` (length, keys) is added to
    the scores, and a causal one where keys are queries."""
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not (learns and q.dtype == torch.bfloat16 and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # the backward pass of torch's kernel takes two to five times as long
    if causal:
        mask = torch.full_like(scores[0, 0], -torch.inf).triu_(1)
    return (scores if mask is None else scores + mask).softmax(-1) @ v


class ResidualAttentionBlock(nn.Module):
    """Pre-norm attention and MLP.

    `forward` is the plain way over (length, batch, width), through every submodule's own `forward`. `project` and
    `finish` are its parts, for rows in any arrangement (..., width): what attends to what is the caller's business.
    """

    def __init__(self, width: int, heads: int, causal: bool = False, mlp: int = 0, activation: str = "quick_gelu"):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, mlp or 4 * width),
                gelu=ACTIVATIONS[activation](),
                c_proj=nn.Linear(mlp or 4 * width, width),
            )
        )
        self.ln_2 = LayerNorm(width)
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(length, batch, width) -> the same"""
        h = self.ln_1(x)
        mask = None
        if self.causal:
            mask = torch.full((len(x), len(x)), -torch.inf, dtype=x.dtype, device=x.device).triu_(1)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))

    def project(self, h: torch.Tensor, first: int = 0, last: int = 3) -> torch.Tensor:
        """Queries (0), keys (1) and values (2) number `first` to `last` (not included) of normed rows, side by side."""
        part = slice(first * h.shape[-1], last * h.shape[-1])
        return F.linear(h, self.attn.in_proj_weight[part], self.attn.in_proj_bias[part])

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Rows `x` and what their attention gave -> the block's output, both (..., width)."""
        x = x + self.attn.out_proj(attended)
        return x + self._mlp(self.ln_2(x))

    def _mlp(self, h: torch.Tensor) -> torch.Tensor:
        """`mlp`, without what its backward pass would keep for frozen weights."""
        fc, activation, proj = self.mlp
        weights = (fc.weight, fc.bias, proj.weight, proj.bias)
        quick = type(activation) is QuickGELU
        plain = torch.is_autocast_enabled(h.device.type) or any(weight.requires_grad for weight in weights)
        if plain or not (quick or activation.approximate == "none"):
            return self.mlp(h)
        return FrozenMLP.apply(h, *weights, quick)


class Transformer(nn.Module):
    """Blocks one after another, over (length, batch, width)."""

    def __init__(
        self, width: int, layers: int, heads: int, causal: bool = False, mlp: int = 0, activation: str = "quick_gelu"
    ):
        super().__init__()
        self.width, self.layers, self.heads = width, layers, heads
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, causal, mlp, activation) for _ in range(layers))
        )
        self.original_types = module_types(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resblocks(x)

    def blocks(self) -> list[ResidualAttentionBlock]:
        """`resblocks` as a list of what they are."""
        return cast(list[ResidualAttentionBlock], list(self.resblocks))


def compile_blocks(model: nn.Module) -> None:
    """Have `torch.compile` fuse what follows the attention in every block, at its first use: needs a C++ compiler on
    CPUs, Triton on GPUs."""
    for block in model.modules():
        if isinstance(block, ResidualAttentionBlock):
            block.finish = torch.compile(block.finish, dynamic=True)  # type: ignore[method-assign]


def is_untouched(module: nn.Module) -> bool:
    """Whether nobody has replaced, wrapped or hooked any part of a `Transformer` or image tower, or the whole of it.

    The fast ways compute with the weights of a block's parts. They are taken only then, so that an adapter that
    somebody put in is never passed by.
    """
    is_derived = isinstance(module, Transformer) and type(module) is not Transformer
    if is_derived or module_types(module) != getattr(module, "original_types", None):
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any("forward" in vars(m) or any(vars(m)[hook] for hook in hooks) for m in module.modules())


def module_types(module: nn.Module) -> list[type]:
    """Types of a module and its parts; as `original_types` what `is_untouched` compares them with."""
    return [type(part) for part in module.modules()]
