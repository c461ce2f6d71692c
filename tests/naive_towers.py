"""The towers written out as simply as possible, as a reference for tests: whole sequences, all rows, no shortcut.

`text` and `image` take per-sequence prompts. They share no code with `clip/` but the modules' weights.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from conftest import relative
from torch import nn

from clip.blocks import ResidualAttentionBlock
from clip.inputs import BlockAdapter, TowerInputs
from clip.model import CLIP


class ToyAdapter(BlockAdapter, nn.Module):
    """A low-rank row-wise map for every hook: rows beside the block, and deltas of the named projections."""

    def __init__(self, width: int, beside: bool = True, projections: tuple[str, ...] = ("q", "k", "v", "out")):
        super().__init__()
        names = [*(["beside"] if beside else []), *projections]
        self.down = nn.ParameterDict({name: nn.Parameter(torch.randn(width, 4) * width**-0.5) for name in names})
        self.up = nn.ParameterDict({name: nn.Parameter(torch.randn(4, width) * 0.2) for name in names})

    def beside(self, h):
        return self._rows("beside", h)

    def delta(self, projection, h):
        return self._rows(projection, h)

    def _rows(self, name, h):
        return (h.float() @ self.down[name]).relu() @ self.up[name] if name in self.down else None


def block(module: ResidualAttentionBlock, x: torch.Tensor, adapter: BlockAdapter | None) -> torch.Tensor:
    """One layer over x (batch, length, width)."""
    adapter = adapter or BlockAdapter()
    heads, width = module.attn.num_heads, x.shape[-1]
    h = module.ln_1(x)
    weights, biases = module.attn.in_proj_weight.chunk(3), module.attn.in_proj_bias.chunk(3)
    q, k, v = (
        _add(h @ weight.t() + bias, adapter.delta(name, h)).view(*h.shape[:2], heads, -1)
        for name, weight, bias in zip("qkv", weights, biases, strict=True)
    )
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (width // heads) ** -0.5
    if module.causal:
        scores = scores + torch.full_like(scores[0, 0], -torch.inf).triu(1)
    attended = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).reshape(x.shape)
    out = attended @ module.attn.out_proj.weight.t() + module.attn.out_proj.bias
    middle = x + _add(out, adapter.delta("out", attended))
    return _add(middle + module.mlp(module.ln_2(middle)), adapter.beside(h))


def _add(x: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    return x if rows is None else x + rows


def _insert(x: torch.Tensor, inputs: TowerInputs, layer: int) -> torch.Tensor:
    """`x` with the tokens of `layer` at positions 1 to n."""
    if layer not in inputs.inserted:
        return x
    new = inputs.inserted[layer].expand(len(x), -1, -1)
    if layer == min(inputs.inserted):
        return torch.cat([x[:, :1], new, x[:, 1:]], dim=1)
    n = new.shape[1]
    new = inputs.blend * new + (1 - inputs.blend) * x[:, 1 : 1 + n]
    return torch.cat([x[:, :1], new, x[:, 1 + n :]], dim=1)


def text(
    model: CLIP, embeddings: torch.Tensor, eot: torch.Tensor, inputs: TowerInputs
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, embed_dim) and inserted rows (N, n, width).

    Args:
        embeddings: (N, context length, width), without positions; anything after EOT.
        eot: position of EOT of each sequence, (N,).
        inputs: its prompts are (n, width) or (N, n, width).
    """
    x, inserted = embeddings, 0
    for layer, module in enumerate(model.transformer.resblocks):
        if layer in inputs.prompts:
            prompt = inputs.prompts[layer].expand(len(x), *inputs.prompts[layer].shape[-2:])
            start = 1 + inserted
            x = torch.cat([x[:, :start], prompt, x[:, start + prompt.shape[1] :]], dim=1)
        if layer == 0:
            x = x + model.positional_embedding
        x = _insert(x, inputs, layer)
        inserted = x.shape[1] - embeddings.shape[1]
        x = block(module, x, inputs.adapters.get(layer))
    x = model.ln_final(x)
    return x[torch.arange(len(x)), eot + inserted] @ model.text_projection, x[:, 1 : 1 + inserted]


def image(model: CLIP, images: torch.Tensor, inputs: TowerInputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (batch, embed_dim), inserted rows (batch, n, width) and patch rows (batch, patches, width)."""
    visual = model.visual
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(images), 1, -1), patches], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding)
    inserted = prompts = 0
    for layer, module in enumerate(visual.transformer.resblocks):
        if layer in inputs.prompts:
            prompt = inputs.prompts[layer].expand(len(x), -1, -1)
            prompt = visual.ln_pre(prompt) if layer == 0 else prompt
            x = torch.cat([x[:, : x.shape[1] - prompts], prompt], dim=1)
            prompts = prompt.shape[1]
        x = _insert(x, inputs, layer)
        inserted = (
            len(inputs.inserted[min(inputs.inserted)]) if inputs.inserted and layer >= min(inputs.inserted) else 0
        )
        x = block(module, x, inputs.adapters.get(layer))
    x = visual.ln_post(x)
    first = 1 + inserted
    return x[:, 0] @ visual.proj, x[:, 1:first], x[:, first : first + patches.shape[1]]


def use_reference_path(model: CLIP) -> None:
    """Hook both transformers, so that the towers run their modules' own `forward`."""
    for tower in (model.transformer, getattr(model.visual, "transformer", None)):
        if tower is not None:
            tower.register_forward_hook(lambda *_: None)


def features_and_gradients(
    encode: Callable[[], torch.Tensor], parameters: Iterable[nn.Parameter]
) -> list[torch.Tensor]:
    """The features, and the gradients of a random weighted sum of them."""
    features = encode()
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    return [features.detach(), *torch.autograd.grad((features * weights).sum(), list(parameters))]


def assert_same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other) or relative(one, other) < tolerance  # both may be 0
