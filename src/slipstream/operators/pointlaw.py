"""PointLaw: a learnt constitutive law, evaluated at points, with exact symmetries and closed-form tangents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw, levenberg_marquardt

CHUNK_POINTS = 1024
"""Points go through the network together in pieces whose activations a core's cache keeps."""


class PointLaw(PointwiseLaw):
    r"""Flux from gradient and features of a point, for materials with two mirror axes.

    In the secant form, a network gives the logarithm of the conductivity along the first axis,

    .. math:: q_x = G_x e^{f(|G_x|, |G_y|, p)}, \qquad q_y = G_y e^{f(|G_y|, |G_x|, p')}

    where p' are the features seen after an exchange of the axes: mirrors and exchange hold exactly, whatever the weights. In the potential
    form the flux is the gradient of a convex function of G whose coefficients a network gives,

    .. math:: q = \nabla_G \sum_j a_j(p) \, \psi_j\left(\sqrt{u_j(p) G_x^2 + v_j(p) G_y^2}\right), \qquad a_j, u_j, v_j > 0

    with psi quadratic, hardening (r^2/2 - sqrt(1 + r^2)) and softening (sqrt(1 + r^2)): tangents are symmetric and positive everywhere, so
    Newton's method on an assembly of such points minimises a convex energy; a law without such a potential, or one whose response no
    such sum describes, it can only approximate.

    Parameters
    ----------
    inputs : G_x, G_y and the features.
    symmetries : pairs of inputs that trade places when the axes do, the pair (0, 1) among them. Empty: the axes are not alike, and the
        network is told which one it is asked about.
    width, depth : of the network, tanh.
    potential : the second form. terms : how many hardening ones it has, and how many softening ones.
    """

    scale: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        inputs: int = 5,
        symmetries: Sequence[Sequence[int]] = ((0, 1), (2, 3)),
        width: int = 24,
        depth: int = 2,
        potential: bool = False,
        terms: int = 4,
    ) -> None:
        super().__init__(inputs)
        if inputs < 2 or width < 1 or depth < 1 or terms < 1:
            raise InputError(
                f"PointLaw expects inputs >= 2, width, depth and terms >= 1; got {inputs}, {width}, {depth}, {terms}."
            )
        self.symmetries = tuple(tuple(int(i) for i in pair) for pair in symmetries)
        self.width, self.depth, self.potential, self.terms = width, depth, potential, terms
        order = list(range(inputs))
        if not symmetries:
            order[:2] = 1, 0  # the gradients along and across are seen in this order by either axis
        for pair in self.symmetries:
            if len(pair) != 2 or min(pair) < 0 or max(pair) >= inputs or (min(pair) < 2) != (set(pair) == {0, 1}):
                raise InputError(
                    f"PointLaw expects pairs of inputs, (0, 1) and pairs among 2..{inputs - 1}; got {pair}."
                )
            order[pair[0]], order[pair[1]] = pair[1], pair[0]
        if order[0] == 0:
            raise InputError(f"An exchange of the axes exchanges the inputs 0 and 1; add (0, 1) to {self.symmetries}.")
        self._order = order
        self._flag = not self.symmetries and not potential
        entries = (inputs - 2 if potential else inputs) + self._flag
        outputs = 2 + 6 * terms if potential else 1
        sizes = [entries] + [width] * depth + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))

    def forward(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point 2"]:
        self._check(x)
        if self.potential:
            return self._by_potential(x, tangents=False)[0]
        rows, g = self._rows(x)
        return self._through(rows).exp().reshape(2, -1).mT * g

    def linearised(
        self, x: Float[Tensor, "point inputs"]
    ) -> tuple[Float[Tensor, "point 2"], Float[Tensor, "point 2 2"]]:
        """Fluxes and tangents in closed form: one pass forwards and one back."""
        self._check(x)
        evaluate = self._by_potential if self.potential else self._by_secant
        if len(x) <= CHUNK_POINTS:
            return evaluate(x)
        pieces = [evaluate(part) for part in x.split(CHUNK_POINTS)]
        return torch.cat([q for q, _ in pieces]), torch.cat([t for _, t in pieces])

    def fit(
        self, x: Float[Tensor, "sample inputs"], y: Float[Tensor, "sample 2"], steps: int = 60, seed: int = 0
    ) -> PointLaw:
        """Levenberg-Marquardt from random weights, on errors relative to the size of each flux.

        Parameters
        ----------
        steps : each costs (samples x parameters^2) operations: a second for 12,000 samples and the default network.
        seed : of the first weights.
        """
        self._samples(x, y)
        self._normalise(x, y, seed)
        size = y.square().sum(1)
        levenberg_marquardt(self, x, y, 1 / (size + 0.01 * size.mean()), steps)
        return self

    def _normalise(self, x: Tensor, y: Tensor, seed: int) -> None:
        with torch.no_grad():
            g = x[:, :2]
            self.scale.copy_(g.square().mean().sqrt())
            plain = torch.cat([(g / self.scale).square().log1p(), x[:, 2:]], dim=1)
            both = torch.cat([plain, plain[:, self._order]])
            # Alike for both axes to the bit, or rounding would break the exchange.
            centre, spread = both.mean(0), both.std(0).clamp(min=1e-6)
            self.centre.copy_(0.5 * (centre + centre[self._order]))
            self.spread.copy_(0.5 * (spread + spread[self._order]))
            generator = torch.Generator().manual_seed(seed)
            for layer in self._linear():
                drawn = torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5
                layer.weight.copy_(drawn)
                layer.bias.copy_(0.5 * torch.randn(layer.bias.shape, generator=generator))
            last = self._linear()[-1]
            last.weight.mul_(0.1)
            secant = (y.square().sum(1) / g.square().sum(1).clamp(min=1e-12)).sqrt().clamp(min=1e-12).log().mean()
            if self.potential:
                strength, scales = last.bias[2:].reshape(3, -1)[0], last.bias[2:].reshape(3, -1)[1:]
                last.bias[:2].copy_(secant)
                strength.add_(secant - 2.0)
                scales.sub_(2 * self.scale.log())
            else:
                last.bias.copy_(secant)

    def _linear(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def _both(self, rows: Tensor, order: list[int]) -> Tensor:
        """Rows of inputs as they are and, beside them, as the other axis sees them."""
        both = torch.cat([rows, rows[order]], dim=1)
        if not self._flag:
            return both
        flag = torch.ones_like(both[:1])
        flag[:, rows.shape[1] :] = -1
        return torch.cat([both, flag])

    def _rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = x[:, :2]
        plain = torch.cat([(g / self.scale).square().log1p().mT, x[:, 2:].mT])
        return self._both((plain - self.centre[:, None]) / self.spread[:, None], self._order), g

    def _through(self, h: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        for i, layer in enumerate(self._linear()):
            h = torch.addmm(layer.bias[:, None], layer.weight, h)
            if i < self.depth:
                h = h.tanh()
                if kept is not None:
                    kept.append(h)
        return h

    def _by_secant(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, g = self._rows(x)
        hidden: list[Tensor] = []
        k = self._through(rows, hidden).exp().reshape(2, -1)
        *layers, last = self._linear()
        back = last.weight.mT
        for layer, h in zip(reversed(layers), reversed(hidden), strict=True):
            back = layer.weight.mT @ (back * (1 - h * h))
        # Rows: derivative by the gradient along the axis asked about, and across it; columns: that axis.
        slopes = (back[:2] / self.spread[:2, None]).reshape(2, 2, -1)
        flux = k * g.mT
        per_gradient = (2 * g / (self.scale.square() + g * g)).mT
        tangent = torch.stack(
            [
                k[0] + flux[0] * slopes[0, 0] * per_gradient[0],
                flux[0] * slopes[1, 0] * per_gradient[1],
                flux[1] * slopes[1, 1] * per_gradient[0],
                k[1] + flux[1] * slopes[0, 1] * per_gradient[1],
            ],
            dim=-1,
        )
        return flux.mT, tangent.unflatten(-1, (2, 2))

    def _by_potential(self, x: Tensor, tangents: bool = True) -> tuple[Tensor, Tensor]:
        g = x[:, :2]
        p = (x[:, 2:].mT - self.centre[2:, None]) / self.spread[2:, None]
        if self.symmetries:
            coefficients = self._through(self._both(p, [i - 2 for i in self._order[2:]])).exp().unflatten(1, (2, -1))
            # What the exchanged axes see: the two scales of each term, and the two plain conductivities, trade places.
            plain = 0.5 * (coefficients[:2, 0] + coefficients[:2, 1].flip(0))
            terms = coefficients[2:].unflatten(0, (3, -1))
            a = 0.5 * torch.cat([terms[0, :, 0], terms[0, :, 1]])
            u, v = torch.cat([terms[1, :, 0], terms[2, :, 1]]), torch.cat([terms[2, :, 0], terms[1, :, 1]])
        else:
            coefficients = self._through(p).exp()
            plain, (a, u, v) = coefficients[:2], coefficients[2:].unflatten(0, (3, -1))
        gx, gy = g[:, 0], g[:, 1]
        inverse = (1 + u * gx.square() + v * gy.square()).rsqrt()
        softening = torch.arange(len(a), device=x.device)[:, None] % (2 * self.terms) >= self.terms
        weight = a * torch.where(softening, inverse, 1 - inverse)
        k = torch.stack([plain[0] + (weight * u).sum(0), plain[1] + (weight * v).sum(0)])
        flux = (k * g.mT).mT
        if not tangents:
            return flux, flux
        bend = a * inverse**3 * torch.where(softening, -1.0, 1.0)
        bx, by = u * gx, v * gy
        xy = (bend * bx * by).sum(0)
        tangent = torch.stack([k[0] + (bend * bx * bx).sum(0), xy, xy, k[1] + (bend * by * by).sum(0)], dim=-1)
        return flux, tangent.unflatten(-1, (2, 2))
