"""The activations of a block's MLP, and the MLP with frozen weights. `clip/blocks.py` uses both."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable


class QuickGELU(nn.Module):
    """The activation x * sigmoid(1.702 x), with which OpenAI's models were trained."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class FrozenMLP(torch.autograd.Function):
    """The MLP of a block, for frozen weights. It saves only the activation function's input for the backward pass.

    QuickGELU(h) equals silu(1.702 h) / 1.702. In the forward pass, the factors 1.702 and 1 / 1.702 are merged into the
    matrix products. In the backward pass the two factors cancel.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: torch.Tensor,
        w_fc: torch.Tensor,
        b_fc: torch.Tensor,
        w_proj: torch.Tensor,
        b_proj: torch.Tensor,
        quick: bool,
    ) -> torch.Tensor:
        factor = 1.702 if quick else 1.0
        hidden = torch.addmm(b_fc, x.flatten(0, -2), w_fc.t(), beta=factor, alpha=factor)  # (rows, mlp)
        ctx.save_for_backward(hidden, w_fc, w_proj)
        ctx.quick = quick  # type: ignore[attr-defined]
        active = F.silu(hidden) if quick else F.gelu(hidden)
        return torch.addmm(b_proj, active, w_proj.t(), alpha=1 / factor).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, w_fc, w_proj = ctx.saved_tensors  # type: ignore[attr-defined]
        through = grad.flatten(0, -2) @ w_proj  # (rows, mlp)
        quick: bool = ctx.quick  # type: ignore[attr-defined]
        backward = torch.ops.aten.silu_backward if quick else torch.ops.aten.gelu_backward
        through = backward.grad_input(through, hidden, grad_input=through)  # in place
        return (through @ w_fc).view(grad.shape), None, None, None, None, None
