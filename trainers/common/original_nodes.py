"""Config nodes of the published trainers, with default values. `default_config` adds these nodes first.

A node usually comes from the options of its method's file. But a user may replace our file by a third-party file, or
add a trainer that reads the node of another method, such as TRAINER.COOP. The original train.py declares these nodes
for every trainer, so the nodes must exist even without our files. A test compares this table with the methods' options.
"""

_WORDS = "a photo of a"
_SOFTCPT: dict[str, object] = {
    "N_CTX": 16,
    "CTX_INIT": "",
    "TOKEN_POSITION": "end",
    "CSC": False,
    "CLASS_N_CTX": 4,
    "CLASS_CTX_INIT": "",
    "CLASS_CSC": False,
    "CLASS_TOKEN_POSITION": "end",
    "TASK_N_CTX": 4,
    "TASK_CTX_INIT": "",
    "TASK_CSC": False,
    "TASK_TOKEN_POSITION": "end",
    "PG_TYPE": "lin",
    "PG_RATIO": 1,
    "CLS_SAMPLE_RATE": 0.0,
    "FREEZE_CLS_PROMPT": False,
    "LEGACY_STEPS": False,
}
#: {node: {key: default value}}. PREC isn't listed, because `default_config` adds it to every node.
ORIGINAL_NODES: dict[str, dict[str, object]] = {
    "COOP": {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "CLASS_TOKEN_POSITION": "end"},
    "COCOOP": {"N_CTX": 16, "CTX_INIT": ""},
    "MAPLE": {"N_CTX": 2, "CTX_INIT": _WORDS, "PROMPT_DEPTH": 9, "SHARED_PROJECTION": False},
    "IVLP": {
        "N_CTX_VISION": 2,
        "N_CTX_TEXT": 2,
        "CTX_INIT": _WORDS,
        "PROMPT_DEPTH_VISION": 9,
        "PROMPT_DEPTH_TEXT": 9,
    },
    "PROMPTSRC": {
        "N_CTX_VISION": 4,
        "N_CTX_TEXT": 4,
        "CTX_INIT": _WORDS,
        "PROMPT_DEPTH_VISION": 9,
        "PROMPT_DEPTH_TEXT": 9,
        "TEXT_LOSS_WEIGHT": 25.0,
        "IMAGE_LOSS_WEIGHT": 10.0,
        "GPA_MEAN": 15.0,
        "GPA_STD": 1.0,
    },
    "LANGUAGEPROMPTING": {"N_CTX_TEXT": 4, "CTX_INIT": _WORDS, "PROMPT_DEPTH_TEXT": 12},
    "VPT": {"N_CTX_VISION": 2, "CTX_INIT": _WORDS, "PROMPT_DEPTH_VISION": 1},
    "SOFTCPT": _SOFTCPT,
    "MTCOOP": _SOFTCPT,
    "MTCOOPH": {"N_CTX": 16, "CSC": False, "TSC": False, "CTX_INIT": "", "TOKEN_POSITION": "end"},
    "LINEARPROBE": {"NUM_STEP": 8},
    "ZEROSHOTCLIP": {},
    "ZEROSHOTCLIP2": {},
}
