"""The class `StepTrainer`, which makes a training step on a batch.

`PromptTrainer` derives from this class and adds everything else. A step reads no value of a tensor until the optimiser
has finished, so that the CPU never waits for a GPU within a step, and the step can be captured as a CUDA graph.
"""

from contextlib import AbstractContextManager

import torch

from dassl.engine import TrainerX
from trainers.common.graph import CAPTURES, CapturedSteps, StepResult, obstacle
from trainers.common.method import Batch, Method, total


class StepTrainer(TrainerX):
    """Trains a `Method` on batches."""

    model: Method
    scaler: torch.amp.GradScaler  # scales the loss if the precision is amp
    precision: str  # the precision actually used
    captured: CapturedSteps | None = None  # does the training steps if `capture_steps` was called and it is possible

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Train on a batch of a data loader. Return the loss, its terms if there are several, and the accuracy."""
        inputs = self.read_batch(batch)
        result = self.captured.run(inputs) if self.captured else self.training_step(inputs)
        loss, *terms = torch.stack([value.float() for value in (result.loss, *result.terms.values())]).tolist()
        self.detect_anomaly(torch.tensor(loss))
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        named = dict(zip(result.terms, terms, strict=True)) if len(terms) > 1 else {}
        return {"loss": loss, **named, "acc": self.model.accuracy(result.output, inputs)}

    def training_step(self, inputs: Batch) -> StepResult:
        """Do a whole step: forward pass, losses, backward pass and optimiser. On a GPU, the kernels are only queued."""
        with self._autocast():
            output = self.model.outputs(inputs)
            losses = self.model.losses(output, inputs)
        loss = total(losses).detach()
        self.model_zero_grad()
        self.model.backward(losses, self.scaler)
        self.step()
        terms = {name: value.detach() for name, (_, value) in losses.items()}
        return StepResult(loss, terms, output.detached())

    def step(self) -> None:
        """Let the optimiser do one step, and update the loss scale."""
        self.scaler.step(self.optim)
        self.scaler.update()

    def capture_steps(self) -> None:
        """Capture all further training steps as CUDA graphs. If that is impossible, print the reason instead."""
        optimizers = {optimizer for optimizer in self._optims.values() if optimizer is not None}
        if self.device.type not in CAPTURES:
            reason = f"they need a CUDA GPU, but the device is {self.device.type}"
        elif type(self).forward_backward is not StepTrainer.forward_backward:
            reason = f"{type(self).__name__} has another `forward_backward`"
        else:
            reason = obstacle(self.model, optimizers)
        if reason:
            print(f"TRAINER.CUDA_GRAPH: training without CUDA graphs, because {reason}")
        else:
            self.captured = CapturedSteps(self.training_step, self.optim, CAPTURES[self.device.type]())

    def read_batch(self, batch: dict) -> Batch:
        """Convert a batch of a data loader to a `Batch`, with all tensors on the device."""
        images, labels = self.parse_batch_train(batch)
        others = batch["img"][1:] if isinstance(batch["img"], list) else []  # a list if K_TRANSFORMS > 1
        return Batch(images, labels, (images, *(view.to(self.device, non_blocking=True) for view in others)))

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images and the labels, on the device. Of several augmentations of an image, take the first."""
        images = batch["img"][0] if isinstance(batch["img"], list) else batch["img"]
        return self.parse_batch_test(batch | {"img": images})

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, enabled=self.precision == "amp")
