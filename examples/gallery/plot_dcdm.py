"""
A pressure solver that learns where to search
=============================================

Conjugate gradients need twice the iterations on a grid twice as fine. A small network, trained for less than a minute without a single
solution, guesses search directions instead; an exact line search keeps the guarantee that the error never grows.
"""

# %%
# Poisson's equation in a box with obstacles. Training sees small grids only.
import torch

import slipstream as ss
from slipstream.data import RitzVectors
from slipstream.objectives import ConjugateDirection
from slipstream.operators import CycleNet
from slipstream.solvers.linear import CG, DCDM, Boundary, CellPoisson, solve
from slipstream.solvers.linear.systems import unit_box


def channel(points: int, seed: int, count: int = 1) -> CellPoisson:
    """Random discs between two walls without flux; the pressure is fixed at both ends."""
    grid, generator = unit_box(points, 2), torch.Generator().manual_seed(seed)
    x = grid.coordinates(torch.float64)
    centres = torch.rand(count, 2, 2, 1, 1, generator=generator, dtype=torch.float64)
    fluid = ((x - centres).square().sum(2) > 0.1**2).all(1)
    return CellPoisson(fluid, grid, [Boundary.DIRICHLET, Boundary.NEUMANN])


systems = [channel(n, seed=1, count=4) for n in (16, 32, 64)]
torch.manual_seed(0)
network = CycleNet(hidden_channels=12)
source = RitzVectors(systems, vectors=150, stress=3.0)
ss.train(network, source, ConjugateDirection(systems), steps=500, lr=5e-3, show=False)

# %%
# Obstacles and grids that it has not seen, to a relative residual of 1e-6. ``fallback`` counts iterations in which
# the network was of no use and conjugate gradients took over.
for points in (64, 128):
    A = channel(points, seed=7)
    b = A.consistent(torch.randn(1, points, points, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    learnt = solve(A, b, method=DCDM(network), tol=1e-6)
    plain = solve(A, b, method=CG(), tol=1e-6)
    print(f"{points} x {points}: {learnt.iterations} iterations ({learnt.fallback} fallback), CG {plain.iterations}")

# %%
# It started as a multigrid cycle with damped Jacobi smoothing; what training adds to that, and which solver is fastest on which grid, is
# measured in the study (``slipstream study dcdm``). The network is saved as every model is, and
# ``pressure_solver=DCDM("pressure-net")`` puts it into a `slipstream.solvers.ProjectionStepper`.
