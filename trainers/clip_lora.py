"""CLIP-LoRA: Low-Rank Few-Shot Adaptation of Vision-Language Models (Zanella and Ben Ayed, CVPR Workshops 2024, arXiv
2405.18541).

The linear maps of the attention, in both towers, get low-rank matrices: W becomes W + ALPHA / sqrt(R) * B A (section
4). All data sets use the same settings. In evaluation, the products are merged into the weights.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from clip.inputs import NO_INPUTS, TowerInputs
from clip.model import CLIP
from dassl import distributed
from dassl.config import Count, Share, Width, described
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_checkpoint, unknown
from dassl.utils.torchtools import save_sealed
from trainers.base import ClassPrompts, Method, Options, Precision, StepScheduleTrainer, check_depth
from trainers.common.low_rank import LoRAAdapter, LowRankTransformer

#: {POSITION: first and last block, for a tower of 12 blocks}. "all" and "top3" are the last blocks.
POSITIONS = {"bottom": (0, 3), "mid": (4, 7), "up": (8, 11), "half-up": (6, 11), "half-bottom": (0, 5)}
TOWERS = {"text": ("transformer",), "vision": ("visual.transformer",), "both": ("transformer", "visual.transformer")}
OFFICIAL_FILE = "lora_weights.pt"


@dataclass(frozen=True)
class CLIPLoRAOptions(Options):
    """The options of CLIP-LoRA, in the config node TRAINER.CLIPLORA."""

    PREC: Precision = "amp"
    R: Width = described(2, "rank of the matrices")
    ALPHA: float = described(1.0, "the products are multiplied by ALPHA / sqrt(R)")
    DROPOUT: Share = described(0.25, "dropout rate of the input of the low-rank matrices")
    PARAMS: tuple[str, ...] = described(("q", "k", "v"), "maps with low-rank matrices: q, k, v and o")
    POSITION: str = described("all", "blocks with low-rank matrices: all, top3, or a key of POSITIONS")
    ENCODER: str = described("both", "towers with low-rank matrices: text, vision or both")
    N_ITERS: Count = described(0, "number of training steps per shot, as 500; 0: OPTIM.MAX_EPOCH epochs")


def blocks_of(position: str, n_blocks: int) -> list[int]:
    """Return the blocks of POSITION in a tower. The table is for 12 blocks; other towers are divided in proportion."""
    if position in ("all", "top3"):
        return list(range(n_blocks))[0 if position == "all" else -3 :]
    if position not in POSITIONS:
        raise unknown("position (TRAINER.CLIPLORA.POSITION)", position, ("all", "top3", *POSITIONS))
    first, last = POSITIONS[position]
    return list(range(first * n_blocks // 12, (last + 1) * n_blocks // 12))


class LoRACLIP(Method):
    """CLIP with low-rank matrices in the attention of its towers."""

    options: CLIPLoRAOptions

    def __init__(self, options: CLIPLoRAOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        if options.ENCODER not in TOWERS:
            raise unknown("tower (TRAINER.CLIPLORA.ENCODER)", options.ENCODER, TOWERS)
        if options.R < 1 or not options.PARAMS or not set(options.PARAMS) <= set("qkvo"):
            raise InputError(
                "TRAINER.CLIPLORA needs R >= 1 and PARAMS of q, k, v and o, but they are "
                f"{options.R} and {options.PARAMS}"
            )
        check_depth(clip, 1, "TRAINER.CLIPLORA.POSITION")
        self.image_tower_is_frozen = options.ENCODER == "text"
        self.prompts = ClassPrompts(clip, "a photo of a {}.", classnames, 0)
        self._merged: tuple[list[tuple[int, int]], list[tuple[nn.Parameter, torch.Tensor]]] | None = None
        self.scale = options.ALPHA / math.sqrt(options.R)
        sizes = clip.sizes
        if options.ENCODER != "vision":
            blocks = blocks_of(options.POSITION, sizes.transformer_layers)
            self.transformer = LowRankTransformer(blocks, sizes.transformer_width, options.PARAMS, options.R)
        if options.ENCODER != "text":
            blocks = blocks_of(options.POSITION, len(clip.vision_transformer.transformer.resblocks))
            self.visual = nn.Module()
            self.visual.transformer = LowRankTransformer(blocks, sizes.vision_width, options.PARAMS, options.R)

    def towers(self) -> dict[str, LowRankTransformer]:
        """Return {name of the tower's transformer in the CLIP: its low-rank matrices}. The text tower is first."""
        found = {name: dict(self.named_modules()).get(name) for name in TOWERS["both"]}
        return {name: module for name, module in found.items() if isinstance(module, LowRankTransformer)}

    def inputs(self, tower: str) -> TowerInputs:
        """Return the adapters of a tower. In evaluation without gradients there are none, see `merged`."""
        learned = self.towers().get(tower)
        if learned is None or self._is_frozen or not (self.training or torch.is_grad_enabled()):
            return NO_INPUTS
        dropout = self.options.DROPOUT
        return TowerInputs(
            adapters={block: LoRAAdapter(maps, self.scale, dropout) for block, maps in learned.maps().items()}
        )

    def text_inputs(self) -> TowerInputs:
        return self.inputs("transformer")

    def image_inputs(self) -> TowerInputs:
        return self.inputs("visual.transformer")

    @contextmanager
    def merged(self) -> Iterator[CLIP]:
        """Within the context, the CLIP's attention weights contain the low-rank products. Yields the CLIP.

        Evaluation runs so. To export a plain CLIP, save the state dict of the CLIP that this context yields.
        """
        weights = self._merged_weights()
        before = [weight.data for weight, _ in weights]
        for weight, merged in weights:
            weight.data = merged
        try:
            yield self.clip
        finally:
            for (weight, _), original in zip(weights, before, strict=True):
                weight.data = original

    @torch.no_grad()
    def _merged_weights(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the attention's weights with their merged values. The values are kept until a parameter changes."""
        state = [(p.data_ptr(), p._version) for p in self.parameters()]
        if self._merged is not None and self._merged[0] == state:
            return self._merged[1]
        merged = []
        for tower, learned in self.towers().items():
            for block, maps in learned.maps().items():
                attention = self.clip.get_submodule(f"{tower}.resblocks.{block}.attn")
                merged += self._merge(attention, maps)
        self._merged = state, merged
        return merged

    def _merge(self, attention: nn.Module, maps: nn.ModuleDict) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the weights of one attention, (3 * width, width) and (width, width), with their merged values."""
        qkv, out = attention.get_parameter("in_proj_weight"), attention.get_parameter("out_proj.weight")
        values = {"proj": out.detach().clone()}
        values |= dict(zip(("q_proj", "k_proj", "v_proj"), qkv.detach().float().chunk(3), strict=True))
        for name, pair in maps.items():
            product = pair.get_parameter("w_lora_B") @ pair.get_parameter("w_lora_A")
            values[name] = values[name].float() + self.scale * product
        rows = torch.cat([values[name] for name in ("q_proj", "k_proj", "v_proj")])
        return [(qkv, rows.to(qkv)), (out, values["proj"].to(out))]

    def encode_text(self) -> torch.Tensor:
        if self.training or torch.is_grad_enabled():
            return self.prompts.encode_template(self.text_inputs())
        with self.merged():
            return self.prompts.encode_template()

    def freeze(self) -> None:
        """Merge the low-rank products into the CLIP's weights for good, and fix the text features."""
        with torch.no_grad():
            self.text_features()
        super().freeze()
        for weight, merged in self._merged_weights():
            weight.data = merged

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        if self._is_frozen or self.training or torch.is_grad_enabled():
            return self.clip.encode_image(images, self.image_inputs())
        with self.merged() as clip:
            return clip.encode_image(images)

    @property
    def logit_scale(self) -> torch.Tensor:
        """As in the official code, the factor is 100 for every CLIP."""
        return torch.full((), 100.0, device=self.clip.logit_scale.device)

    # ---- the official file ----

    def official_places(self) -> dict[str, tuple[str, str, str]]:
        """Return {parameter: its place in the official file, as (layer, map, matrix)}.

        The layers are the blocks with low-rank matrices, counted from 0, first of the text tower, then of the image
        tower.
        """
        places, number = {}, 0
        for tower, learned in self.towers().items():
            for block, maps in learned.maps().items():
                for key in maps.state_dict():
                    name, matrix = key.split(".")
                    places[f"{tower}.resblocks.{block}.attn.{key}"] = f"layer_{number}", name, matrix
                number += 1
        return places

    def official(self) -> dict[str, dict]:
        """Return the content of the official file lora_weights.pt."""
        weights: dict[str, dict] = {}
        for parameter, (layer, name, matrix) in self.official_places().items():
            value = self.get_parameter(parameter).detach().cpu()
            weights.setdefault(layer, {}).setdefault(name, {})[matrix] = value
        options = self.options
        metadata = {"r": options.R, "alpha": options.ALPHA, "encoder": options.ENCODER, "position": options.POSITION}
        return {"weights": weights, "metadata": metadata | {"params": list(options.PARAMS)}}

    def load_official(self, content: Mapping, path: Path) -> None:
        """Load the content of the official file lora_weights.pt. Raises InputError if it doesn't fit the options."""
        found = {}
        for parameter, (layer, name, matrix) in self.official_places().items():
            tensor: object = content
            for key in ("weights", layer, name, matrix):
                tensor = tensor.get(key) if isinstance(tensor, Mapping) else None
            expected = self.get_parameter(parameter).shape
            if not isinstance(tensor, torch.Tensor) or tensor.shape != expected:
                raise InputError(
                    f"{path} has no {layer}, {name}, {matrix} of shape {tuple(expected)}. The file was trained with "
                    f"{content.get('metadata', {})}. Set the options R, PARAMS, POSITION and ENCODER to these values"
                )
            if not torch.isfinite(tensor).all():
                raise InputError(f"{path}: {matrix} of {layer}, {name} contains infinite or NaN values")
            found[parameter] = tensor
        self.load_state_dict(found)


@TRAINER_REGISTRY.register()
class CLIPLoRA(StepScheduleTrainer):
    """Trains CLIP-LoRA. With ViT-B/16 and the default options, CLIP-LoRA learns 184,320 parameters."""

    method = LoRACLIP
    options = CLIPLoRAOptions
    checkpoints = {"lora": ""}
    default_config = "vit_b16"
    last_lr = 1e-6
    model: LoRACLIP

    def step_limit(self) -> int:
        """Return N_ITERS steps for each shot. Without a number of shots (NUM_SHOTS), return N_ITERS."""
        return self.cfg.TRAINER.CLIPLORA.N_ITERS * max(1, self.cfg.DATASET.NUM_SHOTS)

    def deploy(self) -> None:
        """Save the official file, too. It holds the model that is tested."""
        super().deploy()
        distributed.on_main(lambda: save_sealed(self.model.official(), Path(self.output_dir) / OFFICIAL_FILE))

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load our checkpoint, or the official file if there is no checkpoint."""
        file = Path(directory) / OFFICIAL_FILE
        if not directory or (Path(directory) / "lora").is_dir() or not file.is_file():
            super().load_model(directory, epoch)
            return
        self.model.load_official(load_checkpoint(file), file)
        self.model.has_new_classes = self.cfg.DATASET.SUBSAMPLE_CLASSES == "new"
        print(f"Load {file}")
