"""Muon: momentum whose update is orthogonalised by a Newton-Schulz iteration."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def _orthogonalize(matrices: Tensor) -> Tensor:
    """Push the singular values of a batch of matrices towards one."""
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon:
    """Muon for matrices; those of equal shape are stepped in one batch."""

    def __init__(
        self, parameters: list[Tensor], momentum: float = 0.95, decay: float = 0.02
    ) -> None:
        self.momentum, self.decay = momentum, decay
        self.groups: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            self.groups[tuple(parameter.shape)].append(parameter)
        self.velocity = {
            shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with the given learning rate."""
        for shape, group in self.groups.items():
            gradients = torch.stack([parameter.grad for parameter in group])
            velocity = self.velocity[shape]
            velocity.lerp_(gradients, 1 - self.momentum)
            updates = _orthogonalize(gradients.lerp(velocity, self.momentum))
            scale = rate * 0.2 * max(shape) ** 0.5
            for parameter, update in zip(group, updates, strict=True):
                parameter.mul_(1 - rate * self.decay).add_(update, alpha=-scale)
