"""Launchers: where a sweep's jobs run. `sweep.py` chooses one of `LAUNCHERS` by --on.

A launcher takes a command, starts it, waits for its end, and returns its exit code. Other packages do the work:
subprocess, submitit (Slurm, or its local executor for trying it out) and Ray.
"""

import os
import queue
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from dassl.utils.errors import InputError

Launcher = Callable[[list[str]], int]


def gpus() -> list[str]:
    """The GPUs that this process may use, as values for CUDA_VISIBLE_DEVICES."""
    import torch

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def local(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Processes on this machine. Each worker uses one GPU; workers share GPUs if there are fewer GPUs than workers."""
    devices, slots = gpus(), queue.SimpleQueue[int]()
    for slot in range(workers):
        slots.put(slot)

    def launch(command: list[str]) -> int:
        slot = slots.get()
        try:
            device = [f"CUDA_VISIBLE_DEVICES={devices[slot % len(devices)]}"] if devices else []
            return subprocess.call(["env", *device, *command])
        finally:
            slots.put(slot)

    return launch


def slurm(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Slurm jobs, through submitit. `parameters` are those of its AutoExecutor: slurm_partition, timeout_min ..."""
    if not shutil.which("sbatch"):
        raise InputError("no sbatch here: --on slurm is for a login node of the cluster; to try it: --on submitit")
    return _submitit("slurm", {"gpus_per_node": "1"} | parameters, threads, folder)


def submitit(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """submitit's local executor: the same as `slurm`, but on this machine."""
    return _submitit("local", parameters, threads, folder)


def _submitit(cluster: str, parameters: dict[str, str], threads: int, folder: Path) -> Launcher:
    """A launcher of submitit. Raises InputError if submitit is missing or rejects a parameter."""
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise InputError("submitit is not installed: pip install submitit") from error
    executor = AutoExecutor(folder / "submitit", cluster=cluster)
    texts = {"timeout_min": "2880", "cpus_per_task": str(threads)} | parameters
    try:
        executor.update_parameters(**{key: int(value) if value.isdigit() else value for key, value in texts.items()})
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"submitit doesn't take --slurm {parameters}: {error}") from error
    return lambda command: executor.submit(subprocess.call, command).result()


def ray(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Tasks on the Ray cluster that RAY_ADDRESS names, or on a Ray that is started on this machine."""
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed: pip install ray") from error
    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    call = ray.remote(num_cpus=threads, num_gpus=int(has_gpu), max_retries=0)(subprocess.call)
    return lambda command: ray.get(call.remote(command))


LAUNCHERS: dict[str, Callable[[int, int, Path, dict[str, str]], Launcher]] = {
    "local": local,
    "slurm": slurm,
    "submitit": submitit,
    "ray": ray,
}
