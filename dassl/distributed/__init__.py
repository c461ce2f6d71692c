"""Runs one training or test on several processes, which `torchrun` starts. No other part of the project knows ranks.

    torchrun --nproc-per-node 2 train.py --trainer MaPLe ...

All processes execute the same code with the same random numbers. Each of them encodes its share of a batch's images and
its part of the class names. The features are then gathered, so each process computes the losses of the whole batch.
Only the main process, which has rank 0, writes files and prints. With a single process, all functions here do nothing
special, so callers don't ask how many processes there are. This package imports torch only if there are several.
"""

from dassl.distributed.failures import label, note_failure, prints_error, reason_to_stop
from dassl.distributed.group import LostProcessError, check_run, is_main, join, local_size, mute_others, size
from dassl.distributed.work import (
    check_equal,
    every_nth,
    gather_shares,
    gathered_features,
    main_first,
    merged,
    on_main,
    own_share,
    predictions_in_order,
)

__all__ = [
    "LostProcessError",
    "check_equal",
    "check_run",
    "every_nth",
    "gather_shares",
    "gathered_features",
    "is_main",
    "join",
    "label",
    "local_size",
    "main_first",
    "merged",
    "mute_others",
    "note_failure",
    "on_main",
    "own_share",
    "predictions_in_order",
    "prints_error",
    "reason_to_stop",
    "size",
]
