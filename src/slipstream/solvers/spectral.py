"""Classical stepper: pseudo-spectral in space, exponential or implicit-explicit in time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.equation import Equation, Form
from slipstream.equations.spectral import Spectral
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid, resample
from slipstream.solvers.schemes import ETDRK2, Scheme
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters, take

CHUNK_BYTES = 1 << 19
"""Runs are marched together as long as their coefficients stay below this size: what a core's cache keeps."""


@dataclass(frozen=True)
class _Piece:
    """Some runs of a batch: their coefficients, and everything that depends on parameters and dt only."""

    u_hat: Tensor
    p: dict[str, Tensor]
    coefficients: tuple[Tensor, ...]
    force: Tensor | None


torch.utils._pytree.register_dataclass(_Piece)


class SpectralStepper(Stepper):
    """Marches an equation on a periodic grid; differentiable in states and parameters.

    Parameters
    ----------
    equation : with a `linear` part treated exactly (exponential schemes) or implicitly.
    grid : periodic.
    interval : time between frames.
    substeps : time steps an interval, so that dt = interval / substeps.
    scheme : a tableau of `slipstream.solvers`.
    frames_grid : where frames live if not on `grid` (same box): coefficients are padded or truncated on the way in and
        out, so that frames hold the wavenumbers that both grids resolve.
    guard : refuse a start whose advective CFL number exceeds the scheme's.

    Raises
    ------
    UnstableStep : dt exceeds the advective limit of the state it starts from; the message names the dt that would do.
    """

    grid: Grid
    inner: Grid

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        interval: float,
        substeps: int = 1,
        scheme: Scheme = ETDRK2,
        frames_grid: Grid | None = None,
        guard: bool = True,
    ) -> None:
        super().__init__()
        if not (interval > 0 and substeps >= 1):
            raise InputError(f"interval must be positive and substeps at least 1; got {interval} and {substeps}.")
        if frames_grid is not None and not frames_grid.same_box(grid):
            raise InputError(f"frames_grid must cover the same box as grid; got {frames_grid} and {grid}.")
        self.equation, self.interval, self.substeps = equation, float(interval), substeps
        self.inner, self.grid, self.frames_grid = grid, frames_grid or grid, frames_grid
        self.scheme, self.guard = scheme, guard
        self.channels = equation.channels
        self._calculi: dict[tuple[torch.dtype, torch.device], tuple[Spectral, Form]] = {}
        self._known: dict[tuple, tuple[Tensor, ...]] = {}
        self._defaults: dict[tuple[torch.dtype, torch.device], tuple] = {}

    @property
    def dt(self) -> float:
        return self.interval / self.substeps

    def calculus(self, u: Tensor) -> Spectral:
        """The spectral calculus in the dtype and on the device of a field."""
        return self._tools(u.dtype, u.device)[0]

    def _tools(self, dtype: torch.dtype, device: torch.device) -> tuple[Spectral, Form]:
        if (dtype, device) not in self._calculi:
            with torch.inference_mode(False):  # tables made under inference mode could never be used in training
                d = Spectral(self.inner, dtype, device, self.equation.dealias)
                self._calculi[dtype, device] = d, self.equation.form(d)
        return self._calculi[dtype, device]

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        u = resample(frames[:, -1], self.grid, self.inner, "truncate") if self.frames_grid else frames[:, -1]
        if self.guard:
            self.check_step(u, parameters)
        _, form = self._tools(u.dtype, u.device)
        pieces = (self._piece(form.forward(u[i]), u[i], take(parameters, i)) for i in self._chunks(u))
        return State((parameters, tuple(pieces)))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        known, pieces = state.values
        if known is not parameters:
            pieces = self._with_parameters(pieces, parameters)
        new = tuple(self._march(piece) for piece in pieces)
        frames = [self._form(piece).inverse(piece.u_hat, self.frames_grid) for piece in new]
        frame = frames[0] if len(frames) == 1 else torch.cat(frames)
        return replace(state, values=(parameters, new)), frame[:, None]

    def _march(self, piece: _Piece) -> _Piece:
        nonlinear, p, force = self._form(piece).nonlinear, piece.p, piece.force

        def rate(u_hat: Tensor) -> Tensor:
            n = nonlinear(u_hat, p)
            return n if force is None else n + force

        u_hat = piece.u_hat
        for _ in range(self.substeps):
            u_hat = self.scheme.step(u_hat, rate, piece.coefficients)
        return replace(piece, u_hat=u_hat)

    def _form(self, piece: _Piece) -> Form:
        return self._tools(piece.u_hat.dtype.to_real(), piece.u_hat.device)[1]

    def _chunks(self, u: Tensor) -> list[slice]:
        bytes_a_run = u[0].numel() * u.element_size()
        size = max(1, CHUNK_BYTES // (2 * bytes_a_run))
        return [slice(i, i + size) for i in range(0, u.shape[0], size)]

    def _piece(self, u_hat: Tensor, like: Tensor, parameters: Parameters) -> _Piece:
        if self.equation.parameters.keys() & parameters.keys():
            return _Piece(u_hat, *self._constants(like, parameters, u_hat.ndim))
        # No run has anything of its own: worked out once, or it would cost as much as several steps at every start.
        key = (like.dtype, like.device)
        if key not in self._defaults:
            with torch.inference_mode(False):
                self._defaults[key] = self._constants(torch.zeros_like(like[:1]), {}, u_hat.ndim)
        return _Piece(u_hat, *self._defaults[key])

    def _constants(
        self, like: Tensor, parameters: Parameters, num_axes: int
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...], Tensor | None]:
        """What depends on parameters and dt only: the parameters made ready, the scheme's coefficients, the force."""
        d, form = self._tools(like.dtype, like.device)
        p = self._ready(parameters, like)
        for name, spec in self.equation.parameters.items():
            spec.check(name, p[name])
        if form.linear is not None:
            linear = form.linear(p)
        else:
            symbol = self.equation.linear(self.inner, p)
            linear = like.new_zeros([1] * num_axes) if symbol is None else form.from_half(symbol)
        force = self.equation.force(d, p)
        return p, self._coefficients(linear, linear.ndim > num_axes), None if force is None else form.from_half(force)

    def _ready(self, parameters: Parameters, like: Tensor) -> dict[str, Tensor]:
        """Parameters for fields on the inner grid; those that are fields are given where frames live."""
        outer = None if self.frames_grid is None else self.frames_grid.shape
        inside = {
            name: resample(value, self.grid, self.inner) if tuple(value.shape[1:]) == outer else value
            for name, value in parameters.items()
        }
        return self.equation.ready(inside, like)

    def _with_parameters(self, pieces: tuple[_Piece, ...], parameters: Parameters) -> tuple[_Piece, ...]:
        result, first = [], 0
        for piece in pieces:
            runs = slice(first, first + piece.u_hat.shape[0])
            like = piece.u_hat.real.new_empty(piece.u_hat.shape[0], len(self.equation.channels), *self.inner.shape)
            result.append(self._piece(piece.u_hat, like, take(parameters, runs)))
            first = runs.stop
        return tuple(result)

    def _coefficients(self, linear: Tensor, blocks: bool) -> tuple[Tensor, ...]:
        if linear.requires_grad:
            return self.scheme.coefficients(linear, self.dt, blocks)
        key = (linear.shape, linear.dtype, linear.device, hash(linear.cpu().numpy().tobytes()))
        if key not in self._known:
            if len(self._known) >= 8:
                self._known.pop(next(iter(self._known)))
            with torch.inference_mode(False):
                self._known[key] = self.scheme.coefficients(linear.clone(), self.dt, blocks)
        return self._known[key]

    def largest_dt(self, u: Float[Tensor, "batch channel *space"], parameters: Parameters) -> float:
        """The largest dt at which the scheme carries the advection in `u`; infinite where nothing is advected."""
        with torch.no_grad():
            speed = self.equation.speed(u, self.calculus(u), self._ready(parameters, u))
        if speed is None:
            return float("inf")
        if not bool(torch.isfinite(speed).all()):
            raise InputError(
                f"{type(self.equation).__name__} got an initial state with non-finite values; check your data for NaN."
            )
        rate = float((speed / speed.new_tensor(self.inner.spacing)).sum(-1).max())
        return self.scheme.cfl / rate if rate > 0 else float("inf")

    def advice(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> str:
        u = resample(frames[:, -1], self.grid, self.inner, "truncate") if self.frames_grid else frames[:, -1]
        limit = self.largest_dt(u, parameters)
        return f"dt = {self.dt:.4g}; the advective limit of {self.scheme.name} for the last finite state is {limit:.4g}. Use more substeps."

    def check_step(self, u: Float[Tensor, "batch channel *space"], parameters: Parameters) -> None:
        """Refuse a dt beyond the advective limit, naming one that would do."""
        limit = self.largest_dt(u, parameters)
        if self.dt > limit:
            raise UnstableStep(
                f"{type(self.equation).__name__}: dt = {self.dt:.4g} exceeds the advective limit {limit:.4g} of {self.scheme.name} "
                f"for this state (CFL number {self.scheme.cfl} on {self.inner.shape} points). "
                f"Use substeps={-(-self.interval // limit):.0f} for the interval {self.interval:g}, or guard=False."
            )
