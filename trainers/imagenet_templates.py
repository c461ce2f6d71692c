"""CLIP's prompt templates for ImageNet, under the names that files written for CoOp import from this module.

`trainers/zsclip.py` uses the seven selected templates. This module isn't a method: the plugin loader imports it, but
finds no class in it.
"""

#: Seven of CLIP's 80 templates for ImageNet. An ensemble of these seven is nearly as accurate as all 80.
IMAGENET_TEMPLATES_SELECT = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]


def __getattr__(name: str) -> list[str]:
    """Return IMAGENET_TEMPLATES, all 80 templates. They come from open_clip, which is imported only for them."""
    if name != "IMAGENET_TEMPLATES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
