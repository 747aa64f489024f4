"""Embedded explicit Runge-Kutta pairs: each step knows its own error. The tableaux are data, the formula is written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Slope = Callable[[Tensor, Tensor], Tensor]
"""``slope(t, u)``: the time derivative of states (batch, channel, *rest) at the times (batch,) of their runs."""


@dataclass(frozen=True)
class First:
    """What is known at the start of a step: the slope, and for implicit methods its derivatives.

    `jacobian` is (batch, n, n) for states of n numbers a run, `in_time` the derivative of the slope with respect to time.
    """

    slope: Tensor
    jacobian: Tensor | None = None
    in_time: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """One step of every run.

    Attributes
    ----------
    u : the state at its end. error : what the embedded solution differs by, shaped like the state.
    stages : what dense output is made from.
    twins : slopes and states of two stages at the end of the step, (slope, slope, state, state): their quotient estimates the
        largest eigenvalue of the Jacobian. None where a method has no such pair.
    slope : at the end, where the method knows it anyway.
    """

    u: Tensor
    error: Tensor
    stages: tuple[Tensor, ...]
    twins: tuple[Tensor, Tensor, Tensor, Tensor] | None
    slope: Tensor | None = None


def column(
    values: Float[Tensor, " batch"], like: Float[Tensor, "batch channel *rest"]
) -> Float[Tensor, "batch 1 *rest2"]:
    """One number a run, in the dtype of a state and shaped to broadcast against it."""
    return values.to(like.dtype).reshape([-1] + [1] * (like.ndim - 1))


def combine(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor | None:
    """The weighted sum; None where every weight is zero."""
    total = None
    for w, v in zip(weights, values, strict=True):
        if w:
            total = w * v if total is None else torch.add(total, v, alpha=w)
    return total


class Method:
    """One way to step ``u' = slope(t, u)`` with a local error estimate.

    Attributes
    ----------
    order : of convergence in the step size. estimate : the error estimate of a step falls like its size to this power.
    evaluations : of the slope a step, given `First`.
    stability : size of h times the largest eigenvalue that a step carries; infinite for L-stable methods.
    twin : whether the last two stages both lie at the end of the step, so that stiffness can be estimated.
    """

    name: str
    order: int
    estimate: int
    evaluations: int
    stability: float
    twin: bool = True

    def first(self, slope: Slope, t: Float[Tensor, " batch"], u: Float[Tensor, "batch channel *rest"]) -> First:
        """What a step needs to know where it starts."""
        raise TypeError(f"{type(self).__name__} defines no first(slope, t, u).")

    def opening(self, numbers: int) -> int:
        """Evaluations that `first` costs for states of so many numbers a run."""
        return 1

    def step(
        self,
        slope: Slope,
        t: Float[Tensor, " batch"],
        u: Float[Tensor, "batch channel *rest"],
        h: Float[Tensor, " batch"],
        first: First,
    ) -> Step:
        """Every run advanced by its own step size; runs with h = 0 stay where they are."""
        raise TypeError(f"{type(self).__name__} defines no step(slope, t, u, h, first).")

    def between(self, u: Tensor, step: Step, h: Float[Tensor, " batch"], theta: Float[Tensor, " batch"]) -> Tensor:
        """The state at the fraction theta of a step that started from `u`."""
        raise TypeError(f"{type(self).__name__} has no dense output.")


@dataclass(frozen=True)
class Pair(Method):
    """An explicit pair whose last stage is the first of the next step.

    Parameters
    ----------
    nodes, rows : c_i and a_ij of the stages after the first; the last row is the weights of the solution.
    error : weights of all stages that give the solution less the embedded one.
    dense : one polynomial a stage, coefficients of theta, theta^2, ...: weights of the solution inside the step.
    """

    name: str
    order: int
    estimate: int
    stability: float
    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]
    dense: tuple[tuple[float, ...], ...]
    twin: bool = True

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.rows)

    def first(self, slope: Slope, t: Float[Tensor, " batch"], u: Float[Tensor, "batch channel *rest"]) -> First:
        return First(slope(t, u))

    def step(
        self,
        slope: Slope,
        t: Float[Tensor, " batch"],
        u: Float[Tensor, "batch channel *rest"],
        h: Float[Tensor, " batch"],
        first: First,
    ) -> Step:
        size = column(h, u)
        slopes, states = [first.slope], [u]
        for c, row in zip(self.nodes, self.rows, strict=True):
            states.append(torch.addcmul(u, size, _sum(row, slopes)))
            slopes.append(slope(t + c * h, states[-1]))
        twins = (slopes[-1], slopes[-2], states[-1], states[-2]) if self.twin else None
        return Step(states[-1], size * _sum(self.error, slopes), tuple(slopes), twins, slopes[-1])

    def between(self, u: Tensor, step: Step, h: Float[Tensor, " batch"], theta: Float[Tensor, " batch"]) -> Tensor:
        at = column(theta, u)
        total = torch.zeros_like(u)
        for powers, slope in zip(self.dense, step.stages, strict=True):
            if any(powers):
                weight = torch.zeros_like(at)
                for coefficient in reversed(powers):
                    weight = (weight + coefficient) * at
                total = torch.addcmul(total, weight, slope)
        return torch.addcmul(u, column(h, u), total)


def _sum(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    total = combine(weights, values)
    assert total is not None, "a row of a tableau has at least one weight"
    return total


TSIT5 = Pair(
    "Tsit5",
    order=5,
    estimate=5,
    stability=3.5068,
    nodes=(0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    rows=(
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    ),
    error=(
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        0.015151515151515152,
    ),
    dense=(
        (1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
        (0.0, 0.1317, -0.2234, 0.1017),
        (0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253),
        (0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902),
        (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
        (0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661),
        (0.0, 1.5, -4.0, 2.5),
    ),
)
"""Tsitouras, Comput. Math. Appl. 62 (2011) 770: the usual choice for problems that are not stiff. Dense output of order 4."""

DOPRI5 = Pair(
    "Dopri5",
    order=5,
    estimate=5,
    stability=3.3066,
    nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    rows=(
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    dense=(
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
)
"""Dormand & Prince, J. Comput. Appl. Math. 6 (1980) 19; dense output: Shampine, Math. Comp. 46 (1986) 135."""

BS32 = Pair(
    "BS32",
    order=3,
    estimate=3,
    stability=2.5127,
    nodes=(1 / 2, 3 / 4, 1.0),
    rows=((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    error=(5 / 72, -1 / 12, -1 / 9, 1 / 8),
    dense=((1.0, -4 / 3, 5 / 9), (0.0, 1.0, -2 / 3), (0.0, 4 / 3, -8 / 9), (0.0, -1.0, 1.0)),
    twin=False,
)
"""Bogacki & Shampine, Appl. Math. Lett. 2 (1989) 321: for crude tolerances. It has no estimate of stiffness."""
