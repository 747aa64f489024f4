"""Rosenbrock methods for stiff systems: one Jacobian and one factorisation a step and run, no Newton iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.solvers.pairs import First, Method, Slope, Step, column, combine


def jacobian(
    slope: Slope, t: Float[Tensor, " batch"], u: Float[Tensor, "batch channel *rest"]
) -> tuple[Tensor, Float[Tensor, "batch n n"], Tensor]:
    """Each run's slope and its derivatives with respect to its own state and to time; differentiable.

    Runs must not see each other: then one pull of a unit vector gives that row of every run's matrix at once.
    """
    numbers = u[0].numel()
    here, pull = torch.func.vjp(slope, t, u)[:2]
    unit = torch.eye(numbers, dtype=u.dtype, device=u.device).reshape(numbers, 1, *u.shape[1:])
    in_time, in_state = torch.func.vmap(pull)(unit.expand(numbers, *u.shape))
    return here, in_state.flatten(2).transpose(0, 1), in_time.T.reshape(u.shape).to(u.dtype)


@dataclass(frozen=True)
class Rosenbrock(Method):
    r"""Linearly implicit, L-stable and stiffly accurate: stage i solves

    .. math:: (1 - \gamma h J)\, U_i = \gamma h \left( f(t + c_i h, u + \sum_j a_{ij} U_j) + d_i h\, f_t \right) + \gamma \sum_j c_{ij} U_j

    and the step ends at u + sum m_i U_i. The matrix of each run is factorised once a step; states are vectors of n numbers and
    the matrices dense: meant for n up to some hundreds.

    Parameters
    ----------
    gamma, nodes, drift : gamma, c_i and d_i. rows : a_ij of the stages after the first. links : c_ij of the stages after the first.
    weights : m_i; the last stage is the error estimate.
    dense : rows of weights e_k: inside a step the solution is
        (1 - theta) u_0 + theta (u_1 + (1 - theta) (e_1 + theta (e_2 + theta ...))).

    Source: Hairer & Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.7.
    """

    name: str
    order: int
    estimate: int
    gamma: float
    nodes: tuple[float, ...]
    drift: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    links: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    dense: tuple[tuple[float, ...], ...]
    stability: float = float("inf")

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return len(self.rows)

    def opening(self, numbers: int) -> int:
        """The slope, and one pull a row of the Jacobian."""
        return numbers + 1

    def first(self, slope: Slope, t: Float[Tensor, " batch"], u: Float[Tensor, "batch channel *rest"]) -> First:
        return First(*jacobian(slope, t, u))

    def step(
        self,
        slope: Slope,
        t: Float[Tensor, " batch"],
        u: Float[Tensor, "batch channel *rest"],
        h: Float[Tensor, " batch"],
        first: First,
    ) -> Step:
        assert first.jacobian is not None
        assert first.in_time is not None
        size = self.gamma * column(h, u)
        one = torch.eye(first.jacobian.shape[-1], dtype=u.dtype, device=u.device)
        factors, pivots, _ = torch.linalg.lu_factor_ex(one - size.reshape(-1, 1, 1) * first.jacobian)
        pushed = column(h, u) * first.in_time

        def solve(right: Tensor) -> Tensor:
            return torch.linalg.lu_solve(factors, pivots, right.flatten(1)[..., None])[..., 0].reshape(u.shape)

        values = [solve(size * torch.add(first.slope, pushed, alpha=self.drift[0]))]
        states, slopes = [u], [first.slope]
        for c, d, row, link in zip(self.nodes[1:], self.drift[1:], self.rows, self.links, strict=True):
            moved = combine(row, values)
            states.append(u if moved is None else u + moved)
            slopes.append(slope(t + c * h, states[-1]))
            right = size * (torch.add(slopes[-1], pushed, alpha=d) if d else slopes[-1])
            linked = combine(link, values)
            values.append(solve(right if linked is None else torch.add(right, linked, alpha=self.gamma)))
        moved = combine(self.weights, values)
        assert moved is not None
        twins = (slopes[-1], slopes[-2], states[-1], states[-2])
        return Step(u + moved, values[-1], tuple(values), twins)

    def between(self, u: Tensor, step: Step, h: Float[Tensor, " batch"], theta: Float[Tensor, " batch"]) -> Tensor:
        at = column(theta, u)
        inner = torch.zeros_like(u)
        for row in reversed(self.dense):
            part = combine(row, step.stages)
            inner = at * inner if part is None else part + at * inner
        return (1 - at) * u + at * (step.u + (1 - at) * inner)


_RODAS4_LAST = (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.687886036105895)
RODAS4 = Rosenbrock(
    "Rodas4",
    order=4,
    estimate=4,
    gamma=0.25,
    nodes=(0.0, 0.386, 0.21, 0.63, 1.0, 1.0),
    drift=(0.25, -0.1043, 0.1035, -0.0362, 0.0, 0.0),
    rows=(
        (1.544,),
        (0.9466785280815826, 0.2557011698983284),
        (3.314825187068521, 2.896124015972201, 0.9986419139977817),
        _RODAS4_LAST,
        (*_RODAS4_LAST, 1.0),
    ),
    links=(
        (-5.6688,),
        (-2.430093356833875, -0.2063599157091915),
        (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
        (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.7089089320616),
        (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
    ),
    weights=(*_RODAS4_LAST, 1.0, 1.0),
    dense=(
        (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662, 0.0),
        (-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872, 0.0),
    ),
)
"""Hairer & Wanner (1996): order 4(3), six stages; dense output of order 3."""

_RODAS5P_LAST = (
    -7.502846399306121,
    2.561846144803919,
    -11.627539656261098,
    -0.18268767659942256,
    0.030198172008377946,
)
RODAS5P = Rosenbrock(
    "Rodas5P",
    order=5,
    estimate=5,
    gamma=0.21193756319429014,
    nodes=(0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0),
    drift=(
        0.21193756319429014,
        -0.42387512638858027,
        -0.3384627126235924,
        1.8046452872882734,
        2.325825639765069,
        0.0,
        0.0,
        0.0,
    ),
    rows=(
        (3.0,),
        (2.849394379747939, 0.45842242204463923),
        (-6.954028509809101, 2.489845061869568, -10.358996098473584),
        (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
        _RODAS5P_LAST,
        (*_RODAS5P_LAST, 1.0),
        (*_RODAS5P_LAST, 1.0, 1.0),
    ),
    links=(
        (-14.155112264123755,),
        (-17.97296035885952, -2.859693295451294),
        (147.12150275711716, -1.41221402718213, 71.68940251302358),
        (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
        (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
        (
            30.91273214028599,
            -3.1208243349937974,
            77.79954646070892,
            34.28646028294783,
            -19.097331116725623,
            -28.087943162872662,
        ),
        (
            37.80277123390563,
            -3.2571969029072276,
            112.26918849496327,
            66.9347231244047,
            -40.06618937091002,
            -54.66780262877968,
            -9.48861652309627,
        ),
    ),
    weights=(*_RODAS5P_LAST, 1.0, 1.0, 1.0),
    dense=(
        (
            25.948786856663858,
            -2.5579724845846235,
            10.433815404888879,
            -2.3679251022685204,
            0.524948541321073,
            1.1241088310450404,
            0.4272876194431874,
            -0.17202221070155493,
        ),
        (
            -9.91568850695171,
            -0.9689944594115154,
            3.0438037242978453,
            -24.495224566215796,
            20.176138334709044,
            15.98066361424651,
            -6.789040303419874,
            -6.710236069923372,
        ),
        (
            11.419903575922262,
            2.8879645146136994,
            72.92137995996029,
            80.12511834622643,
            -52.072871366152654,
            -59.78993625266729,
            -0.15582684282751913,
            4.883087185713722,
        ),
    ),
)
"""Steinebach, BIT 63 (2023) 27: order 5(4), eight stages, keeps its order on parabolic problems; dense output of order 4."""
