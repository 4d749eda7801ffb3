"""The Muon optimizer for convolutions, and Adam beside it for everything else."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stylenorm.device import cpu_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that drives singular values towards 1, from the source below


class Muon(Optimizer):
    """Momentum whose update is made orthogonal: all directions of a weight move equally far (Jordan et al. 2024).

    A convolution's weight (D, C, h, w) counts as the matrix (D, C h w). The update is scaled by 0.2 √max(D, C h w),
    so that its root mean square is that of an Adam step and learning rates mean the same for both (Liu et al. 2025).
    `torch.optim.Muon` computes the same for matrices, and takes nothing else.
    """

    def __init__(self, params: Iterable, lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.dim() < 2:
                    raise ValueError(f"Muon moves weights of two dimensions and more, not of shape {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momentum = group["momentum"]
            alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)  # weights and updates of one shape
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                buffer = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                update = weight.grad.lerp(buffer, momentum).flatten(1)  # Nesterov's; D, C h w
                alike[tuple(update.shape)].append((weight, update))
            for shape, members in alike.items():
                scale = 0.2 * math.sqrt(max(shape))
                for (weight, _), update in zip(members, orthogonalized(torch.stack([u for _, u in members]))):
                    weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)
        return loss


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """About U V^T of matrices (..., A, B) = U S V^T, by Newton and Schulz's iteration: singular values of 0.7 to 1.2.

    Many small matrices at once keep a GPU busy; one after the other, starting its kernels takes longer than they do.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices.float() if wide else matrices.float().mT
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)).to(_type_of_products(x))
    many = x.reshape(-1, *x.shape[-2:])
    for _ in range(steps):
        square = many @ many.mT
        many = torch.baddbmm(many, torch.baddbmm(square, square, square, beta=b, alpha=c), many, beta=a)
    x = many.view_as(x)
    return (x if wide else x.mT).to(matrices.dtype)


def _type_of_products(x: Tensor) -> torch.dtype:
    """bfloat16, which `torch.optim.Muon` takes as well, unless the processor would be slow in it."""
    fast = x.is_cuda or (x.is_cpu and cpu_bfloat16())
    return torch.bfloat16 if fast else torch.float32


class Together:
    """Several optimizers, each with parameters of its own, to the outside one: what `Trainer` needs of an optimizer."""

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """As torch's: the states of all parameters, numbered in the order of `param_groups`."""
        states, first = {}, 0
        for count, optimizer in zip(self._counts(), self.optimizers):
            states |= {first + index: state for index, state in optimizer.state_dict()["state"].items()}
            first += count
        return {"state": states, "param_groups": []}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        first = 0
        for count, optimizer in zip(self._counts(), self.optimizers):
            own = {index - first: state for index, state in values["state"].items() if first <= index < first + count}
            optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})
            first += count

    def _counts(self) -> Sequence[int]:
        return [sum(len(group["params"]) for group in optimizer.param_groups) for optimizer in self.optimizers]
