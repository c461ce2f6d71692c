"""Runs a sweep: every run that a file of configs/sweeps/ declares, whatever becomes of single ones, then a report.

    python experiments/sweep.py NAME|FILE [--dry-run] [--jobs N] [--on local|slurm|submitit|ray] [--datasets dtd,eurosat]
                            [flags and KEY VALUE pairs for train.py, for every run]

What is finished is kept, what was cut off goes on. Runs are command lines of experiments/run.py and stand in the
folders that the scripts use; the sweep's own folder is <output>/sweeps/<name>: sweep.json, a log a job, report.html.
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

import train
from experiments import launchers
from experiments import plan as plans

_MODULE = "experiments.run"


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The sweep's own flags, and the words for every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("sweep", metavar="NAME|FILE", help="a file, or one of configs/sweeps/ by name")
    add("--dry-run", action="store_true", help="list the runs and what has become of them, then stop")
    add("--jobs", type=int, default=1, help="how many at a time")
    add("--on", choices=launchers.LAUNCHERS, default="local", help="where they run")
    add("--threads", type=int, help="CPU threads of each (default: cores here / JOBS)")
    add("--slurm", action="append", default=[], metavar="KEY=VALUE", help="for submitit: slurm_partition, mem_gb ...")
    add("--output", default=os.environ.get("OUTPUT", "output"), help="folder of all output (default: output)")
    for key in plans.LISTS:
        add(f"--{key}", metavar="A,B", help=f"{key}, instead of the file's")
    return parser.parse_known_args(argv)


def own_name(args: argparse.Namespace) -> str:
    """A sweep's folder: its name, and what it was narrowed to."""
    narrowed = {key: getattr(args, key) for key in plans.LISTS if getattr(args, key)}
    names = [
        f"{key}_{re.sub(r' [^,]*', '', items)}".replace(",", "+").replace("/", "-") for key, items in narrowed.items()
    ]
    return "-".join([Path(args.sweep).stem, *names])


def command(job: plans.Job, log: Path, threads: int) -> list[str]:
    """A command line that does what is left of a job, in this folder, and writes to a log."""
    lines = [run.line for run in job if run.is_left]
    words = [word for line in lines for word in ("--then", *line)][1:]
    here = {
        "PYTHONPATH": str(train.ROOT),
        "OUTPUT": os.environ["OUTPUT"],
        "DATA": os.environ.get("DATA", "data"),
        "OMP_NUM_THREADS": str(threads),
    }
    python = ["env", "-C", os.getcwd(), *(f"{name}={value}" for name, value in here.items()), sys.executable]
    return ["bash", "-c", 'exec "${@:2}" >>"$1" 2>&1', "bash", str(log.resolve()), *python, "-P", "-m", _MODULE, *words]


def conclude(job: plans.Job, log: str) -> None:
    """What has become of a job's runs, now that it has ended; of failed ones the reason, which is in its log."""
    lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
    errors = iter([line.removeprefix("error: ") for line in lines if line.startswith("error: ")])
    for run in job:
        if run.is_left:
            run.examine()
            if run.state != "finished":
                run.state, run.error = "failed", next(errors, lines[-1] if lines else "it ended without a word")


def do(jobs: list[plans.Job], launch: launchers.Launcher, workers: int, threads: int, folder: Path) -> None:
    """Do the jobs, `workers` at a time, with a bar; what has become of each is written down at once."""
    from tqdm import tqdm

    def one(number: int, job: plans.Job) -> float:
        log, started = folder / f"{number:04d}.log", time.time()
        log.touch()
        before, reason = log.stat().st_size, ""
        try:
            launch(command(job, log, threads))
        except Exception as error:  # of a launcher: the scheduler killed the job, or would not take it
            reason = f"\n{type(error).__name__}: {' '.join(str(error).split())}"
        with log.open(errors="replace") as file:
            file.seek(before)
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
                    bar.write(f"{run.state:9} {shlex.join(run.line)}{ending}")
                bar.update()
                plans.write(jobs, folder)
    except KeyboardInterrupt:
        print("Stopped. What a scheduler is running goes on; start again to go on with the rest", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)  # the threads wait for jobs


def show(jobs: list[plans.Job], every: bool) -> None:
    """How many runs are in which state, and with `every` all of them."""
    runs = [run for job in jobs for run in job]
    for run in runs if every else ():
        print(f"{run.state:9} {shlex.join(run.line)} -> {run.folder}" + (f": {run.error}" if run.error else ""))
    states = Counter(run.state for run in runs)
    print(f"{len(runs)} runs in {len(jobs)} jobs: " + ", ".join(f"{n} {state}" for state, n in states.items()))


def main(argv: list[str]) -> int:
    """0; 1 where a run failed, 2 for a wrong input."""
    args, words = parse(argv)
    os.environ["OUTPUT"] = args.output
    failed = False

    def job() -> None:
        nonlocal failed
        if args.jobs < 1:
            raise InputError(f"--jobs must be at least 1, not {args.jobs}")
        sweep = plans.Sweep.read(args.sweep).narrowed(vars(args), words)
        jobs = plans.plan(sweep)
        show(jobs, args.dry_run)
        if args.dry_run:
            return
        folder = Path(args.output) / "sweeps" / own_name(args)
        plans.write(jobs, folder)
        parameters = dict(pair.partition("=")[::2] for pair in args.slurm)
        threads = args.threads or max(1, cpu_cores() // args.jobs)
        launch = launchers.LAUNCHERS[args.on](args.jobs, threads, folder, parameters)
        do(jobs, launch, args.jobs, threads, folder)
        show(jobs, False)
        failed = any(run.state == "failed" for each in jobs for run in each)
        report.main([str(folder), "--html", str(folder / "report.html")])

    import report
    from dassl.utils import InputError, cpu_cores

    return train.report_errors(job, "--debug" in words) or int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
