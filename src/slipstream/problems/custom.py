"""A problem from the user's own equation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.equation import Equation
from slipstream.equations.parser import values_of
from slipstream.errors import InputError
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.solvers.schemes import ETDRK2, Scheme


class Custom(PeriodicProblem):
    """Any equation on a periodic box, with random smooth initial states: ``Custom(parse("u_t = ..."), num_points=128)``.

    How far its reference can be trusted depends on the equation: ask `reference_error`, and raise `substeps` or `num_points` where it is
    not small.

    Parameters
    ----------
    equation : for example of `slipstream.equations.parse`.
    num_points : along each axis, even. extent : side of the box. num_dims : axes; the equation's own number where it has one.
    interval : time between frames. substeps : time steps an interval of the fast solver; the reference takes four times as many.
    varying : scalar parameter -> range (low, high) over runs.
    start : what every run starts from: None for zero, a number or an expression of x, y, z ("exp(-(x - 3)**2)"), or one of them a channel.
    amplitude : rms of the random smooth field that is added to it; one number, or one a channel.
    highest : periods of the finest random wave. warm_up : time before frames count. scheme : of the fast solver.

    Raises
    ------
    InputError : an argument makes no sense; the message names it.
    """

    def __init__(
        self,
        equation: Equation,
        num_points: int = 128,
        extent: float = 2 * math.pi,
        num_dims: int | None = None,
        interval: float = 0.1,
        substeps: int = 8,
        varying: Mapping[str, Sequence[float]] | None = None,
        start: float | str | Sequence[float | str] | None = None,
        amplitude: float | Sequence[float] = 1.0,
        highest: int = 4,
        warm_up: float = 0.0,
        scheme: Scheme = ETDRK2,
    ) -> None:
        own = getattr(equation, "num_dims", None)
        if num_dims is not None and own is not None and num_dims != own:
            raise InputError(f"The equation has {own} axes; got num_dims={num_dims}.")
        if substeps < 1:
            raise InputError(f"Custom expects substeps of at least 1; got {substeps}.")
        self.equation, self.num_points, self.extent, self.interval = equation, num_points, extent, interval
        self.num_dims, self.substeps, self.start, self.amplitude = num_dims, substeps, start, amplitude
        self.highest, self.warm_up, self.scheme = highest, warm_up, scheme
        self._box(num_points, extent, interval, num_dims or own or 1, warm_up)
        if not 1 <= highest <= num_points // 4:
            raise InputError(f"Custom expects highest from 1 to num_points / 4 = {num_points // 4}; got {highest}.")
        self.varying = {}
        for name, ends in (varying or {}).items():
            if name not in equation.parameters:
                raise InputError(f"The equation has no parameter {name!r}; it has {sorted(equation.parameters)}.")
            self._vary(False, **{name: ends})
        self._starts = self._each("start", start)
        self._amplitudes = self._each("amplitude", amplitude)
        self._settings(interval / substeps, interval / (4 * substeps), fast=scheme)
        self._base = [self._field(value) for value in self._starts]

    def _each(self, name: str, value: Any) -> list[Any]:
        """One value a channel."""
        count = len(self.equation.channels)
        values = [value] * count if value is None or isinstance(value, (int, float, str)) else list(value)
        if len(values) != count:
            names = [c.name for c in self.equation.channels]
            raise InputError(f"Custom expects one {name}, or one for each of the channels {names}; got {value}.")
        return values

    def _field(self, value: float | str | None) -> Tensor:
        if isinstance(value, str):
            return values_of(value, self.grid)
        return torch.full(self.grid.shape, float(value or 0.0), dtype=torch.float64)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        random = [size * smooth_field(self.grid, generator, self.highest) for size in self._amplitudes]
        return torch.stack(self._base) + torch.stack(random)
