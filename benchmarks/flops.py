"""Computes the minimum number of floating-point operations that a training step or a test needs.

The benchmarks compare the measured time with this number. Only matrix products are counted. A multiply-add counts as
two operations. The number comes from formulas, so it doesn't depend on the code that runs. The formulas leave out all
unnecessary work:

* No gradient is computed for activations that don't depend on a prompt.
* The prefix that all classes share is computed once, and tokens after EOT aren't computed.
* In the last layer, only the outputs of the class token and of EOT are computed.

The weights are frozen, so a backward pass computes only gradients of activations. In a linear layer, the backward pass
costs as many operations as the forward pass. In attention, the backward pass costs twice as many operations.
"""

from dataclasses import dataclass

import torch

from clip.sizes import Sizes
from clip.vision import VisionTransformer
from trainers.base import ClassPrompts, Method


@dataclass(frozen=True)
class Rows:
    """A group of tokens in a tower, for example the shared prefix or the class tokens."""

    count: int  # number of tokens
    keys: int  # number of keys that each token attends to, summed over all tokens
    prompts: int  # number of these tokens that are learnable
    queries_last: int  # number of these tokens whose output in the last layer is needed
    keys_last: int  # number of keys that each token attends to, summed over the `queries_last` tokens


def tower(rows: list[Rows], width: int, mlp: int, layers: int, backward: bool) -> int:
    """Return the number of operations that a tower's blocks need.

    Args:
        rows: all groups of tokens that the tower computes.
        width: width of the tokens.
        mlp: width of the MLPs.
        layers: number of blocks.
        backward: whether to include the backward pass.
    """
    count = sum(r.count for r in rows)
    keys = sum(r.keys for r in rows)
    queries_last = sum(r.queries_last for r in rows)
    keys_last = sum(r.keys_last for r in rows)
    linear = 2 * width * (3 * width + width + 2 * mlp)  # per token: projections to q, k and v; output projection; MLP
    attention = 4 * width  # per pair of a token and a key: product of query and key; weighted sum of values
    body = (layers - 1) * (count * linear + keys * attention)
    last = 2 * width * 2 * width * count + 2 * width * (2 * width + 2 * mlp) * queries_last
    last += attention * keys_last
    total = body + last
    if not backward:
        return total
    gradients = total + (layers - 1) * keys * attention + attention * keys_last
    frozen = count - sum(r.prompts for r in rows)  # number of tokens whose input to the first layer needs no gradient
    return total + gradients - 2 * width * 3 * width * frozen


def image_tower(sizes: Sizes, batch: int, prompts: int, backward: bool) -> int:
    """Return the number of operations needed to encode a batch of images.

    Args:
        batch: number of images.
        prompts: number of learnable tokens that are added to each image.
        backward: whether to include the backward pass.
    """
    patches = (sizes.image_resolution // sizes.vision_patch_size) ** 2
    tokens = patches + 1 + prompts
    rows = Rows(batch * tokens, batch * tokens**2, batch * prompts, batch, batch * tokens)
    width, layers = sizes.vision_width, sizes.vision_layers
    assert isinstance(layers, int)
    patch = 2 * batch * patches * width * 3 * sizes.vision_patch_size**2
    blocks = tower([rows], width, sizes.vision_mlp, layers, backward and prompts > 0)
    return patch + blocks + 2 * batch * width * sizes.embed_dim * (2 if backward and prompts else 1)


def text_tower(sizes: Sizes, lengths: torch.Tensor, shared: int, prompts: int, groups: int, backward: bool) -> int:
    """Return the number of operations needed to encode all classes with every context.

    Args:
        lengths: number of class tokens of each class, (n_classes,).
        shared: length of the prefix that all classes share.
        prompts: number of learnable tokens in the prefix.
        groups: number of contexts.
        backward: whether to include the backward pass.
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
    """Return the number of operations of a training step on a batch. None if there is no formula for the method."""
    return _operations(method, batch, backward=True)


def test(method: Method, count: int) -> int | None:
    """Return the number of operations of a test. None if there is no formula for the method.

    `count` is the number of images.
    """
    return _operations(method, count, backward=False)


def _operations(method: Method, count: int, backward: bool) -> int | None:
    contexts = count if method.text_depends_on_image else 1
    images, text = _images(method, count, backward), _text(method, contexts, backward)
    return None if images is None or text is None else images + text


def _images(method: Method, count: int, backward: bool) -> int | None:
    """Return the number of operations needed to encode images. None if the image tower is a ResNet.

    `count` is the number of images.
    """
    if not isinstance(method.clip.visual, VisionTransformer):
        return None
    prompts = method.image_inputs().prompts.get(0)  # (n, width)
    return image_tower(method.clip.sizes, count, 0 if prompts is None else len(prompts), backward)


def _text(method: Method, groups: int, backward: bool) -> int | None:
    """Return the number of operations needed to encode the texts of all classes with every context.

    There is a formula only for methods with a single learned context. The context must follow SOS directly, and all
    classes must share it. The result is None in three cases: the method has no prompts; the context is on both sides
    of the class name; or each class or task has a different context or different prompts in a deeper layer (TCP).
    """
    found = [value for value in vars(method).values() if isinstance(value, ClassPrompts)]
    if len(found) != 1 or found[0].rows is not None or found[0].group is not None:
        return None
    if any(prompt.ndim == 3 for prompt in method.text_inputs().prompts.values()):
        return None
    named = dict(method.named_parameters())
    context = next((value.shape[-2] for name, value in named.items() if name.endswith("ctx")), 0)
    prompts = found[0]
    return text_tower(method.clip.sizes, prompts.layout.lengths, len(prompts.prefix), context, groups, backward)
