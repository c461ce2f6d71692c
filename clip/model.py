"""The CLIP model: an image tower and a text tower with a common embedding space.

`clip.loading` builds a frozen `CLIP` from weights. Methods call its `encode_...` functions and pass them prompts and
adapters as arguments. So the learnable parameters of a method are never part of this model.
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from clip import text
from clip.blocks import LayerNorm, QuickGELU, ResidualAttentionBlock, Transformer
from clip.inputs import NO_INPUTS, Rows, TowerInputs, TowerOutput
from clip.patched import check_call
from clip.resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from clip.sharing import Sharing, gather_equal, own_random_numbers
from clip.sizes import Sizes
from clip.vision import VisionTransformer

__all__ = [
    "CLIP",
    "AttentionPool2d",
    "Bottleneck",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
    "from_state_dict",
]

#: Entries in the state dict of a TorchScript archive that aren't weights.
_ARCHIVE_KEYS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


class CLIP(nn.Module):
    """The CLIP model (Radford et al., 2021, arXiv 2103.00020). Its weights are named as in OpenAI's state dicts."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.context_length = sizes.context_length
        self.vocab_size = sizes.vocab_size
        self.visual: VisionTransformer | ModifiedResNet = _image_tower(sizes)
        self.transformer = Transformer(
            sizes.transformer_width,
            sizes.transformer_layers,
            sizes.transformer_heads,
            causal=True,
            mlp=sizes.transformer_mlp,
            activation=sizes.activation,
        )
        self.token_embedding = nn.Embedding(sizes.vocab_size, sizes.transformer_width)
        self.positional_embedding = nn.Parameter(torch.randn(sizes.context_length, sizes.transformer_width) * 0.01)
        self.ln_final = LayerNorm(sizes.transformer_width)
        self.text_projection = nn.Parameter(
            torch.randn(sizes.transformer_width, sizes.embed_dim) * sizes.transformer_width**-0.5
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.text_chunk = 0  # maximum number of tokens that the text tower encodes at once, to save memory; 0: no limit
        self.text_attention: text.TextAttention = "auto"  # how the text tower computes attention, see `clip.text`
        # the processes that share the work; each encodes its own images, but gets the features of all images
        self.sharing: Sharing | None = None
        # (vocab_size,) mask that is True for tokens with a trained embedding; None if all are trained
        self.trained_rows: torch.Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the towers compute in."""
        return self.visual.conv1.weight.dtype

    @property
    def vision_transformer(self) -> VisionTransformer:
        """The image tower, if it is a Vision Transformer. Raises TypeError if the image tower is a ResNet."""
        if not isinstance(self.visual, VisionTransformer):
            raise TypeError(f"the image tower is a {type(self.visual).__name__}, not a VisionTransformer")
        return self.visual

    def encode_image(self, image: torch.Tensor, inputs: TowerInputs = NO_INPUTS) -> torch.Tensor:
        """Encode images (batch, 3, resolution, resolution) as features (batch, embed_dim), not normalised.

        Raises:
            TypeError: the image tower is a ResNet, and `inputs` aren't empty.
        """
        self._check_image_inputs(inputs)
        image = image.type(self.dtype)
        with own_random_numbers(self.sharing, inputs, image.device):
            features = self.visual(image) if inputs.is_empty else self.visual(image, inputs)
        return gather_equal(self.sharing, features)

    def encode_image_rows(self, image: torch.Tensor, inputs: TowerInputs, rows: Rows) -> TowerOutput:
        """Return the features of `encode_image`, and some rows of the last layer's output, (batch, n, width).

        Args:
            rows: which rows to return: "inserted" for the inserted tokens, "patches" for all patches. `ln_post` is
                applied to the rows, but the projection isn't.

        Raises:
            TypeError: the image tower is a ResNet.
            ValueError: `rows` is "inserted", but no tokens are inserted.
        """
        self._check_image_inputs(inputs, needs_vit=True)
        with own_random_numbers(self.sharing, inputs, image.device):
            found: TowerOutput = self.visual(image.type(self.dtype), inputs, rows)
        of_all = None if found.rows is None else gather_equal(self.sharing, found.rows)
        return TowerOutput(gather_equal(self.sharing, found.features), of_all)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside this context, this process encodes everything itself, so that it doesn't wait for other processes."""
        sharing, self.sharing = self.sharing, None
        try:
            yield
        finally:
            self.sharing = sharing

    def _check_image_inputs(self, inputs: TowerInputs, needs_vit: bool = False) -> None:
        """Raise TypeError if the image tower is a ResNet, but the call needs a ViT.

        The call needs a ViT if `needs_vit` is True or `inputs` aren't empty.
        """
        if isinstance(self.visual, ModifiedResNet) and (needs_vit or not inputs.is_empty):
            raise TypeError("the image tower is a ResNet, but only a ViT takes TowerInputs or returns rows")

    def encode_text(self, ids: torch.Tensor, inputs: TowerInputs = NO_INPUTS) -> torch.Tensor:
        """Encode token ids (N, context length) from `tokenize` as features (N, embed_dim), not normalised.

        If `inputs` has n prompts for a layer, the prompts replace positions 1 to n, which follow SOS. At layer 0, the
        prompts replace token embeddings. At a later layer, the prompts replace outputs of the previous layer.

        Raises:
            ValueError: a text has fewer tokens between SOS and EOT than a layer has prompts.
        """
        n_prompts = max((prompt.shape[-2] for prompt in inputs.prompts.values()), default=0)
        tokens = text.Tokens.cut(ids)
        if len(tokens.prefix) > n_prompts:
            prefix, layout = self.token_embedding(tokens.prefix)[None], tokens.layout  # (1, P, width)
        else:  # the texts differ within positions 1 to n, so each text has a separate prefix
            if int(ids.argmax(dim=-1).min()) <= n_prompts:
                raise ValueError(
                    f"the prompts replace {n_prompts} tokens of each text, but a text has fewer than {n_prompts} tokens"
                )
            tokens = text.Tokens.cut(ids, start=1 + n_prompts)
            prefix = self.token_embedding(ids[:, : 1 + n_prompts])  # (N, 1 + n, width)
            layout = tokens.layout.one_prefix_each
        return self.encode_prompts(prefix, self.token_embedding(tokens.class_tokens), layout, inputs)

    def encode_prompts(
        self,
        prefix: torch.Tensor,
        class_tokens: torch.Tensor,
        layout: text.Layout,
        inputs: TowerInputs = NO_INPUTS,
    ) -> torch.Tensor:
        """Encode token embeddings as features (N, embed_dim), not normalised.

        The arguments are explained in `clip.text.encode`.
        """
        return text.encode(self._text_tower(), prefix, class_tokens, layout, inputs).features

    def encode_prompts_rows(
        self,
        prefix: torch.Tensor,
        class_tokens: torch.Tensor,
        layout: text.Layout,
        inputs: TowerInputs,
        rows: Rows = "inserted",
    ) -> TowerOutput:
        """Return the features of `encode_prompts`, and the inserted tokens' rows (N, n, width) after `ln_final`."""
        return text.encode(self._text_tower(), prefix, class_tokens, layout, inputs, rows)

    def _text_tower(self) -> text.TextTower:
        """Collect the parts of the text tower at each call, because users may have replaced some of them."""
        return text.TextTower(
            self.transformer,
            self.sizes.transformer_layers,
            self.positional_embedding,
            self.ln_final,
            self.text_projection,
            self.dtype,
            self.text_chunk,
            self.text_attention,
            self.sharing,
        )

    def forward(self, image: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits per image (batch, N) and per text (N, batch). `ids` are token ids (N, context length)."""
        image_features = F.normalize(self.encode_image(image), dim=-1)
        text_features = F.normalize(self.encode_text(ids), dim=-1)
        logits = self.logit_scale.exp() * image_features @ text_features.t()
        return logits, logits.t()


def _image_tower(sizes: Sizes) -> VisionTransformer | ModifiedResNet:
    if isinstance(sizes.vision_layers, tuple):
        return ModifiedResNet(
            sizes.vision_layers, sizes.embed_dim, sizes.vision_heads, sizes.image_resolution, sizes.vision_width
        )
    return VisionTransformer(
        sizes.image_resolution,
        sizes.vision_patch_size,
        sizes.vision_width,
        sizes.vision_layers,
        sizes.vision_heads,
        sizes.embed_dim,
        sizes.vision_mlp,
        sizes.activation,
    )


def convert_weights(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """Cast the weights of convolutions, linear layers, attention and projections to `dtype`, in place.

    Norms, embeddings, the logit scale and prompts keep their dtype, as in OpenAI's half-precision models.
    """
    for module in model.modules():
        names: tuple[str, ...] = ("text_projection", "proj")
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            names = ("weight", "bias")
        elif isinstance(module, nn.MultiheadAttention):
            names = (*(f"{part}_proj_weight" for part in ("in", "q", "k", "v")), "in_proj_bias", "bias_k", "bias_v")
        for name in names:
            tensor = getattr(module, name, None)
            if isinstance(tensor, torch.Tensor):
                tensor.data = tensor.data.to(dtype)


def cast_towers(model: CLIP, dtype: torch.dtype) -> None:
    """Cast all weights that the towers compute with to `dtype`, in place.

    In addition to `convert_weights`, this function casts norms, the class embedding and positional embeddings. So the
    towers need no cast in a step, each of which is a kernel launch on a GPU. OpenAI's norms lose nothing in float16,
    because OpenAI stores them in float16. A norm that a user has replaced keeps its dtype.
    """
    convert_weights(model, dtype)
    for module in model.modules():
        if type(module) is LayerNorm:
            module.to(dtype)
    for tower in (model, model.visual):
        for name in ("positional_embedding", "class_embedding"):
            if name in dict(tower.named_parameters(recurse=False)):
                tower.get_parameter(name).data = tower.get_parameter(name).data.to(dtype)


def from_state_dict(state: Mapping[str, torch.Tensor], sizes: Sizes | None = None) -> CLIP:
    """Build a frozen float32 CLIP in eval mode. It uses the float32 tensors of `state` without copying them.

    Args:
        state: weights with OpenAI's parameter names. Entries that only TorchScript archives have are ignored.
        sizes: sizes of the model; None: infer them from the weights.

    Raises:
        RuntimeError: a weight is missing, is unexpected, has the wrong shape, or isn't finite.
        KeyError: a weight from which the sizes are inferred is missing.
        ValueError: a size that is inferred from the weights is out of range.
    """
    with torch.device("meta"):  # skip the random initialisation, since all weights are replaced
        model = CLIP(sizes or Sizes.from_state_dict(state))
    weights = {
        name: w.float() if w.is_floating_point() else w for name, w in state.items() if name not in _ARCHIVE_KEYS
    }
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    if missing or unexpected:
        raise RuntimeError(f"the weights don't fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}")
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise RuntimeError(f"the weight {name} has values that aren't finite (NaN or infinite)")
    return model.requires_grad_(False).eval()


#: Keys of `design_details` that put prompts into the towers, if they aren't 0.
_DESIGN = ("vision_depth", "language_depth", "vision_ctx", "language_ctx", "maple_length")


def build_model(state_dict: Mapping[str, torch.Tensor], design_details: Mapping[str, object] | None = None) -> CLIP:
    """Build a CLIP in half precision and eval mode, like OpenAI's `build_model`, for third-party trainers.

    Args:
        state_dict: weights with OpenAI's parameter names. The model gets a copy of the weights.
        design_details: in MaPLe's code and its successors, this argument describes prompts inside the towers. It may
            be given if it asks for no such prompts, as for CoOp.

    Raises:
        PatchedBackboneError: `design_details` asks for prompts inside the towers.
    """
    design = design_details or {}
    call = f"clip.build_model with design_details for {design.get('trainer', 'prompts inside the towers')}"
    check_call(call, not any(design.get(key) for key in _DESIGN))
    # `from_state_dict` doesn't copy float32 weights. Copy the model, so that the caller's weights don't change.
    model = copy.deepcopy(from_state_dict(state_dict)).requires_grad_(True)
    convert_weights(model)
    return model
