"""The cavity of `_cavity.py` in PhiFlow: staggered grid, conjugate gradients for the pressure, whole runs compiled by JAX."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from _cavity import DURATION, REYNOLDS
from _equal import Job, Way

PEER = "PhiFlow"
VISCOSITY = 1 / REYNOLDS
CARRIED = ("semi-Lagrangian",)
"""Schemes that look backwards along paths: the lid's speed does not bound their steps."""
TOLERANCES = (1e-1, 1e-2)
"""Of the pressure, relative to the residual that the last one leaves; tighter ones changed no error."""


@cache
def wall(points: int) -> Any:
    """No slip where the walls are, to second order, and a lid whose speed varies along it.

    What PhiFlow has for a wall is a constant in the cells beyond it: half a cell outside, first order, and the same all along a lid that
    moves. The mirror image with the other sign puts the wall where it is, and a lid adds twice its speed. (PhiFlow's own antisymmetric
    extrapolation cannot be sampled between points in this version, nor differ from side to side where it moves.)
    """
    from phi.flow import math as phi_math
    from phi.flow import spatial
    from phiml.math import extrapolation

    class NoSlip(extrapolation.Extrapolation):
        def __init__(self, speed: Any) -> None:
            super().__init__(pad_rank=3)
            self.speed = speed

        @property
        def shape(self) -> Any:
            return self.speed.shape

        @property
        def is_flexible(self) -> bool:
            return False

        def pad_values(
            self, value: Any, width: int, dim: str, upper: bool, already_padded: Any = None, **_: Any
        ) -> Any:
            nearest = slice(-1, -width - 1, -1) if upper else slice(width - 1, None, -1)
            along = {k: w for k, w in (already_padded or {}).items() if k in self.speed.shape}
            return 2 * extrapolation.ZERO.pad(self.speed, along) - value[{dim: nearest}]

        def determines_boundary_values(self, boundary_key: Any) -> bool:
            return True

        def spatial_gradient(self) -> Any:
            return extrapolation.ZERO

        def __eq__(self, other: object) -> bool:
            return isinstance(other, NoSlip) and other.speed is self.speed

        def __hash__(self) -> int:
            return id(self.speed)

        def __add__(self, other: Any) -> Any:
            return self if other == extrapolation.ZERO else extrapolation.Undefined(self)

        def __sub__(self, other: Any) -> Any:
            return extrapolation.ZERO if other == self else self + other

        def __mul__(self, other: Any) -> Any:
            # Nobody asks what lies beyond the walls of a product.
            return extrapolation.ZERO if other == extrapolation.ZERO else extrapolation.Undefined(self)

        __radd__, __rmul__ = __add__, __mul__

    x = np.arange(1, points) / points
    still = extrapolation.combine_by_direction(0, NoSlip(phi_math.wrap(0.0)))
    lid = extrapolation.combine_by_direction(0, NoSlip(phi_math.wrap(16 * (x * (1 - x)) ** 2, spatial("x"))))
    return extrapolation.combine_sides(x=still, y=(still, lid))


def stepper(scheme: str, dt: Any, tolerance: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """One step of a velocity and its pressure (where the next solve begins)."""
    from phi.flow import Solve, advect, diffuse, fluid

    def project(v: Any, p: Any) -> tuple[Any, Any]:
        # The pressure only asks what crosses the walls, which is nothing, and cannot be traced with conditions of our own.
        free, p = fluid.make_incompressible(v.with_boundary(0), (), Solve("CG", tolerance, 1e-12, x0=p))
        return free.with_boundary(v.boundary), p

    def rate(v: Any) -> Any:
        return advect.differential(v, v, order=2).values + diffuse.differential(v, VISCOSITY, order=2).values

    def carried(v: Any, p: Any) -> tuple[Any, Any]:
        moved = advect.semi_lagrangian(v, v, dt)
        return project(diffuse.explicit(moved, VISCOSITY, dt).with_boundary(v.boundary), p)

    def euler(v: Any, p: Any) -> tuple[Any, Any]:
        return project(v.with_values(v.values + dt * rate(v)), p)

    def heun(v: Any, p: Any) -> tuple[Any, Any]:
        a = rate(v)
        guess, p = project(v.with_values(v.values + dt * a), p)
        return project(v.with_values(v.values + 0.5 * dt * (a + rate(guess))), p)

    return {"Euler": euler, "Heun": heun, **dict.fromkeys(CARRIED, carried)}[scheme]


@cache
def march(points: int, scheme: str) -> Callable[[int, float], tuple[Any, Any, Any]]:
    """From rest to the end in so many steps with this tolerance, one compiled loop: nothing of PhiFlow is left to Python."""
    import jax
    from phi.flow import Box, CenteredGrid, StaggeredGrid, spatial
    from phi.flow import math as phi_math
    from phi.math import dual
    from phiml.math import extrapolation

    phi_math.use("jax")
    phi_math.set_global_precision(64)  # its conjugate gradients do not converge in 32 bits
    # The pressure is known but for a constant: PhiFlow says so to its own solver, which then warns.
    warnings.filterwarnings("ignore", "Rank deficiency", RuntimeWarning)
    size: dict[str, Any] = {"x": points, "y": points, "bounds": Box(x=1, y=1)}
    v = StaggeredGrid(0.0, wall(points), **size)
    p = CenteredGrid(0.0, extrapolation.BOUNDARY, **size)

    def natives(v: Any, p: Any) -> tuple[Any, Any, Any]:
        return (*(v.vector[a].values.native("x,y") for a in "xy"), p.values.native("x,y"))

    def run(steps: Any, tolerance: Any) -> tuple[Any, Any, Any]:
        step = stepper(scheme, DURATION / steps, tolerance)

        def body(_: Any, arrays: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            x, y, pressure = (phi_math.wrap(a, spatial("x,y")) for a in arrays)
            inside = v.with_values(phi_math.stack({"x": x, "y": y}, dual(vector="x,y")))
            return natives(*step(inside, p.with_values(pressure)))

        start = jax.tree.map(jax.numpy.asarray, natives(v, p))
        return jax.lax.fori_loop(0, steps, body, start)

    return jax.jit(run)


def job_of(points: int, scheme: str, steps: int, tolerance: float) -> Job:
    compiled = march(points, scheme)

    def job() -> np.ndarray:
        x, y, _ = compiled(steps, tolerance)
        frames = np.zeros((2, points, points))  # velocities at lower faces; the first are walls
        frames[0, 1:], frames[1, :, 1:] = x, y
        return frames

    return job


def ways(points: tuple[int, ...]) -> Iterator[Way]:
    """Steps at 1/1.1 of the limit of stability: there the grid decides the error already."""
    for n in points:
        for scheme in (*CARRIED, "Euler", "Heun"):
            steps = math.ceil(1.1 * DURATION * (4 * VISCOSITY * n**2 + (0 if scheme in CARRIED else 0.6 * n)))
            for tolerance in TOLERANCES:
                yield Way(
                    PEER,
                    f"{scheme}, tolerance {tolerance:g}",
                    n,
                    steps,
                    lambda n=n, s=scheme, k=steps, t=tolerance: job_of(n, s, k, t),
                )
