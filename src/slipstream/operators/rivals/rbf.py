"""Radial basis functions around the samples: kriging without its variance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw

KERNELS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "thin_plate": lambda square: 0.5 * square * square.clamp(min=1e-30).log(),
    "cubic": lambda square: square.clamp(min=1e-30) ** 1.5,
    "gaussian": lambda square: (-0.5 * square).exp(),
}
"""Of the squared distance, in widths."""


class RBF(PointwiseLaw):
    """A radial function around each centre plus a linear function: through the samples where nugget is 0.

    Parameters
    ----------
    inputs, outputs : numbers of each.
    num_centres : how many samples become centres (the first ones of a fit).
    kernel : ``"thin_plate"``, ``"cubic"`` or ``"gaussian"``.
    width : unit of distance, in standard deviations of the inputs.
    nugget : added to the diagonal: how far, in units of the kernel, samples need not be met.
    """

    centres: Tensor
    weights: Tensor
    linear: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        inputs: int = 5,
        outputs: int = 2,
        num_centres: int = 1000,
        kernel: str = "cubic",
        width: float = 1.0,
        nugget: float = 0.0,
    ) -> None:
        super().__init__(inputs, outputs)
        if kernel not in KERNELS or num_centres <= inputs or width <= 0 or nugget < 0:
            raise InputError(
                f"RBF expects a kernel of {sorted(KERNELS)}, more centres than inputs, width > 0 and nugget >= 0; got kernel={kernel!r}, "
                f"num_centres={num_centres}, width={width}, nugget={nugget}."
            )
        self.num_centres, self.kernel, self.width, self.nugget = num_centres, kernel, width, nugget
        self.register_buffer("centres", torch.zeros(num_centres, inputs))
        self.register_buffer("weights", torch.zeros(num_centres, outputs))
        self.register_buffer("linear", torch.zeros(inputs + 1, outputs))
        self.register_buffer("shift", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def forward(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point outputs"]:
        self._check(x)
        z = (x - self.shift) / self.scale
        return self._kernel(z) @ self.weights + _affine(z) @ self.linear

    def fit(self, x: Float[Tensor, "sample inputs"], y: Float[Tensor, "sample outputs"]) -> RBF:
        """One dense solve (in float64) on the first `num_centres` samples.

        Raises
        ------
        InputError : fewer samples than centres, or two that coincide.
        """
        self._samples(x, y)
        if len(x) < self.num_centres:
            raise InputError(
                f"RBF has {self.num_centres} centres and got {len(x)} samples; build it with num_centres={len(x)}."
            )
        kept = self.weights.dtype
        self.double()
        x, y = x[: self.num_centres].double(), y[: self.num_centres].double()
        self.shift.copy_(x.mean(0))
        self.scale.copy_(self.width * x.std(0).clamp(min=1e-12))
        z = (x - self.shift) / self.scale
        self.centres.copy_(z)
        apart = torch.cdist(z, z).fill_diagonal_(torch.inf).min()
        if self.nugget == 0 and float(apart) < 1e-7:
            raise InputError(
                "Some samples of the RBF coincide, and nugget=0 asks to meet both. Leave one out or use a nugget."
            )
        tail = _affine(z)
        n, k = len(z), tail.shape[1]
        system = torch.zeros(n + k, n + k, dtype=torch.float64)
        system[:n, :n] = self._kernel(z) + self.nugget * torch.eye(n, dtype=torch.float64)
        system[:n, n:], system[n:, :n] = tail, tail.mT
        right = torch.cat([y, y.new_zeros(k, self.outputs)])
        found, failed = torch.linalg.solve_ex(system, right)
        if bool(failed) or not bool(torch.isfinite(found).all()):
            raise InputError("The samples do not fix the RBF: they lie in a plane. Vary every input, or leave it out.")
        self.weights.copy_(found[:n])
        self.linear.copy_(found[n:])
        self.to(kept)
        return self

    def _kernel(self, z: Tensor) -> Tensor:
        square = (z[:, None] - self.centres).square().sum(-1)
        return KERNELS[self.kernel](square)


def _affine(z: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(z[:, :1]), z], dim=1)
