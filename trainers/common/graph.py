"""Captures a training step as a CUDA graph, and replays it. `PromptTrainer` does so if TRAINER.CUDA_GRAPH is set.

A training step launches hundreds of kernels on a GPU. A CUDA graph launches all of them at once. A replay repeats
the recorded kernels with the recorded memory addresses and numbers, and runs no Python code. So everything that changes
from step to step must be in a tensor that stays at its address: the batch, the parameters, the state of the optimiser
and the loss scaler, and the learning rates.
"""

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch.optim import Optimizer

from clip.blocks import has_hooks
from dassl import distributed
from dassl.optim import TensorRates, capturable, is_fused, note_change
from trainers.common.method import Batch, Method, Output

#: Number of eager steps before a batch shape is captured. In these steps, libraries choose algorithms and allocate
#: their workspaces, which isn't possible in a capture. torch.cuda.make_graphed_callables uses the same number.
WARM_UP_STEPS = 3
Result = TypeVar("Result")


@dataclass(frozen=True)
class StepResult:
    """The tensors of a training step that are read after the step. None of them has a gradient."""

    loss: torch.Tensor  # the sum that was minimised, 0-dimensional
    terms: dict[str, torch.Tensor]  # the loss terms without their weights, 0-dimensional
    output: Output  # the method's output for the batch


Step = Callable[[Batch], StepResult]


class Capture(Protocol):
    """Runs and records GPU work. `CUDACapture` is the implementation; a test uses another one."""

    def warm_up(self, work: Callable[[], Result]) -> tuple[Result, str]:
        """Run `work` without recording it, but under the conditions of a recording.

        Returns:
            The result of `work`; and a place in the source code at which `work` waits for the GPU, or "" if it never
            waits. Work that waits can't be recorded.
        """

    def record(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Record `work` without executing its kernels.

        Returns:
            A function that executes the recorded kernels. It returns the result of `work`, whose tensors are the same
            in every call, with new values.

        Raises:
            RuntimeError: `work` can't be recorded.
        """


class CUDACapture:
    """Records work with `torch.cuda.CUDAGraph`.

    The warm-up and the recording use the same side stream, as torch's notes on CUDA graphs prescribe. All graphs share
    one memory pool. This is safe because only one graph runs at a time, and each graph writes its memory before it
    reads it.
    """

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], Result]) -> tuple[Result, str]:
        current, mode = torch.cuda.current_stream(), torch.cuda.get_sync_debug_mode()
        self.stream.wait_stream(current)
        with warnings.catch_warnings(record=True) as caught, torch.cuda.stream(self.stream):
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")  # torch warns whenever the CPU waits for the GPU
            try:
                result = work()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        current.wait_stream(self.stream)
        waits = [warning for warning in caught if "synchronizing CUDA operation" in str(warning.message)]
        for warning in caught:
            if warning not in waits and "Synchronization debug mode" not in str(warning.message):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return result, f"{waits[0].filename}:{waits[0].lineno}" if waits else ""

    def record(self, work: Callable[[], Result]) -> Callable[[], Result]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # "thread_local": the thread of the data loader that pins memory may go on during the recording.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                result = work()
        finally:
            torch.cuda.set_stream(current)  # after a failed recording, torch.cuda.graph doesn't restore the stream

        def replay() -> Result:
            graph.replay()
            return result

        return replay


#: {type of a device: its class of captures}
CAPTURES: dict[str, Callable[[], Capture]] = {"cuda": CUDACapture}


def obstacle(method: Method, optimizers: Collection[Optimizer]) -> str:
    """Return why the training steps of a method can't be captured, or "" if no reason is known."""
    if not method.has_static_steps:
        return f"{type(method).__name__}.has_static_steps is False, so its steps may differ from batch to batch"
    if has_hooks(method) or has_hooks(method.clip):
        return "a module has a hook or a replaced `forward`, which a replay wouldn't call"
    if torch.is_anomaly_enabled():
        return "torch's anomaly detection is on, which checks every operation"
    if distributed.size() > 1:
        return "several processes train together"
    if len(optimizers) != 1:
        return f"the trainer has {len(optimizers)} optimisers, but a capture needs exactly one"
    if not all(map(is_fused, optimizers)):
        return "the optimiser has no fused step; OPTIM.NAME sgd without dampening, adam, amsgrad and adamw have one"
    return ""


@dataclass
class _Shape:
    """The state of a batch shape."""

    warm_ups: int = 0  # number of eager steps so far
    replay: Callable[[Batch], StepResult] | None = None  # executes the captured step on a batch


class CapturedSteps:
    """Runs training steps. The first steps of a batch shape are eager, the later ones are replays of a graph.

    Each call of `run` is one training step, so warming up and capturing don't change the number of steps. Every batch
    shape gets a graph, because a graph has fixed shapes. If a step can't be captured, all further steps are eager, and
    a log line gives the reason.

    Args:
        step: a whole training step: forward pass, losses, backward pass and optimiser.
        optimizer: the optimiser that `step` uses. It must be fused.
    """

    def __init__(self, step: Step, optimizer: Optimizer, capture: Capture):
        self.step, self.optimizer, self.capture = step, optimizer, capture
        self.rates = TensorRates(optimizer)
        self.shapes: dict[tuple, _Shape] = {}
        self.is_eager = False  # True: a step couldn't be captured

    def run(self, batch: Batch) -> StepResult:
        """Do one training step. The next call may overwrite the tensors of the result."""
        # Eager steps also read learning rate tensors: a resumed run warms up again, but must give equal results.
        with self.rates.applied():
            return self.step(batch) if self.is_eager else self._run(batch)

    def forget(self) -> None:
        """Drop the graphs, so that the next step of each batch shape is captured again.

        Call this function after tensors that a step reads may have been replaced.
        """
        for shape in self.shapes.values():
            shape.replay = None

    def _run(self, batch: Batch) -> StepResult:
        if type(batch) is not Batch:  # `_record` wouldn't copy further fields
            self._stop(f"its batches have the type {type(batch).__name__} instead of Batch")
            return self.step(batch)
        tensors = (batch.images, batch.labels, *batch.views)
        shape = self.shapes.setdefault(tuple((tensor.shape, tensor.dtype) for tensor in tensors), _Shape())
        if shape.warm_ups < WARM_UP_STEPS:
            shape.warm_ups += 1
            result, place = self.capture.warm_up(lambda: self.step(batch))
            if shape.warm_ups == WARM_UP_STEPS and place:  # the first steps may wait, for example to build a cache
                self._stop(f"a step waits for the GPU ({place})")
            return result
        if shape.replay is None:
            try:
                shape.replay = self._record(batch)
            except RuntimeError as error:  # nothing was executed, so the step can still be done
                self._stop(f"the capture failed: {' '.join(str(error).split())}")
                return self.step(batch)
        return shape.replay(batch)

    def _record(self, batch: Batch) -> Callable[[Batch], StepResult]:
        """Capture a step for batches with the shapes of `batch`."""
        images = batch.images.clone()
        views = tuple(images if view is batch.images else view.clone() for view in batch.views)
        static = Batch(images, batch.labels.clone(), views)
        with capturable(self.optimizer):
            replay = self.capture.record(lambda: self.step(static))

        def run(batch: Batch) -> StepResult:
            static.images.copy_(batch.images)
            static.labels.copy_(batch.labels)
            for old, new in zip(static.views, batch.views, strict=True):
                if old is not static.images:
                    old.copy_(new)
            result = replay()
            note_change(self.optimizer)  # so that caches of text features notice it
            return result

        return run

    def _stop(self, reason: str) -> None:
        self.is_eager = True
        self.shapes.clear()
        print(f"TRAINER.CUDA_GRAPH: training continues without CUDA graphs, because {reason}")
