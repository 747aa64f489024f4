"""Upscaled: a two-scale problem solved with a learnt law in place of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw
from slipstream.problems.two_scale import LAW_INPUTS, LAW_OUTPUTS, TwoScaleConduction
from slipstream.solvers.macro import Law, Response, Turned
from slipstream.solvers.two_scale import ConductionStepper
from slipstream.trajectories import Window


@dataclass(frozen=True)
class Guarded:
    """A learnt law inside the box of its samples; outside, a trusted one, or a refusal where there is none."""

    law: PointwiseLaw
    trusted: Law | None

    def __call__(self, gradient: Tensor, features: Tensor, memory: Any = None) -> Response:
        x = torch.cat([gradient, features], dim=1)
        flux, tangent = self.law.linearised(x)
        outside = (~self.law.inside(x.detach())).nonzero()[:, 0]
        if not len(outside):
            return Response(flux, tangent)
        if self.trusted is None:
            first = x[outside[0]].tolist()
            raise InputError(
                f"{len(outside)} of {len(x)} points lie outside the samples of {type(self.law).__name__}, the first at "
                f"{[round(v, 4) for v in first]}; the box is {self.law.low.tolist()} to {self.law.high.tolist()}. "
                "Sample a larger box, or allow the classical law there (fallback=True)."
            )
        known = self.trusted(gradient[outside], features[outside])
        assert known.tangent is not None
        flux, tangent = flux.index_copy(0, outside, known.flux), tangent.index_copy(0, outside, known.tangent)
        return Response(flux, tangent, fallbacks=len(outside))


class Upscaled(ConductionStepper):
    """The two-scale problem with a learnt law: parameters in, the macroscopic field out, by the same mesh and Newton's method.

    Parameters
    ----------
    law : from (G_x, G_y, a, b, log kappa) in the axes of the inclusion to the mean flux: a `PointLaw`, or a rival
        fitted to the same samples.
    problem : gives grid, fields, and the cells that are asked outside the samples.
    fallback : whether these are asked there (``State.stats["fallbacks"]`` counts how often); False refuses.
    num_cells : of the mesh; the problem's where None.
    tolerance : of Newton's method.
    """

    def __init__(
        self,
        law: PointwiseLaw,
        problem: TwoScaleConduction,
        fallback: bool = True,
        num_cells: Sequence[int] | None = None,
        tolerance: float = 3e-3,
    ) -> None:
        if (law.inputs, law.outputs) != (5, 2):
            raise InputError(
                f"Upscaled expects a law from (G_x, G_y, a, b, log kappa) to 2 fluxes; got {law.inputs} inputs and {law.outputs} outputs."
            )
        super().__init__(problem.grid, law, problem.features, "source", problem.channels, num_cells, tolerance)
        self.problem, self.fallback = problem, fallback

    @property
    def _learnt(self) -> PointwiseLaw:
        assert isinstance(self.law, PointwiseLaw)
        return self.law

    def fit(self, window: Window) -> None:
        """Fit the law to samples of it (`slipstream.data.LawSamples`)."""
        self._learnt.fit(*_samples(window))

    def loss(self, window: Window, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean square error of fluxes, relative to the size of each (and to a tenth of the typical one where that is larger)."""
        x, y = _samples(window)
        size = y.square().sum(1)
        error = (self._learnt(x) - y).square().sum(1) / (size + 0.01 * size.mean())
        return error.mean(), {"law": error.detach().mean().sqrt()}

    def material(self) -> Law:
        return Turned(Guarded(self._learnt, self.problem.cell_law() if self.fallback else None))


def _samples(window: Window) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of the law in a window."""
    if LAW_INPUTS not in window.parameters or LAW_OUTPUTS not in window.parameters:
        raise InputError(
            f"Upscaled learns from samples of the law (data: {{class: LawSamples}}); this window holds {sorted(window.parameters)}."
        )
    return window.parameters[LAW_INPUTS], window.parameters[LAW_OUTPUTS]
