"""Equation: a PDE written once, in a calculus that the caller brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters

if TYPE_CHECKING:
    from slipstream.equations.calculus import Calculus
    from slipstream.equations.spectral import Spectral


@dataclass(frozen=True)
class Parameter:
    """A number or field that an equation depends on: its unit, its default and what values make sense."""

    unit: str = ""
    default: float | None = None
    low: float = float("-inf")
    high: float = float("inf")

    def check(self, name: str, value: Tensor) -> None:
        """Refuse values outside [low, high] and non-finite ones."""
        if not bool(torch.isfinite(value).all()) or bool((value < self.low).any()) or bool((value > self.high).any()):
            raise InputError(
                f"Parameter {name!r} holds values from {float(value.min()):.4g} to {float(value.max()):.4g} {self.unit}; "
                f"expected finite ones in [{self.low:g}, {self.high:g}]."
            )


@dataclass(frozen=True)
class Form:
    """How a stepper keeps Fourier coefficients while it marches, and the nonlinear part in that layout.

    Attributes
    ----------
    forward : field (batch, channel, *space) to coefficients. inverse : coefficients to field, on the grid or on another over its box.
    from_half : a half spectrum or a symbol (as of `torch.fft.rfftn`) in this layout.
    nonlinear : coefficients and parameters to the rate that the linear part and `Equation.force` leave over.
    linear : parameters to the linear part in this layout, where it is not that of `Equation.linear`: a symbol (batch, channel, *layout),
        or where channels are coupled one matrix a mode, (batch, channel, channel, *layout). Schemes treat both exactly.
    """

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor, Grid | None], Tensor]
    from_half: Callable[[Tensor], Tensor]
    nonlinear: Callable[[Tensor, Parameters], Tensor]
    linear: Callable[[Parameters], Tensor] | None = None


class Equation:
    """A PDE ``u_t = rate(u)``.

    Subclasses set `channels`, `parameters` and `latex`, and write `rate`. Everything else has a default that follows from it;
    a structured form is written where it is faster, and tested equal to `rate`.
    """

    channels: tuple[Channel, ...]
    parameters: Mapping[str, Parameter]
    latex: ClassVar[str] = ""
    source: ClassVar[str] = ""
    dealias: bool = True
    """Whether spectral steppers drop the upper third of the wavenumbers from products.

    What folds over in products of resolved waves has to be dropped where derivatives carry it on (advection), and where nothing damps it.
    Reactions at points beside diffusion need not give up that third: what folds over is as small as what the grid does not resolve.
    """

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """The time derivative. `p` holds every parameter, shaped to broadcast against `u` (see `ready`)."""
        raise TypeError(f"{type(self).__name__} defines no rate(u, d, p).")

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"] | None:
        """Symbol of a stiff linear part of `rate`, or None: what exponential and implicit-explicit schemes treat exactly.

        The leading axis is 1 where it is equal for all runs.
        """
        return None

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        """The rest of `rate` from Fourier coefficients to Fourier coefficients: what `linear` and `force` leave over."""
        result = d.forward(self.rate(d.inverse(u_hat), d, p))
        linear = self.linear(d.grid, p)
        return result if linear is None else result - linear * u_hat

    def form(self, d: Spectral) -> Form:
        """The layout in which steppers march this equation: the half spectrum, unless a faster one is known."""
        return Form(d.forward, d.inverse, lambda half: half, lambda u_hat, p: self.nonlinear(u_hat, d, p))

    def force(self, d: Spectral, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"] | None:
        """The part of `rate` that does not depend on the state, or None where `nonlinear` contains it."""
        return None

    def speed(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch dim"] | None:
        """Largest advective speed along each axis, for the step-size check; None where nothing is advected."""
        return None

    def flux(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch channel *space"] | None:
        """What passes through a face across an axis, point by point, or None where the equation has no flux form.

        ``rate = -sum_i d/dx_i flux(u, i) + remainder``: what finite volumes march.
        """
        return None

    def max_speed(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch 1 *space"] | None:
        """The fastest wave of `flux` along an axis, point by point."""
        return None

    def remainder(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"] | None:
        """The part of `rate` that `flux` leaves over (diffusion, sources); None where nothing is."""
        return None

    def admit(self, u: Float[Tensor, "batch channel *space"], p: Parameters) -> None:
        """Refuse states that have no physical meaning (a negative density), naming what and where: raises `UnstableStep`."""

    def invariants(self) -> dict[str, Callable[[Tensor, Calculus, Parameters], Float[Tensor, " batch"]]]:
        """Named integrals that the equation conserves or balances, as functions (u, d, p) -> (batch,)."""
        return {}

    def ready(self, p: Parameters, u: Float[Tensor, "batch channel *space"]) -> dict[str, Tensor]:
        """Every parameter of the equation in a shape that broadcasts against `u`; defaults where `p` says nothing.

        Scalars (batch,) become (batch, 1, ...); fields (batch, *space) become (batch, 1, *space).
        """
        result = {}
        for name, spec in self.parameters.items():
            value = p.get(name)
            if value is None:
                if spec.default is None:
                    raise InputError(
                        f"{type(self).__name__} needs the parameter {name!r} ({spec.unit or 'no unit'}); got {sorted(p)}."
                    )
                result[name] = u.new_full([1] * u.ndim, spec.default)
                continue
            value = value.to(u)
            if value.ndim == 1:
                result[name] = value.reshape([-1] + [1] * (u.ndim - 1))
            elif value.ndim == u.ndim - 1:
                result[name] = value[:, None]
            else:
                raise InputError(
                    f"Parameter {name!r} has shape {tuple(value.shape)}; expected (batch,) or (batch, *space) "
                    f"for a field of shape {tuple(u.shape)}."
                )
        return result
