"""Multigrid training: windows that begin small and many and end large and few, every step at the same cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.data.allpairs import LEAD_TIME
from slipstream.data.coarser import coarsen, coarser_grid, summed
from slipstream.data.cycles import Cycles, Level
from slipstream.data.source import Source, check_layout
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters, Window


@dataclass(frozen=True)
class _Shape:
    """What a level comes to for windows of some frames on some grid: frames, grid, and draws from the source a step."""

    frames: int
    grid: Grid
    draws: int


@dataclass(frozen=True)
class _Joined:
    """The source's own windows in a joined one, and whether these are whole, neither cut nor coarsened."""

    pieces: tuple[Window, ...]
    whole: bool


class Multigrid(Source):
    r"""Windows of another source in changing shapes: short and coarse in large batches first, whole ones in small batches at the end.

    A step costs about batch x frames x points; what one whole window costs buys many small ones, which train the coarse and the early part
    of the same task. So the same minutes show the module several times as many windows, and the last of them whole. `draws` windows of the
    source make a step at the whole shape, and at a coarser level as many more as cost the same, rounded.

    **Space.** Periodic axes lose the wavenumbers that the coarse grid does not resolve before they are sampled, axes with ends are averaged
    over cells, and so is everything where a window has weights or a mask (around the coarse points). Nothing aliases and integrals stay.
    A coarse frame is the coarse view of the fine one, never a simulation of its own. Field parameters are treated alike. The stepper has
    to take these grids: `slipstream.steppers.Multiresolution` does.

    **Time.** For a stepper that is tied to one interval, a level with less time is a shorter window at the same interval, from a random
    place in the whole one: fewer calls are unrolled. With `strides` its frames are also taken further apart, every sample by a random
    whole number of intervals as far as the whole window reaches; ``window.parameters["lead_time"]`` (batch,) is then the time between
    neighbouring frames, at all levels. That is for steppers that are told so, and refused by `slipstream.objectives.WithinWindow` for
    others; ``window.interval`` stays that of the data. An objective has to follow the length of its window: again, `WithinWindow`.

    The loop says how far a training is (`on_progress`), so a cycle fits any budget. Learning rates that follow the levels are a schedule,
    `slipstream.training.ByLevel`, given the same cycles. A source that wants feedback hears all
    scores, and the module's frames where its windows were whole.

    Parameters
    ----------
    source : of whole windows.
    known : frames of a window that the stepper is given (its history). horizon : frames that a call gives.
    cycles : which level when; None is the published ones.
    multiple : coarse grids have multiples of so many points along each axis (for a U-Net ``2 ** levels``).
    draws : windows of the source that make a step at the whole shape. With small windows of the source and several draws, the work a step
        is constant more exactly.
    strides : whether frames may be taken further apart than the interval.

    Raises
    ------
    InputError : with the first window: windows without a frame to seek, a grid that no coarse one fits, parameters that belong to frames.

    References
    ----------
    Wu, Girshick, He, Feichtenhofer, Kraehenbuehl: A multigrid method for efficiently training video models, CVPR 2020 (arXiv:1912.00998).
    """

    def __init__(
        self,
        source: Source,
        known: int = 1,
        horizon: int = 1,
        cycles: Cycles | None = None,
        multiple: int = 8,
        draws: int = 1,
        strides: bool = False,
    ) -> None:
        if known < 0 or min(horizon, multiple, draws) < 1:
            raise InputError(
                f"Multigrid expects known >= 0 and horizon, multiple, draws >= 1; got known={known}, horizon={horizon}, "
                f"multiple={multiple}, draws={draws}."
            )
        self.source, self.known, self.horizon = source, known, horizon
        self.cycles = Cycles() if cycles is None else cycles
        self.multiple, self.draws, self.strides = multiple, draws, strides
        self._progress, self._step = 0.0, 0
        self._shapes: dict[tuple[int, Grid], dict[Level, _Shape]] = {}

    def on_progress(self, progress: float) -> None:
        self._progress = progress
        self.source.on_progress(progress)

    def next(self, generator: torch.Generator) -> Window:
        level = self.cycles.seen(self._progress, self._step)
        first = self.source.next(generator)
        frames, grid = first.frames.shape[1], first.grid
        shape = self._shapes_of(frames, grid)[level]
        pieces = [first]
        while len(pieces) < shape.draws and not self.source.ended():
            pieces.append(self.source.next(generator))
        self._step += 1
        whole = shape.frames == frames and shape.grid == grid
        if whole and len(pieces) == 1 and not self.strides:
            return first
        made = [self._cut(piece, shape, generator) for piece in pieces]
        return Window(
            torch.cat([window.frames for window in made]),
            shape.grid,
            first.interval,
            {name: torch.cat([window.parameters[name] for window in made]) for name in made[0].parameters},
            _joined([window.weights for window in made], grid),
            _Joined(tuple(pieces), whole),
        )

    def feedback(self, window: Window, outputs: Tensor | None, scores: Tensor | None = None) -> None:
        if not isinstance(window.token, _Joined):
            return self.source.feedback(window, outputs, scores)
        sizes = [len(piece.frames) for piece in window.token.pieces]
        for piece, start, stop in zip(window.token.pieces, *_ends(sizes), strict=True):
            mine = None if outputs is None or not window.token.whole else outputs[start:stop]
            self.source.feedback(piece, mine, None if scores is None else scores[start:stop])
        return None

    def figures(self) -> dict[str, float]:
        level = self.cycles.level(self._progress)
        return {"level_time": level.time, "level_space": level.space, **self.source.figures()}

    def ended(self) -> str:
        return self.source.ended()

    def close(self) -> None:
        self.source.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "progress": self._progress,
            "step": self._step,
            "source": self.source.state_dict(),
            "layout": self._layout(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("Multigrid", state, self._layout())
        self.source.load_state_dict(state["source"])
        self._progress, self._step = float(state["progress"]), int(state["step"])

    def _layout(self) -> dict[str, Any]:
        c = self.cycles
        return {
            "known": self.known,
            "horizon": self.horizon,
            "long": [[level.time, level.space] for level in c.long],
            "short": [float(s) for s in c.short],
            "repeats": c.repeats,
            "final": c.final,
            "multiple": self.multiple,
            "draws": self.draws,
            "strides": self.strides,
        }

    def _shapes_of(self, frames: int, grid: Grid) -> dict[Level, _Shape]:
        """All levels at once, so that one that does not fit is refused with the first window and not in the middle of a training."""
        key = frames, grid
        if key not in self._shapes:
            sought = frames - self.known
            if sought < self.horizon or sought % self.horizon:
                raise InputError(
                    f"Multigrid got windows of {frames} frames, of which {self.known} are given, for calls of {self.horizon} frames; "
                    f"expected {self.known} and a multiple of {self.horizon}."
                )
            self._shapes[key] = {level: self._shape(sought, grid, level) for level in self.cycles.levels}
        return self._shapes[key]

    def _shape(self, sought: int, grid: Grid, level: Level) -> _Shape:
        calls = max(1, round(level.time * sought / self.horizon))
        coarse = coarser_grid(grid, level.space, self.multiple)
        growth = sought * grid.size / (calls * self.horizon * coarse.size)
        return _Shape(self.known + calls * self.horizon, coarse, max(1, round(self.draws * growth)))

    def _cut(self, window: Window, shape: _Shape, generator: torch.Generator) -> Window:
        """The window in another shape: first in time, because then less is left to be coarsened."""
        frames, parameters = self._in_time(window, shape.frames, generator)
        if shape.grid == window.grid:
            return replace(window, frames=frames, parameters=parameters)
        fields = {
            name: coarsen(value, window.grid, shape.grid, window.weights)
            if tuple(value.shape[1:]) == window.grid.shape
            else value
            for name, value in parameters.items()
        }
        return replace(
            window,
            frames=coarsen(frames, window.grid, shape.grid, window.weights),
            grid=shape.grid,
            parameters=fields,
            weights=None if window.weights is None else summed(window.weights, window.grid, shape.grid),
        )

    def _in_time(
        self, window: Window, length: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch time channel *space"], Parameters]:
        """So many frames from a random place in the window, with `strides` a random number of intervals apart."""
        u, reach = window.frames, window.frames.shape[1] - 1
        if not self.strides:
            if length == reach + 1:
                return u, window.parameters
            starts = _whole_numbers(torch.full((len(u),), reach + 2 - length), generator)
            return u[torch.arange(len(u))[:, None], starts[:, None] + torch.arange(length)], window.parameters
        if LEAD_TIME in window.parameters:
            raise InputError(
                f"The windows have a parameter {LEAD_TIME!r} of their own; leave strides to whoever gave it."
            )
        controls = [n for n, v in window.parameters.items() if v.ndim == 3 and tuple(v.shape[1:]) != window.grid.shape]
        if controls:
            raise InputError(f"The parameters {controls} go with single frames; use strides=False.")
        apart = 1 + _whole_numbers(torch.full((len(u),), reach // max(length - 1, 1)), generator)
        starts = _whole_numbers(1 + reach - (length - 1) * apart, generator)
        taken = u[torch.arange(len(u))[:, None], starts[:, None] + apart[:, None] * torch.arange(length)]
        return taken, {**window.parameters, LEAD_TIME: (apart * window.interval).to(u)}


def _whole_numbers(below: Tensor, generator: torch.Generator) -> Tensor:
    """One each, uniform in [0, below)."""
    drawn = torch.rand(len(below), generator=generator, device=generator.device, dtype=torch.float64).cpu()
    return (drawn * below).long()


def _joined(weights: list[Tensor | None], grid: Grid) -> Tensor | None:
    """Weights of all pieces: one field for all where it is the same for all, else one a sample."""
    given = [w for w in weights if w is not None]
    if len(given) != len(weights):
        return None
    return given[0] if given[0].ndim == grid.num_dims else torch.cat(given)


def _ends(sizes: list[int]) -> tuple[list[int], list[int]]:
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [a for a, _ in pairwise(edges)], [b for _, b in pairwise(edges)]
