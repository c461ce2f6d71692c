"""The fast image tower equals its reference path, for any number of prompts and both activations."""

import pytest
import torch
from naive_towers import assert_same, features_and_gradients, use_reference_path
from torch import nn

from clip.blocks import module_types
from clip.inputs import TowerInputs
from clip.model import from_state_dict


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("quick", [True, False])
def test_the_image_tower(depth, quick, tiny_weights):
    model = from_state_dict(tiny_weights)
    if not quick:
        for tower in (model.transformer, model.visual.transformer):
            for block in tower.resblocks:
                block.mlp.gelu = nn.GELU()
            tower.original_types = module_types(tower)
    torch.manual_seed(depth)
    prompts = [nn.Parameter(0.1 * torch.randn(2, 192)) for _ in range(depth)]
    images = torch.randn(3, 3, 32, 32, requires_grad=True)

    def encode():
        return model.encode_image(images, TowerInputs(dict(enumerate(prompts))))

    fast = features_and_gradients(encode, [images, *prompts])
    use_reference_path(model)
    assert_same(fast, features_and_gradients(encode, [images, *prompts]))
