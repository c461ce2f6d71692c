"""CLIP's Vision Transformer. It takes prompts, inserted tokens and adapters as arguments (`TowerInputs`).

`CLIP.encode_image` calls this image tower. At the last layer, queries are computed only up to the last row that is
returned. If the caller wants only features, this is the first row, the class token (CLS).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from clip.attention import attend, join_heads, split_heads
from clip.blocks import LayerNorm, Transformer, is_original, module_types
from clip.inputs import NO_INPUTS, Rows, TowerInputs, TowerOutput, cast_together, insert_tokens
from clip.patched import check_call
from clip.reference import count_layers, run_transformer


class VisionTransformer(nn.Module):
    """CLIP's Vision Transformer (ViT). The feature is the last layer's class token, after `ln_post` and `proj`."""

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        mlp: int = 0,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        self.layers = layers
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        positions = (input_resolution // patch_size) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(positions, width) * width**-0.5)
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, mlp=mlp, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, output_dim) * width**-0.5)
        self.original_types = module_types(self)

    def forward(
        self, x: torch.Tensor, inputs: TowerInputs = NO_INPUTS, rows: Rows | None = None
    ) -> torch.Tensor | TowerOutput:
        """Encode images (batch, 3, resolution, resolution) as features (batch, output_dim), not normalised.

        Args:
            inputs: prompts (Visual Prompt Tuning, Jia et al., ECCV 2022), inserted tokens and adapters by layer.
            rows: if None, only features are returned. If "inserted" or "patches", a `TowerOutput` is returned. It has
                the features and the rows of the inserted tokens or patches after the last layer, (batch, n, width).
                `ln_post` is applied to the rows, but the projection isn't.

        Raises:
            ValueError: `inputs` has a layer that the tower doesn't have; or `rows` is "inserted", but no tokens are
                inserted.
            PatchedBackboneError: the arguments are those of a changed copy of CLIP, such as prompts as tensors.
        """
        known = isinstance(x, torch.Tensor) and isinstance(inputs, TowerInputs)
        check_call("the image tower with other arguments than one tensor", known)
        if not inputs.is_empty:
            inputs.check(count_layers(self.transformer, self.layers), "image")
        if rows == "inserted" and not inputs.inserted:
            raise ValueError("the image tower can't return inserted rows, because no tokens are inserted")
        x = self.conv1(x.type(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (batch, patches, width)
        n_patches = x.shape[1]
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)  # torch.export would make len(x) a constant
        x = torch.cat([cls, x], dim=1)  # (batch, 1 + patches, width)
        x = x + self.positional_embedding.to(x.dtype)
        parts = [self.ln_pre(x)]
        inserted = cast_together(inputs.inserted, x.dtype)
        inputs = replace(inputs, prompts=_over_batch(inputs.prompts, x), inserted=inserted)
        if 0 in inputs.prompts:
            parts.append(self.ln_pre(inputs.prompts[0]))  # (batch, n, width)
        wanted = slice(1, 1 + inputs.n_inserted)  # which rows of the last layer's output to return
        if rows == "patches":
            wanted = slice(wanted.stop, wanted.stop + n_patches)
        run = self._encode_fast if is_original(self.transformer) else self._encode_reference
        x = run(parts, inputs, wanted.stop if rows else 1)  # (batch, 1 or more, width), CLS first
        features = self.ln_post(x[:, 0]) @ self.proj.to(x.dtype)  # (batch, output_dim)
        return TowerOutput(features, self.ln_post(x[:, wanted])) if rows else features

    def _encode_fast(self, parts: Sequence[torch.Tensor], inputs: TowerInputs, n_rows: int) -> torch.Tensor:
        """Return the first `n_rows` rows of the last layer's output, (batch, n_rows, width).

        Args:
            parts: the frozen tokens (batch, length, width); and, if any, the prompts of layer 0, (batch, n, width).
        """
        heads = self.transformer.heads
        *blocks, last = self.transformer.blocks()
        x = torch.cat(list(parts), dim=1)  # (batch, length, width)
        for layer, block in enumerate(blocks):
            x = _change_input(x, inputs, layer)
            adapter = inputs.adapters.get(layer)
            h = None
            if layer or adapter is not None or layer in inputs.inserted:
                h = block.ln_1(x)
                qkv = block.queries_keys_values(h, adapter)  # (batch, length, 3 * width)
            else:
                qkv = block.project_parts(parts, dim=1)
            q, k, v = (split_heads(t, heads) for t in qkv.chunk(3, dim=-1))  # (batch, heads, length, head width)
            x = block.output(x, join_heads(attend(q, k, v)), adapter, h)
        adapter = inputs.adapters.get(len(blocks))
        x = _change_input(x, inputs, len(blocks))
        h = last.ln_1(x)
        # Compute queries only for the rows to return, but keys and values for all rows.
        q = split_heads(last.queries(h[:, :n_rows], adapter), heads)  # (batch, heads, n_rows, head width)
        k, v = (split_heads(t, heads) for t in last.keys_values(h, adapter).chunk(2, dim=-1))
        return last.output(x[:, :n_rows], join_heads(attend(q, k, v)), adapter, h[:, :n_rows])

    def _encode_reference(self, parts: Sequence[torch.Tensor], inputs: TowerInputs, n_rows: int) -> torch.Tensor:
        """Compute the same result as `_encode_fast`, but call the modules' `forward`.

        This method is used if a user replaced or hooked the transformer or one of its submodules.
        """

        def change_input(x: torch.Tensor, layer: int) -> torch.Tensor:
            """Apply the inputs of `layer` to x (length, batch, width). Inserted or appended tokens make it longer."""
            return _change_input(x.transpose(0, 1), inputs, layer).transpose(0, 1)

        x = torch.cat(list(parts), dim=1).transpose(0, 1)  # (length, batch, width)
        return run_transformer(self.transformer, x, change_input, inputs).transpose(0, 1)[:, :n_rows]


def _over_batch(prompts: Mapping[int, torch.Tensor], x: torch.Tensor) -> Mapping[int, torch.Tensor]:
    """Repeat the prompts (n, width) of all layers for each image of x: (batch, n, width). They get the dtype of x.

    All layers are processed together. So the backward pass needs one sum over the batch, not one for each layer.
    """
    if not prompts:
        return prompts
    together = torch.cat(list(prompts.values())).to(x.dtype)  # (n of all layers, width)
    together = together[None].expand(x.shape[0], -1, -1)  # (batch, n of all layers, width)
    return dict(zip(prompts, together.split([len(prompt) for prompt in prompts.values()], dim=1), strict=True))


def _change_input(x: torch.Tensor, inputs: TowerInputs, layer: int) -> torch.Tensor:
    """Put the prompts of `layer` at the end of x (batch, length, width), and the layer's inserted tokens after CLS."""
    if layer and layer in inputs.prompts:  # the prompts of layer 0 are in `x` already
        length = x.shape[1] - inputs.n_prompts_before(layer)
        x = torch.cat([x[:, :length], inputs.prompts[layer]], dim=1)
    return insert_tokens(x, inputs, layer)
