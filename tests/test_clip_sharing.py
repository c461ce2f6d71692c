"""How the towers split their work among processes. tests/test_distributed.py runs them in several processes."""

import pytest
import torch
from torch import nn

from clip.inputs import NO_INPUTS, BlockAdapter, TowerInputs
from clip.layout import Layout
from clip.sharing import own_random_numbers


class OneOfTwo:
    """The view of one of two processes."""

    size = 2

    def __init__(self, rank):
        self.rank = rank

    def own(self, parts):
        return parts[self.rank]


@pytest.mark.parametrize("group", [None, "each", "tasks"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_consecutive_and_cost_about_the_same(count, group):
    lengths = torch.tensor([3, 3, 20, 3, 4, 3, 9, 3, 3, 3, 5, 3])
    groups = {None: None, "each": torch.arange(12), "tasks": torch.arange(12) // 5}[group]
    layout, prefix_tokens = Layout(lengths, groups), 5.0 if group == "each" else 0.25
    parts = layout.parts(count, prefix_tokens)
    assert torch.equal(torch.cat([torch.arange(12)[part.sequences] for part in parts]), torch.arange(12))
    assert [index for part in parts for index in range(62)[part.rows]] == list(range(62))
    for part in parts:
        assert torch.equal(part.layout.lengths, lengths[part.sequences])
        if groups is not None:
            assert torch.equal(part.layout.group + part.prefixes.start, groups[part.sequences])
    costs = [int(part.layout.lengths.sum()) + prefix_tokens * part.layout.count for part in parts]
    assert min(costs) > 0
    assert max(costs) <= sum(costs) / count + 20 + prefix_tokens  # of the longest sequence


def test_each_sequence_is_a_part_if_there_are_no_more():
    parts = Layout(torch.tensor([9, 1, 1, 1])).parts(4, 0.0)
    assert [part.layout.count for part in parts] == [1, 1, 1, 1]


def test_dropout_leaves_the_same_random_state_in_all_processes():
    adapters = TowerInputs(adapters={0: BlockAdapter()})
    masks, states = [], []
    for rank, inputs in ((0, adapters), (1, adapters), (0, NO_INPUTS)):
        torch.manual_seed(0)
        with own_random_numbers(OneOfTwo(rank), inputs, torch.device("cpu")):
            masks.append(nn.Dropout(0.5)(torch.ones(20 + rank)))
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(masks[0], masks[1][:20])
    torch.manual_seed(0)
    assert torch.equal(masks[2], nn.Dropout(0.5)(torch.ones(20)))  # without adapters, nothing is drawn
