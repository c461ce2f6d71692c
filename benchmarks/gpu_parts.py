"""The measurements of the GPU benchmark, in parts. `gpu.py` runs each part, usually in a separate process.

A part is a function that yields one `Row` per case. A case that fails becomes a row with the reason, and the next case
still runs. All parts use trainers with random weights and noise images (`synthetic.py`).
"""

import contextlib
import gc
import io
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import measure
import synthetic
import torch

from clip.model import CLIP
from clip.sizes import Sizes
from dassl.utils import set_deterministic, versions
from trainers.base import PromptTrainer
from trainers.common.options import PRECISIONS

NEEDS_CUDA = "needs CUDA"
#: Largest accepted difference of the logits from fp32, relative to the largest logit. amp computes in fp16 on a GPU.
LIMITS = {"fp16": 0.02, "amp": 0.02, "bf16": 0.1}
Figures = Mapping[str, float | str]


@dataclass(frozen=True)
class Row:
    """The result of one case."""

    part: str
    case: str
    figures: Figures = field(default_factory=dict)
    failure: str = ""  # the reason in one line, if the case failed


class FailedCase(Exception):
    """A case has failed. `figures` are the figures that were measured nevertheless."""

    def __init__(self, reason: str, figures: Figures):
        super().__init__(reason)
        self.figures = figures


@dataclass(frozen=True)
class Plan:
    """What the benchmark measures."""

    device: str  # cuda or cpu
    trainer: str = "MaPLe"  # the trainer whose steps and evaluations are timed
    prec: str = "fp16"  # precision of the timed steps and evaluations
    sizes: Sizes = measure.SIZES["vit_b16"]
    classes: tuple[int, ...] = (10, 100, 500, 1000)
    batch: int = 4  # number of images in a training batch
    test_batch: int = 100
    repeats: int = 20  # number of timed rounds (the median is used)

    @classmethod
    def small(cls, device: str) -> "Plan":
        """Return a plan that takes seconds on a CPU, to try the benchmark itself."""
        sizes = Sizes(32, 32, 12, 64, 16, 1, 128, 77, 49408, 64, 1, 12, 128)
        return cls(device, sizes=sizes, classes=(3, 5), batch=2, test_batch=2, repeats=1)

    @property
    def on_cuda(self) -> bool:
        return self.device == "cuda"

    def build(self, name: str, classes: int, prec: str, *opts: str) -> tuple[PromptTrainer, dict[str, torch.Tensor]]:
        """Return a trainer, and a batch for its `forward_backward`. `opts` are KEY VALUE pairs."""
        torch.manual_seed(0)
        clip = CLIP(self.sizes).requires_grad_(False).eval()
        with contextlib.redirect_stdout(io.StringIO()):  # the names of all parameters
            trainer = synthetic.build_trainer(name, clip, classes, prec, ["USE_CUDA", str(self.on_cuda), *opts])
        return trainer, synthetic.batch_of(clip, self.batch, classes)

    def timed_case(self, classes: int) -> str:
        """Return the name of a case of a timed part."""
        return f"{self.trainer}, {self.prec}, {classes} classes"


def attempt(part: str, case: str, work: Callable[[], Figures]) -> Row:
    """Return the row of a case. `work` returns the case's figures. An error becomes the row's `failure`."""
    try:
        return Row(part, case, work())
    except FailedCase as error:
        return Row(part, case, error.figures, str(error))
    except Exception as error:  # a failed case must not stop the benchmark
        return Row(part, case, failure=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    finally:
        if torch.cuda.is_available():
            gc.collect()  # a trainer with captured steps refers to itself
            torch.cuda.empty_cache()


def conditions(plan: Plan) -> Iterator[Row]:
    """Yield one row with the machine, the versions and the sizes."""
    figures: dict[str, float | str] = {"device": plan.device, "platform": platform.platform(), **versions()}
    if plan.on_cuda:
        card = torch.cuda.get_device_properties(0)
        figures |= {"card": card.name, "card_gib": round(card.total_memory / 2**30, 1)}
        figures |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    figures["weights"] = f"random, image tower of width {plan.sizes.vision_width} and {plan.sizes.vision_layers} layers"
    figures |= {"batch": plan.batch, "test_batch": plan.test_batch, "rounds": plan.repeats}
    figures["threads"] = torch.get_num_threads()
    yield Row("conditions", "this machine", figures)


# ---- time and memory of a training step ----


def steps(plan: Plan) -> Iterator[Row]:
    """Yield the time and the memory of a training step for each number of classes: eager, naive and as a CUDA graph."""
    for classes in plan.classes:
        yield attempt("steps", plan.timed_case(classes), partial(_step_figures, plan, classes))


def _step_figures(plan: Plan, classes: int) -> Figures:
    trainer, batch = plan.build(plan.trainer, classes, plan.prec, "TRAINER.CUDA_GRAPH", "True")
    if plan.on_cuda:
        trainer.capture_steps()
    captured, trainer.captured = trainer.captured, None

    def eager() -> None:
        trainer.forward_backward(batch)

    def naive() -> None:
        with measure.naive(trainer.model):
            trainer.forward_backward(batch)

    def graph() -> None:
        trainer.captured = captured
        trainer.forward_backward(batch)
        trainer.captured = None

    jobs: dict[str, measure.Job] = {"eager": eager, "naive": naive, "graph": graph}
    figures: dict[str, float | str] = {"computed_in": trainer.precision}
    if not plan.on_cuda:
        figures["graph_ms"] = NEEDS_CUDA
        del jobs["graph"]
    for name, job in list(jobs.items()):
        memory = attempt("", "", partial(_memory_figures, plan, name, job))
        figures |= memory.figures
        if memory.failure:  # for example too little memory for `naive`: the others must still be measured
            figures[f"{name}_ms"] = memory.failure
            del jobs[name]
    times = measure.interleaved(jobs, plan.repeats)
    figures |= {f"{name}_ms": round(1000 * seconds, 3) for name, seconds in times.items()}
    figures |= {"naive/eager": _ratio(times, "naive", "eager"), "eager/graph": _ratio(times, "eager", "graph")}
    if plan.on_cuda and (captured is None or captured.is_eager):
        raise FailedCase("the step wasn't captured; the output above gives the reason", figures)
    return figures


def _ratio(times: Mapping[str, float], slow: str, fast: str) -> float | str:
    return round(times[slow] / times[fast], 2) if {slow, fast} <= times.keys() else ""


def _memory_figures(plan: Plan, name: str, job: measure.Job) -> Figures:
    """Run a job five times, so that a CUDA graph is captured and replayed. Return the peak of the memory in MiB.

    The memory is the memory that torch reserves on the card. It includes the memory of captured graphs.
    """
    if not plan.on_cuda:
        job()
        return {f"{name}_mib": NEEDS_CUDA}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(5):
        job()
    return {f"{name}_mib": round(torch.cuda.max_memory_reserved() / 2**20)}


# ---- precisions ----


def precisions(plan: Plan) -> Iterator[Row]:
    """Train each trainer for two steps in each precision, and compare its first logits with fp32."""
    for name in measure.trainer_names():
        reference: list[torch.Tensor] = []
        for prec in PRECISIONS:  # fp32 comes first
            case = partial(_precision_figures, plan, name, prec, reference)
            yield attempt("precisions", f"{name}, {prec}", case)


def _precision_figures(plan: Plan, name: str, prec: str, reference: list[torch.Tensor]) -> Figures:
    """Return the losses of two steps, and the difference of the first logits from `reference`.

    With fp32, the logits (batch, n_classes) are appended to `reference`, which is empty before.
    """
    trainer, batch = plan.build(name, plan.classes[0], prec)
    with torch.no_grad():
        trainer.set_model_mode("eval")
        logits = trainer.model_inference(batch["img"].to(trainer.device)).float().cpu()
    figures: dict[str, float | str] = {"computed_in": trainer.precision}
    if not logits.isfinite().all():
        raise FailedCase("a logit is infinite or NaN", figures)
    if trainer.get_model_names() and trainer.model.has_loop:
        trainer.set_model_mode("train")
        losses = [trainer.forward_backward(batch)["loss"] for _ in range(2)]  # raises an error if it isn't finite
        figures |= {"first_loss": round(losses[0], 4), "second_loss": round(losses[1], 4)}
    if prec == "fp32":
        reference.append(logits)
    elif reference:
        difference = ((logits - reference[0]).abs().max() / reference[0].abs().max()).item()
        figures["difference"] = float(f"{difference:.2g}")
        if difference > LIMITS[prec]:
            raise FailedCase(f"the logits differ too much from fp32; the limit is {LIMITS[prec]}", figures)
    return figures


# ---- evaluation ----


def evaluation(plan: Plan) -> Iterator[Row]:
    """Yield the images per second of an evaluation: with cached text features, and as the original code does."""
    for classes in plan.classes:
        yield attempt("evaluation", plan.timed_case(classes), partial(_evaluation_figures, plan, classes))


@torch.no_grad()
def _evaluation_figures(plan: Plan, classes: int) -> Figures:
    trainer, _ = plan.build(plan.trainer, classes, plan.prec)
    trainer.set_model_mode("eval")
    images = synthetic.batch_of(trainer.model.clip, plan.test_batch, classes)["img"].to(trainer.device)

    def fast() -> None:
        trainer.model_inference(images).cpu()  # the copy waits for the GPU

    def naive() -> None:
        with measure.naive(trainer.model):
            fast()

    # Not interleaved, because `naive` discards the cached text features. The first round of `fast` computes them.
    times = measure.interleaved({"fast": fast}, plan.repeats) | measure.interleaved({"naive": naive}, plan.repeats)
    rates = {f"{name}_images_per_s": round(plan.test_batch / seconds, 1) for name, seconds in times.items()}
    return {"computed_in": trainer.precision} | rates | {"naive/fast": _ratio(times, "naive", "fast")}


# ---- deterministic algorithms ----


def determinism(plan: Plan) -> Iterator[Row]:
    """Yield the cost of deterministic algorithms in a training step. Two runs with them must give the same losses."""
    before = torch.are_deterministic_algorithms_enabled()
    classes = plan.classes[1]
    yield attempt("determinism", plan.timed_case(classes), partial(_determinism_figures, plan, classes))
    set_deterministic(before)


def _determinism_figures(plan: Plan, classes: int) -> Figures:
    # The first runs are deterministic, because cuBLAS reads its environment variable only once.
    losses, seconds = zip(*(_timed_run(plan, classes, on) for on in (True, True, False)), strict=True)
    figures = {"deterministic_ms": round(1000 * seconds[1], 3), "default_ms": round(1000 * seconds[2], 3)}
    figures["deterministic/default"] = round(seconds[1] / seconds[2], 3)
    if losses[0] != losses[1]:
        raise FailedCase(f"two deterministic runs have different losses: {losses[0]} and {losses[1]}", figures)
    return figures


def _timed_run(plan: Plan, classes: int, deterministic: bool) -> tuple[list[float], float]:
    """Return the losses of the first five steps of a run, and the time of a later step in seconds."""
    set_deterministic(deterministic)
    trainer, batch = plan.build(plan.trainer, classes, plan.prec)
    losses = [trainer.forward_backward(batch)["loss"] for _ in range(5)]
    return losses, measure.interleaved({"step": lambda: trainer.forward_backward(batch)}, plan.repeats)["step"]


#: The parts in the order in which they run.
PARTS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "conditions": conditions,
    "steps": steps,
    "precisions": precisions,
    "evaluation": evaluation,
    "determinism": determinism,
}
