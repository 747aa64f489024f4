"""Mixture: every sample of a batch from one of several sources, drawn anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from slipstream.data.source import Source, check_layout
from slipstream.errors import InputError
from slipstream.pretrained import describe, rebuild
from slipstream.trajectories import Window


class Mixture(Source):
    """Batches whose samples come from several sources, each with a share of its own: a network for many problems sees them side by side.

    From which source a sample comes is drawn independently for each, so that in the mean every source has its share of every batch,
    however many samples it holds and whatever its own batch is. What a source gave beyond what was drawn waits for the next batch: no
    sample is lost and none comes twice. Its windows are its own: sources that learn from what the module made of theirs (state pools, live
    ensembles) hear nothing.

    Parameters
    ----------
    sources : their windows have one number of frames and of channels, one grid, one interval and parameters of the same names.
    batch : samples in a window.
    shares : of the sources, above 0; they need not add up to 1. Equal where None.

    Raises
    ------
    InputError : shares that do not fit, or (with the first window that shows it) windows that cannot lie in one batch.
    """

    def __init__(self, sources: Sequence[Source], batch: int, shares: Sequence[float] | None = None) -> None:
        self.sources, self.batch = tuple(sources), batch
        self.shares = (1.0,) * len(self.sources) if shares is None else tuple(float(s) for s in shares)
        fit = len(self.shares) == len(self.sources) and all(s > 0 and math.isfinite(s) for s in self.shares)
        if not self.sources or batch < 1 or not fit:
            raise InputError(
                f"Mixture draws batches of at least 1 from one source or more, each with a share above 0; got {len(self.sources)} sources, "
                f"batch={batch}, shares={list(self.shares)}."
            )
        self._waiting: list[Window | None] = [None] * len(self.sources)

    def next(self, generator: torch.Generator) -> Window:
        shares = torch.tensor(self.shares, dtype=torch.float64, device=generator.device)
        of = torch.multinomial(shares, self.batch, replacement=True, generator=generator).cpu()
        pieces = []
        for number, count in enumerate(torch.bincount(of, minlength=len(self.sources)).tolist()):
            if count:
                pieces.append(self._take(number, count, generator))
        whole = _joined(pieces)
        place = torch.empty_like(of)
        place[of.argsort(stable=True)] = torch.arange(self.batch)
        return _some(whole, place)  # each sample where it was drawn, not sorted by source

    def _take(self, number: int, count: int, generator: torch.Generator) -> Window:
        """So many samples of a source, those that wait first."""
        pieces = [] if (waiting := self._waiting[number]) is None else [waiting]
        while (missing := count - sum(len(w.frames) for w in pieces)) > 0:
            pieces.append(self.sources[number].next(generator))
        last = pieces[-1]
        rest = -missing
        self._waiting[number] = _some(last, slice(len(last.frames) - rest, None)) if rest else None
        return _some(_joined(pieces), slice(count))

    def on_progress(self, progress: float) -> None:
        for source in self.sources:
            source.on_progress(progress)

    def figures(self) -> dict[str, float]:
        return {name: value for source in self.sources for name, value in source.figures().items()}

    def ended(self) -> str:
        return next((reason for source in self.sources if (reason := source.ended())), "")

    def close(self) -> None:
        for source in self.sources:
            source.close()

    def state_dict(self) -> dict[str, Any]:
        waiting = [None if w is None else _plain(w) for w in self._waiting]
        return {"sources": [s.state_dict() for s in self.sources], "waiting": waiting, "layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("Mixture", state, self._layout())
        before = [source.state_dict() for source in self.sources]
        try:
            for source, saved in zip(self.sources, state["sources"], strict=True):
                source.load_state_dict(saved)
        except InputError:
            for source, saved in zip(self.sources, before, strict=True):
                source.load_state_dict(saved)
            raise
        self._waiting = [None if saved is None else _window(saved) for saved in state["waiting"]]

    def _layout(self) -> dict[str, Any]:
        return {"sources": len(self.sources), "batch": self.batch, "shares": str(self.shares)}


def _plain(window: Window) -> dict[str, Any]:
    """A window as a checkpoint holds it."""
    return {
        "frames": window.frames,
        "grid": describe(window.grid),
        "interval": window.interval,
        "parameters": dict(window.parameters),
        "weights": window.weights,
    }


def _window(state: dict[str, Any]) -> Window:
    """Undo `_plain`; its tensors are its own."""
    weights = None if state["weights"] is None else state["weights"].clone()
    parameters = {name: value.clone() for name, value in state["parameters"].items()}
    return Window(state["frames"].clone(), rebuild(state["grid"]), state["interval"], parameters, weights)


def _some(window: Window, samples: slice | Tensor) -> Window:
    """Some samples of a window, as copies: what waits keeps no larger window alive, and nobody else changes it."""
    return replace(
        window,
        frames=window.frames[samples].clone(),
        parameters={name: value[samples].clone() for name, value in window.parameters.items()},
        weights=window.weights if window.weights is None or not _each(window) else window.weights[samples].clone(),
        token=None,
    )


def _each(window: Window) -> bool:
    """Whether every sample has weights of its own."""
    return window.weights is not None and window.weights.ndim > window.grid.num_dims


def _joined(windows: Sequence[Window]) -> Window:
    """One window with the samples of several, in their order."""
    first = windows[0]
    if len(windows) == 1:
        return first
    for other in windows[1:]:
        pairs = {
            "frames of shape": (tuple(first.frames.shape[1:]), tuple(other.frames.shape[1:])),
            "the grid": (first.grid, other.grid),
            "the interval": (first.interval, other.interval),
            "parameters": (sorted(first.parameters), sorted(other.parameters)),
        }
        for what, (one, two) in pairs.items():
            if one != two:
                raise InputError(
                    f"Mixture got windows that cannot lie in one batch: {what} {one} and {two}. Give its sources data on one grid with one "
                    "list of channels, one interval and parameters of the same names; see PretrainingMixture."
                )
    weights = None
    if any(w.weights is not None for w in windows):
        weights = torch.cat([_weights(w) for w in windows])
    parameters = {name: torch.cat([w.parameters[name] for w in windows]) for name in first.parameters}
    return replace(first, frames=torch.cat([w.frames for w in windows]), parameters=parameters, weights=weights)


def _weights(window: Window) -> Tensor:
    """The weights of each sample, spelled out."""
    weights = window.grid.cell_weights(window.frames.dtype) if window.weights is None else window.weights
    return (
        weights.to(window.frames)
        if _each(window)
        else weights.to(window.frames).expand(len(window.frames), *window.grid.shape)
    )
