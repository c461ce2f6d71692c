"""The floating-point operations that a step needs: those of matrix products, two for a multiplication and an addition.

Counted by formula, not by what the code does: what no prompt reaches needs no gradient, what all classes share is
needed once, nothing is needed behind EOT, and of the last layer the class token and EOT alone. Weights are frozen: a
backward pass needs gradients of activations only, as many operations as the forward pass in a linear layer, twice as
many in attention.
"""

from dataclasses import dataclass

import torch

from clip.sizes import Sizes
from clip.vision import VisionTransformer
from trainers.base import Method


@dataclass
class Rows:
    """Tokens of one kind in a tower: how many, how many keys they see in sum, and whether prompts are among them."""

    count: int
    seen: int  # sum over the tokens of the number of keys
    prompts: int  # of them, learnable ones
    asking: int  # of the last layer, how many outputs are wanted
    seen_last: int  # and how many keys these see


def tower(rows: list[Rows], width: int, mlp: int, layers: int, backward: bool) -> int:
    """Operations of a tower's blocks over all `rows`, which may attend to each other as `seen` says."""
    count = sum(r.count for r in rows)
    seen = sum(r.seen for r in rows)
    asking = sum(r.asking for r in rows)
    linear = 2 * width * (3 * width + width + 2 * mlp)  # of a token: queries, keys, values; output; MLP
    attention = 4 * width  # of a token and a key it sees: product with the key, sum of the values
    body = (layers - 1) * (count * linear + seen * attention)
    last = 2 * width * 2 * width * count + 2 * width * (2 * width + 2 * mlp) * asking
    last += attention * sum(r.seen_last for r in rows)
    total = body + last
    if not backward:
        return total
    through = body + (layers - 1) * seen * attention + last + attention * sum(r.seen_last for r in rows)
    unreached = count - sum(r.prompts for r in rows)  # of the first layer's inputs nobody wants the gradient
    return total + through - 2 * width * 3 * width * unreached


def image_tower(sizes: Sizes, batch: int, prompts: int, backward: bool) -> int:
    """Operations for a batch of images with so many prompts each."""
    patches = (sizes.image_resolution // sizes.vision_patch_size) ** 2
    tokens = patches + 1 + prompts
    rows = Rows(batch * tokens, batch * tokens**2, batch * prompts, batch, batch * tokens)
    width, layers = sizes.vision_width, sizes.vision_layers
    assert isinstance(layers, int)
    patch = 2 * batch * patches * width * 3 * sizes.vision_patch_size**2
    blocks = tower([rows], width, sizes.vision_mlp, layers, backward and prompts > 0)
    return patch + blocks + 2 * batch * width * sizes.embed_dim * (2 if backward and prompts else 1)


def text_tower(sizes: Sizes, lengths: torch.Tensor, shared: int, prompts: int, groups: int, backward: bool) -> int:
    """Operations for classes with `lengths` own tokens behind `shared` tokens, once for each of `groups` contexts."""
    own = int(lengths.sum())
    seen = int((lengths * shared + lengths * (lengths + 1) // 2).sum())
    ahead = Rows(shared, shared * (shared + 1) // 2, prompts, 0, 0)
    behind = Rows(own, seen, 0, len(lengths), int((lengths + shared).sum()))
    width = sizes.transformer_width
    blocks = tower([ahead, behind], width, sizes.transformer_mlp, sizes.transformer_layers, backward)
    projection = 2 * len(lengths) * width * sizes.embed_dim * (2 if backward else 1)
    return groups * (blocks + projection)


def step(method: Method, batch: int) -> int | None:
    """Operations of a training step; None as `_text` says it."""
    return _work(method, batch, backward=True)


def test(method: Method, count: int) -> int | None:
    """Operations of a test of so many images, text features included; None as `_text` says it."""
    return _work(method, count, backward=False)


def _work(method: Method, count: int, backward: bool) -> int | None:
    contexts = count if type(method).__name__ == "CoCoOpCLIP" else 1
    images, text = _images(method, count, backward), _text(method, contexts, backward)
    return None if images is None or text is None else images + text


def _images(method: Method, count: int, backward: bool) -> int | None:
    """Operations for images; None for ResNets."""
    if not isinstance(method.clip.visual, VisionTransformer):
        return None
    prompts = method.image_prompts()
    return image_tower(method.clip.sizes, count, len(prompts[0]) if prompts else 0, backward)


def _text(method: Method, groups: int, backward: bool) -> int | None:
    """Operations for the classes' features behind so many contexts; None for methods whose context stands otherwise
    than behind SOS (CoOp's middle and front, contexts by class) or isn't there."""
    classes = getattr(method, "classes", getattr(method, "prompts", None))
    if classes is None or not hasattr(classes, "behind"):
        return None
    named = dict(method.named_parameters())
    context = next((value.shape[-2] for name, value in named.items() if name.endswith("ctx")), 0)
    return text_tower(method.clip.sizes, classes.layout.lengths, len(classes.prefix), context, groups, backward)
