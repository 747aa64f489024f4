"""Label-free training of steady fields: the residual of the linear system that a field has to solve."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives.objective import Loss, Objective
from slipstream.problems.elliptic import SteadyLinear
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.maps import FunctionMap
from slipstream.solvers.linear.poisson import FastPoisson
from slipstream.trajectories import Window


class SystemResidual(Objective):
    r"""Mean square of :math:`M^{-1} (A u - b)` relative to that of :math:`M^{-1} b`, run by run; no labels are used.

    A and b are the problem's system on the grid of the frames, so that zero means its solution on that grid (whose distance from the truth
    the ladder of the problem tells). M is the Laplacian of the box, shifted a little. Without it a mode counts by the square of its
    wavenumber, and training polishes the roughest; with it the loss is that of the error itself, up to the contrast of the coefficients.

    Parameters
    ----------
    problem : steady and linear; the stepper's own where None. precondition : False leaves M out.

    Raises
    ------
    InputError : the problem is not steady and linear, or its solution is determined up to a constant only.

    Source of the norm: Mardal & Winther, Numer. Linear Algebra Appl. 18 (2011) 1.
    """

    def __init__(self, problem: SteadyLinear | None = None, precondition: bool = True) -> None:
        self.problem, self.precondition = problem, precondition

    def check(self, module: nn.Module) -> None:
        self._problem(module)

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        problem = self._problem(module)
        new = module(window.frames[:, :0], window.parameters)
        residual = problem.residual(new, window.parameters)[:, 0]
        right = problem.residual(torch.zeros_like(new), window.parameters)[:, 0]
        if self.precondition:
            inverse = _laplacian(problem, residual)
            residual, right = (inverse(v.flatten(0, 1)).reshape(v.shape) for v in (residual, right))
        relative = residual.flatten(1).square().sum(1) / right.flatten(1).square().sum(1).clamp(min=1e-30)
        scores = relative.detach().sqrt()
        return Loss(relative.mean(), {"system": relative.detach().mean().sqrt()}, new.detach(), scores)

    def _problem(self, module: nn.Module) -> SteadyLinear:
        problem = self.problem if self.problem is not None else getattr(module, "problem", None)
        if not isinstance(problem, SteadyLinear):
            raise InputError(
                f"SystemResidual needs a steady linear problem; got {type(problem).__name__}. For others: PhysicsResidual."
            )
        if getattr(problem, "boundary", "dirichlet") in ("neumann", "periodic"):
            raise InputError(
                f"The solution of {problem.name} with {problem.boundary!r} walls is known up to a constant only, "  # type: ignore[attr-defined]
                "which its system does not see; train it with Supervised()."
            )
        return problem


def _laplacian(problem: SteadyLinear, like: Tensor):
    """Inverse of the shifted Laplacian on this grid, for rows of fields."""
    # A norm may take points on the ends of an axis as if they lay half a cell inside.
    grid = Grid(tuple(replace(a, centred=True) for a in problem.grid.axes))
    one = torch.ones(1, *grid.shape, dtype=like.dtype, device=like.device)
    plain = Diffusion(one, grid, problem.walls, shift=1.0 / max(grid.extent) ** 2)
    return FastPoisson().build(FunctionMap(plain, plain.space, one.dtype, one.device))
