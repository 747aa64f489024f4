"""The non-stiff suite of Hull, Enright, Fellen & Sedgwick (SIAM J. Numer. Anal. 9 (1972) 603), whole: five classes of five problems.

End values at t = 20 as published with the programs of Enright & Pryce (ACM Trans. Math. Softw. 13 (1987) 1), Algorithm 648; of class C the
first components of the long ones.
"""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.solvers import BS32, DOPRI5, RODAS5P, TSIT5
from slipstream.solvers.adaptive import Tolerance, integrate

F64 = torch.float64


def stack(*values):
    return torch.stack(values, 1)


def linear(matrix):
    return lambda t, u: u @ matrix.T


def chain(size, rates):
    """Radioactive decay from one nuclide to the next; the last is stable."""
    matrix = torch.zeros(size, size, dtype=F64)
    for i, rate in enumerate(rates):
        matrix[i, i], matrix[i + 1, i] = -rate, rate
    return linear(matrix)


def parabolic(size):
    off = torch.ones(size - 1, dtype=F64)
    return linear(torch.diag(off, 1) + torch.diag(off, -1) - 2 * torch.eye(size, dtype=F64))


GRAVITY = 2.95912208286
MASS = (1.00000597682, 0.954786104043e-3, 0.285583733151e-3, 0.437273164546e-4, 0.517759138449e-4, 0.277777777778e-5)


def planets(t, u):
    """Five outer planets about the sun; positions and velocities (3, 5) each."""
    x, v = u[:, :15].unflatten(1, (3, 5)), u[:, 15:]
    sun, m = MASS[0], torch.tensor(MASS[1:], dtype=F64)
    cube = x.square().sum(1) ** 1.5
    apart = x[:, :, :, None] - x[:, :, None, :]  # from k to j
    distance = apart.square().sum(1) + torch.eye(5, dtype=F64)
    pull = m[None, None, None] * (-apart / distance[:, None] ** 1.5 - (x / cube[:, None])[:, :, None, :])
    pull = pull * (1 - torch.eye(5, dtype=F64))
    a = GRAVITY * (-(sun + m) * x / cube[:, None] + pull.sum(-1))
    return torch.cat([v, a.flatten(1)], 1)


PLANETS = [
    3.42947415189, 6.64145542550, 11.2630437207, -30.1552268759, -21.1238353380,
    3.35386959711, 5.97156957878, 14.6952576794, 1.65699966404, 28.4465098142,
    1.35494901715, 2.18231499728, 6.27960525067, 1.43785752721, 15.3882659679,
    -0.557160570446, -0.415570776342, -0.325325669158, -0.0240476254170, -0.176860753121,
    0.505696783289, 0.365682722812, 0.189706021964, -0.287659532608, -0.216393453025,
    0.230578543901, 0.169143213293, 0.0877265322780, -0.117219543175, -0.0148647893090,
]  # fmt: skip


def swirl(t, u):
    x, y, z = u.unbind(1)
    r = torch.hypot(x, y)
    return stack(-y - x * z / r, x - y * z / r, x / r)


def orbit(t, u):
    x, v = u[:, :2], u[:, 2:]
    return torch.cat([v, -x / x.square().sum(1, keepdim=True) ** 1.5], 1)


def pair(second):
    """x'' from (t, x, x')."""
    return lambda t, u: stack(u[:, 1], second(t, u[:, 0], u[:, 1]))


PROBLEMS = {
    "A1": (lambda t, u: -u, [1.0], [2.061153353012535e-09]),
    "A2": (lambda t, u: -0.5 * u**3, [1.0], [2.182178902359887e-01]),
    "A3": (lambda t, u: u * torch.cos(t)[:, None], [1.0], [2.491650271850414]),
    "A4": (lambda t, u: u / 4 * (1 - u / 20), [1.0], [17.73016648131483]),
    "A5": (lambda t, u: (u - t[:, None]) / (u + t[:, None]), [4.0], [-7.887826688964196e-01]),
    "B1": (
        lambda t, u: stack(2 * (u[:, 0] - u[:, 0] * u[:, 1]), u[:, 0] * u[:, 1] - u[:, 1]),
        [1.0, 3.0],
        [6.761876008576667e-01, 1.860816099640036e-01],
    ),
    "B2": (
        linear(torch.tensor([[-1.0, 1, 0], [1, -2, 1], [0, 1, -1]], dtype=F64)),
        [2.0, 0.0, 1.0],
        [1.000000001030576, 1.000000000000000, 9.999999989694235e-01],
    ),
    "B3": (
        lambda t, u: stack(-u[:, 0], u[:, 0] - u[:, 1] ** 2, u[:, 1] ** 2),
        [1.0, 0.0, 0.0],
        [2.061153488557776e-09, 5.257228022048349e-02, 9.474277177183630e-01],
    ),
    "B4": (swirl, [3.0, 0.0, 0.0], [9.826950928005993e-01, 2.198447081694832, 9.129452507276399e-01]),
    "B5": (
        lambda t, u: stack(u[:, 1] * u[:, 2], -u[:, 0] * u[:, 2], -0.51 * u[:, 0] * u[:, 1]),
        [0.0, 1.0, 1.0],
        [-9.396570798729192e-01, -3.421177754000779e-01, 7.414126596199957e-01],
    ),
    "C1": (
        chain(10, [1.0] * 9),
        [1.0] + 9 * [0.0],
        [
            2.061153622240064e-09,
            4.122307244619555e-08,
            4.122307244716968e-07,
            2.748204829855288e-06,
            1.374102414941961e-05,
            5.496409659803266e-05,
            1.832136553274552e-04,
            5.234675866508716e-04,
            1.308668966628220e-03,
            9.979127409508656e-01,
        ],
    ),
    "C2": (
        chain(10, [float(i) for i in range(1, 10)]),
        [1.0] + 9 * [0.0],
        [
            2.061153577984930e-09,
            2.061153573736588e-09,
            2.061153569488245e-09,
            2.061153565239902e-09,
            2.061153560991560e-09,
            2.061153556743217e-09,
            2.061153552494874e-09,
            2.061153548246532e-09,
            2.061153543998189e-09,
            9.999999814496180e-01,
        ],
    ),
    "C3": (
        parabolic(10),
        [1.0] + 9 * [0.0],
        [
            2.948119211022058e-03,
            5.635380154844266e-03,
            7.829072515926013e-03,
            9.348257908594937e-03,
            1.007943610301970e-02,
            9.982674171429909e-03,
            9.088693332766085e-03,
            7.489115195185912e-03,
            5.322964130953349e-03,
            2.762434379029886e-03,
        ],
    ),
    "C4": (
        parabolic(51),
        [1.0] + 50 * [0.0],
        [
            3.124111453721466e-03,
            6.015416842150318e-03,
            8.470021834842650e-03,
            1.033682931733337e-02,
            1.153249572873923e-02,
        ],
    ),
    "C5": (
        planets,
        PLANETS,
        [
            -4.792730224323733,
            -4.217310404035213,
            4.035559443262270,
            -29.98759326324844,
            -24.42125302518482,
            -2.420550725448973,
            7.356202947498970,
            17.19865528670555,
            -4.107310937550929,
            23.81459045746554,
            -0.9212509306014886,
            3.223785985421212,
            7.478910794233703,
            -0.9277008321754407,
            14.92096306951359,
        ],
    ),
    "D1": (orbit, 0.1, [2.198835352008397e-01, 9.427076846341813e-01, -9.787659841058176e-01, 3.287977990962036e-01]),
    "D2": (orbit, 0.3, [-1.777027357140412e-01, 9.467784719905892e-01, -1.030294163192969, 1.211074890053952e-01]),
    "D3": (orbit, 0.5, [-5.780432953035361e-01, 8.633840009194193e-01, -9.595083730380727e-01, -6.504915126712089e-02]),
    "D4": (orbit, 0.7, [-9.538990293416394e-01, 6.907409024219432e-01, -8.212674270877433e-01, -1.539574259125825e-01]),
    "D5": (orbit, 0.9, [-1.295266250987574, 4.003938963792321e-01, -6.775390924707566e-01, -1.270838154278686e-01]),
    "E1": (
        pair(lambda t, x, v: -(v / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * x)),
        [0.6713967071418030, 0.09540051444747446],
        [1.456723600728308e-01, -9.883500195574063e-02],
    ),
    "E2": (pair(lambda t, x, v: (1 - x**2) * v - x), [2.0, 0.0], [2.008149762174948, -4.250887527320057e-02]),
    "E3": (
        pair(lambda t, x, v: x**3 / 6 - x + 2 * torch.sin(2.78535 * t)),
        [0.0, 0.0],
        [-1.004178858647128e-01, 2.411400132095954e-01],
    ),
    "E4": (pair(lambda t, x, v: 0.032 - 0.4 * v**2), [30.0, 0.0], [33.95091444646555, 2.767822659672869e-01]),
    "E5": (
        pair(lambda t, x, v: (1 + v**2).sqrt() / (25 - t)),
        [0.0, 0.0],
        [1.411797390542629e01, 2.400000000000002],
    ),
}


def end(name, method, tolerance):
    slope, start, _ = PROBLEMS[name]
    if isinstance(start, float):
        start = [1 - start, 0.0, 0.0, math.sqrt((1 + start) / (1 - start))]
    u = torch.tensor([start], dtype=F64)
    return integrate(slope, u, torch.tensor([0.0, 20.0], dtype=F64), method=method, tolerance=tolerance)


def error(name, path):
    published = torch.tensor(PROBLEMS[name][2], dtype=F64)
    return float((path.frames[0, -1, : len(published)] - published).abs().max())


@pytest.mark.parametrize("name", PROBLEMS)
def test_published_end_values_are_met(name):
    path = end(name, TSIT5, Tolerance(1e-8, 1e-8))
    assert error(name, path) < 100 * 1e-8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "tolerance"), [(BS32, 1e-5), (DOPRI5, 1e-7), (RODAS5P, 1e-7)], ids=["BS32", "Dopri5", "Rodas5P"]
)
@pytest.mark.parametrize("name", PROBLEMS)
def test_published_end_values_are_met_by_other_methods(name, method, tolerance):
    assert error(name, end(name, method, Tolerance(tolerance, tolerance))) < 1000 * tolerance
