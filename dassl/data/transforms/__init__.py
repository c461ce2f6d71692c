"""Image transforms by name."""

from dassl.data.transforms.transforms import AVAILABLE_CHOICES, INTERPOLATION_MODES, build_transform

__all__ = ["AVAILABLE_CHOICES", "INTERPOLATION_MODES", "build_transform"]
