"""Rectified Adam under Dassl's name and signature."""

from collections.abc import Iterable

import torch


class RAdam(torch.optim.RAdam):
    """`torch.optim.RAdam` (Liu et al., ICLR 2020) with decoupled weight decay, as Dassl's has it.

    `degenerated_to_sgd` must stay True: it is the only way that torch's has, and Dassl's default.
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
            raise ValueError("RAdam steps like SGD while its variance can't be rectified; there is no other way here")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)


__all__ = ["RAdam"]
