r"""Errors of a prediction, each one function ``metric(prediction, target, grid, weights=None)``.

Fields are (batch, time, channel, \*space) and the result is (batch, time); without a time axis it is (batch,). Means over space
use the grid's quadrature weights, or `weights` (\*space) or (batch, \*space): zero where a point does not count (a mask; its values
may be anything, NaN included). Nothing is averaged over runs or times: that is the caller's choice.

A prediction that has left finite numbers gives a NaN or infinite error at that time, never a small one.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.assessment.spectra import band_power
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid

BANDS = (5.0, 13.0)
"""Where the middle and the high band of fRMSE begin, in waves across the longest axis."""

Field = Float[Tensor, "..."]
PerTime = Float[Tensor, "..."]


@runtime_checkable
class Metric(Protocol):
    """The shape of every error measure."""

    def __call__(self, prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime: ...


def rmse(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """Root of the mean square error over channels and space, in the unit of the field."""
    return _mean_square(_error(prediction, target, grid), grid, weights).mean(-1).sqrt()


def nrmse(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """RMSE over the root mean square of the target, channel by channel, then the mean over channels (PDEBench)."""
    error = _mean_square(_error(prediction, target, grid), grid, weights)
    return _ratio(error, _mean_square(target, grid, weights)).sqrt().mean(-1)


def vrmse(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """RMSE over the standard deviation of the target in space, channel by channel, then the mean (The Well).

    Predicting the spatial mean of every channel gives exactly 1.
    """
    error = _mean_square(_error(prediction, target, grid), grid, weights)
    return _ratio(error, _variance(target, grid, weights)).sqrt().mean(-1)


def relative_l2(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """Norm of the error over the norm of the target, channels and space together (neuraloperator)."""
    error = _mean_square(_error(prediction, target, grid), grid, weights).sum(-1)
    return _ratio(error, _mean_square(target, grid, weights).sum(-1)).sqrt()


def h1(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """Relative error in the H1 norm, the root of the sum of |u|^2 and |grad u|^2: small scales weigh more.

    Lengths are in the grid's unit. The gradient is spectral along periodic axes and by central differences (one-sided of second
    order at the ends) along the others. Next to masked points it uses their values, which therefore must be finite.
    """
    error = _error(prediction, target, grid)

    def squared(u: Tensor) -> Tensor:
        total = _mean_square(u, grid, weights)
        for i in range(grid.num_dims):
            total = total + _mean_square(_slope(u, grid, i), grid, weights)
        return total.sum(-1)

    return _ratio(squared(error), squared(target)).sqrt()


def frmse_low(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    r"""RMSE carried by fewer than 5 waves across the box (PDEBench's low band, :math:`0 \le k \le 4`).

    .. math:: \mathrm{fRMSE}_B^2 = \sum_{\lfloor |n| \rfloor \in B} |\hat e_n|^2, \qquad
        \hat e_n = \frac{1}{N} \sum_x e(x) e^{-2 \pi i n \cdot x / L}

    over all modes n of the whole Fourier space, with |n| as in `slipstream.assessment.spectra.wave_count`: the squares of the three
    bands add up to the squared RMSE (Parseval). The bands are those of PDEBench's paper. Its code differs: it averages over shells
    instead of adding, looks at one orthant inside the largest circle and begins the bands at 4 and 12; its figures are
    not comparable with these. Along axes with ends the modes are cosines, which do not see a jump between the ends.
    """
    return _band(prediction, target, grid, weights, 0)


def frmse_mid(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    r"""RMSE carried by 5 to less than 13 waves across the box (:math:`5 \le k \le 12`); see `frmse_low`."""
    return _band(prediction, target, grid, weights, 1)


def frmse_high(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    r"""RMSE carried by 13 and more waves across the box (:math:`k \ge 13`); see `frmse_low`."""
    return _band(prediction, target, grid, weights, 2)


def crmse(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """RMSE of the conserved quantity: error of the mean over space, root mean square over channels (PDEBench)."""
    return _mean(_error(prediction, target, grid), grid, weights).square().mean(-1).sqrt()


def brmse(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """RMSE over the outermost points of the axes that have ends (PDEBench).

    Raises
    ------
    InputError
        On a grid that is periodic along every axis: it has no boundary.
    """
    if grid.periodic:
        raise InputError("bRMSE looks at the boundary, but this grid is periodic along every axis: it has none.")
    edge = torch.zeros(grid.shape, dtype=torch.bool, device=target.device)
    for i, a in enumerate(grid.axes):
        if not a.periodic:
            edge.select(i, 0).fill_(True)
            edge.select(i, a.num_points - 1).fill_(True)
    inner = grid.cell_weights(target.dtype).to(target.device) if weights is None else weights
    return rmse(prediction, target, grid, inner * edge)


def max_error(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """Largest error over channels and points, in the unit of the field."""
    error = _counted(_error(prediction, target, grid), grid, weights).abs()
    return error.flatten(-grid.num_dims - 1).amax(-1)


def correlation(prediction: Field, target: Field, grid: Grid, weights: Tensor | None = None) -> PerTime:
    """Pearson correlation over space, channel by channel, then the mean over channels.

    A field without variance has no correlation; it counts as 1 against an equal field up to a constant and as 0 otherwise.
    """
    _error(prediction, target, grid)
    p, t = (_anomaly(_counted(u, grid, weights), grid, weights) for u in (prediction, target))
    covariance = _mean(p * t, grid, weights)
    scale = (_mean_square(p, grid, weights) * _mean_square(t, grid, weights)).sqrt()
    same = (_mean_square(p - t, grid, weights) == 0).to(covariance)
    return torch.where(scale == 0, same, covariance / scale).mean(-1)


def correlation_time(
    correlation: Float[Tensor, "batch time"], times: Float[Tensor, " time"], threshold: float, start_time: float = 0.0
) -> Float[Tensor, " batch"]:
    """When the correlation first falls below `threshold`, in the unit of `times`, linear between frames.

    The known frame at `start_time` counts as correlation 1. A run that never fell below gives infinity: the time is then only known to
    be longer than ``times[-1]``. A non-finite correlation ends the run at the last finite frame.

    Parameters
    ----------
    correlation : of each frame.
    times : of each frame, increasing, not before `start_time`.
    """
    if correlation.shape[-1] != len(times):
        raise ShapeError(
            f"correlation_time got {correlation.shape[-1]} frames and {len(times)} times; expected one each."
        )
    c = torch.cat([torch.ones_like(correlation[:, :1]), correlation], dim=1).double()
    t = torch.cat([torch.tensor([start_time], dtype=torch.float64), times.double().cpu()]).to(c.device)
    below = ~(c >= threshold)
    first = below.int().argmax(dim=1).clamp(min=1)
    before, after = (c.gather(1, i[:, None])[:, 0] for i in (first - 1, first))
    fraction = torch.where(after.isfinite(), (before - threshold) / (before - after), 0.0)
    crossing = t[first - 1] + fraction * (t[first] - t[first - 1])
    return torch.where(below.any(dim=1), crossing, math.inf)


def failure_time(vrmse: Float[Tensor, "batch time"], times: Float[Tensor, " time"]) -> Float[Tensor, " batch"]:
    """Time of the first frame that is no longer finite or worse than predicting the mean (`vrmse` above 1).

    Infinity for a run that did not fail.
    """
    if vrmse.shape[-1] != len(times):
        raise ShapeError(f"failure_time got {vrmse.shape[-1]} frames and {len(times)} times; expected one each.")
    failed = ~(vrmse <= 1)
    first = times.double().to(vrmse.device)[failed.int().argmax(dim=1)]
    return torch.where(failed.any(dim=1), first, math.inf)


def invariant_drift(
    values: Float[Tensor, "batch time"],
    expected: Float[Tensor, "batch #time"],
    scale: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Relative departure of an integral of the motion: (value - expected) / scale.

    Parameters
    ----------
    values : the integral in each predicted frame.
    expected : what it should be: ``values0`` of shape (batch, 1) where it is conserved, or the truth at each time where it decays.
    scale : positive; default the magnitude of the first expected value. Give one where that is zero (the mean of a vorticity).

    Raises
    ------
    InputError
        If a scale is zero.
    """
    scale = expected[:, 0].abs() if scale is None else scale
    if not bool((scale > 0).all()):
        raise InputError(
            "invariant_drift divides by a scale of zero: the invariant starts at zero. Give scale=, its natural magnitude."
        )
    return (values - expected) / scale[:, None]


def applicable(grid: Grid, masked: bool = False) -> dict[str, Metric]:
    """The error measures that exist on a grid, by name: bRMSE needs a boundary, fRMSE a field without holes.

    Where there is no space nothing varies in it: no VRMSE, no slopes, no waves.
    """
    if not grid.axes:
        return {m.__name__: m for m in (relative_l2, nrmse, rmse, max_error)}
    metrics: list[Metric] = [relative_l2, nrmse, vrmse, h1, rmse, crmse, max_error]
    if not masked:
        metrics += [frmse_low, frmse_mid, frmse_high]
    if not grid.periodic:
        metrics.append(brmse)
    return {m.__name__: m for m in metrics}  # type: ignore[attr-defined]


def _error(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    if prediction.shape != target.shape or target.ndim < grid.num_dims + 2:
        raise ShapeError(
            f"A metric compares two fields (batch, [time], channel, *space) of one shape with {grid.num_dims} space axes; "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    grid.check(target, "A metric")
    return prediction - target


def _weights(u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
    """Weights broadcastable to the field."""
    if weights is None:
        return grid.cell_weights(u.dtype).to(u.device)
    grid.check(weights, "A metric's weights")
    batch = weights.shape[: weights.ndim - grid.num_dims]
    if len(batch) > 1 or (batch and batch[0] != u.shape[0]):
        raise ShapeError(
            f"Weights are (*space) or (batch, *space); got {tuple(weights.shape)} for a field {tuple(u.shape)}."
        )
    return weights.to(u).reshape(*batch, *[1] * (u.ndim - grid.num_dims - len(batch)), *grid.shape)


def _counted(u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
    """The field with zeros where the weight is zero, whatever stood there."""
    return u if weights is None else torch.where(_weights(u, grid, weights) > 0, u, 0.0)


def _mean(u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
    """Weighted mean over space: (*lead, channel)."""
    w = _weights(u, grid, weights)
    if not grid.axes:  # a sum over no axis would be one over all
        return _counted(u, grid, weights)
    dims = tuple(range(-grid.num_dims, 0))
    return (w * _counted(u, grid, weights)).sum(dims) / w.expand_as(u).sum(dims)


def _mean_square(u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
    return _mean(u.square(), grid, weights)


def _anomaly(u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
    return u - _mean(u, grid, weights)[(..., *[None] * grid.num_dims)]


def _variance(u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
    return _mean_square(_anomaly(u, grid, weights), grid, weights)


def _ratio(error: Tensor, scale: Tensor) -> Tensor:
    """error / scale, where no error over no scale is 0 and any error over no scale is infinite."""
    return torch.where(error == 0, torch.zeros_like(error), error / scale)


def _slope(u: Tensor, grid: Grid, i: int) -> Tensor:
    """Derivative along axis i."""
    a, dim = grid.axes[i], i - grid.num_dims
    if not a.periodic:
        order = 2 if a.num_points > 2 else 1
        (slope,) = torch.gradient(u, spacing=a.spacing, dim=dim, edge_order=order)
        return slope
    k = 2 * math.pi * torch.fft.rfftfreq(a.num_points, a.spacing, dtype=u.dtype, device=u.device)
    k = k.reshape([-1] + [1] * (-dim - 1))
    return torch.fft.irfft(1j * k * torch.fft.rfft(u, dim=dim), n=a.num_points, dim=dim)


def _band(prediction: Tensor, target: Tensor, grid: Grid, weights: Tensor | None, band: int) -> Tensor:
    if weights is not None:
        raise InputError("fRMSE needs the whole field: Fourier modes know no mask or weights. Leave weights out.")
    power = band_power(_error(prediction, target, grid), grid, BANDS)
    # A band without modes on this grid is zero, but not for a prediction that is not finite.
    return (power[..., band] + 0 * power[..., 0]).mean(-1).sqrt()
