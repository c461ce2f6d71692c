"""The floating-point operations that a step or a test needs: matrix products, two for a multiplication and addition.

Every benchmark compares its time with them. They are counted by formula, not by what the code does:

* activations that no prompt reaches need no gradient;
* the prefix that all classes share is needed once, and nothing after EOT is needed;
* in the last layer only the class token and EOT are needed.

Weights are frozen, so a backward pass computes gradients of activations only. It costs as many operations as the
forward pass in a linear layer, and twice as many in attention.
"""

from dataclasses import dataclass

import torch

from clip.sizes import Sizes
from clip.vision import VisionTransformer
from trainers.base import ClassPrompts, Method


@dataclass(frozen=True)
class Rows:
    """The tokens of one kind in a tower."""

    count: int
    keys: int  # sum over the tokens of the number of keys that a token attends to
    prompts: int  # number of learnable tokens among them
    queries_last: int  # number of tokens whose output is needed in the last layer
    keys_last: int  # sum over these of the number of keys


def tower(rows: list[Rows], width: int, mlp: int, layers: int, backward: bool) -> int:
    """Return the operations of a tower's blocks over all `rows`."""
    count = sum(r.count for r in rows)
    keys = sum(r.keys for r in rows)
    queries_last = sum(r.queries_last for r in rows)
    keys_last = sum(r.keys_last for r in rows)
    linear = 2 * width * (3 * width + width + 2 * mlp)  # for each token: queries, keys and values; output; MLP
    attention = 4 * width  # for each token and key: product with the key, weighted sum of the values
    body = (layers - 1) * (count * linear + keys * attention)
    last = 2 * width * 2 * width * count + 2 * width * (2 * width + 2 * mlp) * queries_last
    last += attention * keys_last
    total = body + last
    if not backward:
        return total
    gradients = total + (layers - 1) * keys * attention + attention * keys_last
    frozen = count - sum(r.prompts for r in rows)  # inputs of the first layer that need no gradient
    return total + gradients - 2 * width * 3 * width * frozen


def image_tower(sizes: Sizes, batch: int, prompts: int, backward: bool) -> int:
    """Return the operations for a batch of images, each with `prompts` prompts."""
    patches = (sizes.image_resolution // sizes.vision_patch_size) ** 2
    tokens = patches + 1 + prompts
    rows = Rows(batch * tokens, batch * tokens**2, batch * prompts, batch, batch * tokens)
    width, layers = sizes.vision_width, sizes.vision_layers
    assert isinstance(layers, int)
    patch = 2 * batch * patches * width * 3 * sizes.vision_patch_size**2
    blocks = tower([rows], width, sizes.vision_mlp, layers, backward and prompts > 0)
    return patch + blocks + 2 * batch * width * sizes.embed_dim * (2 if backward and prompts else 1)


def text_tower(sizes: Sizes, lengths: torch.Tensor, shared: int, prompts: int, groups: int, backward: bool) -> int:
    """Return the operations for all classes, once for each of `groups` contexts.

    Args:
        lengths: number of class tokens of each class (n_classes,).
        shared: length of the prefix that all classes share.
        prompts: number of learnable tokens in the prefix.
    """
    n_class_tokens = int(lengths.sum())
    keys = int((lengths * shared + lengths * (lengths + 1) // 2).sum())
    prefix = Rows(shared, shared * (shared + 1) // 2, prompts, 0, 0)
    class_tokens = Rows(n_class_tokens, keys, 0, len(lengths), int((lengths + shared).sum()))
    width = sizes.transformer_width
    blocks = tower([prefix, class_tokens], width, sizes.transformer_mlp, sizes.transformer_layers, backward)
    projection = 2 * len(lengths) * width * sizes.embed_dim * (2 if backward else 1)
    return groups * (blocks + projection)


def step(method: Method, batch: int) -> int | None:
    """Return the operations of a training step. None: there is no formula for the method, see `_text` and `_images`."""
    return _operations(method, batch, backward=True)


def test(method: Method, count: int) -> int | None:
    """Return the operations of a test of `count` images. None as in `step`."""
    return _operations(method, count, backward=False)


def _operations(method: Method, count: int, backward: bool) -> int | None:
    contexts = count if method.text_depends_on_image else 1
    images, text = _images(method, count, backward), _text(method, contexts, backward)
    return None if images is None or text is None else images + text


def _images(method: Method, count: int, backward: bool) -> int | None:
    """Return the operations for images. None: the image tower is a ResNet."""
    if not isinstance(method.clip.visual, VisionTransformer):
        return None
    prompts = method.image_inputs().prompts.get(0)  # (n, width)
    return image_tower(method.clip.sizes, count, 0 if prompts is None else len(prompts), backward)


def _text(method: Method, groups: int, backward: bool) -> int | None:
    """Return the operations for the features of all classes, with `groups` contexts.

    None: the method doesn't put one learned context right after SOS. Others have no context, put it around the class
    name, or have one for each class or task.
    """
    found = [value for value in vars(method).values() if isinstance(value, ClassPrompts)]
    if len(found) != 1 or found[0].rows is not None or found[0].group is not None:
        return None
    named = dict(method.named_parameters())
    context = next((value.shape[-2] for name, value in named.items() if name.endswith("ctx")), 0)
    prompts = found[0]
    return text_tower(method.clip.sizes, prompts.layout.lengths, len(prompts.prefix), context, groups, backward)
