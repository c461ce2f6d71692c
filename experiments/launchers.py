"""Defines the launchers, which run the jobs of a sweep on this machine, on Slurm or on Ray.

A launcher starts commands through the package subprocess, submitit or Ray. The option --on of `sweep.py` selects an
entry of `LAUNCHERS`. The entry is a function that returns a launcher.
"""

import contextlib
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dassl.utils.errors import InputError

_PATIENCE = 20  # seconds that a stopped job may take to end
_NOTE = "The scheduler's jobs keep running. "


@dataclass(frozen=True)
class Launcher:
    """Runs commands somewhere."""

    call: Callable[[list[str]], int]  # starts a command, waits until it ends, and returns its exit code
    stop: Callable[[], None]  # ends all commands, unless a scheduler runs them
    note: str = ""  # what happens to the commands when the sweep is stopped, if it is surprising


def gpus() -> list[str]:
    """Return the names of the GPUs that this process may use. Each name is a valid value of CUDA_VISIBLE_DEVICES."""
    import torch

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def local(workers: int, threads: int, gpus_per_run: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Return a launcher that runs commands on this machine, up to `workers` commands at the same time.

    Each command uses `gpus_per_run` GPUs, or the CPU if there is no GPU. If there are too few GPUs for all commands at
    the same time, several commands share a GPU.

    Raises:
        InputError: there are GPUs, but fewer than `gpus_per_run`.
    """
    devices, slots, processes = gpus(), queue.SimpleQueue[int](), _Processes()
    if 0 < len(devices) < gpus_per_run:
        raise InputError(f"--gpus-per-run is {gpus_per_run}, but this machine has {len(devices)} GPUs")
    for slot in range(workers):
        slots.put(slot)

    def call(command: list[str]) -> int:
        slot = slots.get()
        try:
            device = [f"CUDA_VISIBLE_DEVICES={','.join(devices_of(slot, devices, gpus_per_run))}"] if devices else []
            return processes.call(["env", *device, *command])
        finally:
            slots.put(slot)

    return Launcher(call, processes.stop)


def devices_of(slot: int, devices: Sequence[str], count: int) -> Sequence[str]:
    """Return the names of the `count` GPUs that the commands of a slot use. The number of slots may be larger."""
    first = slot % (len(devices) // count) * count
    return devices[first : first + count]


class _Processes:
    """The running processes of a launcher. Threads start processes at the same time."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def call(self, command: list[str]) -> int:
        """Run a command and return its exit code. After `stop` was called, don't run it, and return 143."""
        with self._lock:
            if self._stopped:
                return 143
            process = subprocess.Popen(command)
            self._running.add(process)
        try:
            return process.wait()
        finally:
            self._running.discard(process)

    def stop(self) -> None:
        """Send SIGTERM to all processes and wait until they have ended. Kill those that don't end."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def slurm(workers: int, threads: int, gpus_per_run: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Return a launcher that submits each command to Slurm, through the package submitit.

    `parameters`, for example {"slurm_partition": "gpu"}, is passed to submitit's `AutoExecutor.update_parameters`.
    """
    if not shutil.which("sbatch"):
        raise InputError(
            "there is no sbatch here: use --on slurm on a cluster's login node, or --on submitit, which needs no Slurm"
        )
    resources = {"gpus_per_node": str(gpus_per_run), "cpus_per_task": str(threads * gpus_per_run)}
    return _submitit("slurm", resources | parameters, folder)


def submitit(workers: int, threads: int, gpus_per_run: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Return a launcher that runs commands on this machine with submitit's local executor. Slurm isn't needed."""
    return _submitit("local", {"cpus_per_task": str(threads * gpus_per_run)} | parameters, folder)


def _submitit(cluster: str, parameters: dict[str, str], folder: Path) -> Launcher:
    """Return a launcher that uses submitit. Raises InputError if submitit is missing or rejects a parameter."""
    try:
        from submitit import AutoExecutor, Job
    except ImportError as error:
        raise InputError("submitit is not installed: pip install submitit") from error
    executor = AutoExecutor(folder / "submitit", cluster=cluster)
    texts = {"timeout_min": "2880"} | parameters
    try:
        executor.update_parameters(**{key: int(value) if value.isdigit() else value for key, value in texts.items()})
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"submitit rejects the --slurm parameters {parameters}: {error}") from error
    jobs: set[Job] = set()

    def call(command: list[str]) -> int:
        jobs.add(job := executor.submit(subprocess.call, command))
        return job.result()

    def stop() -> None:
        for job in jobs:
            with contextlib.suppress(OSError, AttributeError):  # the job has ended, or never started
                job.cancel()

    return Launcher(call, stop) if cluster == "local" else Launcher(call, _keep, _NOTE)


def ray(workers: int, threads: int, gpus_per_run: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Return a launcher that runs each command as a Ray task.

    If the environment variable RAY_ADDRESS is set, commands run on the Ray cluster at this address. Otherwise, Ray is
    started on this machine.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed: pip install ray") from error
    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    cpus, gpus = threads * gpus_per_run, gpus_per_run if has_gpu else 0
    call = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(subprocess.call)
    return Launcher(lambda command: ray.get(call.remote(command)), _keep, _NOTE)


def _keep() -> None:
    """Jobs of a scheduler keep running when the sweep is stopped. The scheduler's own commands end them."""


LAUNCHERS: dict[str, Callable[[int, int, int, Path, dict[str, str]], Launcher]] = {
    "local": local,
    "slurm": slurm,
    "submitit": submitit,
    "ray": ray,
}
