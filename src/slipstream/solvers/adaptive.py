"""Adaptive integration of ordinary differential equations: every run of a batch with its own step size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slipstream.errors import InputError, UnstableStep
from slipstream.solvers.pairs import TSIT5, First, Method, Slope, Step, column

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
STRETCH = 1.05
"""A step may be longer by this factor to arrive where it must, so that no sliver remains."""


@dataclass(frozen=True)
class Path:
    """What `integrate` found.

    Attributes
    ----------
    frames : the states at the times asked for after the first, (batch, time, channel, *rest).
    size, previous : step size and scaled error with which to go on, (batch,).
    stats : figures about the way there. Per run, (batch,): ``accepted``, ``rejected`` and ``evaluations`` (counts),
        ``local_error`` = sum of E h and ``stiffness`` = max S over accepted steps. Per step, (batch, attempt): ``step_time`` (its start),
        ``step_size`` h, ``step_error`` E, ``step_stiffness`` S; an attempt that failed, or of a run that had arrived, has size 0.
        E is the local error measured in tolerances; S estimates the largest eigenvalue of the Jacobian in modulus.
        Errors and stiffness carry gradients; step sizes are constants to them.
    """

    frames: Float[Tensor, "batch time channel *rest"]
    size: Float[Tensor, " batch"]
    previous: Float[Tensor, " batch"]
    stats: dict[str, Tensor] = field(default_factory=dict)


def rms(x: Float[Tensor, "batch *rest"], over: Bool[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
    """Root mean square of each run; of the runs marked in `over` together where that is given. Its slope at zero is zero."""
    square = x.flatten(1).square().mean(1)
    if over is not None:
        square = (torch.where(over, square, 0).sum() / over.sum().clamp(min=1)).expand(x.shape[0])
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


@dataclass(frozen=True)
class Tolerance:
    """What counts as one: an error of ``atol + rtol |u|``.

    Parameters
    ----------
    rtol : relative. atol : absolute; one number, or one a channel. shared : one error, and so one step size, for the whole batch.
    """

    rtol: float
    atol: float | Sequence[float]
    shared: bool = False

    def scale(self, *states: Tensor) -> Tensor:
        """The error that is just accepted."""
        u = states[0].detach().abs() if len(states) == 1 else torch.maximum(*(s.abs() for s in states))
        if isinstance(self.atol, (int, float)):
            return self.atol + self.rtol * u
        return u.new_tensor(self.atol).reshape([1, -1] + [1] * (u.ndim - 2)) + self.rtol * u

    def check(self, u: Float[Tensor, "batch channel *rest"]) -> None:
        """Refuse tolerances that the numbers of a state cannot meet."""
        smallest = 4 * torch.finfo(u.dtype).eps
        absolute = [self.atol] if isinstance(self.atol, (int, float)) else list(self.atol)
        if not self.rtol >= smallest:
            raise InputError(
                f"rtol={self.rtol:g} is below what {str(u.dtype).removeprefix('torch.')} can carry; "
                f"expected at least {smallest:.1g}. Give float64 states or a larger rtol."
            )
        if not all(a > 0 for a in absolute) or (len(absolute) > 1 and len(absolute) != u.shape[1]):
            raise InputError(
                f"atol={self.atol} must be one positive number, or one for each of {u.shape[1]} channels "
                "(a component that passes through zero has no relative error)."
            )


def initial_step(
    slope: Slope,
    t: Float[Tensor, " batch"],
    u: Float[Tensor, "batch channel *rest"],
    tolerance: Tolerance,
    order: int = 5,
    span: Float[Tensor, " batch"] | None = None,
    here: Tensor | None = None,
) -> Float[Tensor, " batch"]:
    """A first step size for each run, from the sizes of state, slope and curvature: one evaluation, two without `here`, the slope at t.

    No longer than `span`. A constant to gradients. Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4.
    """
    with torch.no_grad():
        here = slope(t, u) if here is None else here
        over = torch.ones_like(t, dtype=torch.bool) if tolerance.shared else None
        scale = tolerance.scale(u)
        d0, d1 = (rms(x / scale, over).to(t.dtype) for x in (u, here))
        tiny = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = torch.where(tiny, 1e-6, 0.01 * d0 / torch.where(tiny, 1, d1))
        h0 = h0 if span is None else torch.minimum(h0, span)
        there = slope(t + h0, torch.addcmul(u, column(h0, u), here))
        d2 = rms((there - here) / scale, over).to(t.dtype) / h0
        largest = torch.maximum(d1, d2)
        h1 = torch.where(
            largest <= 1e-15,
            (1e-3 * h0).clamp(min=1e-6),
            (0.01 / largest.clamp(min=1e-15)) ** (1 / order),
        )
        h1 = torch.where(torch.isfinite(largest), h1, 1e-3 * h0)
        h = torch.minimum(100 * h0, h1)
        return h if span is None else torch.minimum(h, span)


def step_error(step: Step, u: Tensor, tolerance: Tolerance, over: Tensor | None = None) -> Float[Tensor, " batch"]:
    """E: the error estimate of a step from `u` in units of what is accepted; differentiable."""
    return rms(step.error / tolerance.scale(u, step.u), over)


def step_stiffness(step: Step, over: Tensor | None = None) -> Float[Tensor, " batch"]:
    """S: how much faster slopes change than states between two stages at the end of a step; 0 where the two coincide."""
    if step.twins is None:
        return step.u.new_zeros(step.u.shape[0])
    f, g, u, v = step.twins
    apart = rms(u - v, over)
    known = apart > 0
    return torch.where(known, rms(f - g, over) / torch.where(known, apart, 1), 0)


def integrate(
    slope: Slope,
    u: Float[Tensor, "batch channel *rest"],
    times: Float[Tensor, "*batch time"],
    *,
    method: Method = TSIT5,
    tolerance: Tolerance = Tolerance(1e-6, 1e-9),
    max_steps: int = 10_000,
    size: Float[Tensor, " batch"] | None = None,
    previous: Float[Tensor, " batch"] | None = None,
) -> Path:
    """The states at `times` after the first, where `u` is known. Differentiable through every operation of the accepted steps.

    The last time is hit; those between come from dense output and change no step. Each run has its own step size, so that
    its result does not depend on the company it is in; runs that have arrived, or whose step was rejected, are masked.
    With ``tolerance.shared`` the whole batch takes the same steps.

    Parameters
    ----------
    slope : ``(t, u) -> u'`` with times (batch,); runs must not see each other.
    times : increasing, (time,) or (batch, time), best in float64.
    method : a pair such as `TSIT5`, or for stiff systems a Rosenbrock method such as `RODAS5P`.
    max_steps : attempts a run.
    size, previous : of an earlier `Path`, to go on as if there had been no stop.

    Raises
    ------
    UnstableStep : the tolerance cannot be met; the message names run, time and step.
    """
    tolerance.check(u)
    times = times.to(torch.float64).to(u.device)
    times = times.expand(u.shape[0], -1) if times.ndim == 1 else times
    if times.shape[0] != u.shape[0] or times.shape[1] < 2 or not bool((times.diff(dim=1) > 0).all()):
        raise InputError(f"times must increase, at least two of them, (time,) or ({u.shape[0]}, time); got {times}.")
    with torch.no_grad():
        if not bool(torch.isfinite(u).all()):
            raise InputError("The state to start from holds non-finite values; check your data for NaN.")
    run = _Run(slope, u, times, method, tolerance, size, previous)
    for attempt in range(max_steps + 1):
        active = run.t < run.end
        if not bool(active.any()):
            return run.path()
        if attempt == max_steps:
            raise run.failure(active, f"has not arrived at t = {float(run.end.max()):.6g} after {max_steps} steps")
        stuck = active & (run.t + run.h <= run.t)
        if bool(stuck.any()):
            raise run.failure(stuck, "needs a step too small to add to the time")
        run.attempt(active)
    raise AssertionError("unreachable")


class _Run:
    """The march of one batch: states, clocks and records."""

    def __init__(
        self,
        slope: Slope,
        u: Tensor,
        times: Tensor,
        method: Method,
        tolerance: Tolerance,
        size: Tensor | None,
        previous: Tensor | None,
    ) -> None:
        self.slope, self.u, self.times, self.method, self.tolerance = slope, u, times, method, tolerance
        self.t, self.end = times[:, 0], times[:, -1]
        self.first = method.first(slope, self.t, u)
        with torch.no_grad():
            if not bool(torch.isfinite(self.first.slope).all()):
                raise UnstableStep(f"The rate is not finite at the start, t = {float(self.t.min()):.6g}.")
        numbers = u[0].numel()
        self.evaluations = torch.full_like(self.t, method.opening(numbers) + (size is None), dtype=torch.long)
        here = self.first.slope
        self.h = (
            initial_step(slope, self.t, u, tolerance, method.estimate, self.end - self.t, here)
            if size is None
            else size.to(self.t)
        )
        self.previous = torch.ones_like(self.t) if previous is None else previous.to(self.t)
        self.failed = torch.zeros_like(self.t, dtype=torch.bool)
        self.error = torch.zeros_like(self.t)
        self.rejected = torch.zeros_like(self.evaluations)
        self.frames: list[Tensor] = [u] * (times.shape[1] - 2)
        self.records: list[tuple[Tensor, ...]] = []

    def attempt(self, active: Tensor) -> None:
        """One step of every active run, kept where its error is small enough."""
        method, tolerance, u, t = self.method, self.tolerance, self.u, self.t
        left = self.end - t
        arriving = self.h * STRETCH >= left
        tried = h = torch.where(active, torch.where(arriving, left, self.h), 0.0)
        shared = active if tolerance.shared else None
        step = method.step(self.slope, t, u, h, self.first)
        error = step_error(step, u, tolerance, shared)
        with torch.no_grad():
            judged = error.detach().to(t.dtype)
            sound = torch.isfinite(judged) & torch.isfinite(step.u).flatten(1).all(1)
            judged = torch.where(sound, judged, torch.inf)
            if tolerance.shared:
                judged = judged.amax().expand_as(judged)
            accepted = active & (judged <= 1)
        if torch.is_grad_enabled() and not bool(sound.all()):
            # A mask does not stop the gradient of what is not finite: such runs stand still in the graph instead.
            h = torch.where(accepted, h, 0.0)
            step = method.step(self.slope, t, u, h, self.first)
            error = step_error(step, u, tolerance, accepted if tolerance.shared else None)
        stiffness = step_stiffness(step, shared)
        kept = torch.where(accepted, h, 0.0)
        self.records.append((t, kept, torch.where(accepted, error, 0), torch.where(accepted, stiffness, 0)))
        self._save(step, h, accepted)
        mask = accepted.reshape([-1] + [1] * (u.ndim - 1))
        self.u = torch.where(mask, step.u, u)
        self.t = torch.where(accepted, torch.where(arriving, self.end, t + h), t)
        self.rejected = self.rejected + (active & ~accepted)
        self.evaluations = self.evaluations + active * method.evaluations
        self._open(step, mask, accepted)
        self._resize(active, accepted, arriving, tried, judged)

    def _save(self, step: Step, h: Tensor, accepted: Tensor) -> None:
        """Dense output at the times that lie inside this step."""
        if not self.frames:
            return
        between = self.times[:, 1:-1]
        inside = accepted[:, None] & (between > self.t[:, None]) & (between <= (self.t + h)[:, None])
        for k in inside.any(0).nonzero()[:, 0].tolist():
            theta = torch.where(inside[:, k], (between[:, k] - self.t) / torch.where(inside[:, k], h, 1), 0)
            value = self.method.between(self.u, step, h, theta)
            mask = inside[:, k].reshape([-1] + [1] * (value.ndim - 1))
            self.frames[k] = torch.where(mask, value, self.frames[k])

    def _open(self, step: Step, mask: Tensor, accepted: Tensor) -> None:
        """What the next step needs to know where it starts; nothing new where every step was rejected."""
        if step.slope is not None:
            self.first = First(torch.where(mask, step.slope, self.first.slope))
            return
        moving = accepted & (self.t < self.end)
        if bool(moving.any()):
            self.first = self.method.first(self.slope, self.t, self.u)
            self.evaluations = self.evaluations + moving * self.method.opening(self.u[0].numel())

    def _resize(self, active: Tensor, accepted: Tensor, arriving: Tensor, h: Tensor, judged: Tensor) -> None:
        """Proportional-integral control of the step size (Gustafsson); a step cut short to arrive tells it nothing new."""
        k = self.method.estimate
        with torch.no_grad():
            bounded = judged.clamp(min=1e-10)
            grown = SAFETY * bounded ** (-0.7 / k) * self.previous.clamp(min=1e-4) ** (0.4 / k)
            grown = grown.clamp(SHRINK, GROW)
            grown = torch.where(self.failed, grown.clamp(max=1.0), grown)
            shrunk = (SAFETY * bounded ** (-1 / k)).clamp(SHRINK, SAFETY)
            proposed = torch.where(accepted, self.h * grown, self.h * shrunk)
            cut = accepted & arriving
            proposed = torch.where(cut, torch.maximum(h * grown, self.h), proposed)
            proposed = torch.where(active & ~accepted & arriving, h * shrunk, proposed)
            self.previous = torch.where(accepted & ~arriving, judged, self.previous)
            self.error = torch.where(active, judged, self.error)
            self.failed = torch.where(active, ~accepted, self.failed)
            self.h = torch.where(active, proposed, self.h)

    def path(self) -> Path:
        """The result, once every run has arrived."""
        begun, sizes, errors, stiffness = (torch.stack(kind, dim=1) for kind in zip(*self.records, strict=True))
        stats = {
            "accepted": (sizes > 0).sum(1),
            "rejected": self.rejected,
            "evaluations": self.evaluations,
            "local_error": (errors * sizes.to(errors)).sum(1),
            "step_time": begun,
            "step_size": sizes,
            "step_error": errors,
        }
        if self.method.twin:
            stats |= {"stiffness": stiffness.amax(1), "step_stiffness": stiffness}
        return Path(torch.stack([*self.frames, self.u], dim=1), self.h, self.previous, stats)

    def failure(self, which: Tensor, what: str) -> UnstableStep:
        """One sentence about the first run of those marked."""
        i = int(which.nonzero()[0, 0])
        t, h, error = float(self.t[i]), float(self.h[i]), float(self.error[i])
        steps = int((torch.stack([r[1] for r in self.records], 1)[i] > 0).sum()) if self.records else 0
        return UnstableStep(
            f"{self.method.name}: run {i} {what}; it stands at t = {t:.6g} after {steps} accepted and {int(self.rejected[i])} "
            f"rejected steps, with step size {h:.3g} and a last error of {error:.3g} times the tolerance "
            f"(rtol={self.tolerance.rtol:g}, atol={self.tolerance.atol}). If the system is stiff use RODAS5P; "
            "else loosen the tolerance, give float64 states, raise max_steps, or check whether the solution exists that far."
        )
