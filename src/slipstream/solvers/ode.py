"""The adaptive integrators as a stepper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.equations.calculus import Calculus
from slipstream.equations.differences import FiniteDifferences
from slipstream.equations.equation import Equation
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.solvers.adaptive import Tolerance, integrate
from slipstream.solvers.pairs import TSIT5, Method, Slope
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

Rate = Callable[[Tensor, Tensor, Parameters], Tensor]
"""``rate(t, u, parameters)`` of states (batch, channel, *rest) at the times (batch,) of their runs."""


class OdeStepper(Stepper):
    """Marches ``u' = rate(t, u, parameters)`` with steps as long as the tolerance allows.

    States are (batch, channel) with any further axes: an ordinary system, a latent state, or fields of an `Equation` on a grid. Every run
    has its own step sizes, which carry over from call to call, so that the result of a run does not depend on its company.
    Differentiable in states, parameters and the weights of a `rate` that is a module: through the steps taken, step sizes as constants.

    `State.stats` after a call holds the figures of `slipstream.solvers.adaptive.Path`: ``local_error``, ``stiffness``, ``accepted`` and the
    others, differentiable: what a loss adds to make a learnt rate cheap to integrate.

    Parameters
    ----------
    rate : ``(t, u, parameters) -> u'``, or an equation. Runs must not see each other.
    interval : time between frames.
    method : `TSIT5`, `DOPRI5`, `BS32`; stiff: `RODAS5P`, `RODAS4` (dense Jacobians: up to some hundreds of numbers a run).
    rtol, atol : an error of ``atol + rtol |u|`` a step is accepted; atol is one number, or one a channel.
    max_steps : attempts a call.
    horizon : frames a call. The last is hit; those before it are dense output and change no step.
    shared : one step size, by the error of the whole batch, in place of one a run. Published cost regularisers are of this kind.
    start_time : of the frame that `start` is given.
    grid, calculus : for an equation with space: its grid, and a calculus as in `LinesStepper`.
    channels : of the frames, where `rate` is no equation and names matter.

    Raises
    ------
    UnstableStep : the tolerance cannot be met; the message names run, time and step.

    Source: Pal et al., ICML 2021 (arXiv 2105.03918) for the differentiable estimates.
    """

    def __init__(
        self,
        rate: Rate | Equation,
        interval: float,
        method: Method = TSIT5,
        rtol: float = 1e-6,
        atol: float | Sequence[float] = 1e-9,
        max_steps: int = 10_000,
        horizon: int = 1,
        shared: bool = False,
        start_time: float = 0.0,
        grid: Grid | None = None,
        calculus: Callable[..., Calculus] = partial(FiniteDifferences, accuracy=2),  # noqa: B008
        channels: Sequence[Channel | str] | None = None,
    ) -> None:
        super().__init__()
        if not (interval > 0 and max_steps >= 1 and horizon >= 1):
            raise InputError(
                f"OdeStepper needs interval > 0, max_steps and horizon at least 1; got {interval}, {max_steps}, {horizon}."
            )
        if isinstance(rate, Equation) and grid is None:
            raise InputError(f"{type(rate).__name__} lives in space: give OdeStepper its grid (grid=).")
        self.rate, self.interval, self.method, self.max_steps = rate, float(interval), method, max_steps
        self.rtol, self.atol, self.shared, self.horizon = rtol, atol, shared, horizon
        self.start_time, self.grid, self.calculus = float(start_time), grid, calculus
        named = rate.channels if isinstance(rate, Equation) and channels is None else channels
        self.channels = None if named is None else as_channels(named)

    def check(self, frames: Tensor) -> None:
        if self.grid is not None:
            super().check(frames)
        elif frames.ndim < 3 or (self.channels is not None and frames.shape[2] != len(self.channels)):
            wanted = "channel" if self.channels is None else str(len(self.channels))
            raise ShapeError(
                f"OdeStepper expects frames (batch, time, {wanted}, ...); got {tuple(frames.shape)}. "
                "A single run needs u[None], a single frame u[:, None]."
            )

    def start(self, frames: Float[Tensor, "batch time channel *rest"], parameters: Parameters) -> State:
        self.check(frames)
        u = frames[:, -1]
        time = torch.full((u.shape[0],), self.start_time, dtype=torch.float64, device=u.device)
        return State((u, time, None, None))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *rest"]]:
        u, time, size, previous = state.values
        ahead = self.interval * torch.arange(self.horizon + 1, dtype=torch.float64, device=u.device)
        path = integrate(
            self.slope(u, parameters),
            u,
            time[:, None] + ahead,
            method=self.method,
            tolerance=Tolerance(self.rtol, self.atol, self.shared),
            max_steps=self.max_steps,
            size=size,
            previous=previous,
        )
        values = (path.frames[:, -1], time + ahead[-1], path.size, path.previous)
        return replace(state, values=values, stats=path.stats), path.frames

    def slope(self, u: Float[Tensor, "batch channel *rest"], parameters: Parameters) -> Slope:
        """The rate as a function of time and state alone."""
        rate = self.rate
        if not isinstance(rate, Equation):
            return lambda t, v: rate(t.to(v.dtype), v, parameters)
        d, p = self.calculus(self.grid, dtype=u.dtype, device=u.device), rate.ready(parameters, u)
        for name, spec in rate.parameters.items():
            spec.check(name, p[name])
        return lambda t, v: rate.rate(v, d, p)
