"""`RAdam`: rectified Adam with Dassl's arguments. Set OPTIM.NAME to radam to select it."""

from collections.abc import Iterable

import torch


class RAdam(torch.optim.RAdam):
    """`torch.optim.RAdam` (Liu et al., ICLR 2020, arXiv 1908.03265) with decoupled weight decay, as in Dassl.

    Args:
        params: parameters or parameter groups.
        lr, betas, eps, weight_decay: as in `torch.optim.RAdam`.
        degenerated_to_sgd: whether to use SGD in the first steps, in which the variance can't be rectified. It must be
            True (Dassl's default), because torch's optimiser always uses SGD in these steps.

    Raises:
        ValueError: `degenerated_to_sgd` is False.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ):
        if not degenerated_to_sgd:
            raise ValueError("degenerated_to_sgd must be True, because torch.optim.RAdam always starts with SGD")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)


__all__ = ["RAdam"]
