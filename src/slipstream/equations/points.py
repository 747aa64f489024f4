"""Autograd calculus: derivatives of a differentiable function at any points."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.errors import InputError


class Autograd(Calculus):
    """Derivatives of fields computed *from* the given points by differentiable operations.

    Parameters
    ----------
    points : (batch, dim, point), requires grad; the fields it is asked about have shape (batch, channel, point), and each
        value depends on its own point only.
    """

    def __init__(self, points: Float[Tensor, "batch dim point"]) -> None:
        if not points.requires_grad:
            raise InputError("Autograd differentiates with respect to its points: call points.requires_grad_() first.")
        self.points, self.num_dims = points, points.shape[1]

    def derivative(
        self, u: Float[Tensor, "batch channel point"], axis: int, order: int = 1
    ) -> Float[Tensor, "batch channel point"]:
        for _ in range(order):
            u = torch.cat([self._gradient(u[:, c])[:, axis : axis + 1] for c in range(u.shape[1])], dim=1)
        return u

    def _gradient(self, u: Float[Tensor, "batch point"]) -> Float[Tensor, "batch dim point"]:
        if not u.requires_grad:
            return torch.zeros_like(self.points)
        (g,) = torch.autograd.grad(u.sum(), self.points, create_graph=True, allow_unused=True)
        return torch.zeros_like(self.points) if g is None else g

    def grad(self, u: Float[Tensor, "batch 1 point"]) -> Float[Tensor, "batch dim point"]:
        return self._gradient(u[:, 0])

    def advect(
        self, v: Float[Tensor, "batch dim point"], u: Float[Tensor, "batch channel point"]
    ) -> Float[Tensor, "batch channel point"]:
        # One backward pass a channel gives its whole gradient.
        return torch.stack([(v * self._gradient(u[:, c])).sum(1) for c in range(u.shape[1])], dim=1)

    def coordinates(self) -> Float[Tensor, "batch dim point"]:
        return self.points
