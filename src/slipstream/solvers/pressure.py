"""The pressure system of a staggered grid: what it looks like to a linear solver, and who solves it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid
from slipstream.solvers.linear.cells import CellPoisson
from slipstream.solvers.linear.conjugate import CG
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Inverse, Method, Preconditioner
from slipstream.solvers.linear.solve import Solver
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.transforms import AxisTransform, Boundary, eigenvalues
from slipstream.solvers.mac import End, MacGrid

PressureSolver = Method | Callable[[Stencil, Tensor], Tensor]
"""A `Method` of `slipstream.solvers.linear`, or a function (system, b) -> p of fields (batch, *space), differentiable in b."""

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Of the relative residual of an iterated pressure, unless told otherwise."""


KINDS = {End.RING: Boundary.PERIODIC, End.GIVEN: Boundary.NEUMANN, End.OPEN: Boundary.DIRICHLET}
"""What a pressure does where a velocity is a ring's, is given (no difference), or leaves as it likes (p = 0)."""


def pressure_system(mac: MacGrid) -> CellPoisson:
    r""":math:`-\nabla \cdot \nabla p` as the faces of a staggered grid make it; one system for all runs."""
    kinds = [(KINDS[low], KINDS[high]) for low, high in mac.ends]
    return CellPoisson(mac.fluid[None], mac.grid, kinds, dtype=mac.dtype)


class QuarterWave:
    """Coefficients along an axis one of whose ends is a wall and the other an outflow: the cosines that vanish at the outflow."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device, open_first: bool) -> None:
        k, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
        rows = math.sqrt(2 / n) * torch.cos(math.pi * (k + 0.5) * (x + 0.5) / n)
        self.rows = (rows.flip(1) if open_first else rows).to(device, dtype)

    def forward(self, u: Tensor, axis: int) -> Tensor:
        return torch.tensordot(u, self.rows, dims=([axis], [1])).movedim(-1, axis)

    def inverse(self, c: Tensor, axis: int) -> Tensor:
        return torch.tensordot(c, self.rows, dims=([axis], [0])).movedim(-1, axis)


class BoxInverse(Preconditioner):
    """Solves a `CellPoisson` by one transform, one division, one transform back; exact where there is no solid.

    With solids it is a preconditioner that knows everything but them: 10 to 30 iterations of `CG`, whatever the grid. Of a floating
    pressure the mean is zero.
    """

    def build(self, A: LinearMap) -> Inverse:
        source = A.source
        if not isinstance(source, CellPoisson):
            raise InputError(f"BoxInverse works on a CellPoisson; got {type(source).__name__}.")
        solve = Transformed(source.grid, source.ends, source.dtype, source.centre.device)
        fluid, alone = source.fluid.to(source.dtype), torch.where(source.fluid, 0, 1 / source.centre)

        def inverse(r: Tensor) -> Tensor:
            u = r.reshape(-1, *source.space)
            return (solve(u * fluid) * fluid + u * alone).reshape(r.shape)

        return inverse


class Transformed:
    """The inverse of the negative Laplacian on a whole box, on fields (batch, *space)."""

    def __init__(
        self, grid: Grid, ends: Sequence[tuple[Boundary, Boundary]], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.axes: list[AxisTransform | QuarterWave] = []
        total = torch.zeros((), dtype=torch.float64)
        for n, h, (low, high) in zip(grid.shape, grid.spacing, ends, strict=True):
            if low is high:
                self.axes.append(AxisTransform(low, n, dtype, device))
                values = eigenvalues(low, n)
            else:
                self.axes.append(QuarterWave(n, dtype, device, low is Boundary.DIRICHLET))
                values = 4 * torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / (2 * n)) ** 2
            total = total[..., None] + values / h**2
        still = total <= 1e-12 * total.max()
        self.reciprocal = torch.where(still, 0.0, 1 / torch.where(still, 1.0, total)).to(device, dtype)

    def __call__(self, b: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        for axis, transform in enumerate(self.axes, start=1):
            b = transform.forward(b, axis)
        b = b * self.reciprocal
        for axis, transform in enumerate(self.axes, start=1):
            b = transform.inverse(b, axis)
        return b


class Pressure:
    """Makes velocities free of divergence.

    Parameters
    ----------
    mac : the staggered grid. solver : see `PressureSolver`; None is transforms on a box without solids, else `CG`.
    preconditioner : of a method that takes one; None is `BoxInverse` for the default `CG`, and nothing for others.
    tolerance : of the relative residual. max_iterations : at the most.
    """

    def __init__(
        self,
        mac: MacGrid,
        solver: PressureSolver | None = None,
        preconditioner: Preconditioner | Inverse | None = None,
        tolerance: float | None = None,
        max_iterations: int = 500,
    ) -> None:
        self.mac, self.solver = mac, solver
        self.tolerance = tolerance or TOLERANCE.get(mac.dtype, 1e-5)
        self.system = pressure_system(mac)
        self.direct: Transformed | None = None
        self.A: Stencil = self.system
        if solver is None and not mac.solid:
            self.direct = Transformed(mac.grid, self.system.ends, mac.dtype, mac.device)
            return
        if solver is None:
            solver, preconditioner = CG(), preconditioner or BoxInverse()
        elif not mac.solid and all(low is high for low, high in mac.ends):
            # The same matrix by the name that transforms and geometric multigrid know it by.
            walls = [KINDS[End.GIVEN] if low is End.RING else KINDS[low] for low, _ in mac.ends]  # a ring needs no name
            one = torch.ones(1, *mac.grid.shape, dtype=mac.dtype, device=mac.device)
            self.A = Diffusion(one, mac.grid, walls)
        if isinstance(solver, Method):
            self.iterated = Solver(
                self.A,
                method=solver,
                preconditioner=preconditioner,
                tol=self.tolerance,
                max_iterations=max_iterations,
            )

    def solve(self, b: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """The pressure p with ``-div grad p = b``."""
        if self.direct is not None:
            return self.direct(b)
        b = self.system.consistent(b)
        if self.solver is not None and not isinstance(self.solver, Method):
            p = self.solver(self.A, b)
            with torch.no_grad():
                left = (self.A(p) - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1).clamp(min=1e-30)
            if not bool((left <= self.tolerance).all()):
                raise UnstableStep(
                    f"The pressure solver left a relative residual of {float(left.max()):.2g}; expected {self.tolerance:.2g}. "
                    "Give a tolerance= that it can reach, or a better solver."
                )
            return p
        found = self.iterated.solve(b)
        if not found.converged:
            raise UnstableStep(
                f"The pressure was solved to {float(found.residuals[-1].max()):.2g} only, in {found.iterations} iterations "
                f"({found.reason}); expected {self.tolerance:.2g}. Use a preconditioner (BoxInverse(), AMG()), more max_iterations or "
                "a larger tolerance=."
            )
        return found.x

    def project(self, u: list[Tensor]) -> list[Tensor]:
        """Velocities less the gradient that takes their divergence away."""
        slopes = self.mac.gradient(self.solve(-self.mac.divergence(u)))
        return [v - s for v, s in zip(u, slopes, strict=True)]

    def check(self, u: list[Tensor]) -> None:
        """Refuse inflows that no outflow balances, or that an obstacle shuts in."""
        with torch.no_grad():
            parts = self._shut()
            ends = [v * (1 - m) for v, m in zip(u, self.mac.free, strict=True)]
            net = self.mac.divergence(ends).flatten(1) @ parts.flatten(1).T * math.prod(self.mac.grid.spacing)
            size = (
                sum(v.abs().flatten(1).amax(1) for v in ends)[:, None]
                * self.mac.grid.volume
                / max(self.mac.grid.extent)
            )
            bad = net.abs() > 1e-4 * size
            if not bool(bad.any()):
                return
            run, part = (int(k) for k in bad.nonzero()[0])
            cells, whole = int(parts[part].sum()), int(self.mac.fluid.sum())
            if cells < whole:
                raise InputError(
                    f"The obstacle shuts {cells} of {whole} fluid cells off from every outflow, while run {run} has a "
                    f"net inflow of {-float(net[run, part]):.4g} there. Leave a gap in the obstacle, or move the inflow."
                )
            raise InputError(
                f"The given velocities on the sides of run {run} bring in {-float(net[run, part]):.4g} more than they take out, and an "
                "incompressible fluid has no room for it. Balance them, or make a side Outflow()."
            )

    def _shut(self) -> Float[Tensor, "parts *space"]:
        """The parts of the fluid without an outflow; a cell all of whose faces are held is one by itself, in which no pressure acts."""
        (enclosed,) = self.system.enclosed()
        alone = (self.mac.fluid & ~self.system.fluid[0]).flatten().nonzero()[:, 0]
        single = torch.zeros(len(alone), self.mac.fluid.numel(), dtype=enclosed.dtype, device=enclosed.device)
        single[torch.arange(len(alone), device=alone.device), alone] = 1.0
        return torch.cat([enclosed, single.reshape(-1, *self.mac.grid.shape)])
