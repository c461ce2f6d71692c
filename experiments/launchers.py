"""Where a sweep's jobs run. A launcher takes a command line and returns its exit code when it has ended.

The launching is other people's: subprocess, submitit (Slurm, or its own local executor, to try it out) and Ray.
"""

import os
import queue
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

Launcher = Callable[[list[str]], int]


def gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def local(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Processes of this machine, each with a GPU of its own as far as there are GPUs."""
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
    """Jobs of Slurm, through submitit; `parameters` are AutoExecutor's: slurm_partition, timeout_min, mem_gb ..."""
    from dassl.utils import InputError

    if not shutil.which("sbatch"):
        raise InputError("no sbatch here: --on slurm is for a login node of the cluster; to try it: --on submitit")
    return _submitit("slurm", {"gpus_per_node": "1"} | parameters, threads, folder)


def submitit(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """submitit's local executor: what `slurm` does, on this machine."""
    return _submitit("local", parameters, threads, folder)


def _submitit(cluster: str, parameters: dict[str, str], threads: int, folder: Path) -> Launcher:
    from dassl.utils import InputError

    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise InputError("submitit is not installed: pip install submitit") from error
    executor = AutoExecutor(folder / "submitit", cluster=cluster)
    words = {"timeout_min": "2880", "cpus_per_task": str(threads)} | parameters
    try:
        executor.update_parameters(**{key: int(value) if value.isdigit() else value for key, value in words.items()})
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"submitit doesn't take --slurm {parameters}: {error}") from error
    return lambda command: executor.submit(subprocess.call, command).result()


def ray(workers: int, threads: int, folder: Path, parameters: dict[str, str]) -> Launcher:
    """Tasks of a Ray cluster (RAY_ADDRESS), or of a Ray on this machine."""
    from dassl.utils import InputError

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
