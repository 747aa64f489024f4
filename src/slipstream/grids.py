"""Grids: uniform boxes with named axes. They know where points lie, and nothing of what lives there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.errors import InputError, ShapeError

AXIS_NAMES = ("x", "y", "z")


@dataclass(frozen=True)
class Axis:
    """One direction of a grid.

    Parameters
    ----------
    name : ``"x"``, ``"y"``, ``"angle"`` ...
    num_points : how many points, at least 2.
    start, extent : the interval [start, start + extent], in `unit`.
    periodic : a periodic axis contains its left end, not its right.
    centred : for an axis with ends: points at cell centres (True) or at both ends and between (False).
    unit : of the coordinate, as text.
    """

    name: str
    num_points: int
    start: float = 0.0
    extent: float = 1.0
    periodic: bool = True
    centred: bool = True
    unit: str = ""

    def __post_init__(self) -> None:
        if self.num_points < 2:
            raise InputError(f"Axis {self.name!r} has {self.num_points} points; at least 2 are needed.")
        if not (math.isfinite(self.extent) and self.extent > 0):
            raise InputError(f"Axis {self.name!r} has extent {self.extent}; expected a positive number.")

    @property
    def spacing(self) -> float:
        """Distance between neighbouring points."""
        intervals = self.num_points if self.periodic or self.centred else self.num_points - 1
        return self.extent / intervals

    def coordinates(self, dtype: torch.dtype = torch.float64) -> Float[Tensor, " n"]:
        """Where the points lie."""
        shift = 0.5 if self.centred and not self.periodic else 0.0
        return self.start + self.spacing * (torch.arange(self.num_points, dtype=dtype) + shift)

    def weights(self, dtype: torch.dtype = torch.float64) -> Float[Tensor, " n"]:
        """Quadrature weights that sum to the extent (trapezoidal where points lie on the ends)."""
        w = torch.full((self.num_points,), self.spacing, dtype=dtype)
        if not self.periodic and not self.centred:
            w[0] = w[-1] = self.spacing / 2
        return w


@dataclass(frozen=True)
class Grid:
    """A uniform box: the domain of every field with layout (batch, channel, *space).

    A grid without axes, ``Grid(())``, is the domain of a system that has no space: one point of weight 1, fields (batch, channel).
    """

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        names = [a.name for a in self.axes]
        if len(set(names)) != len(names):
            raise InputError(f"The axes of a grid need differing names; got {names}.")

    @classmethod
    def box(
        cls,
        num_points: int | Sequence[int],
        extent: float | Sequence[float] = 2 * math.pi,
        *,
        num_dims: int | None = None,
        periodic: bool | Sequence[bool] = True,
        centred: bool = True,
        names: Sequence[str] = AXIS_NAMES,
        unit: str = "",
    ) -> Grid:
        """A box starting at the origin; scalars stand for every axis.

        ``Grid.box(64, num_dims=2)`` is the periodic square [0, 2 pi)^2 with 64 x 64 points.
        """
        given = [v for v in (num_points, extent, periodic) if isinstance(v, Sequence)]
        dims = num_dims or (len(given[0]) if given else 1)
        if any(len(v) != dims for v in given) or dims > len(names):
            raise ShapeError(f"Grid.box got values for {[len(v) for v in given]} axes, expected {dims} for each.")

        def each(value, i):
            return value[i] if isinstance(value, Sequence) else value

        return cls(
            tuple(
                Axis(names[i], each(num_points, i), 0.0, float(each(extent, i)), each(periodic, i), centred, unit)
                for i in range(dims)
            )
        )

    @property
    def num_dims(self) -> int:
        return len(self.axes)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis: the ``*space`` part of a field."""
        return tuple(a.num_points for a in self.axes)

    @cached_property
    def size(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        return tuple(a.spacing for a in self.axes)

    @cached_property
    def extent(self) -> tuple[float, ...]:
        return tuple(a.extent for a in self.axes)

    @property
    def periodic(self) -> bool:
        """Whether every axis is."""
        return all(a.periodic for a in self.axes)

    @cached_property
    def volume(self) -> float:
        return math.prod(self.extent)

    def coordinates(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "dim *space"]:
        """Coordinates of every point, one leading entry an axis."""
        if not self.axes:
            return torch.empty(0, dtype=dtype)
        return torch.stack(torch.meshgrid(*(a.coordinates(dtype) for a in self.axes), indexing="ij"))

    def cell_weights(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " *space"]:
        """Quadrature weights; they sum to the volume."""
        w = torch.ones((), dtype=torch.float64)
        for axis in self.axes:
            w = w[..., None] * axis.weights()
        return w.to(dtype)

    def wavenumbers(self, dtype: torch.dtype = torch.float32) -> tuple[Float[Tensor, "..."], ...]:
        """Angular wavenumbers of `torch.fft.rfftn` over all axes, broadcastable to (*wavenumber).

        The last axis is the halved one. Units: radians per unit of length.
        """
        if not self.periodic:
            ends = [a.name for a in self.axes if not a.periodic]
            raise InputError(f"Wavenumbers need a periodic grid, but the axes {ends} have ends.")
        result = []
        for i, a in enumerate(self.axes):
            frequency = torch.fft.rfftfreq if i == self.num_dims - 1 else torch.fft.fftfreq
            k = 2 * math.pi * frequency(a.num_points, a.spacing, dtype=torch.float64)
            result.append(k.to(dtype).reshape([-1 if j == i else 1 for j in range(self.num_dims)]))
        return tuple(result)

    def with_points(self, num_points: int | Sequence[int]) -> Grid:
        """The same box with other numbers of points."""
        n = [num_points] * self.num_dims if isinstance(num_points, int) else list(num_points)
        if len(n) != self.num_dims:
            raise ShapeError(f"with_points got {len(n)} numbers for a grid of {self.num_dims} axes.")
        return Grid(tuple(replace(a, num_points=k) for a, k in zip(self.axes, n, strict=True)))

    def coarsen(self, factor: int = 2) -> Grid:
        """Every factor-th point; the numbers of points must be divisible."""
        if any(n % factor for n in self.shape):
            raise ShapeError(f"A grid of {self.shape} points cannot be coarsened by {factor}: not divisible.")
        return self.with_points([n // factor for n in self.shape])

    def refine(self, factor: int = 2) -> Grid:
        """`factor` times the points along each axis."""
        return self.with_points([n * factor for n in self.shape])

    def same_box(self, other: Grid) -> bool:
        """Whether the two differ in nothing but the numbers of points."""
        return self.num_dims == other.num_dims and self.with_points(other.shape) == other

    def check(self, u: Shaped[Tensor, "..."], what: str) -> None:
        """Refuse a field whose trailing axes are not this grid's."""
        if tuple(u.shape[u.ndim - self.num_dims :]) != self.shape:
            raise ShapeError(
                f"{what} expects fields on {self.shape} points; got a tensor of shape {tuple(u.shape)}. "
                f"Resample it first: slipstream.grids.resample(u, source, target)."
            )


def resample(
    u: Float[Tensor, "*batch"], source: Grid, target: Grid, method: str = "pointwise"
) -> Float[Tensor, "*batch2"]:
    """A field carried from one grid to another over the same box.

    Parameters
    ----------
    u : any leading axes, then the points of `source`.
    method : ``"pointwise"`` keeps point values: exact subsampling where `target` is contained in `source`,
        trigonometric interpolation otherwise (multilinear along axes with ends). ``"truncate"`` drops the wavenumbers that `target`
        does not resolve before sampling (periodic only; no aliasing). ``"conservative"`` keeps cell integrals:
        block means downwards (divisible numbers of points), copies upwards.
    """
    source.check(u, "resample")
    if not source.same_box(target):
        raise InputError(f"resample goes between grids over one box; got {source} and {target}.")
    if source.shape == target.shape:
        return u
    if method == "conservative":
        return _conservative(u, source, target)
    if method not in ("pointwise", "truncate"):
        raise InputError(f"resample knows 'pointwise', 'truncate' and 'conservative', not {method!r}.")
    if method == "truncate" and not source.periodic:
        raise InputError("resample(method='truncate') needs a periodic grid; use 'pointwise' or 'conservative'.")
    for axis, (s, t) in enumerate(zip(source.axes, target.axes, strict=True)):
        dim = axis - source.num_dims
        nested = s.num_points % t.num_points == 0 if s.periodic else False
        if s.num_points == t.num_points:
            continue
        if method == "pointwise" and nested:
            u = u.unfold(dim, 1, s.num_points // t.num_points)[..., 0]
        elif s.periodic:
            u = _trigonometric(u, dim, t.num_points)
        else:
            u = _linear(u, dim, s, t)
    return u


def _trigonometric(u: Tensor, dim: int, n: int) -> Tensor:
    """Fourier interpolation along one periodic axis, the Nyquist mode split evenly."""
    m = u.shape[dim]
    c = torch.fft.rfft(u, dim=dim, norm="forward")
    keep = min(m, n) // 2 + 1
    c = c.narrow(dim, 0, keep).clone()
    if min(m, n) % 2 == 0:
        scale = torch.ones(keep, dtype=u.dtype, device=u.device)
        scale[-1] = 0.5 if n > m else 2.0
        c = c * scale.reshape([-1] + [1] * (-dim - 1))
        if n < m:
            c.select(dim, keep - 1).imag.zero_()
    return torch.fft.irfft(c, n=n, dim=dim, norm="forward")


def _linear(u: Tensor, dim: int, s: Axis, t: Axis) -> Tensor:
    """Linear interpolation along one axis with ends, constant continuation beyond the outermost points."""
    position = ((t.coordinates() - s.coordinates()[0]) / s.spacing).clamp(0, s.num_points - 1)
    left = position.floor().long().clamp(max=s.num_points - 2)
    w = (position - left).to(u).reshape([-1] + [1] * (-dim - 1))
    left = left.to(u.device)
    return u.index_select(dim, left) * (1 - w) + u.index_select(dim, left + 1) * w


def _conservative(u: Tensor, source: Grid, target: Grid) -> Tensor:
    for axis, (m, n) in enumerate(zip(source.shape, target.shape, strict=True)):
        dim = axis - source.num_dims
        if m % n == 0:
            u = u.unflatten(dim, (n, m // n)).mean(dim)
        elif n % m == 0:
            u = u.repeat_interleave(n // m, dim=dim)
        else:
            raise ShapeError(f"Conservative resampling needs divisible numbers of points; got {m} and {n}.")
    return u
