"""Loads the frozen CLIP that the config names, and casts its weights to the method's precision."""

import torch
from yacs.config import CfgNode

from clip.loading import WeightsError, load_clip
from clip.model import CLIP, cast_towers
from dassl.utils import InputError


def load_backbone(cfg: CfgNode) -> CLIP:
    """Load the CLIP that MODEL.BACKBONE names. Its weights are frozen, in float32, and on the CPU.

    Raises:
        InputError: the CLIP can't be loaded; or INPUT.SIZE, INPUT.PIXEL_MEAN or INPUT.PIXEL_STD differs from the value
            that the CLIP was trained with.
    """
    backbone = cfg.MODEL.BACKBONE
    print(f"Loading CLIP (backbone: {backbone.PATH or backbone.NAME})")
    try:
        clip = load_clip(backbone.NAME, backbone.PATH)
    except (ValueError, WeightsError) as error:
        raise InputError(str(error)) from error
    wrong = next((name for name, tensor in clip.state_dict().items() if not _is_finite(tensor)), None)
    if wrong:
        raise InputError(f"the weights of {backbone.PATH or backbone.NAME} contain infinite or NaN values in {wrong}")
    sizes = clip.sizes
    expected = {"SIZE": (sizes.image_resolution,) * 2, "PIXEL_MEAN": sizes.mean, "PIXEL_STD": sizes.std}
    for key, value in expected.items():
        if tuple(cfg.INPUT[key]) != tuple(value):
            needed = str(tuple(value)).replace(" ", "")
            raise InputError(
                f"INPUT.{key} is {tuple(cfg.INPUT[key])}, but {backbone.PATH or backbone.NAME} needs another value. "
                f'To set it, add INPUT.{key} "{needed}"'
            )
    return clip


#: Types of devices that compute in fp32 instead: {type: (name in the log, precisions that become fp32)}.
_FP32_INSTEAD = {"cpu": ("the CPU", ("fp16", "amp")), "mps": ("MPS", ("fp16", "amp", "bf16"))}


def _is_finite(tensor: torch.Tensor) -> bool:
    """Return whether no value is infinite or NaN. A sum is faster than a mask, and finite weights don't overflow it."""
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))


def cast_weights(clip: CLIP, precision: str, device: torch.device) -> str:
    """Cast the frozen weights to `precision` (a method's PREC). Learnable parts stay in float32.

    Returns:
        The precision actually used: fp16 and amp become fp32 on a CPU. On MPS, bf16 becomes fp32, too.
    """
    name, unsupported = _FP32_INSTEAD.get(device.type, ("", ()))
    if precision in unsupported:
        print(f"PREC {precision} isn't supported on {name}: computing in fp32")
        return "fp32"
    if precision in ("fp16", "bf16"):
        cast_towers(clip, torch.float16 if precision == "fp16" else torch.bfloat16)
    return precision
