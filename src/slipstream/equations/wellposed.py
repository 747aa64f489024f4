"""Whether an equation can be solved at all: short waves must not grow without bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from slipstream.equations import algebra, evaluation
from slipstream.errors import InputError

if TYPE_CHECKING:
    from slipstream.equations.parser import ParsedEquation


def check_short_waves(equation: ParsedEquation) -> None:
    """Refuses an equation whose linear part lets waves grow the faster the shorter they are, for its parameters' values.

    The symbol's eigenvalues are followed to large wavenumbers along axes, diagonals and directions between them. Parameters that
    each run brings for itself are not known yet, and fields and nonlinear terms have no symbol: such equations pass.
    """
    values = {
        name: torch.tensor(spec.default, dtype=torch.float64)
        for name, spec in equation.parameters.items()
        if spec.default is not None
    }
    known = set(values)
    for _, _, _, uniform, _ in equation.linear_terms:
        if not {f[1] for f in algebra.leaves(uniform) if f[0] == "parameter"} <= known:
            return
    rates = [max(_growth(equation, values, k, q) for q in _directions(equation.num_dims)) for k in (1e3, 1e4, 1e5)]
    if rates[2] > 3 * max(rates[1], 1.0) and rates[1] > 3 * max(rates[0], 1e-30):
        raise InputError(
            f"{equation.text!r} is ill-posed: with the given parameters waves of wavenumber 1e4 grow at the rate "
            f"{rates[1]:.3g}, those of 1e5 at {rates[2]:.3g}, without bound (diffusion of the wrong sign?). "
            "Check signs, or add a term of higher order that damps them."
        )


def _growth(equation: ParsedEquation, values: dict[str, torch.Tensor], k: float, direction: tuple[float, ...]) -> float:
    """Fastest growth of a plane wave, less what rounding could feign."""
    waves = [k * q for q in direction]
    square = sum(q * q for q in waves)
    size = len(equation.channels)
    matrix = torch.zeros(size, size, dtype=torch.complex128)
    for c, j, n, uniform, orders in equation.linear_terms:
        number = complex(n * evaluation.compile_product(uniform)({}, values))
        for q, order in zip(waves, orders[:-1], strict=True):
            number *= (1j * q) ** order
        matrix[c, j] += number * (-1 / square) ** orders[-1]
    eigenvalues = torch.linalg.eigvals(matrix)
    return float(eigenvalues.real.max()) - 1e-9 * float(eigenvalues.abs().max())


def _directions(num_dims: int) -> list[tuple[float, ...]]:
    """Axes, diagonals, and a few directions between them."""
    if num_dims == 1:
        return [(1.0,)]
    steps = torch.cartesian_prod(*[torch.tensor([-1.0, -0.4, 0.0, 0.4, 1.0], dtype=torch.float64)] * num_dims)
    kept = steps[steps.norm(dim=1) > 0]
    return [tuple(q.tolist()) for q in kept / kept.norm(dim=1, keepdim=True)]
