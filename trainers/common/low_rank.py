"""Low-rank matrices (LoRA) for the attention of a tower. CLIP-LoRA uses them."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from clip.inputs import BlockAdapter, Projection

#: Official names of the attention's maps, in the order of the official code.
MAPS: dict[Projection, str] = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "proj"}


class LowRank(nn.Module):
    """The matrices A (rank, width) and B (width, rank) of one linear map. B starts at zero."""

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.w_lora_A = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(rank, width), a=math.sqrt(5)))
        self.w_lora_B = nn.Parameter(torch.zeros(width, rank))


class LoRAAdapter(BlockAdapter):
    """The low-rank matrices of one block. In training, their input has dropout, drawn separately for each map."""

    def __init__(self, maps: nn.ModuleDict, scale: float, dropout: float):
        self.maps, self.scale, self.dropout = maps, scale, dropout

    def delta(self, projection: Projection, h: torch.Tensor) -> torch.Tensor | None:
        if MAPS[projection] not in self.maps:
            return None
        pair = self.maps[MAPS[projection]]
        a, b = pair.get_parameter("w_lora_A"), pair.get_parameter("w_lora_B")
        h = F.dropout(h.to(a.dtype), self.dropout, training=pair.training)
        return self.scale * F.linear(F.linear(h, a), b)


class LowRankTransformer(nn.Module):
    """The low-rank matrices of one tower, with the names of CLIP-LoRA's official code: resblocks.<i>.attn.<map>.

    Args:
        blocks: numbers of the blocks that get matrices, from 0.
        params: maps that get matrices: q, k, v and o.
    """

    def __init__(self, blocks: Sequence[int], width: int, params: Sequence[str], rank: int):
        super().__init__()
        names = [name for key, name in MAPS.items() if key[0] in params]
        self.resblocks = nn.ModuleDict()
        for block in blocks:
            maps = nn.ModuleDict({name: LowRank(width, rank) for name in names})
            self.resblocks[str(block)] = nn.ModuleDict({"attn": maps})

    def maps(self) -> dict[int, nn.ModuleDict]:
        """Return {block: its low-rank matrices}."""
        return {int(block): module.get_submodule("attn") for block, module in self.resblocks.items()}  # type: ignore[misc]
