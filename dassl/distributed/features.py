"""Gathers the features that several processes have computed, and sums their gradients.

`gathered_features` makes a `GatheredFeatures`, and `PromptTrainer` passes the object to the CLIP.
Each process computes the loss of the whole batch from the features of all processes. Its backward pass reaches only its
own part of the towers. So the gradients are correct when the loss is divided by the number of processes, and the
gradients of all processes are added: at each gathered feature, and at the parameters.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch.distributed import all_gather, all_reduce

from dassl.distributed.group import collective, size
from dassl.distributed.work import own_part

T = TypeVar("T")


class GatheredFeatures:
    """What the towers and the methods need to share their work among processes. See `clip.sharing.Sharing`."""

    @property
    def size(self) -> int:
        """Number of processes."""
        return size()

    def own(self, parts: Sequence[T]) -> T:
        """Return the part of this process. There is one part for each process."""
        return own_part(parts)

    def gather(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Return the rows of all processes, (sum of counts, ...). Gradients flow back to the process of each row.

        Args:
            rows: rows of this process, as many as its entry of `counts`.
            counts: number of rows of each process.
        """
        return _Gather.apply(rows, tuple(counts))

    def sum_gradients(
        self, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """Return the sum of the gradients of all processes for each parameter, in one operation.

        A gradient of None counts as zero. The sum is None if the gradient is None in all processes.
        """
        dtype, device = parameters[0].dtype, parameters[0].device
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        exists = torch.tensor([g is not None for g in gradients], dtype=dtype, device=device)
        sums = _sum(torch.cat([*(g.to(dtype).flatten() for g in filled), exists]))
        *flat, exists = sums.split([*(p.numel() for p in parameters), len(gradients)])
        found = zip(flat, parameters, exists.tolist(), strict=True)
        return [gradient.view(parameter.shape) if count else None for gradient, parameter, count in found]


class _Gather(torch.autograd.Function):
    """Gathers rows. In the backward pass, each process gets the sum of all processes' gradients for its rows."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:  # type: ignore[no-untyped-def]
        ctx.counts = counts
        return gather_values(rows, counts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[no-untyped-def]
        return own_part(_sum(gradient).split(ctx.counts)), None


def gather_values(rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Return the rows of all processes, (sum of counts, ...), without gradients. See `GatheredFeatures.gather`."""
    padded = rows.new_zeros(max(counts), *rows.shape[1:])  # all processes must send equally many rows
    padded[: len(rows)] = rows
    sent = padded.view(torch.uint8)  # bytes, because gloo doesn't know every dtype
    found = [torch.empty_like(sent) for _ in counts]
    with collective():
        all_gather(found, sent)
    return torch.cat([part.view(rows.dtype)[:count] for part, count in zip(found, counts, strict=True)])


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes. Half precision is summed in float32."""
    total = tensor.float() if tensor.itemsize < 4 else tensor.clone(memory_format=torch.contiguous_format)
    with collective():
        all_reduce(total)
    return total.to(tensor.dtype)
