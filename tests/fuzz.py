"""Runs commands on generated inputs, and counts what must not happen: tracebacks, hangs and wrong exit codes.

With FUZZ=long, each class gets its full number of inputs. Otherwise, a test uses a few inputs.
"""

import contextlib
import io
import json
import math
import os
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fuzzing import LONG, SECONDS, Hang, limited
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

Case = TypeVar("Case")
_WAIT = 120  # seconds in all that a command may take; a busy machine is slow


def problem(
    main: Callable[[list[str]], int], argv: list[str], ending: str = "", output: str = "", shows: str = ""
) -> str:
    """Run a command. Return what is wrong with its ending, or "" if nothing is.

    Args:
        ending: "fails" if the input is wrong, so exit code 0 isn't allowed; "succeeds" if it is right; "" for any.
        output: folder in which a run with exit code 0 must have written a plausible result.json.
        shows: text that a command with exit code 0 must have printed.
    """
    out, err = io.StringIO(), io.StringIO()
    crash = ""
    code: object = None
    started = time.process_time()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
            limited(_WAIT),
        ):
            warnings.simplefilter("ignore")
            code = main(argv)
    except SystemExit as exit:  # argparse
        code = exit.code
    except Hang:
        return "hang"
    except BaseException as error:
        crash = "".join(traceback.format_exception(error)[-3:])
    lines = [line for line in err.getvalue().splitlines() if "error: " in line]
    lines += [line for line in out.getvalue().splitlines() if line.startswith("DIFFERS")]  # of experiments.repeat
    if crash or code == 3 or "Traceback" in err.getvalue():
        return f"traceback: {crash or lines or err.getvalue()[-600:]}"
    if time.process_time() - started > SECONDS:
        return "hang"
    if code not in (0, 1, 2):
        return f"wrong exit code {code}"
    if code and not lines:
        return f"wrong exit code {code} without an error line: {err.getvalue()[-300:]}"
    if code == 0 and (ending == "fails" or shows not in out.getvalue()):
        return f"wrong exit code 0: {out.getvalue()[-300:]}"
    if code and ending == "succeeds":
        return f"wrong exit code {code}: {lines}"
    return _wrong_result(Path(output)) if code == 0 and output else ""


def _wrong_result(folder: Path) -> str:
    result = json.loads((folder / "result.json").read_text())
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []
    numbers = [result["accuracy"], result["macro_f1"], *(line["loss"] for line in lines if "split" not in line)]
    return "" if all(map(math.isfinite, numbers)) else f"wrong exit code 0 with the numbers {numbers}"


def check(cases: SearchStrategy[Case], few: int, many: int, attempt: Callable[[Case], str]) -> None:
    """Call `attempt` for `few` generated cases, or for `many` with FUZZ=long. Fail if it returns a problem for any."""
    found: list[tuple[str, Case]] = []
    total = 0

    @settings(
        max_examples=many if LONG else few,
        database=None,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: Case) -> None:
        nonlocal total
        total += 1
        if text := attempt(case):
            found.append((text, case))

    one()
    kinds = Counter(text.split(":")[0].partition(" code")[0] for text, _ in found)
    if LONG:
        print(f"\n{total} inputs: {dict(kinds) or 'no problem'}")
    shown = "\n\n".join(f"{case!r:.600}\n{text}" for text, case in found[: int(os.environ.get("SHOW", 4))])
    assert not found, f"{len(found)} of {total} inputs: {dict(kinds)}\n{shown}"
