"""Does a run again, from what its folder says of it, and compares bit by bit: repeat.py RUN_FOLDER [--output FOLDER].

Exit code 0 where everything is equal, 1 where something differs, 2 where the run can't be repeated.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import train

#: Keys of result.json that are no result.
_CIRCUMSTANCES = ("seconds", "versions", "command", "threads", "text_chunk")


def again(folder: Path, output: Path) -> dict[str, Any]:
    """Do the run of `folder` in `output`, with as many threads; returns the old result. Raises InputError."""
    import torch

    from dassl.utils import InputError, read_json
    from trainers.common.options import run_config

    for name in ("config.yaml", "result.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is no finished run: it has no {name}")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty")
    result = read_json(folder / "result.json")
    cfg = run_config(folder)
    cfg.OUTPUT_DIR, cfg.RESUME, cfg.TEST.CACHE_FEATURES = str(output), "", False
    cfg.TRAINER.TEXT_CHUNK = result.get("text_chunk", 0)
    cfg.freeze()
    if cfg.SEED < 0:
        raise InputError(f"{folder} was not seeded (SEED {cfg.SEED}): no two such runs are alike")
    threads = torch.get_num_threads()
    torch.set_num_threads(result.get("threads", threads))
    try:
        train.run(cfg)
    finally:
        torch.set_num_threads(threads)
    return result


def compare(first: Path, second: Path) -> Iterator[tuple[str, bool]]:
    """Whether two runs left the same: result, few-shot picks, losses, predictions, every checkpoint's prompts."""
    results = [json.loads((folder / "result.json").read_text()) for folder in (first, second)]
    facts = set(results[0]) - set(_CIRCUMSTANCES)  # an older run has fewer
    yield "result.json", all(results[0][key] == results[1].get(key) for key in facts)
    for name in ("fewshot.json", "metrics.jsonl"):
        if (first / name).is_file() or (second / name).is_file():
            yield name, _bytes(first / name) == _bytes(second / name)
    if (first / "predictions.npz").is_file():
        yield "predictions.npz", _arrays(first / "predictions.npz") == _arrays(second / "predictions.npz")
    for path in sorted(first.glob("*/model.pth.tar-*")):
        other = second / path.relative_to(first)
        yield str(path.relative_to(first)), other.is_file() and _prompts(path) == _prompts(other)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _arrays(path: Path) -> dict[str, Any] | None:
    import numpy as np

    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return {name: (array.shape, array.dtype, array.tobytes()) for name, array in arrays.items()}


def _prompts(path: Path) -> dict[str, Any]:
    from dassl.utils import load_checkpoint

    tensors = load_checkpoint(path)["state_dict"]
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in tensors.items()}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--output", type=Path, help="where the repetition stays (default: it is thrown away)")
    args = parser.parse_args(argv)
    different: list[str] = []

    def job() -> None:
        from dassl.utils import versions

        with tempfile.TemporaryDirectory() as temporary:
            output = args.output or Path(temporary)
            before = again(args.folder, output).get("versions", {})
            for name, same in compare(args.folder, output):
                print(f"{'equal' if same else 'DIFFERS':8} {name}")
                different.extend([] if same else [name])
        for name, now in versions().items():
            if before.get(name) != now:
                print(f"{name} is {now}, and was {before.get(name)}")
        print("Not the same to the last bit" if different else "The same to the last bit")

    return train.report_errors(job, debug=False) or int(bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
