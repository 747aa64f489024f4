"""A filtered view of a flow: frames hold what a filter leaves of a solution that is marched whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.symbols import laplacian
from slipstream.grids import Grid
from slipstream.solvers.spectral import SpectralStepper
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters


class Filter:
    """What is left of each wavenumber that a frame's grid resolves; all others are cut off. Never zero, so that it can be undone."""

    def symbol(self, grid: Grid, like: Float[Tensor, "..."]) -> Float[Tensor, "*wavenumber"] | None:
        """One factor a wavenumber of a half spectrum; None where all are 1."""
        raise TypeError(f"{type(self).__name__} defines no symbol(grid, like).")

    def apply(
        self, u: Float[Tensor, "batch channel *space"], grid: Grid, undo: bool = False
    ) -> Float[Tensor, "batch channel *space"]:
        """A field on a frame's grid, filtered; or the one that was (`undo`)."""
        factor = self.symbol(grid, u)
        if factor is None:
            return u
        axes = tuple(range(-grid.num_dims, 0))
        u_hat = torch.fft.rfftn(u, dim=axes)
        return torch.fft.irfftn(u_hat / factor if undo else u_hat * factor, s=grid.shape, dim=axes)


@dataclass(frozen=True)
class CutOff(Filter):
    """The wavenumbers that the frame's grid resolves, as they are."""

    def symbol(self, grid: Grid, like: Float[Tensor, "..."]) -> None:
        return None


@dataclass(frozen=True)
class Gaussian(Filter):
    """A Gaussian of the second moment of a box of `width` spacings, ``exp(-|k|^2 (width h)^2 / 24)``, behind the cut-off.

    With 2 spacings the highest wavenumber of an axis keeps a fifth of its size.
    """

    width: float = 2.0

    def symbol(self, grid: Grid, like: Float[Tensor, "..."]) -> Float[Tensor, "*wavenumber"]:
        return torch.exp(laplacian(grid, like) * ((self.width * max(grid.spacing)) ** 2 / 24))


class FilteredStepper(Stepper):
    """Marches a flow on a grid of its own and shows it through a filter.

    The wavenumbers of a start that the frame's grid resolves come back whole; those beyond are zero there, and grow in time.

    Parameters
    ----------
    inner : the solver; its frames live where ours do. filter : the view.
    """

    grid: Grid

    def __init__(self, inner: SpectralStepper, filter: Filter) -> None:
        super().__init__()
        self.inner, self.filter = inner, filter
        self.interval, self.grid, self.channels = inner.interval, inner.grid, inner.channels

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        return self.inner.start(self.filter.apply(frames[:, -1], self.grid, undo=True)[:, None], parameters)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        state, frame = self.inner.advance(state, parameters, generator)
        return state, self.filter.apply(frame[:, 0], self.grid)[:, None]

    def advice(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> str:
        return self.inner.advice(frames, parameters)
