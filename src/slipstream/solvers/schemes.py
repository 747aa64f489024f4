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


def phi_of_blocks(most: int, z: Tensor) -> list[Tensor]:
    r"""The functions phi_0 to phi_most of matrices (batch, channel, channel, *mode), one a mode; defective ones too. Differentiable.

    A Taylor series near zero, then ``2^k phi_k(2 z) = exp(z) phi_k(z) + sum_{j=1..k} phi_j(z) / (k - j)!`` as often as needed.
    Source: Berland, Skaflestad & Wright, ACM Trans. Math. Softw. 33 (2007) 4.
    """
    z = z.movedim((1, 2), (-2, -1))
    size = float(z.detach().abs().sum(-1).max())
    doublings = max(0, math.ceil(math.log2(max(size, 1e-30))) + 1)
    z = z / 2**doublings
    one = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    values = []
    for k in range(most + 1):
        terms = 18  # 2^-18 / 18! is far below double precision
        total = one * (1.0 / math.factorial(terms + k))
        for n in reversed(range(terms)):
            total = z @ total + one * (1.0 / math.factorial(n + k))
        values.append(total)
    for _ in range(doublings):
        values = [
            sum((values[j] * (1.0 / math.factorial(k - j)) for j in range(1, k + 1)), values[0] @ values[k]) / 2**k
            for k in range(most + 1)
        ]
    return [v.movedim((-2, -1), (1, 2)) for v in values]


def act(coefficient: Tensor, u: Tensor) -> Tensor:
    """A diagonal (batch, channel, *mode) or a matrix a mode (batch, channel, channel, *mode) applied to a state."""
    return coefficient * u if coefficient.ndim == u.ndim else (coefficient * u[:, None]).sum(2)


def add_act(total: Tensor, coefficient: Tensor, u: Tensor) -> Tensor:
    """``total + act(coefficient, u)``."""
    return torch.addcmul(total, coefficient, u) if coefficient.ndim == u.ndim else total + act(coefficient, u)


class Scheme:
    """One way to advance ``u_t = L u + N(u)`` by dt. L is diagonal, or one matrix a mode (``blocks``; see `act`).

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

    def coefficients(self, linear: Tensor, dt: float, blocks: bool = False) -> tuple[Tensor, ...]:
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

    def coefficients(self, linear: Tensor, dt: float, blocks: bool = False) -> tuple[Tensor, ...]:
        exact = torch.complex128 if linear.is_complex() else torch.float64
        z = dt * linear.to(exact)
        known: dict[tuple[int, float], Tensor] = {}
        most = max(k for row in self.rows for terms in row for _, k, _ in terms)

        def value(k: int, scale: float) -> Tensor:
            if (k, scale) not in known:
                if blocks:
                    known.update({(j, scale): v for j, v in enumerate(phi_of_blocks(most, scale * z))})
                else:
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
        decayed = [act(coefficients[i], u) for i in range(len(nodes))]
        rest = iter(coefficients[len(nodes) :])
        rates = [rate(u)]
        for i, row in enumerate(self.rows):
            stage = decayed[nodes.index(self.nodes[i])]
            for terms, n in zip(row, rates, strict=True):
                if terms:
                    stage = add_act(stage, next(rest), n)
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

    def coefficients(self, linear: Tensor, dt: float, blocks: bool = False) -> tuple[Tensor, ...]:
        z = dt * linear
        if blocks:
            last = z.movedim((1, 2), (-2, -1))
            one = torch.eye(last.shape[-1], dtype=z.dtype, device=z.device)
            solved = (torch.linalg.inv(one - row[-1] * last) for row in self.implicit[:-1])
            return (z, torch.full_like(z[:, 0].real, dt), *(s.movedim((-2, -1), (1, 2)) for s in solved))
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
            right = right if stiff is None else add_act(right, z, stiff)
            if i == last:
                return right
            stages.append(act(inverses[i], right))
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
