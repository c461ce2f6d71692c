"""The residual attention block, of which both towers consist, and the transformer.

The towers call a block in one of two ways. The reference path calls `forward`, which runs every submodule. The fast
paths call `queries`, `keys_values` and `output` on packed rows. They compute with the submodules' weights, so they are
used only if `is_original` finds no replaced or hooked submodule.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable

from clip.inputs import BlockAdapter, Projection


class LayerNorm(nn.LayerNorm):
    """Computes in float32 and returns the input's dtype, as CLIP's half-precision models need it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps).type_as(
            x
        )


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x). OpenAI's models were trained with this activation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class FrozenMLP(torch.autograd.Function):
    """The MLP of a block with frozen weights. It saves only the hidden layer before the activation.

    QuickGELU(h) is silu(1.702 h) / 1.702. The factors go into the matrix products, and cancel in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: torch.Tensor,
        w_fc: torch.Tensor,
        b_fc: torch.Tensor,
        w_proj: torch.Tensor,
        b_proj: torch.Tensor,
        quick: bool,
    ) -> torch.Tensor:
        factor = 1.702 if quick else 1.0
        hidden = torch.addmm(b_fc, x.flatten(0, -2), w_fc.t(), beta=factor, alpha=factor)  # (rows, mlp)
        ctx.save_for_backward(hidden, w_fc, w_proj)
        ctx.quick = quick  # type: ignore[attr-defined]
        active = F.silu(hidden) if quick else F.gelu(hidden)
        return torch.addmm(b_proj, active, w_proj.t(), alpha=1 / factor).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, w_fc, w_proj = ctx.saved_tensors  # type: ignore[attr-defined]
        through = grad.flatten(0, -2) @ w_proj  # (rows, mlp)
        quick: bool = ctx.quick  # type: ignore[attr-defined]
        backward = torch.ops.aten.silu_backward if quick else torch.ops.aten.gelu_backward
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
    """Attention of queries (..., length, width) to keys and values (..., keys, width) -> (..., length, width).

    Args:
        mask: (length, keys), added to the scores.
        causal: whether a query ignores later keys; queries and keys are then the same positions.
    """
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not (learns and q.dtype == torch.bfloat16 and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # torch's kernel has a 2 to 5 times slower backward pass here
    if causal:
        mask = torch.full_like(scores[0, 0], -torch.inf).triu_(1)
    return (scores if mask is None else scores + mask).softmax(-1) @ v


class ResidualAttentionBlock(nn.Module):
    """Pre-norm attention and MLP.

    `forward` takes whole sequences and runs every submodule's own `forward`. The other methods are its parts, for rows
    in any arrangement (..., width). Their caller decides which rows attend to which.
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

    def forward(self, x: torch.Tensor, adapter: BlockAdapter | None = None) -> torch.Tensor:
        """(length, batch, width) -> (length, batch, width)"""
        h = self.ln_1(x)
        if adapter is not None and self._attention_is_original(adapter, h):
            x = x + self._adapted_attention(h, adapter)
        else:
            mask = None
            if self.causal:
                mask = torch.full((len(x), len(x)), -torch.inf, dtype=x.dtype, device=x.device).triu_(1)
            x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        return _add(x + self.mlp(self.ln_2(x)), None if adapter is None else adapter.beside(h))

    def queries_keys_values(self, h: torch.Tensor, adapter: BlockAdapter | None = None) -> torch.Tensor:
        """Output of `ln_1` (..., width) -> queries, keys and values side by side (..., 3 * width)."""
        return self._project(h, slice(None), ("q", "k", "v"), adapter)

    def queries(self, h: torch.Tensor, adapter: BlockAdapter | None = None) -> torch.Tensor:
        """Output of `ln_1` (..., width) -> queries (..., width)."""
        return self._project(h, slice(None, h.shape[-1]), ("q",), adapter)

    def keys_values(self, h: torch.Tensor, adapter: BlockAdapter | None = None) -> torch.Tensor:
        """Output of `ln_1` (..., width) -> keys and values side by side (..., 2 * width)."""
        return self._project(h, slice(h.shape[-1], None), ("k", "v"), adapter)

    def _project(
        self, h: torch.Tensor, rows: slice, names: Sequence[Projection], adapter: BlockAdapter | None
    ) -> torch.Tensor:
        """The projections `names`, side by side: `rows` of the joint weight (3 * width, width), plus the adapter's."""
        projected = F.linear(h, self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows])
        deltas = [] if adapter is None else [adapter.delta(name, h) for name in names]
        if all(delta is None for delta in deltas):
            return projected
        parts = projected.chunk(len(names), dim=-1)  # each (..., width)
        return torch.cat([_add(part, delta) for part, delta in zip(parts, deltas, strict=True)], dim=-1)

    def output(
        self,
        x: torch.Tensor,
        attended: torch.Tensor,
        adapter: BlockAdapter | None = None,
        h: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The block's output (..., width).

        Args:
            x: the block's input rows.
            attended: what the attention returned for them, before `out_proj`.
            h: the output of `ln_1` for them, if the caller has it. Only an adapter needs it.
        """
        if adapter is None:
            return self.output_and_mlp(x, attended)
        h = self.ln_1(x) if h is None else h
        x = self.output_and_mlp(_add(x, adapter.delta("out", attended)), attended)
        return _add(x, adapter.beside(h))

    def output_and_mlp(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """`output` without an adapter. `clip.compiling` replaces this method, so it takes tensors only."""
        x = x + self.attn.out_proj(attended)
        return x + self._mlp(self.ln_2(x))

    def _mlp(self, h: torch.Tensor) -> torch.Tensor:
        """`mlp`; with frozen weights its backward pass needs less memory."""
        fc, activation, proj = self.mlp
        weights = (fc.weight, fc.bias, proj.weight, proj.bias)
        quick = type(activation) is QuickGELU
        plain = torch.is_autocast_enabled(h.device.type) or any(weight.requires_grad for weight in weights)
        if plain or not (quick or activation.approximate == "none"):
            return self.mlp(h)
        return FrozenMLP.apply(h, *weights, quick)

    def _attention_is_original(self, adapter: BlockAdapter, h: torch.Tensor) -> bool:
        """Whether `attn` can be computed from its weights, so that an adapter's deltas can be added.

        Raises:
            TypeError: `attn` was replaced or hooked, but the adapter has deltas for it.
        """
        if type(self.attn) is nn.MultiheadAttention and not has_hooks(self.attn):
            return True
        names: tuple[Projection, ...] = ("q", "k", "v", "out")
        if any(adapter.delta(name, h) is not None for name in names):
            raise TypeError("an adapter changes q, k, v or out, but the block's attention was replaced or hooked")
        return False

    def _adapted_attention(self, h: torch.Tensor, adapter: BlockAdapter) -> torch.Tensor:
        """`attn` with the adapter's deltas: (length, batch, width) -> (length, batch, width)"""
        projected = self.queries_keys_values(h, adapter).transpose(0, 1)  # (batch, length, 3 * width)
        q, k, v = (split_heads(part, self.attn.num_heads) for part in projected.chunk(3, dim=-1))
        attended = join_heads(attend(q, k, v, causal=self.causal)).transpose(0, 1)  # (length, batch, width)
        return _add(self.attn.out_proj(attended), adapter.delta("out", attended))


def _add(x: torch.Tensor, delta: torch.Tensor | None) -> torch.Tensor:
    return x if delta is None else x + delta.to(x.dtype)


class Transformer(nn.Module):
    """A sequence of blocks over (length, batch, width)."""

    def __init__(
        self, width: int, layers: int, heads: int, causal: bool = False, mlp: int = 0, activation: str = "quick_gelu"
    ):
        super().__init__()
        self.width, self.layers, self.heads = width, layers, heads
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, causal, mlp, activation) for _ in range(layers))
        )
        self.original_types = module_types(self)

    def forward(
        self,
        x: torch.Tensor,
        change_input: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
        adapters: Mapping[int, BlockAdapter] | None = None,
    ) -> torch.Tensor:
        """(length, batch, width) -> (length, batch, width)

        Args:
            change_input: called with a layer's input and number; returns the input to use, of any length.
            adapters: layer -> adapter of that layer's block.
        """
        if change_input is None and not adapters:
            return self.resblocks(x)
        for layer, block in enumerate(self.resblocks):
            x = x if change_input is None else change_input(x, layer)
            x = block(x, adapters[layer]) if adapters and layer in adapters else block(x)
        return x

    def blocks(self) -> list[ResidualAttentionBlock]:
        """`resblocks` as a typed list."""
        return cast(list[ResidualAttentionBlock], list(self.resblocks))


def is_original(module: nn.Module) -> bool:
    """Whether no part of a `Transformer` or image tower, nor the module itself, was replaced, wrapped or hooked.

    The fast paths compute with the weights of a block's submodules. They are used only on an original tower, so that
    they never bypass a user's own adapter.
    """
    is_derived = isinstance(module, Transformer) and type(module) is not Transformer
    if is_derived or module_types(module) != getattr(module, "original_types", None):
        return False
    return not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook is registered on a module or submodule, or its `forward` was replaced."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any("forward" in vars(m) or any(vars(m)[hook] for hook in hooks) for m in module.modules())


def module_types(module: nn.Module) -> list[type]:
    """Types of a module and its submodules. A tower stores them as `original_types`, for `is_original`."""
    return [type(part) for part in module.modules()]
