"""The frozen CLIP that the config names, in the precision that a method asks for."""

import torch
from yacs.config import CfgNode

from clip.loading import WeightsError, load_clip
from clip.model import CLIP, convert_weights
from dassl.utils import InputError


def load_backbone(cfg: CfgNode) -> CLIP:
    """The CLIP that MODEL.BACKBONE names, float32, frozen, on the CPU.

    Raises:
        InputError: it can't be loaded, or INPUT.SIZE, PIXEL_MEAN or PIXEL_STD are not those that it was trained with.
    """
    backbone = cfg.MODEL.BACKBONE
    print(f"Loading CLIP (backbone: {backbone.PATH or backbone.NAME})")
    try:
        clip = load_clip(backbone.NAME, backbone.PATH)
    except (ValueError, WeightsError) as error:
        raise InputError(str(error)) from error
    sizes = clip.sizes
    expected = {"SIZE": (sizes.image_resolution,) * 2, "PIXEL_MEAN": sizes.mean, "PIXEL_STD": sizes.std}
    for key, value in expected.items():
        if tuple(cfg.INPUT[key]) != tuple(value):
            needed = str(tuple(value)).replace(" ", "")
            raise InputError(
                f"INPUT.{key} is {tuple(cfg.INPUT[key])}, but {backbone.PATH or backbone.NAME} takes another: "
                f'add INPUT.{key} "{needed}"'
            )
    return clip


def cast_weights(clip: CLIP, precision: str, device: torch.device) -> str:
    """Cast the frozen weights to `precision` (a method's PREC). Learnable parts stay in float32.

    Returns:
        The precision that is really used: fp16 and amp become fp32 on a CPU.
    """
    if device.type == "cpu" and precision in ("fp16", "amp"):
        print(f"PREC {precision} is for GPUs: computing in fp32 on the CPU")
        return "fp32"
    if precision in ("fp16", "bf16"):
        convert_weights(clip, torch.float16 if precision == "fp16" else torch.bfloat16)
    return precision
