"""The residual attention block and the transformer. The text tower and the Vision Transformer are built from them.

The towers call a block in one of two ways. The reference path calls `forward`, which runs every submodule. The fast
paths call `queries`, `keys_values` and `output` on packed rows. The fast paths use the submodules' weights directly,
so they would ignore a submodule that a user has replaced or hooked. Therefore a tower takes a fast path only if
`is_original` returns True.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from clip.attention import attend, join_heads, split_heads
from clip.inputs import BlockAdapter, Projection
from clip.mlp import ACTIVATIONS, FrozenMLP, QuickGELU
from clip.patched import check_call


class LayerNorm(nn.LayerNorm):
    """Layer norm that computes in float32 and returns the input's dtype. CLIP's half-precision models need this."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight, self.bias
        if weight.dtype == x.dtype:  # torch's kernel computes in float32 for every dtype, so no cast is needed
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps).type_as(x)
        return F.layer_norm(x.float(), self.normalized_shape, weight.float(), bias.float(), self.eps).type_as(x)


class ResidualAttentionBlock(nn.Module):
    """A transformer block with pre-norm attention and MLP.

    `forward` takes whole sequences and calls the `forward` of every submodule. Each of the other methods computes one
    step of the block on rows (..., width), which needn't be whole sequences. Between these steps, the caller computes
    the attention. So the caller decides to which rows each row attends.
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
        """Run the block on whole sequences: (length, batch, width) -> (length, batch, width)"""
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
        """Project `h` (..., width), the output of `ln_1`, to queries, keys and values side by side (..., 3 * width)."""
        return self._project(h, slice(None), ("q", "k", "v"), adapter)

    def queries(self, h: torch.Tensor, adapter: BlockAdapter | None = None) -> torch.Tensor:
        """Project `h` (..., width), the output of `ln_1`, to queries (..., width)."""
        return self._project(h, slice(None, h.shape[-1]), ("q",), adapter)

    def keys_values(self, h: torch.Tensor, adapter: BlockAdapter | None = None) -> torch.Tensor:
        """Project `h` (..., width), the output of `ln_1`, to keys and values side by side (..., 2 * width)."""
        return self._project(h, slice(h.shape[-1], None), ("k", "v"), adapter)

    def project_parts(self, parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
        """Normalise and project each part of the block's input alone, and join the results along `dim`.

        At the first layer, most tokens are frozen. If they are a separate part, no gradient is computed for them.

        Args:
            parts: each (..., width).

        Returns:
            Queries, keys and values side by side (..., 3 * width).
        """
        return torch.cat([self.queries_keys_values(self.ln_1(part)) for part in parts], dim)

    def _project(
        self, h: torch.Tensor, rows: slice, names: Sequence[Projection], adapter: BlockAdapter | None
    ) -> torch.Tensor:
        """Compute the projections of `h` that are listed in `names`, and add the adapter's deltas.

        The results are returned side by side: (..., number of projections * width).

        Args:
            rows: rows of the joint weight (3 * width, width) that belong to these projections.
        """
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
        """Compute the block's output (..., width) from its input and the result of the attention.

        Args:
            x: input rows of the block.
            attended: result of the attention for these rows, before `out_proj`.
            adapter: the block's adapter, if it has one.
            h: output of `ln_1` for these rows. None: this method computes `h` if the adapter needs it.
        """
        if adapter is None:
            return self.output_and_mlp(x, attended)
        h = self.ln_1(x) if h is None else h
        x = self.output_and_mlp(_add(x, adapter.delta("out", attended)), attended)
        return _add(x, adapter.beside(h))

    def output_and_mlp(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Compute `output` for a block without an adapter. `torch.compile` works because all arguments are tensors."""
        x = x + self.attn.out_proj(attended)
        return x + self._mlp(self.ln_2(x))

    def _mlp(self, h: torch.Tensor) -> torch.Tensor:
        """Apply the MLP. If the MLP's weights are frozen, use `FrozenMLP`, whose backward pass needs less memory."""
        fc, activation, proj = self.mlp
        weights = (fc.weight, fc.bias, proj.weight, proj.bias)
        quick = type(activation) is QuickGELU
        plain = torch.is_autocast_enabled(h.device.type) or any(weight.requires_grad for weight in weights)
        if plain or not (quick or activation.approximate == "none"):
            return self.mlp(h)
        return FrozenMLP.apply(h, *weights, quick)

    def _attention_is_original(self, adapter: BlockAdapter, h: torch.Tensor) -> bool:
        """Return whether `attn` is unchanged. An adapter's deltas can be added only to an unchanged attention.

        Raises:
            TypeError: `attn` was replaced or hooked, but the adapter returns a delta for q, k, v or out.
        """
        if type(self.attn) is nn.MultiheadAttention and not has_hooks(self.attn):
            return True
        names: tuple[Projection, ...] = ("q", "k", "v", "out")
        if any(adapter.delta(name, h) is not None for name in names):
            raise TypeError("an adapter can't change q, k, v or out if the block's attention was replaced or hooked")
        return False

    def _adapted_attention(self, h: torch.Tensor, adapter: BlockAdapter) -> torch.Tensor:
        """Compute the attention with the adapter's deltas added: (length, batch, width) -> (length, batch, width)"""
        projected = self.queries_keys_values(h, adapter).transpose(0, 1)  # (batch, length, 3 * width)
        q, k, v = (split_heads(part, self.attn.num_heads) for part in projected.chunk(3, dim=-1))
        attended = join_heads(attend(q, k, v, causal=self.causal)).transpose(0, 1)  # (length, batch, width)
        return _add(self.attn.out_proj(attended), adapter.delta("out", attended))


def _add(x: torch.Tensor, delta: torch.Tensor | None) -> torch.Tensor:
    return x if delta is None else x + delta.to(x.dtype)


class Transformer(nn.Module):
    """A sequence of residual attention blocks. Inputs and outputs are (length, batch, width)."""

    def __init__(
        self, width: int, layers: int, heads: int, causal: bool = False, mlp: int = 0, activation: str = "quick_gelu"
    ):
        super().__init__()
        check_call("Transformer with a mask", isinstance(causal, bool))
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
        """Run all blocks: (length, batch, width) -> (length, batch, width)

        Args:
            change_input: function called before each layer, with the layer's input and the layer's number. The
                function returns the changed input, which may have another length.
            adapters: {layer: adapter of the layer's block}.

        Raises:
            PatchedBackboneError: the arguments are those of a changed copy of CLIP, such as [x, prompts, counter].
        """
        known = isinstance(x, torch.Tensor) and (change_input is None or callable(change_input))
        check_call("the transformer with other arguments than one tensor", known)
        if change_input is None and not adapters:
            return self.resblocks(x)
        return run_blocks(self.resblocks, x, change_input, adapters or {})

    def blocks(self) -> list[ResidualAttentionBlock]:
        """Return `resblocks` as a typed list."""
        return cast(list[ResidualAttentionBlock], list(self.resblocks))


def run_blocks(
    blocks: Iterable[nn.Module],
    x: torch.Tensor,
    change_input: Callable[[torch.Tensor, int], torch.Tensor] | None,
    adapters: Mapping[int, BlockAdapter],
) -> torch.Tensor:
    """Call each block on x (length, batch, width). `Transformer.forward` explains the other arguments.

    Raises:
        TypeError: a user replaced a block that has an adapter, and the new block's `forward` doesn't accept `adapter`.
    """
    for layer, block in enumerate(blocks):
        x = x if change_input is None else change_input(x, layer)
        if layer not in adapters:
            x = block(x)
        elif _takes_adapter(block):
            x = block(x, adapter=adapters[layer])
        else:
            raise TypeError(
                f"an adapter can't change layer {layer}, because its block was replaced or hooked and the block's "
                "`forward` doesn't take `adapter`"
            )
    return x


def _takes_adapter(block: nn.Module) -> bool:
    """Return whether the block's `forward` accepts a keyword argument `adapter`."""
    parameters = inspect.signature(block.forward).parameters
    return "adapter" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def is_original(module: nn.Module) -> bool:
    """Return False if a user has replaced, wrapped or hooked the module or one of its submodules, otherwise True.

    The fast paths use the weights of a block's submodules directly. If a user has replaced a submodule, the
    fast paths would never call the new submodule. So a tower takes a fast path only if this function returns True.

    Args:
        module: a `Transformer` or an image tower.
    """
    is_derived = isinstance(module, Transformer) and type(module) is not Transformer
    if is_derived or module_types(module) != getattr(module, "original_types", None):
        return False
    return not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Return whether the module or one of its submodules has a hook or a replaced `forward`."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any("forward" in vars(m) or any(vars(m)[hook] for hook in hooks) for m in module.modules())


def module_types(module: nn.Module) -> list[type]:
    """Return the types of a module and its submodules.

    A tower stores this list as `original_types` when it is built. `is_original` compares the current types
    with the stored list.
    """
    return [type(part) for part in module.modules()]
