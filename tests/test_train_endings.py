"""Runs that end early: a full disk, Ctrl-C, SIGTERM, a killed worker, an unexpected error. Each leaves one line.

After a stop or an error, the same command finishes the run as if nothing had happened.
"""

import contextlib
import errno
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import result_of
from file_operations import contents

import report
from dassl.data.cache import DecodedImageCache
from dassl.engine.metrics_log import MetricsLog
from dassl.engine.trainer import SimpleTrainer
from dassl.utils.command_line import report_errors
from experiments import launchers
from trainers.common.trainer import PromptTrainer

WORDS = ("OPTIM.MAX_EPOCH", 2, "TEST.SAVE_PREDICTIONS", True, "DATASET.NUM_SHOTS", 1)


@pytest.fixture
def coop(run, tmp_path):
    """coop(*words) -> (exit code, stdout, the lines of stderr that aren't progress bars) of a run of two epochs."""

    def coop(*words, output="out"):
        code, out, err = run(*WORDS, *words, trainer="CoOp", output=tmp_path / output)
        return code, out, [line for line in err.splitlines() if "%|" not in line and line.strip()]

    return coop


def finishes(coop, tmp_path):
    """Repeat the command, and compare the files with those of an undisturbed run."""
    assert coop(output="whole")[0] == 0
    code, _, err = coop()
    assert code == 0, err
    whole, resumed = (contents(tmp_path / name) for name in ("whole", "out"))
    assert set(resumed) == set(whole)
    for name in ("metrics.jsonl", "predictions.npz", "prompt_learner/model.pth.tar-2"):
        assert resumed[name] == whole[name], name
    assert result_of(tmp_path / "out")["per_class"] == result_of(tmp_path / "whole")["per_class"]


@contextlib.contextmanager
def disk_that_ends_at(size):
    """No file can be longer than `size` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def check_full_disk(outcome, path):
    code, _, (line,) = outcome
    assert code == 1
    assert line.startswith(f"error: can't write {path}: ")
    assert re.search(r"\([\d.,]+ MB are free in /.*\)\. Make space, then repeat the command$", line)


@pytest.mark.parametrize(
    "names",
    [{"model.pth.tar-2", "predictions.npz", "result.json"}, pytest.param(None, marks=pytest.mark.long)],
    ids=["few files", "all files"],
)
def test_a_full_disk_is_one_line_whichever_file_it_hits(names, coop, tmp_path, monkeypatch):
    """Each call gets past the file that the call before couldn't write."""
    assert coop(output="whole")[0] == 0
    paths = {path.rpartition("/")[2]: path for path in contents(tmp_path / "whole") if path != ".lock"}
    left = set(paths) if names is None else set(names)
    write_bytes = Path.write_bytes

    def full(path, content):
        name = re.sub(r"\.\w{32}\.tmp$", "", path.name)  # see `write_atomically`
        if path.is_relative_to(tmp_path / "out") and name in left:
            left.remove(name)
            write_bytes(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        while left:
            before = set(left)
            outcome = coop()
            (name,) = before - left
            check_full_disk(outcome, tmp_path / "out" / paths[name])
            assert not (tmp_path / "out/result.json").exists()
    assert coop()[0] == 0
    assert set(contents(tmp_path / "out")) == set(contents(tmp_path / "whole"))


def test_a_full_disk_is_one_line_of_the_logs(coop, tmp_path, monkeypatch):
    with disk_that_ends_at(300):
        check_full_disk(coop(), tmp_path / "out/log.txt")
    make = MetricsLog.__init__

    def full(log, *words):
        make(log, *words)
        log.path = Path("/dev/full")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "__init__", full)
        check_full_disk(coop(), "/dev/full")


@pytest.mark.slow
def test_a_full_disk_is_one_line_of_a_report(coop, tmp_path, capsys):
    assert coop()[0] == 0
    page = tmp_path / "page.html"
    with disk_that_ends_at(10_000):
        assert report.main([str(tmp_path / "out"), "--html", str(page)]) == 1
    err = capsys.readouterr().err
    assert f"error: can't write {page}: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_stopped_run_can_be_resumed(number, code, name, coop, tmp_path, monkeypatch):
    run_epoch = PromptTrainer.run_epoch

    def stopped(trainer):
        if trainer.epoch == 1:
            signal.raise_signal(number)
        run_epoch(trainer)

    handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, handler)  # a script's background jobs ignore SIGINT
    try:
        with monkeypatch.context() as patch:
            patch.setattr(PromptTrainer, "run_epoch", stopped)
            assert coop()[::2] == (code, [f"stopped by {name}. Repeat the command to resume"])
    finally:
        signal.signal(number, before)
    assert not (tmp_path / "out/result.json").exists()
    finishes(coop, tmp_path)


def test_a_killed_worker_is_one_line(coop, monkeypatch):
    read = DecodedImageCache.read

    def killed(self, index, path):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index, path)

    with monkeypatch.context() as patch:
        patch.setattr(DecodedImageCache, "read", killed)
        code, _, (line,) = coop("DATALOADER.NUM_WORKERS", 1)
    assert code == 1
    assert line.startswith("error: a process that loads images was killed")
    assert "Lower DATALOADER.NUM_WORKERS" in line


def failing(error):
    def fail(*words, **options):
        raise error

    return fail


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(coop, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SimpleTrainer, "after_epoch", failing(RuntimeError("no\nsense")))
        code, _, (line,) = coop()
    assert (code, line) == (3, "internal error: RuntimeError: no sense; --debug shows the traceback")
    log = (tmp_path / "out/log.txt").read_text(encoding="utf-8")
    assert "epoch [1/2] batch [1/1]" in log  # the log is kept
    assert "Traceback (most recent call last)" in log
    assert log.endswith("RuntimeError: no\nsense\n")
    finishes(coop, tmp_path)


@pytest.mark.parametrize(
    "error", [MemoryError(), MemoryError("can't allocate"), type("OutOfMemoryError", (Exception,), {})("GPU")]
)
def test_too_little_memory_names_the_keys_to_lower(error, coop, monkeypatch):
    monkeypatch.setattr(MetricsLog, "write", failing(error))
    code, _, (line,) = coop()
    assert code == 1
    assert line.startswith("error: not enough memory: ")
    assert line.endswith("Lower the batch sizes or DATALOADER.DECODED_GB")


def test_an_error_of_writing_that_has_another_reason_is_one_line(coop, monkeypatch):
    monkeypatch.setattr(MetricsLog, "write", failing(OSError(errno.EACCES, "Permission denied", "x")))
    assert coop()[::2] == (1, ["error: [Errno 13] Permission denied: 'x'"])


def test_a_stopped_sweep_ends_its_jobs(tmp_path):
    """`stop` is called when the sweep gets SIGTERM or Ctrl-C."""
    launch, codes = launchers.local(2, 1, 1, tmp_path, {}), []
    threads = [threading.Thread(target=lambda: codes.append(launch.call(["sleep", "60"]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    while subprocess.run(["pgrep", "-P", str(os.getpid()), "sleep"], capture_output=True).stdout.count(b"\n") < 2:
        time.sleep(0.02)
    launch.stop()
    for thread in threads:
        thread.join(5)
    assert codes == [-signal.SIGTERM] * 2
    assert launch.call(["sleep", "60"]) == 143  # no job is started any more


def test_the_exit_code_of_success_is_0():
    assert report_errors(lambda: None, debug=False) == 0
