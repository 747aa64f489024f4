"""Diffusion of staggered velocities taken implicitly: ``(1 - a Laplacian) v = r`` under homogeneous conditions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import UnstableStep
from slipstream.solvers.linear.conjugate import CG
from slipstream.solvers.linear.preconditioners import Jacobi
from slipstream.solvers.linear.solve import Solver
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.mac import End, MacGrid

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Of the relative residual, where it is iterated."""


class ImplicitDiffusion:
    """Exact by the eigenvectors of each axis on a box; by conjugate gradients, of which few are needed, where there are solids."""

    def __init__(self, mac: MacGrid) -> None:
        self.mac = mac
        self._modes: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def solve(self, r: list[Tensor], a: Float[Tensor, "some *ones"]) -> list[Tensor]:
        """Every component (batch, *face); `a` has one number a run, or one for all. Faces that are given get zero."""
        by = self._iterated if self.mac.solid else self._exact
        return [by(i, v, a) for i, v in enumerate(r)]

    def _ring(self, axis: int) -> bool:
        return self.mac.ends[axis][0] is End.RING

    def _ghosts(self, i: int, axis: int) -> tuple[float, float]:
        """What the ghost beyond each end is of the point beside it, for component i along an axis with ends."""
        if axis == i:
            low, high = (float(end is End.OPEN) for end in self.mac.ends[axis])
            return low, high
        low, high = (sum(self.mac.margins[i][axis].weights(side)) for side in (0, 1))
        return low, high

    def _span(self, i: int, axis: int) -> tuple[int, int]:
        """The first of the points of component i along an axis that move, and how many."""
        n, ends = self.mac.grid.shape[axis], self.mac.ends[axis]
        if axis != i or self._ring(axis):
            return 0, n
        first, last = int(ends[0] is End.GIVEN), n + 1 - int(ends[1] is End.GIVEN)
        return first, last - first

    def modes(self, i: int, axis: int) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
        """Eigenvectors (columns) and eigenvalues of the second difference of component i along an axis."""
        if (i, axis) not in self._modes:
            n = self._span(i, axis)[1]
            matrix = torch.diag(torch.full((n,), -2.0, dtype=torch.float64))
            k = torch.arange(n - 1)
            matrix[k, k + 1] = matrix[k + 1, k] = 1.0
            if self._ring(axis):
                matrix[0, -1] += 1.0
                matrix[-1, 0] += 1.0
            else:
                low, high = self._ghosts(i, axis)
                matrix[0, 0] += low
                matrix[-1, -1] += high
            values, vectors = torch.linalg.eigh(matrix / self.mac.grid.spacing[axis] ** 2)
            self._modes[i, axis] = (
                vectors.to(self.mac.device, self.mac.dtype),
                values.to(self.mac.device, self.mac.dtype),
            )
        return self._modes[i, axis]

    def _exact(self, i: int, r: Tensor, a: Tensor) -> Tensor:
        first, count = self._span(i, i)
        u, total = r.narrow(i + 1, first, count), r.new_zeros(())
        for axis in range(self.mac.dims):
            vectors, values = self.modes(i, axis)
            u = torch.tensordot(u, vectors, dims=([axis + 1], [0])).movedim(-1, axis + 1)
            total = total[..., None] + values
        u = u / (1 - a * total)
        for axis in range(self.mac.dims):
            vectors, _ = self.modes(i, axis)
            u = torch.tensordot(u, vectors, dims=([axis + 1], [1])).movedim(-1, axis + 1)
        if self._ring(i):
            return torch.cat([u, u.narrow(i + 1, 0, 1)], i + 1)
        n = self.mac.grid.shape[i] + 1
        edge = torch.zeros_like(u.narrow(i + 1, 0, 1))
        return torch.cat([edge] * first + [u] + [edge] * (n - first - count), i + 1)

    def _iterated(self, i: int, r: Tensor, a: Tensor) -> Tensor:
        n = self.mac.grid.shape[i]
        kept = r.narrow(i + 1, 0, n) if self._ring(i) else r
        found = Solver(
            self._system(i, a),
            method=CG(),
            preconditioner=Jacobi(),
            tol=TOLERANCE.get(r.dtype, 1e-6),
            max_iterations=500,
        ).solve(kept)
        if not found.converged:
            raise UnstableStep(
                f"Implicit diffusion was solved to {float(found.residuals[-1].max()):.2g} only ({found.reason}); use more substeps."
            )
        return torch.cat([found.x, found.x.narrow(i + 1, 0, 1)], i + 1) if self._ring(i) else found.x

    def _system(self, i: int, a: Tensor) -> Stencil:
        mac = self.mac
        free, drag = mac.free[i], mac.drag[i]
        assert drag is not None
        if self._ring(i):
            free, drag = (t.narrow(i, 0, mac.grid.shape[i]) for t in (free, drag))
        centre = -drag
        below: list[Tensor] = []
        above: list[Tensor] = []
        for axis, h in enumerate(mac.grid.spacing):
            n = free.shape[axis]
            centre = centre + 2 * free / h**2
            for shift, couplings in ((1, below), (-1, above)):
                beside = torch.roll(free, shift, axis)
                if not self._ring(axis):
                    edge = 0 if shift == 1 else n - 1
                    beside.narrow(axis, edge, 1).zero_()
                    ghost = self._ghosts(i, axis)[0 if shift == 1 else 1]
                    line = torch.zeros_like(free)
                    line.narrow(axis, edge, 1).fill_(ghost / h**2)
                    centre = centre - line * free
                couplings.append(-a * (free * beside / h**2))
        return Stencil(1 + a * centre, below, above, [self._ring(k) for k in range(mac.dims)], hermitian=True)
