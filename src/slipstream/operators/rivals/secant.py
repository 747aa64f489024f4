"""The symmetries of `PointLaw` around any regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw


class SecantLaw(PointwiseLaw):
    r"""``q_x = G_x exp f(x), q_y = G_y exp f(x')`` with any regression f of the logarithm of a secant conductivity.

    x holds ``log(1 + (G_x / s)^2), log(1 + (G_y / s)^2)`` and the features, x' the same with the axes exchanged: the form that `PointLaw`
    has, so that polynomials, tables and radial functions are compared on equal terms with a network.

    Parameters
    ----------
    inner : one output. symmetries : pairs of inputs that trade places when the axes do, as in `PointLaw`.
    """

    scale: Tensor

    def __init__(self, inner: PointwiseLaw, symmetries: Sequence[Sequence[int]] = ((0, 1), (2, 3))) -> None:
        super().__init__(inner.inputs)
        if inner.outputs != 1:
            raise InputError(f"SecantLaw expects an inner law of 1 output; got {inner.outputs}.")
        self.inner, self.symmetries = inner, tuple(tuple(int(i) for i in pair) for pair in symmetries)
        if (0, 1) not in self.symmetries:
            raise InputError(f"An exchange of the axes exchanges the inputs 0 and 1; add (0, 1) to {self.symmetries}.")
        self._order = list(range(self.inputs))
        for i, j in self.symmetries:
            self._order[i], self._order[j] = j, i
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point 2"]:
        self._check(x)
        return x[:, :2] * self.inner(self._seen(x)).exp().reshape(2, -1).mT

    def linearised(
        self, x: Float[Tensor, "point inputs"]
    ) -> tuple[Float[Tensor, "point 2"], Float[Tensor, "point 2 2"]]:
        """By the chain rule from the tangents of the inner law."""
        self._check(x)
        f, slopes = self.inner.linearised(self._seen(x))
        k, g = f.exp().reshape(2, -1).mT, x[:, :2]
        flux = k * g
        here, there = slopes[:, 0].chunk(2)
        by_features = torch.stack([here, there.flip(1)], dim=1)  # the other axis sees the gradients exchanged
        by_gradient = by_features * (2 * g / (self.scale.square() + g * g))[:, None]
        return flux, flux[..., None] * by_gradient + torch.diag_embed(k)

    def _seen(self, x: Tensor) -> Tensor:
        z = torch.cat([(x[:, :2] / self.scale).square().log1p(), x[:, 2:]], dim=1)
        return torch.cat([z, z[:, self._order]])

    def fit(self, x: Float[Tensor, "sample inputs"], y: Float[Tensor, "sample 2"]) -> SecantLaw:
        """Fit the inner law to the logarithm of both secant conductivities.

        A sample with hardly a gradient along an axis says nothing of that axis.
        """
        self._samples(x, y)
        self.scale.copy_(x[:, :2].square().mean().sqrt())
        ratio = (y / x[:, :2]).mT.flatten()
        telling = (x[:, :2].abs() > 0.02 * self.scale).mT.flatten() & (ratio > 0)
        self.inner.fit(self._seen(x)[telling], ratio[telling].log()[:, None])
        return self
