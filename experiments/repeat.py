"""Repeats a finished run, using only the files in its folder, and compares both runs bit by bit.

    python -m experiments.repeat RUN_FOLDER [--output FOLDER]

The exit code is 0 if all compared files are equal, 1 if a file differs, and 2 if the run can't be repeated.
"""

import argparse
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from dassl.engine.formats import read_result
from dassl.utils.command_line import report_errors
from dassl.utils.errors import InputError
from dassl.utils.typed import read_json_as

#: Keys of result.json that aren't compared, because their values may differ even if both runs give the same result.
_CIRCUMSTANCES = ("seconds", "versions", "command", "threads", "text_chunk", "files", "prompts", "checksum")


def repeat(folder: Path, output: Path) -> dict[str, str]:
    """Repeat the run in `folder` with the same number of CPU threads, and write the new run's files to `output`.

    Returns the package versions that the first run used, as {package: version}. Raises InputError if the first run
    isn't finished or wasn't seeded, or if the folder `output` isn't empty.
    """
    import torch

    from experiments.execute import run_config
    from trainers.common.options import run_config as config_of_folder

    for name in ("config.yaml", "result.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} isn't the folder of a finished run, because it holds no {name}")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"the output folder {output} is not empty")
    result = read_result(folder)
    cfg = config_of_folder(folder)
    cfg.OUTPUT_DIR, cfg.RESUME, cfg.TEST.CACHE_FEATURES = str(output), "", False
    cfg.TRAINER.TEXT_CHUNK, cfg.TRAIN.LOGGERS = result.text_chunk, ()
    cfg.freeze()
    if cfg.SEED < 0:
        raise InputError(
            f"the run in {folder} was not seeded (SEED is {cfg.SEED}), so a repetition would give another result"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(result.threads or threads)
    try:
        run_config(cfg)
    finally:
        torch.set_num_threads(threads)
    return result.versions


def compare(first: Path, second: Path) -> Iterator[tuple[str, bool]]:
    """Compare the files in the folders of two runs. Yields (file name, True if the file is equal in both folders).

    The files are the result, the few-shot samples, the training losses, the predictions and the checkpoints.
    """
    results = [read_json_as(folder / "result.json", dict[str, object], "result") for folder in (first, second)]
    compared = set(results[0]) - set(_CIRCUMSTANCES)  # keys that only the second run has are ignored
    yield "result.json", all(results[0][key] == results[1].get(key) for key in compared)
    for name in ("fewshot.json", "metrics.jsonl"):
        if (first / name).is_file() or (second / name).is_file():
            yield name, _bytes(first / name) == _bytes(second / name)
    if (first / "predictions.npz").is_file():
        yield "predictions.npz", arrays(first / "predictions.npz") == arrays(second / "predictions.npz")
    for path in sorted(first.glob("*/model*.pth.tar*")):
        other = second / path.relative_to(first)
        yield str(path.relative_to(first)), other.is_file() and prompts(path) == prompts(other)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def arrays(path: Path) -> dict[str, tuple[object, ...]] | None:
    """Return {name: (shape, type, bytes)} for the arrays in a .npz file. Returns None if the file is missing."""
    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(path) as content:
            return {name: (array.shape, array.dtype, array.tobytes()) for name, array in content.items()}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def prompts(path: Path) -> dict[str, tuple[object, ...]]:
    """Return {name: (type, shape, bytes)} for the tensors in a checkpoint file."""
    import torch

    from dassl.utils import load_checkpoint

    tensors = load_checkpoint(path).get("state_dict")
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise InputError(f"{path} isn't a checkpoint, because it has no state_dict of tensors")
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in tensors.items()}


def main(argv: list[str]) -> int:
    """Repeat a run, compare both runs, and return the exit code that the docstring of this module explains."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--output", type=Path, help="folder to write the repetition to (default: a temporary folder)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    different: list[str] = []

    def job() -> None:
        from dassl.utils import versions

        with tempfile.TemporaryDirectory() as temporary:
            output = args.output or Path(temporary)
            before = repeat(args.folder, output)
            for name, same in compare(args.folder, output):
                print(f"{'equal' if same else 'DIFFERS':8} {name}")
                different.extend([] if same else [name])
        for name, now in versions().items():
            if before.get(name) != now:
                print(f"The version of {name} is {now}. It was {before.get(name)} in the first run")
        print("The runs differ" if different else "Both runs are equal to the last bit")

    return report_errors(job, args.debug) or int(bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
