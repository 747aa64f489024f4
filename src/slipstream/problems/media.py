"""Random media: positive fields on a grid, each with a law of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.linear.systems import gaussian_fields


class Medium:
    """A law of random positive fields."""

    jumps: ClassVar[bool] = False
    """Whether values jump between few levels rather than change smoothly."""

    def draw(self, grid: Grid, generator: torch.Generator) -> dict[str, Tensor]:
        """One field under the name ``medium`` (float64), and whatever numbers it was made from."""
        raise TypeError(f"{type(self).__name__} defines no draw(grid, generator).")


def _positive(what: object, **numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{type(what).__name__} expects a positive {name}; got {value}.")


@dataclass(frozen=True)
class SmoothMedium(Medium):
    r"""``median * exp(deviation * g)``, g a smooth Gaussian field of the given correlation length (in extents)."""

    median: float = 1.0
    deviation: float = 1.0
    length: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, median=self.median, deviation=self.deviation, length=self.length)

    def draw(self, grid: Grid, generator: torch.Generator) -> dict[str, Tensor]:
        g = gaussian_fields(1, grid, generator, self.length * grid.extent[0], 2.0)[0]
        return {"medium": self.median * (self.deviation * g).exp()}


@dataclass(frozen=True)
class TwoPhaseMedium(Medium):
    r"""`high` where a Gaussian field is positive, `low` elsewhere.

    The field has no flux at walls and covariance :math:`(-\Delta + \tau^2)^{-\alpha}`; 12 and 3, tau 3 and alpha 2 are those of the Darcy
    data of the Fourier neural operator.

    Source: Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations", ICLR 2021, appendix A.3.
    """

    low: float = 3.0
    high: float = 12.0
    tau: float = 3.0
    alpha: float = 2.0
    jumps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.high, tau=self.tau, alpha=self.alpha)

    def draw(self, grid: Grid, generator: torch.Generator) -> dict[str, Tensor]:
        # (|k|^2 + tau^2)^-alpha is (1 + |k|^2 / tau^2)^-alpha but for its size, and a threshold at zero knows no size.
        g = gaussian_fields(1, grid, generator, grid.extent[0] / self.tau, self.alpha)[0]
        g = g - g.mean()  # the constant mode is left out
        return {"medium": torch.where(g >= 0, self.high, self.low).to(torch.float64)}


@dataclass(frozen=True)
class MultiScaleMedium(Medium):
    r"""``median * exp(sum of smooth Gaussian fields)``, one an octave of correlation lengths, each shorter by half.

    Parameters
    ----------
    median : of the values. deviation : of the logarithm, in all. length : the longest correlation length, in extents. octaves : how many.
    """

    median: float = 1.0
    deviation: float = 1.0
    length: float = 0.3
    octaves: int = 4

    def __post_init__(self) -> None:
        _positive(self, median=self.median, deviation=self.deviation, length=self.length, octaves=self.octaves)

    def draw(self, grid: Grid, generator: torch.Generator) -> dict[str, Tensor]:
        lengths = [self.length * grid.extent[0] / 2**i for i in range(self.octaves)]
        g = torch.stack([gaussian_fields(1, grid, generator, length, 2.0)[0] for length in lengths]).sum(0)
        return {"medium": self.median * (self.deviation / math.sqrt(self.octaves) * g).exp()}


@dataclass(frozen=True)
class LognormalMedium(Medium):
    r"""``median * exp(deviation * g)``, g of exponential covariance, cut to its largest modes (Karhunen-Loeve).

    .. math:: \operatorname{cov}(g(x), g(x')) = e^{-(|x_1 - x_1'| + |x_2 - x_2'| + \dots) / \ell}

    The modes are known in closed form, so that every grid sees the same field for the same ``modes``: independent standard normal numbers,
    which come along as a parameter (run, modes).

    Source: Ghanem & Spanos, Stochastic Finite Elements (1991), section 2.3.
    """

    median: float = 1.0
    deviation: float = 1.0
    length: float = 0.2
    modes: int = 100

    def __post_init__(self) -> None:
        _positive(self, median=self.median, deviation=self.deviation, length=self.length, modes=self.modes)

    def draw(self, grid: Grid, generator: torch.Generator) -> dict[str, Tensor]:
        numbers = torch.randn(self.modes, generator=generator, dtype=torch.float64)
        return {"medium": self.field(numbers[None], grid)[0], "modes": numbers}

    def field(self, numbers: Float[Tensor, "run mode"], grid: Grid) -> Float[Tensor, "run *space"]:
        """The medium of given normal numbers."""
        values, vectors = karhunen_loeve(grid, self.length, self.modes)
        g = (numbers * values.sqrt()) @ vectors
        return self.median * (self.deviation * g).exp().unflatten(1, grid.shape)


@lru_cache(maxsize=8)
def karhunen_loeve(grid: Grid, length: float, count: int) -> tuple[Float[Tensor, " mode"], Float[Tensor, "mode point"]]:
    """The largest eigenvalues of the separable exponential covariance on a box, and its functions at the points of a grid.

    Functions have mean square 1 over the box, so that eigenvalues sum to the variance 1. `length` is in extents.
    """
    per_axis = min(count, 4 * math.ceil(count ** (1 / grid.num_dims)) + 8)
    w = frequencies(length, per_axis)
    eigen = 2 * length / (1 + (length * w) ** 2)
    total = eigen
    for _ in grid.shape[1:]:
        total = (total[..., None] * eigen).flatten()
    best = total.argsort(descending=True, stable=True)[:count]
    vectors = torch.ones(count, 1, dtype=torch.float64)
    places = torch.unravel_index(best, (per_axis,) * grid.num_dims)
    for axis, place in zip(grid.axes, places, strict=True):
        x = (axis.coordinates() - axis.start) / axis.extent - 0.5
        even = torch.arange(per_axis) % 2 == 0
        waves = torch.where(even[:, None], (w[:, None] * x).cos(), (w[:, None] * x).sin())
        sign = torch.where(even, 1.0, -1.0)
        waves = waves / ((1 + sign * w.sin() / w) / 2).sqrt()[:, None]
        vectors = (vectors[:, :, None] * waves[place][:, None]).flatten(1)
    return total[best], vectors


def frequencies(length: float, count: int) -> Float[Tensor, " count"]:
    r"""Of the eigenfunctions of :math:`e^{-|x-x'|/\ell}` on [-1/2, 1/2]: cosines and sines in turns, one between multiples of pi."""
    n = torch.arange(count, dtype=torch.float64)
    low, high = n * math.pi, (n + 1) * math.pi
    for _ in range(60):
        w = (low + high) / 2
        # Even: 1 = l w tan(w/2). Odd: l w = -tan(w/2), that is l w cos(w/2) + sin(w/2) = 0.
        even = (w / 2).cos() - length * w * (w / 2).sin()
        odd = length * w * (w / 2).cos() + (w / 2).sin()
        value = torch.where(n % 2 == 0, even, odd) * torch.where((n // 2) % 2 == 0, 1.0, -1.0)
        low, high = torch.where(value > 0, w, low), torch.where(value > 0, high, w)
    return (low + high) / 2
