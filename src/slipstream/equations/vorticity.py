r"""The advection of vorticity in the plane, in two complex transforms.

With the velocity packed as one complex field ``z = u + i v``, incompressible advection is the curl of a divergence,

.. math::
    u \cdot \nabla \omega = (\partial_x^2 - \partial_y^2)(u v) + \partial_x \partial_y (v^2 - u^2)
    = \tfrac12 \operatorname{Im} \left[ (\partial_x - i \partial_y)^2 z^2 \right]:

one inverse transform, one square, one forward transform, and the imaginary part. Nothing else is needed if the coefficients are
kept as a centred box of the wavenumbers -h..h along both axes that the 2/3 rule keeps:

- placed in the first corner of the transform's array the box stands for ``z`` times the wave ``exp(i h (x + y))`` (in grid units),
  the square for ``z^2`` times ``exp(2 i h (x + y))``, so that the coefficients of ``z^2`` come out at an offset of 2 h, whole;
- k and -k are mirror images, so that the imaginary part is a flip and a sum, without any index table.

The box holds (2h + 1)^2 complex numbers, about 0.9 of a half spectrum.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid

HalfSpectrum = Complex[Tensor, "batch 1 nx my"]
Box = Complex[Tensor, "batch 1 bx by"]


class CentredModes:
    """The coefficients that the 2/3 rule keeps, of real fields in the plane, as a centred box.

    Entry ``[..., i, j]`` belongs to the wavenumber ``(i - hx, j - hy)`` with ``h = (n - 1) // 3`` an axis, the largest for which no
    product of two kept modes folds onto a kept one. Scaling as in `torch.fft.rfft2`: unnormalised. Every method is differentiable.

    Parameters
    ----------
    grid : periodic, two axes of at least 4 points; sides and numbers of points may differ.
    dtype, device : of the fields (a real dtype).
    """

    def __init__(
        self, grid: Grid, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> None:
        if grid.num_dims != 2 or not grid.periodic or min(grid.shape) < 4:
            raise InputError(
                f"CentredModes expects a periodic grid of two axes with at least 4 points each; got {grid.shape} points, "
                f"periodic={[a.periodic for a in grid.axes]}."
            )
        self.grid, self.dtype, self.device = grid, dtype, device
        self._complex = dtype.to_complex()
        self.half = tuple((n - 1) // 3 for n in grid.shape)
        self.shape = tuple(2 * h + 1 for h in self.half)
        self._rows = torch.arange(-self.half[0], self.half[0] + 1, device=device) % grid.shape[0]

    def wavenumbers(self, dtype: torch.dtype | None = None) -> tuple[Float[Tensor, "bx 1"], Float[Tensor, "1 by"]]:
        """Angular wavenumbers along the box, exactly antisymmetric."""
        kx, ky = (
            (2 * math.pi / extent) * torch.arange(-h, h + 1, dtype=torch.float64)
            for h, extent in zip(self.half, self.grid.extent, strict=True)
        )
        kind = dtype or self.dtype
        return kx.to(self.device, kind)[:, None], ky.to(self.device, kind)[None, :]

    def from_half(self, f_hat: Shaped[Tensor, "*batch nx my"]) -> Shaped[Tensor, "*batch bx by"]:
        """The box of a half spectrum `torch.fft.rfft2` or of a real symbol; what the 2/3 rule drops is dropped."""
        nx, ny = self.grid.shape
        if tuple(f_hat.shape[-2:]) != (nx, ny // 2 + 1):
            raise ShapeError(
                f"A half spectrum on {self.grid.shape} points has (..., {nx}, {ny // 2 + 1}) coefficients; got {tuple(f_hat.shape)}."
            )
        right = f_hat[..., : self.half[1] + 1].index_select(-2, self._rows)
        left = right[..., 1:].flip(-2, -1).conj_physical()
        return torch.cat([left, right], dim=-1)

    def to_half(self, box: Complex[Tensor, "*batch bx by"]) -> Complex[Tensor, "*batch nx my"]:
        """The half spectrum of a box, zero where the 2/3 rule drops."""
        self.check(box)
        (nx, ny), (hx, hy) = self.grid.shape, self.half
        half = torch.nn.functional.pad(box[..., hy:], (0, ny // 2 - hy, 0, nx - 2 * hx - 1))
        return half.roll(-hx, -2)

    def forward(self, f: Float[Tensor, "*batch nx ny"]) -> Complex[Tensor, "*batch bx by"]:
        """The box of a real field; what the 2/3 rule drops is dropped."""
        self.grid.check(f, "CentredModes.forward")
        return self.from_half(torch.fft.rfft2(f))

    def inverse(self, box: Complex[Tensor, "*batch bx by"]) -> Float[Tensor, "*batch nx ny"]:
        """The real field of a box."""
        return torch.fft.irfft2(self.to_half(box), s=self.grid.shape)

    def place(self, box: Complex[Tensor, "*batch bx by"]) -> Complex[Tensor, "*batch nx ny"]:
        """The box in the first corner of the transform's array."""
        (nx, ny), (bx, by) = self.grid.shape, self.shape
        return torch.nn.functional.pad(box, (0, ny - by, 0, nx - bx))

    def check(self, box: Tensor) -> None:
        """Refuse what is no box of these modes."""
        if box.shape[-2:] != self.shape or box.dtype != self._complex:
            raise ShapeError(
                f"The centred modes of {self.grid.shape} points are {self._complex} of shape (..., {self.shape[0]}, {self.shape[1]}); "
                f"got {box.dtype} of shape {tuple(box.shape)}. Make one by CentredModes.forward or from_half."
            )


class VorticityAdvection:
    """``u . grad(w)`` from coefficients of the vorticity w to coefficients, dealiased by the 2/3 rule, for mean-free velocity.

    Parameters
    ----------
    grid, dtype, device : as in `CentredModes`.
    factor : what the result is multiplied with, at no cost; -1 gives the rate at which vorticity changes.

    Attributes
    ----------
    modes : the box in which `centred` works.
    """

    def __init__(
        self,
        grid: Grid,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        factor: float = 1.0,
    ) -> None:
        self.grid, self.dtype, self.device, self.factor = grid, dtype, device, factor
        self.modes = CentredModes(grid, dtype, device)
        kx, ky = self.modes.wavenumbers(torch.float64)
        k = torch.complex(kx.expand(self.modes.shape), -ky.expand(self.modes.shape))
        zero = k.abs() == 0
        self._velocity = torch.where(zero, 0, 1 / torch.where(zero, 1, k)).to(device, dtype.to_complex())
        self._curl = (0.25j * factor * k * k).to(device, dtype.to_complex())
        (hx, hy), (bx, by) = self.modes.half, self.modes.shape
        self._offset = (..., slice(hx, hx + bx), slice(hy, hy + by))
        self._spare: list[tuple[Tensor, Tensor]] = []

    def __call__(self, w_hat: HalfSpectrum) -> HalfSpectrum:
        """From half spectrum to half spectrum."""
        return self.modes.to_half(self.centred(self.modes.from_half(w_hat)))

    def centred(self, w: Box) -> Box:
        """From box to box: the fast form, for steppers that keep their state so."""
        if torch.is_grad_enabled():
            self.modes.check(w)
            squared = torch.fft.fft2(torch.fft.ifft2(self.modes.place(w * self._velocity)).square())
            term = squared[self._offset] * self._curl
            return term + term.flip(-2, -1).conj()
        # In place: fresh memory for every intermediate costs more than the arithmetic on it.
        array, corner = self._take(w)
        torch.mul(w, self._velocity, out=corner)
        term = torch.fft.fft2(torch.fft.ifft2(array).square_())[self._offset] * self._curl
        self._spare.append((array, corner))
        return term.flip(-2, -1).conj_physical_().add_(term)

    def _take(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """An array of zeros and its first corner, for this call alone: whoever takes it gives it back.

        Only the corner is ever written, so the zeros are written once. Taking and giving back are atomic: threads do not meet.
        """
        try:
            array, corner = self._spare.pop()
            if corner.shape == w.shape and corner.dtype == w.dtype:
                return array, corner
        except IndexError:
            pass  # none yet, or all in use
        self.modes.check(w)
        with torch.inference_mode(False):
            array = w.new_zeros(*w.shape[:-2], *self.grid.shape)
        return array, array[..., : w.shape[-2], : w.shape[-1]]
