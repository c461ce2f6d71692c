"""Measures this project on a GPU, and runs the tests that need one. Start it with benchmarks/gpu.sh.

    bash benchmarks/gpu.sh [--json output/gpu.json] [--minutes 9]
    bash benchmarks/gpu.sh --device cpu --small    # tries the benchmark itself on a CPU, in seconds

The output ends in Markdown tables. --json names a file for all figures, with the card's name and the versions. If a
part fails or takes too long, the tables name it, and the other parts still run. The exit code is then 1.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from gpu_parts import NEEDS_CUDA, PARTS, Plan, Row

ROOT = Path(__file__).resolve().parents[1]
MARK = "ROW "  # start of a line that a part's process prints for `rows_of`
_TESTS = (sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfE")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure this project on a GPU, and run the tests that need one.")
    parser.add_argument("--json", type=Path, default=ROOT / "output" / "gpu.json", help="file for the figures")
    parser.add_argument("--minutes", type=float, default=9, help="time limit; parts that don't fit are stopped")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the benchmark itself")
    parser.add_argument("--part", choices=PARTS, help="for internal use: run this part in this process")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA GPU. To try the benchmark on a CPU, add --device cpu --small")
    return args


def output_of(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """Run a command in the project's folder.

    Returns:
        What it printed; and why it failed, or "". A command that takes more than `seconds` is stopped.
    """
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=max(0.5, seconds), check=False, cwd=ROOT)
    except subprocess.TimeoutExpired as stopped:
        return (stopped.stdout or b"").decode(errors="replace"), f"stopped after {max(0.5, seconds):.1f} s"
    return done.stdout.decode(errors="replace"), f"exit code {done.returncode}" if done.returncode else ""


def rows_of(part: str, command: Sequence[str], seconds: float) -> Iterator[Row]:
    """Run a part as a separate process, and yield its rows. If the process fails or is stopped, yield a row for that.

    Args:
        command: prints each row as JSON, on a line that starts with `MARK`.
        seconds: time limit.
    """
    output, failure = output_of(command, seconds)
    for line in output.splitlines():
        if line.startswith(MARK):
            yield Row(**json.loads(line.removeprefix(MARK)))
        else:
            print(line)
    if failure:
        yield Row(part, "the whole part", failure=failure)


def row_of_tests(command: Sequence[str], seconds: float) -> Row:
    """Run the tests that need a GPU. Return how many passed, failed and were skipped, and which failed."""
    output, failure = output_of(command, seconds)
    print(output)
    *lines, last = output.splitlines() or [""]
    figures = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return Row("tests", "pytest -m gpu", figures, f"{failure}: {', '.join(failed)}" if failed else failure)


def measured(args: argparse.Namespace) -> Iterator[Row]:
    """Run all parts and the tests, and yield their rows."""
    end = time.monotonic() + 60 * args.minutes
    plan = Plan.small(args.device) if args.small else Plan(args.device)
    for part, run in PARTS.items():
        print(f"== {part}", flush=True)
        if plan.on_cuda:  # an error of CUDA may make its process unusable
            command = [sys.executable, __file__, "--part", part, *(["--small"] if args.small else [])]
            yield from rows_of(part, command, end - time.monotonic())
        else:
            yield from run(plan)
    print("== tests", flush=True)
    if plan.on_cuda:
        yield row_of_tests(_TESTS, end - time.monotonic())
    else:
        yield Row("tests", "pytest -m gpu", {"passed": NEEDS_CUDA})


def markdown(rows: Sequence[Row]) -> str:
    """Return one Markdown table per part. The last column gives the reasons of failures."""
    tables = []
    for part in dict.fromkeys(row.part for row in rows):
        own = [row for row in rows if row.part == part]
        if part == "conditions":  # one case with many figures
            header = ["condition", "value"]
            lines = [[name, value] for row in own for name, value in row.figures.items()]
            lines += [[row.case, row.failure] for row in own if row.failure]
        else:
            names = list(dict.fromkeys(name for row in own for name in row.figures))
            header = ["case", *names, "failure"]
            lines = [[row.case, *(row.figures.get(name, "") for name in names), row.failure] for row in own]
        tables.append("\n".join([f"## {part}", "", *_lines([header, ["---"] * len(header), *lines])]))
    return "\n\n".join(tables)


def _lines(cells: Iterable[Iterable[object]]) -> Iterator[str]:
    for line in cells:
        yield "| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |"


def main(argv: list[str]) -> int:
    args = parse_arguments(argv)
    if args.part:
        for row in PARTS[args.part](Plan.small(args.device) if args.small else Plan(args.device)):
            print(MARK + json.dumps(dataclasses.asdict(row)), flush=True)
        return 0
    start = time.monotonic()
    rows = list(measured(args))
    failed = [f"{row.part}: {row.case}" for row in rows if row.failure]
    content = {"seconds": round(time.monotonic() - start, 1), "failed": failed}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(
        json.dumps(content | {"rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8"
    )
    print(markdown(rows), f"\nFigures: {args.json}. Failed: {len(failed)} of {len(rows)} cases", sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
