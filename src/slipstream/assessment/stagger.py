"""Whether the sub-solvers of a NeuralStagger solver keep together, and how far a flow may be split.

Sub-solvers that see nothing of each other may drift apart. Between the points of neighbouring shifts that is a checkerboard with the period
of the parts; between chains, frames that jump forth and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.assessment.spectra import mode_power
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.steppers.staggered import Staggered
from slipstream.trajectories import Trajectories


def stagger_harmonics(
    u: Float[Tensor, "batch time channel *space"], grid: Grid, factors: Sequence[int], width: int = 2
) -> Float[Tensor, "batch time"]:
    """Share of the mean square in wavenumbers within `width` of multiples of N/s along every axis, the lowest multiple 0 left out.

    That is where a smooth difference between the parts of a field goes when they are merged: to the images of its own wavenumbers. A
    true field has little there; hold the figure against that of the truth. Zero where nothing is split.

    Parameters
    ----------
    factors : s, one an axis. width : in waves across the box; below half of N/s.

    Raises
    ------
    InputError : the grid is not periodic, or the neighbourhoods of two multiples meet.
    """
    if not grid.periodic:
        raise InputError("stagger_harmonics looks at Fourier modes: it needs a grid that is periodic along every axis.")
    if any(2 * width >= n // s for n, s in zip(grid.shape, factors, strict=True)):
        raise InputError(
            f"width={width} reaches from one multiple of N/s to the next on {grid.shape} points with s={tuple(factors)}."
        )
    power = mode_power(u, grid)
    near = torch.ones((), dtype=torch.bool)
    low = torch.ones((), dtype=torch.bool)
    for axis, (n, s) in enumerate(zip(grid.shape, factors, strict=True)):
        last = axis == grid.num_dims - 1
        waves = torch.arange(n // 2 + 1) if last else torch.fft.fftfreq(n, 1 / n).round().long().abs()
        waves = waves.reshape([-1 if i == axis else 1 for i in range(grid.num_dims)])
        away = waves % (n // s)
        near = near & (torch.minimum(away, n // s - away) <= width)
        low = low & (waves <= width)
    chosen = (near & ~low).to(power)
    space = tuple(range(-grid.num_dims, 0))
    return (power * chosen).sum((2, *space)) / power.sum((2, *space)).clamp(min=1e-30)


def temporal_jitter(u: Float[Tensor, "batch time channel *space"]) -> Float[Tensor, "batch time2"]:
    """Root mean square of ``u_{t+1} - 2 u_t + u_{t-1}`` over channels and points, two frames fewer.

    Smooth motion leaves O(interval^2). Chains that drift apart leave their distance, in every frame.
    """
    if u.shape[1] < 3:
        raise InputError(f"temporal_jitter compares three frames in a row; got {u.shape[1]}.")
    return (u[:, 2:] - 2 * u[:, 1:-1] + u[:, :-2]).square().flatten(2).mean(-1).sqrt()


def jitter_ratio(
    prediction: Float[Tensor, "batch time channel *space"], truth: Float[Tensor, "batch time channel *space"]
) -> float:
    """Temporal jitter over that of the truth, root mean square over runs and times: 1 where frames follow each other as they should."""
    here, there = (temporal_jitter(u).square().mean().sqrt() for u in (prediction, truth))
    return float(here / there.clamp(min=1e-30))


def suggest_factor(energy: Float[Tensor, " shell"], grid: Grid, tolerance: float = 0.01) -> int:
    """The largest factor, equal along all axes, whose parts still resolve the flow.

    A part of a field split s times cannot tell a wave from its image above N/(2s), so what a sub-solver should do is no function of what it
    sees, up to about the root of the share of energy up there. This is the largest divisor of the numbers of points for which that root
    is at most `tolerance`, with at least four points left along an axis.

    Parameters
    ----------
    energy : mean square a shell of typical frames, as of `slipstream.assessment.spectra.energy_spectrum` (mean over frames and channels).
    tolerance : accepted floor of the relative error of a call.
    """
    tail = energy.flip(0).cumsum(0).flip(0)  # energy in this shell and all above
    total = max(float(energy.sum()), 1e-30)
    best = 1
    for s in range(2, min(grid.shape) // 4 + 1):
        if any(n % s for n in grid.shape):
            continue
        # Shells count waves along the longest axis; the shortest waves of all axes are alike where spacings are.
        highest = min(max(grid.extent) / a.extent * (a.num_points / s / 2) for a in grid.axes)
        lost = float(tail[math.ceil(highest)]) if math.ceil(highest) < len(tail) else 0.0
        if math.sqrt(lost / total) <= tolerance:
            best = s
    return best


def remarks(stepper: Stepper, prediction: Tensor, truth: Trajectories) -> tuple[str, ...]:
    """What a report says about a staggered solver, one sentence a figure; nothing about others."""
    inner = getattr(stepper, "stepper", stepper)  # what an accelerated or filtered one is made of
    sane = torch.isfinite(prediction).flatten(1).all(1)
    if not isinstance(inner, Staggered) or not bool(sane.any()):
        return ()
    found, frames, true = [], prediction[sane], truth.frames[sane]
    factors = inner.factors
    if (
        max(factors) > 1
        and truth.grid.periodic
        and all(n // s > 4 for n, s in zip(truth.grid.shape, factors, strict=True))
    ):
        model, flow = (float(stagger_harmonics(u, truth.grid, factors).mean(0).amax()) for u in (frames, true))
        found.append(
            f"Stagger harmonics: at most {model:.1e} of the energy lies within 2 waves of multiples of the parts' wavenumber "
            f"({flow:.1e} in the truth); sub-solvers that drift apart raise it."
        )
    if inner.time > 1 and truth.steps > 2:
        found.append(f"Second differences in time are {jitter_ratio(frames, true):.2g} times those of the truth.")
    return tuple(found)
