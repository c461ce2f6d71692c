"""Image transforms, which are selected by their names."""

from dassl.data.transforms.transforms import AVAILABLE_CHOICES, INTERPOLATION_MODES, build_transform

__all__ = ["AVAILABLE_CHOICES", "INTERPOLATION_MODES", "build_transform"]
