"""Facts that follow from the description of a golden case, for golden_answers.py."""

import itertools

import torch


def starts_from_words(case: dict, name: str) -> bool:
    """Whether a parameter starts from the words of CTX_INIT."""
    if "shots" in case:
        return True  # Tip-Adapter-F starts from the features of the training images
    if "from_words" in case:
        return name in case["from_words"]
    options = case["options"]
    is_short = options.get("N_CTX", options.get("N_CTX_TEXT", 0)) <= 4
    has_words = bool(options.get("CTX_INIT")) and (is_short or case["trainer"] in ("CoOp", "CoCoOp"))
    return has_words and name == "prompt_learner.ctx"


def labels_of(case: dict) -> torch.Tensor:
    """The labels of a case's images: classes by number, or rows over all tasks' classes (see MultiTaskDatum)."""
    if "task_of_image" not in case:
        return torch.arange(case["batch"]) % len(case["classnames"])
    labels = torch.full((case["batch"], sum(map(len, case["classnames"]))), -1)
    starts = [0, *itertools.accumulate(len(names) for names in case["classnames"])]
    for row, task, label in zip(labels, case["task_of_image"], case["label_of_image"], strict=True):
        row[starts[task] : starts[task + 1]] = 0
        row[starts[task] + label] = 1
    return labels
