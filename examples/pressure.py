"""A network for the pressure of the flow in ``projection.yaml``, trained without a single solution, saved, and put to the test.

::

    python examples/pressure.py                      # a minute; writes runs/pressure-net
    slipstream simulate examples/projection.yaml     # the recipe reads it

It is trained on boxes with the sides of the plume and a disc at random places. At the end it solves the pressure of the plume itself, whose
obstacle is a block that it never saw, on a grid twice as fine as any in training.
"""

import argparse

import torch

import slipstream as ss
from slipstream.data import RitzVectors
from slipstream.objectives import ConjugateDirection
from slipstream.operators import CycleNet
from slipstream.problems import RisingPlume
from slipstream.solvers.linear import CG, DCDM, Boundary, CellPoisson, solve
from slipstream.solvers.pressure import BoxInverse, pressure_system


def boxes(points: int, count: int, seed: int) -> CellPoisson:
    """Pressure systems of the plume's box: inflow below, outflow (pressure zero) above, walls beside, one disc in each."""
    grid = RisingPlume(num_points=points).grid
    x = grid.coordinates(torch.float64)
    size = torch.tensor(grid.extent, dtype=torch.float64)
    centres = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * size
    fluid = (x - centres[:, :, None, None]).square().sum(1) > 0.15**2
    return CellPoisson(fluid, grid, [Boundary.NEUMANN, (Boundary.NEUMANN, Boundary.DIRICHLET)])


def train(points: list[int], steps: int) -> CycleNet:
    systems = [boxes(n, count=4, seed=n) for n in points]
    torch.manual_seed(0)
    network = CycleNet(hidden_channels=8)
    source = RitzVectors(systems, batch=8, vectors=150, stress=3.0)
    ss.train(network, source, ConjugateDirection(systems), steps=steps, lr=5e-3, show=False)
    return network


def frames(problem: RisingPlume, steps: int) -> tuple[torch.Tensor, float]:
    """A run of the plume from its start, in double precision, and the largest divergence in it."""
    stepper, generator = problem.solver(), torch.Generator().manual_seed(0)
    given = problem.draw(generator)
    start = problem.initial_for(generator, given)
    parameters = {name: value[None].double() for name, value in given.items()}
    u = problem.march(stepper, start[None, None], parameters, steps + 1)
    return u, max(float(stepper.divergence(frame, parameters).abs().max()) for frame in u.unbind(1))


def iterations(problem: RisingPlume, folder: str) -> dict[str, int]:
    """Until the pressure of the plume is solved to 1e-6, from noise."""
    A = pressure_system(problem.solver().mac(torch.empty(0, dtype=torch.float64)))
    noise = torch.randn(1, *A.space, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ways = {"DCDM": (DCDM(folder), None), "CG": (CG(), None), "CG with BoxInverse": (CG(), BoxInverse())}
    return {
        name: solve(A, A.consistent(noise), method=method, preconditioner=inverse, tol=1e-6).iterations
        for name, (method, inverse) in ways.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default="runs/pressure-net")
    parser.add_argument("--points", type=int, nargs="+", default=[16, 32], help="across the boxes in training")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--frames", type=int, default=5, help="of the plume")
    options = parser.parse_args()

    train(options.points, options.steps).save_pretrained(options.folder)
    points = 2 * max(options.points)
    plume = RisingPlume(num_points=points)
    with torch.no_grad():
        counted = iterations(plume, options.folder)
        classical, left = frames(plume, options.frames)
        learnt, also = frames(RisingPlume(num_points=points, pressure_solver=DCDM(options.folder)), options.frames)
    speed = float(classical[:, :, :2].abs().max())
    apart = float((learnt - classical).abs().max()) / speed
    print(f"plume on {points} x {3 * points // 2} cells, {options.frames} frames")
    print("iterations to 1e-6: " + ", ".join(f"{name} {count}" for name, count in counted.items()))
    print(f"largest divergence: {left:.1e} / s classically, {also:.1e} / s with the network")
    print(f"largest difference of the frames: {apart:.1e} of the largest speed")


if __name__ == "__main__":
    main()
