"""Finite elements on the nodes of a box: their matrices on fields, and the classical stepper that solves with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.solvers.elements import Elements
from slipstream.solvers.linear.solve import solve
from slipstream.solvers.steady import Solved
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters


class NodalMatrix:
    r"""The matrices of elements on fields (run, channel, \*nodes), one a run: what ``A`` is in ``A u = b``.

    Where u is held, rows and columns are a multiple of the identity. So A is symmetric, positive where the form is, and ``A u - b`` with
    b = 0 there vanishes for solutions that are 0 there. `slipstream.solvers.linear.solve` takes it as it is.

    Parameters
    ----------
    elements : on a mesh whose points are the nodes of a box, the last axis running fastest. parameters : coefficients (run, cell).
    nodes : along each axis.
    """

    hermitian = True

    def __init__(self, elements: Elements, parameters: Parameters, nodes: Sequence[int]) -> None:
        self.elements = elements
        self.parameters = {k: parameters[k] for k in elements.form.coefficients}
        self.space = (elements.channels, *nodes)
        first = self.parameters[elements.form.coefficients[0]]
        self.batch, self.dtype = len(first), first.dtype

    def __len__(self) -> int:
        return self.batch

    def __getitem__(self, i: int | slice) -> NodalMatrix:
        """The matrix of one run, or of some."""
        rows = slice(i, i + 1 or None) if isinstance(i, int) else i
        return NodalMatrix(self.elements, {k: v[rows] for k, v in self.parameters.items()}, self.space[1:])

    @property
    def held(self) -> Float[Tensor, " run"]:
        """What stands on the diagonal where u is held: of the size of the other entries."""
        return self.parameters[self.elements.form.coefficients[-1]].mean(1)

    def __call__(self, v: Float[Tensor, "run channel *space"]) -> Float[Tensor, "run channel *space"]:
        u, free = v.flatten(2), self.elements.free.to(v)
        left = self.elements.residual(free * u, self.parameters)
        return (left + self.held[:, None, None] * (1 - free) * u).reshape(v.shape)

    def matrix(self, i: int = 0):
        """The matrix of one run as `scipy.sparse.csr_array`, on flattened fields."""
        from scipy.sparse import csr_array, diags_array

        points, channels = self.elements.mesh.size, self.elements.channels
        free = self.elements.free.repeat(channels).double().numpy()
        order = torch.arange(points * channels).reshape(points, channels).T.flatten().numpy()
        whole = self.elements.matrix(self.parameters, i)[order][:, order]
        inside = diags_array(free)
        made = csr_array(inside @ whole @ inside + diags_array(float(self.held[i].detach()) * (1 - free)))
        made.eliminate_zeros()
        return made


class NodalStepper(Stepper):
    """Solves ``A(p) u = b(p)`` on the nodes of a box, run by run, in float64; the frame holds u at the nodes of `grid`.

    Between nodes u is linear along each axis, as bilinear elements say. Differentiable in the parameters. The frame has the precision of
    the parameters. `State.stats` counts ``iterations`` of each run.

    Parameters
    ----------
    system : from parameters on `grid` and the grid to solve on to matrices and right-hand sides, one a run.
    grid : of frames and parameter fields. inner : where it is solved; both have points on their ends. channels : of the frame.
    scheme : how it is solved.

    Raises
    ------
    InputError : a run was not solved to the tolerance.
    """

    history = 0
    interval = 0.0
    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(
        self,
        system: Callable[[Parameters, Grid], tuple[NodalMatrix, Tensor]],
        grid: Grid,
        inner: Grid,
        channels: Sequence[Channel | str],
        scheme: Solved,
    ) -> None:
        super().__init__()
        self.system, self.grid, self.inner, self.scheme = system, grid, inner, scheme
        self.channels = as_channels(channels)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        floating = {k for k, v in parameters.items() if v.is_floating_point()}
        outer = next((parameters[k].dtype for k in parameters if k in floating), torch.get_default_dtype())
        A, b = self.system({k: v.double() if k in floating else v for k, v in parameters.items()}, self.inner)
        found = [self._solved(A[i], b[i]) for i in range(len(A))]
        u = resample(torch.stack([x for x, _ in found]), self.inner, self.grid)
        return replace(state, stats={"iterations": torch.tensor([n for _, n in found])}), u.to(outer)[:, None]

    def _solved(self, A: NodalMatrix, b: Tensor) -> tuple[Tensor, int]:
        s = self.scheme
        how = {"method": s.solver.method, "preconditioner": s.solver.preconditioner}
        told = {"tol": s.tolerance, "max_iterations": s.max_iterations}
        result = solve(A, b, **how, **told)  # type: ignore[arg-type]
        if not result.converged:
            raise InputError(f"A steady solve to {s.tolerance:g} did not converge ({s.name}): {result.reason}.")
        return result.x, result.iterations

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        return self.advance(State(past), parameters)[1]
