"""Config nodes of the published methods.

They stand here and not in the methods' files, so that they are there when somebody's own file of the same name takes
the place of ours. A plugin declares its own node in the same way, in its own file.
"""

from yacs.config import CfgNode as CN


def extend_cfg(cfg: CN) -> None:
    """Add the nodes under TRAINER, with the original's names and defaults."""
    cfg.TRAINER.MAPLE = CN()
    cfg.TRAINER.MAPLE.N_CTX = 2  # context tokens
    cfg.TRAINER.MAPLE.CTX_INIT = "a photo of a"  # words that the context starts as; not used where N_CTX > 4
    cfg.TRAINER.MAPLE.PREC = "fp16"  # fp32, fp16, amp or bf16; fp16 and amp are fp32 on a CPU
    cfg.TRAINER.MAPLE.PROMPT_DEPTH = 9  # layers with prompts of their own, 1 to all
    cfg.TRAINER.MAPLE.SHARED_PROJECTION = False  # MaPLe-dagger: one projection for all layers

    cfg.TRAINER.ZEROSHOTCLIP = CN()
    cfg.TRAINER.ZEROSHOTCLIP.PREC = "fp16"
