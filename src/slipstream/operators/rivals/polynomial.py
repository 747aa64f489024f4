"""Polynomials of a total degree, by least squares."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw


def exponents(inputs: int, degree: int) -> list[tuple[int, ...]]:
    """Every multi-index of `inputs` entries that sum to at most `degree`; a product of factors comes after its factors."""
    found: list[tuple[int, ...]] = [(0,) * inputs]
    layer = found
    for _ in range(degree):
        # Raising entries no earlier than the last one raised gives each index once.
        layer = [
            tuple(e + (i == j) for i, e in enumerate(index))
            for index in layer
            for j in range(max((i for i, e in enumerate(index) if e), default=0), inputs)
        ]
        found = found + layer
    return found


class PolynomialLaw(PointwiseLaw):
    """A polynomial of a total degree in all inputs: products of Legendre polynomials over the box of the samples.

    The fit is least squares by QR (no ridge): unique with as many samples as terms or more, and exact where the samples come from such a
    polynomial.

    Parameters
    ----------
    inputs, outputs : numbers of each. degree : total.
    """

    index: Tensor
    coefficients: Tensor

    def __init__(self, inputs: int = 5, outputs: int = 2, degree: int = 4) -> None:
        super().__init__(inputs, outputs)
        if degree < 0:
            raise InputError(f"PolynomialLaw expects a degree of at least 0; got {degree}.")
        self.degree = degree
        index = torch.tensor(exponents(inputs, degree))
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("coefficients", torch.zeros(len(index), outputs))

    def terms(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point term"]:
        """Every product at every point."""
        factors = self._factors(x)
        return self._product(factors, range(self.inputs)).mT

    def _factors(self, x: Tensor) -> Tensor:
        """Legendre polynomials of each input, (degree, input, point)."""
        low, high = self.box()
        z = ((2 * x - (low + high)) / self._extent()).mT.contiguous()
        found = [torch.ones_like(z), z]
        for n in range(1, self.degree):
            found.append(((2 * n + 1) * z * found[n] - n * found[n - 1]) / (n + 1))
        return torch.stack(found[: self.degree + 1])

    def _slopes(self, factors: Tensor) -> Tensor:
        """The derivative of each factor by its own input."""
        found = [torch.zeros_like(factors[0]), torch.ones_like(factors[0])]
        for n in range(1, self.degree):
            found.append(found[n - 1] + (2 * n + 1) * factors[n])
        return torch.stack(found[: self.degree + 1]) * (2 / self._extent())[:, None]

    def _extent(self) -> Tensor:
        low, high = self.box()
        return (high - low).clamp(min=1e-12)

    def _product(self, factors: Tensor, which: range) -> Tensor:
        product = torch.ones_like(factors[0, 0]).expand(len(self.index), -1)
        for i in which:
            product = product * factors[self.index[:, i], i]
        return product

    def linearised(
        self, x: Float[Tensor, "point inputs"]
    ) -> tuple[Float[Tensor, "point outputs"], Float[Tensor, "point outputs 2"]]:
        """Values and derivatives in closed form."""
        self._check(x)
        factors = self._factors(x)
        slopes = self._slopes(factors)
        rest = self._product(factors, range(2, self.inputs))
        first, second = self.index[:, 0], self.index[:, 1]
        by_first = factors[second, 1] * rest
        terms = (
            factors[first, 0] * by_first,
            slopes[first, 0] * by_first,
            factors[first, 0] * slopes[second, 1] * rest,
        )
        y, along, across = (t.mT @ self.coefficients for t in terms)
        return y, torch.stack([along, across], dim=-1)

    def forward(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point outputs"]:
        self._check(x)
        return self.terms(x) @ self.coefficients

    def fit(
        self,
        x: Float[Tensor, "sample inputs"],
        y: Float[Tensor, "sample outputs"],
        weight: Float[Tensor, " sample"] | None = None,
    ) -> PolynomialLaw:
        """Least squares (in float64), each sample weighted where weights are given.

        Raises
        ------
        InputError : fewer samples than terms, or samples that do not tell all terms apart.
        """
        self._samples(x, y)
        if len(x) < len(self.index):
            raise InputError(
                f"A polynomial of degree {self.degree} in {self.inputs} inputs has {len(self.index)} terms; "
                f"{len(x)} samples cannot fix them."
            )
        kept = self.coefficients.dtype
        self.double()
        root = torch.ones(len(x), dtype=torch.float64) if weight is None else weight.double().sqrt()
        q, r = torch.linalg.qr(root[:, None] * self.terms(x.double()))
        size = r.diagonal().abs()
        if float(size.min()) < 1e-11 * float(size.max()):
            raise InputError(
                f"The {len(x)} samples do not tell the {len(self.index)} terms of degree {self.degree} apart."
            )
        self.coefficients.copy_(torch.linalg.solve_triangular(r, q.mT @ (root[:, None] * y.double()), upper=True))
        self.to(kept)
        return self
