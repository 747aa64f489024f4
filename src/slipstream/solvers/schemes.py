"""Time-stepping schemes as tableaux: the numbers are data, the formula is written once.

A scheme solves ``u_t = L u + N(u)`` with L diagonal (the symbol of a linear operator). `coefficients` does once what depends on L and
dt; `step` does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Term = tuple[float, int, float]
"""``(factor, k, scale)`` stands for ``factor * phi_k(scale * dt * L)``."""

Rate = Callable[[Tensor], Tensor]


def phi(k: int, z: Tensor, points: int = 32) -> Tensor:
    r"""The functions of exponential integrators, ``phi_0 = exp``, ``phi_k(z) = (phi_{k-1}(z) - 1/(k-1)!) / z``.

    Evaluated as a mean over a circle of radius 1 around z, where the quotient does not cancel; the mean of an analytic function over
    a circle is its value at the centre. Differentiable. Source: Kassam & Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214.
    """
    if k == 0:
        return torch.exp(z)
    total = torch.zeros_like(z, dtype=torch.complex128)
    for j in range(points):
        angle = 2 * math.pi * (j + 0.5) / points
        w = z + complex(math.cos(angle), math.sin(angle))
        value = torch.exp(w)
        for m in range(k):
            value = (value - 1 / math.factorial(m)) / w
        total = total + value
    mean = total / points
    return mean if z.is_complex() else mean.real.to(z.dtype)


class Scheme:
    """One way to advance ``u_t = L u + N(u)`` by dt.

    Attributes
    ----------
    order : of convergence in dt.
    evaluations : of N a step.
    cfl : largest |u| dt / dx that it is used at for advection by spectral derivatives.
    """

    name: str
    order: int
    evaluations: int
    cfl: float

    def coefficients(self, linear: Tensor, dt: float) -> tuple[Tensor, ...]:
        """Everything that depends on the symbol and dt only."""
        raise TypeError(f"{type(self).__name__} defines no coefficients(linear, dt).")

    def step(self, u: Tensor, rate: Rate, coefficients: tuple[Tensor, ...]) -> Tensor:
        """The state one dt later."""
        raise TypeError(f"{type(self).__name__} defines no step(u, rate, coefficients).")


@dataclass(frozen=True)
class Exponential(Scheme):
    """Exponential Runge-Kutta: stage i is ``exp(c_i dt L) u + dt sum_j a_ij N_j``, where a_ij are sums of phi functions.

    Parameters
    ----------
    nodes : c_i of the stages after the first, then 1.
    rows : a_ij of the stages after the first, then the weights b_j; each entry is a tuple of terms, () for zero.
    """

    name: str
    order: int
    cfl: float
    nodes: tuple[float, ...]
    rows: tuple[tuple[tuple[Term, ...], ...], ...]

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.nodes)

    def coefficients(self, linear: Tensor, dt: float) -> tuple[Tensor, ...]:
        exact = torch.complex128 if linear.is_complex() else torch.float64
        z = dt * linear.to(exact)
        known: dict[tuple[int, float], Tensor] = {}

        def value(k: int, scale: float) -> Tensor:
            if (k, scale) not in known:
                known[k, scale] = phi(k, scale * z)
            return known[k, scale]

        result = [value(0, c) for c in dict.fromkeys(self.nodes)]
        for row in self.rows:
            for terms in row:
                if terms:
                    result.append(dt * torch.stack([f * value(k, s) for f, k, s in terms]).sum(0))
        return tuple(c.to(linear.dtype) for c in result)

    def step(self, u: Tensor, rate: Rate, coefficients: tuple[Tensor, ...]) -> Tensor:
        nodes = list(dict.fromkeys(self.nodes))
        decayed = [coefficients[i] * u for i in range(len(nodes))]
        rest = iter(coefficients[len(nodes) :])
        rates = [rate(u)]
        for i, row in enumerate(self.rows):
            stage = decayed[nodes.index(self.nodes[i])]
            for terms, n in zip(row, rates, strict=True):
                if terms:
                    stage = torch.addcmul(stage, next(rest), n)
            if i + 1 < len(self.rows):
                rates.append(rate(stage))
        return stage


@dataclass(frozen=True)
class ImplicitExplicit(Scheme):
    """Additive Runge-Kutta: N explicitly, L implicitly with a diagonal in each stage.

    Parameters
    ----------
    explicit, implicit : rows of the two tableaux for the stages after the first (row i has i + 1 and i + 2 entries), then
        the weights. The first stage is explicit in both.
    """

    name: str
    order: int
    cfl: float
    explicit: tuple[tuple[float, ...], ...]
    implicit: tuple[tuple[float, ...], ...]

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return sum(any(row[j] for row in self.explicit if j < len(row)) for j in range(len(self.explicit)))

    def coefficients(self, linear: Tensor, dt: float) -> tuple[Tensor, ...]:
        z = dt * linear
        return (z, torch.full_like(z.real, dt), *(1 / (1 - row[-1] * z) for row in self.implicit[:-1]))

    def step(self, u: Tensor, rate: Rate, coefficients: tuple[Tensor, ...]) -> Tensor:
        z, dt, *inverses = coefficients
        stages, rates = [u], [rate(u)]
        last = len(self.explicit) - 1
        for i, (ae, ai) in enumerate(zip(self.explicit, self.implicit, strict=True)):
            known = len(stages)
            slow = _combine(ae[:known], rates)
            stiff = _combine(ai[:known], stages)
            right = u if slow is None else torch.addcmul(u, dt, slow)
            right = right if stiff is None else torch.addcmul(right, z, stiff)
            if i == last:
                return right
            stages.append(inverses[i] * right)
            needed = any(row[known] for row in self.explicit[i + 1 :])
            rates.append(rate(stages[-1]) if needed else torch.zeros_like(u))
        raise AssertionError("a tableau has at least one row")


def _combine(weights: tuple[float, ...], values: list[Tensor]) -> Tensor | None:
    total = None
    for w, v in zip(weights, values, strict=True):
        if w:
            total = w * v if total is None else torch.add(total, v, alpha=w)
    return total


_E1 = ((1.0, 1, 1.0),)
_HALF = ((0.5, 1, 0.5),)

ETDRK1 = Exponential("ETDRK1", 1, 0.1, (1.0,), ((_E1,),))
"""Exponential Euler."""

ETDRK2 = Exponential("ETDRK2", 2, 0.5, (1.0, 1.0), ((_E1,), (((1.0, 1, 1.0), (-1.0, 2, 1.0)), ((1.0, 2, 1.0),))))
"""Cox & Matthews, J. Comput. Phys. 176 (2002) 430."""

ETDRK4 = Exponential(
    "ETDRK4",
    4,
    1.2,
    (0.5, 0.5, 1.0, 1.0),
    (
        (_HALF,),
        ((), _HALF),
        (((1.0, 1, 1.0), (-1.0, 1, 0.5)), (), ((1.0, 1, 0.5),)),
        (
            ((1.0, 1, 1.0), (-3.0, 2, 1.0), (4.0, 3, 1.0)),
            ((2.0, 2, 1.0), (-4.0, 3, 1.0)),
            ((2.0, 2, 1.0), (-4.0, 3, 1.0)),
            ((-1.0, 2, 1.0), (4.0, 3, 1.0)),
        ),
    ),
)
"""Cox & Matthews, J. Comput. Phys. 176 (2002) 430."""

CNRK2 = ImplicitExplicit("CNRK2", 2, 0.5, ((1.0,), (0.5, 0.5)), ((0.5, 0.5), (0.5, 0.5)))
"""Heun for N, Crank-Nicolson for L."""

ARS222 = ImplicitExplicit(
    "ARS222",
    2,
    0.5,
    ((1 - math.sqrt(0.5),), (-math.sqrt(0.5), 1 + math.sqrt(0.5)), (-math.sqrt(0.5), 1 + math.sqrt(0.5), 0.0)),
    ((0.0, 1 - math.sqrt(0.5)), (0.0, math.sqrt(0.5), 1 - math.sqrt(0.5)), (0.0, math.sqrt(0.5), 1 - math.sqrt(0.5))),
)
"""Ascher, Ruuth & Spiteri, Appl. Numer. Math. 25 (1997) 151: L-stable in L."""

ARS443 = ImplicitExplicit(
    "ARS443",
    3,
    1.0,
    (
        (1 / 2,),
        (11 / 18, 1 / 18),
        (5 / 6, -5 / 6, 1 / 2),
        (1 / 4, 7 / 4, 3 / 4, -7 / 4),
        (1 / 4, 7 / 4, 3 / 4, -7 / 4, 0.0),
    ),
    (
        (0.0, 1 / 2),
        (0.0, 1 / 6, 1 / 2),
        (0.0, -1 / 2, 1 / 2, 1 / 2),
        (0.0, 3 / 2, -3 / 2, 1 / 2, 1 / 2),
        (0.0, 3 / 2, -3 / 2, 1 / 2, 1 / 2),
    ),
)
"""Ascher, Ruuth & Spiteri, Appl. Numer. Math. 25 (1997) 151: third order, L-stable in L."""
