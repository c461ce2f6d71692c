"""Runs a function in several processes that are connected with gloo, as torchrun would, but starts quicker.

The processes are forks of a server process that has imported torch and the trainers, and that has done no other work.
"""

import contextlib
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parents[1]
_PATH = [str(ROOT), *(str(ROOT / folder) for folder in ("benchmarks", "tests", "tests/golden"))]
_CONTEXT = multiprocessing.get_context("forkserver")


def run(size: int, job: Callable[..., Any], *args: object, seconds: float = 600) -> list[Any]:
    """Call `job(*args)` in `size` processes, and return the results of all processes. None: a process was killed.

    The processes import the function `job` by its name. If it raises an exception, the test fails.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun keeps it, too
    receivers, processes = [], []
    for rank in range(size):
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_child, args=(rank, size, store.port, sender, job, args))
        with pytest.MonkeyPatch.context() as patch:  # the server process needs the path of the tests
            patch.setenv("PYTHONPATH", os.pathsep.join([*_PATH, os.environ.get("PYTHONPATH", "")]))
            _CONTEXT.set_forkserver_preload(["distributed_jobs"])
            process.start()
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    results = []
    for receiver in receivers:
        with contextlib.suppress(EOFError):
            assert receiver.poll(seconds), f"the processes need more than {seconds} s"
        results.append(_received(receiver))
    for process in processes:
        process.join(5)
        process.kill()
    return results


def _received(receiver: Connection) -> Any:
    try:
        error, result = receiver.recv()
    except EOFError:
        return None
    if error:
        pytest.fail(error)
    return result


def _child(rank: int, size: int, port: int, sender: Connection, job: Callable[..., Any], args: tuple) -> None:
    import torch

    os.chdir(ROOT)
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    try:
        sender.send(("", job(*args)))
    except BaseException:
        sender.send((f"process {rank}: {traceback.format_exc()}", None))
