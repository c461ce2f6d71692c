"""Computes what each method costs, for the table in docs/methods.md, and stores the figures as JSON files in assets/.

    python benchmarks/method_costs.py              # assets/method_costs.json: parameters, GFLOPs, where a method enters
    python benchmarks/method_costs.py --measure    # assets/method_times.json: time and memory of a training step

CLIP has random weights and the sizes of ViT-B/16. A batch has 4 images. Counts are for 100 classes and don't depend on
the machine. --measure starts a process for each method and number of classes, one after the other. The time is the
median of three steps after a warm-up. The memory is the peak of these steps minus the memory before the first of them,
so it includes what the method keeps, such as a teacher's features. It is the peak of the process, as Linux reports it.
Afterwards, `python -m tools.methods_table` writes the page.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import complexity
import measure
import psutil
import torch

from clip.inputs import TowerInputs
from dassl.utils import count_num_param, write_json
from trainers.base import ClassPrompts, FeatureAdapter, Method

ASSETS = Path(__file__).resolve().parents[1] / "assets"
COUNTS, TIMES = ASSETS / "method_costs.json", ASSETS / "method_times.json"
BACKBONE, BATCH, CLASSES = "vit_b16", 4, 100
#: Numbers of classes of the measurements.
MEASURED_CLASSES = (100, 1000)


class Cost(TypedDict):
    """What is counted for a method."""

    parameters: int  # number of learned parameters
    gflops: float | None  # of a training step; None if the method has no training steps
    where: str  # where the method enters CLIP


def layers(numbers: list[int]) -> str:
    """Return sorted layer numbers in words: "layer 8" or "layers 0 to 8"."""
    return f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {numbers[0]} to {numbers[-1]}"


def entries(inputs: TowerInputs) -> list[str]:
    """Return in words which layers of a tower get prompts, inserted tokens and adapters."""
    kinds = {"prompts": inputs.prompts, "inserted tokens": inputs.inserted, "adapters": inputs.adapters}
    return [f"{kind} in {layers(sorted(by_layer))}" for kind, by_layer in kinds.items() if by_layer]


def where(method: Method) -> str:
    """Return where a method's learned parameters enter CLIP, read from the method itself. Layers count from 0."""
    names = [name for name, _ in method.named_parameters()]
    text, image = entries(method.text_inputs()), entries(method.image_inputs())
    has_prompts = any(isinstance(value, ClassPrompts) for value in vars(method).values())
    if names and method.text_is_learned and ((has_prompts and not text) or any(n.endswith("ctx") for n in names)):
        text.insert(0, "context of the prompt")
    parts = [f"{tower}: {', '.join(found)}" for tower, found in (("text", text), ("image", image)) if found]
    if names and (not parts or any(isinstance(module, FeatureAdapter) for module in method.modules())):
        parts.append("after the towers")
    return "; ".join(parts) or "-"


def training_job(trainer: str, classes: int) -> tuple[Method, measure.Job | None]:
    """Return a method, and a job that runs a training step. None if the method has no training steps."""
    model = measure.backbone(BACKBONE, "fp32")
    method = measure.build_method(trainer, model, classes, [])
    if not (method.has_loop and count_num_param(method)):
        return method, None
    return method, measure.training_step(method, measure.images(model, BATCH), classes)


def count(trainer: str) -> Cost:
    """Count a method's parameters, and the operations of its second training step.

    The first step also computes features that the method then keeps, such as those of a teacher.
    """
    method, step = training_job(trainer, CLASSES)
    gflops = None
    if step is not None:
        step()
        gflops = round(complexity.gflops(step), 1)
    with torch.no_grad():
        return {"parameters": count_num_param(method), "gflops": gflops, "where": where(method)}


def measure_once(trainer: str, classes: int) -> dict[str, float] | None:
    """Measure a training step in this process: {"seconds": ..., "mib": ...}, or None if there are no steps."""
    _, step = training_job(trainer, classes)
    if step is None:
        return None
    before = psutil.Process().memory_info().rss
    step()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: the peak starts again at the present size
    seconds = complexity.median_seconds(step, 3)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = 1024 * int(status.split("VmHWM:")[1].split()[0])  # VmHWM is in KiB
    return {"seconds": seconds, "mib": (peak - before) / 2**20}


def measure_all(trainers: list[str]) -> bool:
    """Measure methods in processes of their own, one after the other. Prints each figure and stores it at once.

    Earlier figures stay until they are measured again, if they were measured under the same conditions. If a process
    fails, for example because memory is full, the reason is printed. Returns True if no process failed.
    """
    threads = os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()
    conditions = f"{platform.machine()} CPU, {threads} threads, fp32"
    stored = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.is_file() else {}
    found = stored["trainers"] if stored.get("conditions") == conditions else {}
    succeeded = True
    for trainer in trainers:
        for classes in MEASURED_CLASSES:
            command = [sys.executable, __file__, "--trainers", trainer, "--classes", str(classes)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = done.stderr[-300:] or f"exit code {done.returncode}"
                print(f"{trainer} {classes} failed: {reason}", file=sys.stderr, flush=True)
                succeeded = False
                continue
            found.setdefault(trainer, {})[str(classes)] = json.loads(done.stdout.splitlines()[-1])
            print(trainer, classes, found[trainer][str(classes)], flush=True)
            write_json({"conditions": conditions, "trainers": dict(sorted(found.items()))}, TIMES)
    return succeeded


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Count or measure what each method costs.")
    measure.add_trainers(parser)
    parser.add_argument("--measure", action="store_true", help="measure time and memory of a training step")
    parser.add_argument("--classes", type=int, help="for internal use: measure one trainer in this process")
    args = parser.parse_args(argv)
    if args.classes:
        print(json.dumps(measure_once(measure.chosen_trainers(args)[0], args.classes)))
        return 0
    if args.measure:
        return int(not measure_all(measure.chosen_trainers(args)))
    counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.is_file() else {}
    for name in measure.chosen_trainers(args):
        counts[name] = count(name)
        print(name, counts[name], flush=True)
    write_json(dict(sorted(counts.items())), COUNTS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
