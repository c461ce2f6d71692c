"""Executes all runs that files in configs/sweeps/ declare, then writes a report.

    python -m experiments.sweep NAME|FILE[,...] [--dry-run] [--jobs N] [--on local|slurm|submitit|ray]
                                [--datasets dtd,eurosat] [flags and KEY VALUE pairs for every run]

Several sweeps, separated by commas, run as one sweep with one report.
Finished runs are skipped, and interrupted runs are resumed. If a run fails, the other runs still start. Each run is
executed by `run.py`, and has the same output folder as if the user had called the protocol's script. A job is a list of
runs that are executed one after another. The folder <output>/sweeps/<name> holds sweep.json, a log for each job, and
report.html.
"""

import argparse
import os
import re
import shlex
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from dassl.config import Positive
from dassl.utils.command_line import one_line, report_errors
from dassl.utils.stopping import STOPPED, Terminated, exit_code
from dassl.utils.typed import convert
from experiments import launchers
from experiments import plan as plans
from experiments.config import ROOT
from experiments.sweep_file import LISTS, Sweep

_MODULE = "experiments.run"


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the parsed flags of sweep.py, and a list of all other words, which are passed to every run as options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("sweep", metavar="NAME|FILE[,...]", help="names of files in configs/sweeps/, or paths of .yaml files")
    add("--dry-run", action="store_true", help="list the runs and their states, then stop")
    add("--jobs", type=int, default=1, help="number of jobs that run at the same time (default: 1)")
    add("--on", choices=launchers.LAUNCHERS, default="local", help="where the jobs run (default: local)")
    add("--threads", type=int, help="CPU threads of each process (default: this machine's cores / all processes)")
    add("--gpus-per-run", type=int, default=1, metavar="N", help="run each job on N GPUs, in N processes (default: 1)")
    add(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option for submitit, such as slurm_partition=gpu; may be repeated",
    )
    add(
        "--output", default=os.environ.get("OUTPUT", "output"), help="folder of all output (default: $OUTPUT or output)"
    )
    for key in LISTS:
        add(f"--{key}", metavar="A,B", help=f"use these {key} instead of the {key} in the sweep's file")
    return parser.parse_known_args(argv)


def sweep_names(text: str) -> list[str]:
    """Return the names and files of the sweeps that the user wrote. A file's path may contain commas."""
    return [text] if Path(text).is_file() else text.split(",")


def folder_name(args: argparse.Namespace) -> str:
    """Return the name of the sweep's folder: the sweeps' names, and the lists in flags such as --seeds."""
    narrowed = {key: getattr(args, key) for key in LISTS if getattr(args, key)}
    names = [
        f"{key}_{re.sub(r' [^,]*', '', items)}".replace(",", "+").replace("/", "-") for key, items in narrowed.items()
    ]
    return "-".join(["+".join(Path(name).stem for name in sweep_names(args.sweep)), *names])


def command(job: plans.Job, log: Path, threads: int, processes: int) -> list[str]:
    """Return the command that executes those runs of a job that must still be started or resumed.

    The command runs in the current folder and appends its output to the file `log`. If `processes` is greater than 1,
    torchrun starts it in several processes.
    """
    lines = [run.argv for run in job if run.is_left]
    argv = [word for line in lines for word in ("--then", *line)][1:]
    environment = {
        "PYTHONPATH": str(ROOT),
        "OUTPUT": os.environ["OUTPUT"],
        "DATA": os.environ.get("DATA", "data"),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONSAFEPATH": "1",  # the current folder isn't on the path, also in torchrun's processes
    }
    python = ["env", "-C", os.getcwd(), *(f"{name}={value}" for name, value in environment.items()), sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return ["bash", "-c", 'exec "${@:2}" >>"$1" 2>&1', "bash", str(log.resolve()), *python, "-m", _MODULE, *argv]


def conclude(job: plans.Job, log: str) -> None:
    """Update the states of a job's runs after the job has ended.

    `log` is the text in the job's log file. The error messages of failed runs are taken from this text.
    """
    lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
    errors = iter([line.removeprefix("error: ") for line in lines if line.startswith(("error: ", "internal error: "))])
    for run in job:
        if run.is_left:
            run.examine()
            if run.state != "finished":
                run.state = "failed"
                run.error = next(errors, lines[-1] if lines else "the job ended without a message")


def execute(
    jobs: list[plans.Job], launch: launchers.Launcher, workers: int, threads: int, processes: int, folder: Path
) -> None:
    """Run all unfinished jobs, up to `workers` jobs at the same time, and update sweep.json after each job."""
    from tqdm import tqdm

    def one(number: int, job: plans.Job) -> float:
        """Run a job and return the job's duration in seconds."""
        log, started = folder / f"{number:04d}.log", time.time()
        log.touch()
        size_before, reason = log.stat().st_size, ""  # the log may already hold the output of an earlier call
        try:
            launch.call(command(job, log, threads, processes))
        except Exception as error:  # raised by the launcher, for example if the scheduler kills or rejects the job
            reason = f"\n{type(error).__name__}: {one_line(error)}"
        with log.open(encoding="utf-8", errors="replace") as file:
            file.seek(size_before)
            conclude(job, file.read() + reason)
        return time.time() - started

    left = [(number, job) for number, job in enumerate(jobs) if any(run.is_left for run in job)]
    pool = ThreadPoolExecutor(workers)
    futures: dict[Future[float], plans.Job] = {pool.submit(one, *item): item[1] for item in left}
    try:
        with tqdm(total=len(left), unit="job") as bar:
            for future in as_completed(futures):
                seconds, job = future.result(), futures[future]
                for run in job:
                    ending = f": {run.error}" if run.error else f" ({seconds:.0f} s)" if run is job[-1] else ""
                    bar.write(f"{run.state:9} {shlex.join(run.argv)}{ending}")
                bar.update()
                plans.write(jobs, folder)
    except BaseException as error:
        launch.stop()
        if not isinstance(error, KeyboardInterrupt | Terminated):
            raise
        code = exit_code(error)
        print(f"stopped by {STOPPED[code]}. {launch.note}Repeat the command to resume the sweep", file=sys.stderr)
        sys.stdout.flush()
        os._exit(code)  # sys.exit would wait for the threads, which wait until their jobs end


def show(jobs: list[plans.Job], every: bool) -> None:
    """Print the number of runs in each state. If `every` is True, also print a line for each run."""
    runs = [run for job in jobs for run in job]
    for run in runs if every else ():
        print(f"{run.state:9} {shlex.join(run.argv)} -> {run.folder}" + (f": {run.error}" if run.error else ""))
    states = Counter(run.state for run in runs)
    print(f"{len(runs)} runs in {len(jobs)} jobs: " + ", ".join(f"{n} {state}" for state, n in states.items()))


def sweep(args: argparse.Namespace, options: list[str]) -> bool:
    """Plan a sweep, execute its runs, and write its report. With --dry-run, only list the runs.

    Returns True if all runs have finished and the report was written. Raises InputError for a wrong flag or sweep file.
    """
    from dassl.utils.tools import cpu_cores

    convert(args.jobs, Positive, "--jobs")
    convert(args.gpus_per_run, Positive, "--gpus-per-run")
    convert(args.threads or 1, Positive, "--threads")
    jobs = plans.plan([Sweep.read(name).narrowed(vars(args), options) for name in sweep_names(args.sweep)])
    show(jobs, args.dry_run)
    if args.dry_run:
        return True
    folder = Path(args.output) / "sweeps" / folder_name(args)
    plans.write(jobs, folder)
    parameters = dict(pair.partition("=")[::2] for pair in args.slurm)
    processes = args.gpus_per_run
    threads = args.threads or max(1, cpu_cores() // (args.jobs * processes))
    launch = launchers.LAUNCHERS[args.on](args.jobs, threads, processes, folder, parameters)
    execute(jobs, launch, args.jobs, threads, processes, folder)
    show(jobs, False)
    import report  # imported late, because report.py imports pandas and matplotlib, which takes long

    reported = report.main([str(folder), "--html", str(folder / "report.html")]) == 0
    return reported and all(run.state == "finished" for job in jobs for run in job)


def main(argv: list[str]) -> int:
    """Execute a sweep's command line and return the exit code.

    The exit code is 0 for success, 1 if a run or the report failed, and 2 for a wrong input.
    """
    args, options = parse(argv)
    os.environ["OUTPUT"] = args.output
    succeeded = True

    def job() -> None:
        nonlocal succeeded
        succeeded = sweep(args, options)

    return report_errors(job, "--debug" in options) or int(not succeeded)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
