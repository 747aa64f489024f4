"""Label-free training: the residual of the equation between consecutive frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from slipstream.equations.calculus import Calculus
from slipstream.errors import InputError
from slipstream.objectives.norms import mean_square
from slipstream.objectives.objective import Loss, Objective
from slipstream.objectives.supervised import unroll
from slipstream.problems.problem import Problem
from slipstream.trajectories import Parameters, Window

TRUSTED = 0.02
"""The reference itself must leave less than this, or a small residual would not mean a small error."""


class PhysicsResidual(Objective):
    """Mean square of what the trapezoidal rule leaves over between consecutive fine frames, on the fine grid.

    The last known frame and all new ones are put in order, and every consecutive pair (a, b) counts, with gradients through
    both. No labels are used. The figure is relative: 1 means a residual as large as the typical rate of change.

    Parameters
    ----------
    problem : gives the equation; the stepper's own where None.
    calculus : called with (grid, dtype=, device=), for example a partial of `FiniteDifferences`; None is spectral.
    calls : calls of the stepper that are unrolled, with gradients through all of them.
    integrated : False: the residual of each pair. True: its running sum from the last known frame, the equation in integral form:
        zero for the same frames, but the error of a frame counts by itself and not by how it differs from its neighbours', which
        trains steppers with a long horizon sooner.
    trusted : refuse a problem whose reference leaves a larger relative residual.
    precondition : divide the residual, mode by mode, by the diagonal of the implicit step, ``1 - interval * L / 2`` with L the linear part
        of the equation (growing modes are left alone). A mode that the step damps to nothing then counts by the error of its frame, and
        not by how stiff it is: for ``interval * nu * k^2`` well above 1 at the highest wavenumbers. Periodic grids only.
    checkpoint : as in `Supervised`.

    Raises
    ------
    InputError : the interval is too long for the trapezoidal rule, or the grid too coarse; the message says what would do.

    Notes
    -----
    Source of the loss on merged frames: NeuralStagger, ICML 2023.
    """

    def __init__(
        self,
        problem: Problem | None = None,
        calculus: Callable[..., Calculus] | None = None,
        calls: int = 1,
        integrated: bool = False,
        trusted: float = TRUSTED,
        precondition: bool = False,
        checkpoint: bool = False,
    ) -> None:
        self.problem, self.calculus, self.calls = problem, calculus, calls
        self.integrated, self.trusted = integrated, trusted
        self.precondition, self.checkpoint = precondition, checkpoint
        self._checked: set[int] = set()

    def check(self, module: nn.Module) -> None:
        self._problem(module)

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        problem = self._problem(module)
        past = window.frames[:, : module.history]
        new = unroll(module, past, window, self.calls, generator, self.checkpoint)
        residual = problem.residual(
            torch.cat([past[:, -1:], new], dim=1), window.parameters, self._calculus(new, problem)
        )
        if self.precondition:
            residual = _preconditioned(residual, problem, window.parameters)
        rate = residual.new_tensor(problem.statistics.increment).clamp(min=1e-12) / problem.interval
        relative = residual / rate.reshape([-1] + [1] * problem.grid.num_dims)
        pairs = mean_square(relative, problem.grid, window.weights)
        summed = mean_square(relative.cumsum(1), problem.grid, window.weights) if self.integrated else pairs
        scores = pairs.detach().mean(1).sqrt()
        return Loss(summed.mean(), {"residual": scores.square().mean().sqrt()}, new.detach(), scores)

    def _calculus(self, like: Tensor, problem: Problem) -> Calculus | None:
        return None if self.calculus is None else self.calculus(problem.grid, dtype=like.dtype, device=like.device)

    def _problem(self, module: nn.Module) -> Problem:
        problem = self.problem if self.problem is not None else getattr(module, "problem", None)
        if not isinstance(problem, Problem) or not problem.solvable:
            raise InputError(
                f"PhysicsResidual needs a problem with an equation; {type(module).__name__} brings none. Give it: PhysicsResidual(problem)."
            )
        if id(problem) not in self._checked:
            if self.precondition and not (problem.grid.periodic and self.calculus is None):
                raise InputError(
                    "PhysicsResidual(precondition=True) divides Fourier modes: it needs a periodic grid and the spectral calculus."
                )
            self._check(problem)
            self._checked.add(id(problem))
        return problem

    def _check(self, problem: Problem) -> None:
        found = problem.reference_residual()
        if found <= self.trusted:
            return
        interval = problem.interval
        for _ in range(6):
            interval /= 2
            if problem.with_interval(interval).reference_residual() <= self.trusted:
                remedy = f"interval={interval:g} would do"
                break
        else:
            remedy = f"no shorter interval down to {interval:g} helps: the grid of {problem.grid.shape} points is too coarse for this flow"
        raise InputError(
            f"PhysicsResidual: the reference solution of {problem.name} itself leaves a relative residual of {found:.1%} "
            f"at interval {problem.interval:g} (at most {self.trusted:.0%} is trusted), so a small residual "
            f"would not mean a small error; {remedy}."
        )


def _preconditioned(residual: Tensor, problem: Problem, parameters: Parameters) -> Tensor:
    """The residual divided by ``1 - interval * L / 2``, growth left out."""
    space = problem.grid.num_dims
    symbol = problem.equation.linear(problem.grid, problem.equation.ready(parameters, residual[:, 0]))
    if symbol is None:
        raise InputError(
            f"PhysicsResidual(precondition=True) needs the linear part of the equation; {type(problem.equation).__name__} states none."
        )
    symbol = torch.complex(symbol.real.clamp(max=0.0), symbol.imag) if symbol.is_complex() else symbol.clamp(max=0.0)
    modes = torch.fft.rfftn(residual, dim=tuple(range(-space, 0))) / (1 - 0.5 * problem.interval * symbol[:, None])
    return torch.fft.irfftn(modes, s=problem.grid.shape, dim=tuple(range(-space, 0)))
