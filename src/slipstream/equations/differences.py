"""Finite-difference calculus: central differences on a periodic grid."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.errors import InputError
from slipstream.grids import Grid

# Central weights for offsets 1, 2, 3: antisymmetric for the first derivative; symmetric for the second, whose
# weight at offset 0 is minus twice their sum.
FIRST = {2: (1 / 2,), 4: (2 / 3, -1 / 12), 6: (3 / 4, -3 / 20, 1 / 60)}
SECOND = {2: (1.0,), 4: (4 / 3, -1 / 12), 6: (3 / 2, -3 / 20, 1 / 90)}


class FiniteDifferences(Calculus):
    """Central differences of second, fourth or sixth order; the Laplacian is inverted exactly by Fourier transform.

    Parameters
    ----------
    grid : periodic.
    accuracy : order of accuracy: 2, 4 or 6.
    """

    def __init__(
        self,
        grid: Grid,
        accuracy: int = 2,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        if accuracy not in FIRST:
            raise InputError(f"FiniteDifferences has accuracy {accuracy}; expected one of {sorted(FIRST)}.")
        self.grid, self.num_dims, self.accuracy = grid, grid.num_dims, accuracy
        self.axes = tuple(range(-grid.num_dims, 0))
        self._coordinates = grid.coordinates(dtype).to(device=device)
        # Eigenvalues of the discrete Laplacian: what makes laplace(inverse_laplace(u)) = u to rounding.
        eigen = torch.zeros((), dtype=torch.float64)
        for k, h in zip(grid.wavenumbers(torch.float64), grid.spacing, strict=True):
            eigen = eigen + sum(2 * w * (torch.cos(m * k * h) - 1) for m, w in enumerate(SECOND[accuracy], 1)) / h**2
        eigen = torch.where(eigen.abs() > 1e-12, eigen, torch.inf)
        self._inverse_eigen = (1 / eigen).to(dtype=dtype, device=device)

    def derivative(
        self, u: Float[Tensor, "batch channel *space"], axis: int, order: int = 1
    ) -> Float[Tensor, "batch channel *space"]:
        if order > 2:
            return self.derivative(self.derivative(u, axis, 2), axis, order - 2)
        dim, h = axis - self.num_dims, self.grid.spacing[axis]
        if order == 1:
            terms = [w / h * (u.roll(-m, dim) - u.roll(m, dim)) for m, w in enumerate(FIRST[self.accuracy], 1)]
        else:
            terms = [
                w / h**2 * (u.roll(-m, dim) + u.roll(m, dim) - 2 * u) for m, w in enumerate(SECOND[self.accuracy], 1)
            ]
        return sum(terms[1:], terms[0])

    def inverse_laplace(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return torch.fft.irfftn(
            self._inverse_eigen * torch.fft.rfftn(u, dim=self.axes), s=self.grid.shape, dim=self.axes
        )

    def coordinates(self) -> Float[Tensor, "dim *space"]:
        return self._coordinates
