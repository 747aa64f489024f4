"""Spectral layers in the form that computes the same numbers sooner."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from slipstream.compression.transform import OneShot, Stage
from slipstream.operators.layers.spectral import Form, SpectralConv


class SpectralForm(OneShot):
    """Compute spectral convolutions by fast transforms, or by truncated ones as thin real matrix products.

    Exact up to rounding, with the same weights. Products win where few modes are kept; they also compile without gaps, and take
    number formats that fast transforms do not know.

    Parameters
    ----------
    form : ``"dft"``, the products, or ``"fft"``; see `slipstream.operators.layers.SpectralConv`.
    """

    stage: ClassVar[Stage] = Stage.STRUCTURE
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE})
    tolerance = 1e-4

    def __init__(self, form: Form = "dft") -> None:
        self.form = form

    @property
    def label(self) -> str:
        return f"{self.form} form"

    def unsuitable(self, module: nn.Module) -> str:
        layers = [m for m in module.modules() if isinstance(m, SpectralConv)]
        if not layers:
            return "it has no spectral convolutions"
        return f"they have the form {self.form!r} already" if all(m.form == self.form for m in layers) else ""

    def convert(self, module: nn.Module) -> nn.Module:
        for layer in module.modules():
            if isinstance(layer, SpectralConv):
                layer.form = self.form
        return module
