"""What problems on periodic boxes share: checked arguments, smooth random states, and a ladder of spectral settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.schemes import ARS443, CNRK2, ETDRK2, ETDRK4, Scheme


def smooth_field(
    grid: Grid, generator: torch.Generator, highest: float, rms: float = 1.0, lowest: float = 1.0
) -> Float[Tensor, " *space"]:
    """A random sum of the waves with `lowest` to `highest` periods in the box (float64, mean zero, given rms).

    The random numbers belong to waves, not to points: finer grids see the same field.
    """
    h, dims = math.floor(highest), grid.num_dims
    side = torch.arange(-h, h + 1)
    periods = torch.stack(torch.meshgrid(*[side] * dims, indexing="ij")).double().norm(dim=0)
    numbers = torch.randn(2, *periods.shape, generator=generator, dtype=torch.float64)
    waves = torch.complex(*numbers) * ((periods >= lowest) & (periods <= highest))
    whole = torch.zeros(grid.shape, dtype=torch.complex128)
    whole[torch.meshgrid(*(side % n for n in grid.shape), indexing="ij")] = waves
    field = torch.fft.ifftn(whole).real
    return rms * field / field.square().mean().sqrt()


class PeriodicProblem(Problem):
    """A problem on a periodic box that a spectral solver solves. Subclasses call `_box`, `_vary` and `_settings` in their constructor."""

    def _box(self, num_points: int, extent: float, interval: float, num_dims: int, warm_up: float = 0.0) -> None:
        """The grid, after a check of what every problem of this kind takes."""
        if num_points % 2 or num_points < 8:
            raise InputError(f"{self.name} expects an even num_points of at least 8; got {num_points}.")
        for what, value in (("extent", extent), ("interval", interval)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{self.name} expects a positive {what}; got {value}.")
        if not (math.isfinite(warm_up) and warm_up >= 0):
            raise InputError(f"{self.name} expects a warm_up of at least 0; got {warm_up}.")
        if num_dims not in (1, 2, 3):
            raise InputError(f"{self.name} expects num_dims 1, 2 or 3; got {num_dims}.")
        self.grid = Grid.box(num_points, extent, num_dims=num_dims)

    def _ends(self, name: str, value: float | Sequence[float], positive: bool = True) -> tuple[float, float]:
        """A number or a range (low, high) as a range; positive unless told otherwise."""
        ends = (value, value) if isinstance(value, (int, float)) else tuple(value)
        kind = "a positive number or a range" if positive else "a number or a range"
        if len(ends) != 2 or not (all(map(math.isfinite, ends)) and ends[0] <= ends[1]) or (positive and ends[0] <= 0):
            raise InputError(f"{self.name} expects {name} as {kind} (low, high); got {value}.")
        return float(ends[0]), float(ends[1])

    def _vary(self, positive: bool = True, **given: float | Sequence[float]) -> dict[str, float]:
        """Checks numbers and ranges by name, lets the ranges vary from run to run, and returns the lower ends."""
        ends = {name: self._ends(name, value, positive) for name, value in given.items()}
        self.varying: Mapping[str, tuple[float, float]] = {
            **self.varying,
            **{name: e for name, e in ends.items() if e[0] < e[1]},
        }
        return {name: low for name, (low, _) in ends.items()}

    def _share(self, name: str, value: float, most: float = 1.0) -> None:
        """Refuses a relative size outside [0, most)."""
        if not 0 <= value < most:
            raise InputError(f"{self.name} expects {name} in [0, {most:g}); got {value}.")

    def _settings(self, fast_dt: float, reference_dt: float, finer: float = 2.0, fast: Scheme = ETDRK2) -> None:
        """The fast setting on the grid itself; the reference on `finer` times as many points with fourth order."""
        n = self.grid.shape[0]
        self.fast_setting = Setting(n, max(1, math.ceil(self.interval / fast_dt - 1e-9)), fast)
        self.reference_setting = Setting(
            2 * math.ceil(finer * n / 2), max(1, math.ceil(self.interval / reference_dt - 1e-9)), ETDRK4
        )

    def ladder(self) -> list[Setting]:
        n = self.grid.shape[0]
        points = sorted({max(8, 2 * round(n * f / 2)) for f in (0.25, 0.375, 0.5, 0.75, 1.0, 1.5)})
        most = max(4, self.fast_setting.substeps)
        steps = sorted({max(1, most // 8), most // 4, most // 2, most})
        schemes = (ETDRK2, CNRK2, ARS443, ETDRK4)
        return [Setting(m, s, scheme) for m in points for scheme in schemes for s in steps]
