"""Finite-difference calculus on boxes with walls: central differences whose ghost points obey boundary conditions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Condition, Conditions, Robin
from slipstream.equations.calculus import Calculus
from slipstream.equations.ghosts import pad_axis
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class WalledDifferences(Calculus):
    """Central differences of second order on cell-centred boxes, periodic along some axes or none, so that any `Equation.rate` works there.

    Solutions converge with order 2. `derivative`, `grad`, `laplace`, `curl` and `advect` take the equation's own fields and know
    their conditions. `div` takes fluxes, which have none of their own: beside walls its differences are one-sided (second order).
    `inverse_laplace` undoes `laplace`, given values included, by the eigenvectors of each axis (for like conditions: sines and cosines).

    Parameters
    ----------
    grid : axes with ends are cell-centred; on node grids only conditions that fix no point (Neumann, Robin) are taken.
    conditions : of all channels of the equation. A field with fewer channels is taken where all channels have equal conditions.
    parameters : tensors that conditions name.
    dtype, device : of the fields.

    Raises
    ------
    InputError : conditions that do not fit; derivatives of more than second order, which need conditions of their own.
    """

    def __init__(
        self,
        grid: Grid,
        conditions: Conditions,
        parameters: Parameters | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        conditions.check(grid)
        if conditions.obstacle is not None:
            raise InputError("WalledDifferences knows sides, not obstacles inside the domain; leave the obstacle out.")
        for i, a in enumerate(grid.axes):
            if not a.periodic and not a.centred:
                pinned = [c for side in (0, 1) for c in conditions.on(grid, i, side) if c.pins]
                if pinned:
                    raise InputError(
                        f"Points on the wall of {a.name!r} have a given value ({pinned[0]}) and no rate of their own: "
                        "use a cell-centred grid (centred=True)."
                    )
        self.grid, self.num_dims, self.conditions, self.parameters = grid, grid.num_dims, conditions, parameters
        self._coordinates = grid.coordinates(dtype).to(device=device)
        self._single = _shared(grid, conditions)
        self._bases: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], Tensor]] = {}

    def derivative(
        self, u: Float[Tensor, "batch channel *space"], axis: int, order: int = 1
    ) -> Float[Tensor, "batch channel *space"]:
        return self._difference(u, axis, order, self._of(u))

    def _difference(self, u: Tensor, axis: int, order: int, conditions: Conditions) -> Tensor:
        if order not in (1, 2):
            raise InputError(
                f"WalledDifferences has first and second derivatives; got order {order}, which needs conditions of its own at walls: "
                "write the Laplacian as a channel of its own."
            )
        h, n, dim = self.grid.spacing[axis], self.grid.shape[axis], axis + 2
        wide = pad_axis(u, self.grid, conditions, axis, 1, self.parameters)
        below, above = wide.narrow(dim, 0, n), wide.narrow(dim, 2, n)
        return (above - below) / (2 * h) if order == 1 else (above + below - 2 * wide.narrow(dim, 1, n)) / h**2

    def _of(self, u: Tensor) -> Conditions:
        """The conditions of a field, by the number of its channels."""
        if u.shape[1] == len(self.conditions.channels):
            return self.conditions
        if self._single is None:
            raise InputError(
                f"A field of {u.shape[1]} channels may be any of {[c.name for c in self.conditions.channels]}, whose conditions differ: "
                "take derivatives of all channels at once and select afterwards."
            )
        names = tuple(str(i) for i in range(u.shape[1]))
        return Conditions(names, self._single)

    def div(self, v: Float[Tensor, "batch dim *space"]) -> Float[Tensor, "batch 1 *space"]:
        if v.shape[1] != self.num_dims:
            raise ShapeError(f"div takes one vector (batch, {self.num_dims}, *space); got {tuple(v.shape)}.")
        terms = [self._plain(v[:, i : i + 1], i) for i in range(self.num_dims)]
        return sum(terms[1:], terms[0])

    def _plain(self, u: Tensor, axis: int) -> Tensor:
        """First derivative of a field without conditions: parabolas through the outermost three points at walls."""
        h, n, dim = self.grid.spacing[axis], self.grid.shape[axis], axis + 2
        if self.grid.axes[axis].periodic:
            return (u.roll(-1, dim) - u.roll(1, dim)) / (2 * h)
        if n < 3:
            raise ShapeError(f"One-sided differences need 3 points along {self.grid.axes[axis].name!r}; got {n}.")

        def at(i: int) -> Tensor:
            return u.narrow(dim, i % n, 1)

        first, last = -3 * at(0) + 4 * at(1) - at(2), 3 * at(-1) - 4 * at(-2) + at(-3)
        return torch.cat([first, u.narrow(dim, 2, n - 2) - u.narrow(dim, 0, n - 2), last], dim) / (2 * h)

    def inverse_laplace(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        if self._single is None:
            raise InputError("The Laplacian is inverted for one set of conditions; these differ between channels.")
        known = self.laplace(torch.zeros_like(u))  # what the given values contribute
        bases, inverse = self._eigen(u)
        x = u - known
        for i, basis in enumerate(bases):
            x = torch.tensordot(x, basis, dims=([i + 2], [0])).movedim(-1, i + 2)
        x = x * inverse
        for i, basis in enumerate(bases):
            x = torch.tensordot(x, basis, dims=([i + 2], [1])).movedim(-1, i + 2)
        return x

    def _eigen(self, like: Tensor) -> tuple[list[Tensor], Tensor]:
        """Eigenvectors of each axis' second difference (columns), and the inverse of the sum of eigenvalues, zero where that vanishes."""
        key = (like.dtype, like.device)
        if key in self._bases:
            return self._bases[key]
        bases, total = [], torch.zeros((), dtype=torch.float64)
        for i, a in enumerate(self.grid.axes):
            if not a.periodic and not a.centred:
                raise InputError(
                    f"The Laplacian is inverted on cell-centred grids; {a.name!r} has points on its walls."
                )
            line = Grid((a,))
            sides = (
                {}
                if a.periodic
                else {a.name: tuple(_homogeneous(self.conditions.on(self.grid, i, s)[0]) for s in (0, 1))}
            )
            one = WalledDifferences(line, Conditions(("u",), sides), dtype=torch.float64)
            matrix = one.laplace(torch.eye(a.num_points, dtype=torch.float64)[:, None])[:, 0]
            values, vectors = torch.linalg.eigh(matrix)
            bases.append(vectors.to(like))
            total = total[..., None] + values
        vanishes = total.abs() < 1e-10 * total.abs().max()
        inverse = torch.where(vanishes, 0.0, 1 / torch.where(vanishes, 1.0, total)).to(like)
        self._bases[key] = bases, inverse
        return self._bases[key]

    def coordinates(self) -> Float[Tensor, "dim *space"]:
        return self._coordinates


def _shared(grid: Grid, conditions: Conditions) -> dict[str, tuple[Condition, Condition]] | None:
    """The sides of one channel, if all channels have the same."""
    result = {}
    for i, a in enumerate(grid.axes):
        if a.periodic:
            continue
        lower, upper = (conditions.on(grid, i, side) for side in (0, 1))
        if any(c is not side[0] and not _equal(c, side[0]) for side in (lower, upper) for c in side):
            return None
        result[a.name] = (lower[0], upper[0])
    return result


def _equal(a: Condition, b: Condition) -> bool:
    plain = all(isinstance(c.given, (int, float, str)) for c in (a, b))
    return plain and a == b


def _homogeneous(condition: Condition) -> Condition:
    if not isinstance(condition, Robin):
        raise InputError(f"The Laplacian is inverted under Dirichlet, Neumann and Robin conditions; got {condition}.")
    return Robin(condition.a, condition.b)
