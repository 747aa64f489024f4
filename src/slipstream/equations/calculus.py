"""Calculus: the derivatives that an equation is written in, and that a discretisation supplies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError


class Calculus:
    """Derivatives of fields (batch, channel, *space) along `num_dims` axes.

    A subclass writes `derivative`; the rest follows from it, and may be overridden where a discretisation has a better form.
    Vectors keep their components in the channel axis.
    """

    num_dims: int

    def derivative(
        self, u: Float[Tensor, "batch channel *space"], axis: int, order: int = 1
    ) -> Float[Tensor, "batch channel *space"]:
        """The `order`-th derivative along one axis, channel by channel."""
        raise TypeError(f"{type(self).__name__} defines no derivative(u, axis, order).")

    def coordinates(self) -> Float[Tensor, "dim *space"]:
        """Where the values of a field lie."""
        raise TypeError(f"{type(self).__name__} has no coordinates.")

    def inverse_laplace(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The mean-free field whose `laplace` is `u` less its mean."""
        raise InputError(
            f"{type(self).__name__} cannot invert the Laplacian: write the potential as a channel of its own, "
            "or use a spectral or finite-difference calculus."
        )

    def multiply(
        self, a: Float[Tensor, "batch #channel *space"], b: Float[Tensor, "batch #channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """A product of two fields, without aliasing where the discretisation knows how."""
        return a * b

    def pointwise(self, function: Callable[..., Tensor], *fields: Tensor) -> Tensor:
        """A function of field values, point by point; without aliasing as far as the discretisation knows how.

        `function` takes and returns (batch, channel, *space). Write terms that are linear in the fields outside.
        """
        return function(*fields)

    def dx(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return self.derivative(u, 0)

    def dy(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return self.derivative(u, 1)

    def dz(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return self.derivative(u, 2)

    def grad(self, u: Float[Tensor, "batch 1 *space"]) -> Float[Tensor, "batch dim *space"]:
        """Gradient of one scalar."""
        if u.shape[1] != 1:
            raise ShapeError(f"grad takes one scalar (batch, 1, *space); got {tuple(u.shape)}.")
        return torch.cat([self.derivative(u, axis) for axis in range(self.num_dims)], dim=1)

    def div(self, v: Float[Tensor, "batch dim *space"]) -> Float[Tensor, "batch 1 *space"]:
        """Divergence of one vector."""
        if v.shape[1] != self.num_dims:
            raise ShapeError(f"div takes one vector (batch, {self.num_dims}, *space); got {tuple(v.shape)}.")
        return sum((self.derivative(v[:, i : i + 1], i) for i in range(1, self.num_dims)), self.derivative(v[:, :1], 0))

    def curl(self, v: Float[Tensor, "batch dim *space"]) -> Float[Tensor, "batch curl *space"]:
        """Curl of one vector: a scalar in 2D, a vector in 3D."""
        if v.shape[1] != self.num_dims or self.num_dims not in (2, 3):
            raise ShapeError(f"curl takes one vector in 2D or 3D; got {tuple(v.shape)} in {self.num_dims}D.")

        def part(i: int, j: int) -> Tensor:
            return self.derivative(v[:, j : j + 1], i) - self.derivative(v[:, i : i + 1], j)

        return part(0, 1) if self.num_dims == 2 else torch.cat([part(1, 2), part(2, 0), part(0, 1)], dim=1)

    def laplace(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Laplacian, channel by channel."""
        return sum((self.derivative(u, i, 2) for i in range(1, self.num_dims)), self.derivative(u, 0, 2))

    def advect(
        self, v: Float[Tensor, "batch dim *space"], u: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """``(v . grad) u``, channel by channel."""
        terms = [self.multiply(v[:, i : i + 1], self.derivative(u, i)) for i in range(self.num_dims)]
        return sum(terms[1:], terms[0])
