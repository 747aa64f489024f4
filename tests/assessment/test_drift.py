"""Invariants of problems that bring a calculus of their own."""

import torch

from slipstream.assessment.verification import _drift
from slipstream.equations.transport import Diffusion
from slipstream.problems import HeatedPlate


class Inflow(Diffusion):
    """Tells how much heat comes in, which only a calculus that knows the walls of each run can say."""

    def invariants(self):
        return {"inflow": lambda u, d, p: d.laplace(u).mean((-3, -2, -1))}


def test_figures_are_taken_with_the_walls_of_each_run():
    problem = HeatedPlate(num_points=8)
    problem.equation = Inflow()
    truth = problem.simulate(2, 3, seed=1)
    warmer = truth.frames + 10.0
    found = _drift(problem, {"truth": truth.frames, "warmer": warmer}, truth)["inflow"]
    assert found["truth"] == (0.0, 0.0, 0.0)
    # A plate that is warmer by c between the same walls loses 2c/h^2 more in every cell at a wall, 4 of n of them a row: 8 c n on average.
    n, inflow = 8, []
    for r in range(2):
        walls = {k: v[r] for k, v in truth.parameters.items()}
        for u in truth.frames[r, :, 0]:
            rows = [
                (u[0], walls["west"]),
                (u[-1], walls["east"]),
                (u[:, 0], walls["south"]),
                (u[:, -1], walls["north"]),
            ]
            inflow.append(sum(float((2 * (w - edge)).mean()) for edge, w in rows) * n)
    true = torch.tensor(inflow).reshape(2, 3)
    expected = (8 * 10.0 * n / true[:, :1].abs()).mean(0).expand(3)
    assert torch.allclose(torch.tensor(found["warmer"]), expected, rtol=1e-3)
