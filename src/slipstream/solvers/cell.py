"""The periodic cell: mean flux and consistent tangent of a two-phase material, many cells at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.solvers.macro import Response
from slipstream.solvers.voxels import Voxels, ellipse

CHUNK_BYTES = 1 << 18
"""Cells are solved together as long as one of their fields stays below this size: a dozen fields then fit a core's cache."""
NEWTON_STEPS, CG_STEPS = 40, 200


@dataclass(frozen=True)
class CellMemory:
    """What a later call on the same cells can start from: their gradient fields, and how these respond to the mean gradient."""

    mean: Tensor
    picture: Tensor
    field: Tensor
    correctors: Tensor | None


class CellLaw:
    r"""Mean flux through a periodic square cell: a matrix of conductivity 1 around an elliptical inclusion.

    .. math:: \nabla \cdot k(g) g = 0, \quad g = G + \nabla v, \quad q = \langle k(g) g \rangle, \quad
              k = 1 \text{ or } \kappa \sqrt{1 + h |g|^2}

    The axes of the cell are those of the ellipse. Fluxes derive from a convex potential, hence the tangent dq/dG is symmetric and positive.

    Gradients live on the centres of pixels, between nodes (the rotated scheme). Newton's method, each step by conjugate gradients with
    the constant-coefficient problem as preconditioner (two FFTs of one scalar). With tangents, the correctors that these need also
    cancel the first-order error of the flux, and predict the fields of the next call: warm starts are then correct to second order.

    Parameters
    ----------
    num_points : pixels along each side.
    tolerance : of the residual, relative to the flux, in the norm of the flux.
    tangent_tolerance : the same of the correctors; the tangent's error is its square.
    hardening : h; 0 makes the inclusion linear.

    References
    ----------
    Moulinec & Suquet, Comput. Methods Appl. Mech. Eng. 157 (1998) 69; Willot, C. R. Mecanique 343 (2015) 232 (rotated scheme);
    Zeman et al., J. Comput. Phys. 229 (2010) 8065 (conjugate gradients).
    """

    def __init__(
        self, num_points: int = 32, tolerance: float = 1e-3, tangent_tolerance: float = 1e-2, hardening: float = 1.0
    ) -> None:
        if num_points < 3 or not (0 < tolerance < 1 and 0 < tangent_tolerance < 1) or hardening < 0:
            raise InputError(
                "CellLaw expects num_points >= 3, tolerances in (0, 1) and hardening >= 0; got "
                f"{num_points}, {tolerance}, {tangent_tolerance}, {hardening}."
            )
        self.num_points, self.tolerance, self.tangent_tolerance = num_points, tolerance, tangent_tolerance
        self.hardening = hardening
        self._symbols: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(
        self,
        gradient: Float[Tensor, "cell 2"],
        features: Float[Tensor, "cell 3"],
        memory: CellMemory | None = None,
        tangents: bool = True,
    ) -> Response:
        """Flux, tangent (where wanted) and memory of each cell.

        Parameters
        ----------
        gradient : mean gradient. features : semi-axes a and b (of a unit cell) and log kappa.
        memory : of the last call on the same cells.

        Raises
        ------
        UnstableStep : some cell did not converge.
        """
        if features.shape[-1] != 3:
            raise ShapeError(f"CellLaw expects the features a, b and log kappa; got shape {tuple(features.shape)}.")
        semi = features[:, :2].detach()
        if bool((semi <= 0).any()) or bool((semi > 0.5).any()):
            raise InputError(
                f"Semi-axes from {float(semi.min()):.3g} to {float(semi.max()):.3g}: an ellipse in a unit cell has them in (0, 0.5]."
            )
        size = max(1, CHUNK_BYTES // (self.num_points**2 * gradient.element_size()))
        pieces = []
        for i in range(0, len(gradient), size):
            part = slice(i, i + size)
            known = None if memory is None else _take(memory, part)
            a, b, log_kappa = features[part].unbind(-1)
            kept = known is not None and not features.requires_grad
            picture = known.picture if kept and known is not None else ellipse(a, b, self.num_points)
            pieces.append(self.respond(picture, log_kappa, gradient[part], known, tangents))
        return _joined(pieces)

    def respond(
        self,
        picture: Float[Tensor, "cell 3 x y"],
        log_kappa: Float[Tensor, " cell"],
        gradient: Float[Tensor, "cell 2"],
        memory: CellMemory | None = None,
        tangents: bool = True,
    ) -> Response:
        """The same for any picture of the inclusion: its fraction in each pixel and the unit normal of its edge there.

        All cells at once, without chunks. Differentiable in every tensor where tangents are asked for.
        """
        with torch.no_grad():
            voxels = Voxels(picture, log_kappa.exp(), self.hardening)
            g = self._balanced(self._predicted(gradient, memory), voxels)
            correctors = self._correctors(g, voxels, memory) if tangents else None
        if correctors is None:
            return Response(voxels.flux(g).mean((-2, -1)), None, CellMemory(gradient.detach(), picture, g, None))
        # The weights e_d + grad w_d meet no more than the residual: they take away the first-order error of the flux, and the derivative of
        # what is written here, at fixed fields, is the derivative of the flux.
        moving = g + (gradient - gradient.detach())[:, :, None, None]
        local = Voxels(picture, log_kappa.exp(), self.hardening).flux(moving)
        flux = torch.einsum("bixy,bdixy->bd", local, correctors) / self.num_points**2
        with torch.no_grad():
            stretched = _times(voxels.moduli(g), correctors)
            tangent = torch.einsum("bdixy,beixy->bde", stretched, correctors) / self.num_points**2
        return Response(flux, tangent, CellMemory(gradient.detach(), picture.detach(), g, correctors))

    def _predicted(self, gradient: Tensor, memory: CellMemory | None) -> Tensor:
        if memory is None:
            return gradient[:, :, None, None].expand(-1, -1, self.num_points, self.num_points).clone()
        change = gradient - memory.mean
        if memory.correctors is None:
            return memory.field + change[:, :, None, None]
        return memory.field + torch.einsum("bd,bdixy->bixy", change, memory.correctors)

    def _balanced(self, g: Tensor, voxels: Voxels) -> Tensor:
        """Newton steps until the flux has no sources; a step that made things worse is halved."""
        step, last = torch.zeros_like(g), g.new_full((len(g),), math.inf)
        for _ in range(NEWTON_STEPS):
            flux = voxels.flux(g)
            source = divergence(flux)
            potential = self._green(source)
            size = _dot(source, potential)
            goal = self.tolerance**2 * flux.mean((-2, -1)).square().sum(1) * self.num_points**2
            worse = size > last
            if bool((worse & (size > goal)).any()):
                step = torch.where(worse[:, None, None, None], 0.5 * step, 0.0)
                g = g - step
                last = torch.where(worse, last, size)
                continue
            if bool((size <= goal).all()):
                return g
            moduli = voxels.moduli(g)
            step = self._solve(source[:, None], potential[:, None], moduli, torch.maximum(0.01 * size, 0.1 * goal))[
                :, 0
            ]
            g, last = g + step, size
        worst = float((size / goal.clamp(min=1e-300)).max().sqrt() * self.tolerance)
        raise UnstableStep(
            f"CellLaw: a cell kept a residual of {worst:.2g} after {NEWTON_STEPS} Newton steps, more than tolerance={self.tolerance:g}. "
            "Use float64 or a larger tolerance."
        )

    def _correctors(self, g: Tensor, voxels: Voxels, memory: CellMemory | None) -> Tensor:
        """Fields e_d + grad w_d whose stretched flux has no sources, for both directions d."""
        moduli = voxels.moduli(g)
        if memory is None or memory.correctors is None:
            unit = torch.eye(2, dtype=g.dtype, device=g.device)
            field = unit[:, :, None, None].expand(len(g), 2, 2, *g.shape[2:])
        else:
            field = memory.correctors
        flux = _times(moduli, field)
        source = divergence(flux)
        potential = self._green(source)
        goal = self.tangent_tolerance**2 * flux.mean((-2, -1)).square().sum(-1) * self.num_points**2
        return field + self._solve(source, potential, moduli, goal)

    def _solve(self, source: Tensor, potential: Tensor, moduli: tuple[Tensor, Tensor, Tensor], goal: Tensor) -> Tensor:
        """grad w with div(A grad w) = -source, by preconditioned conjugate gradients; `goal` bounds (source, potential)."""
        goal = goal if goal.ndim == 2 else goal[:, None]
        d, residual = potential, source
        size = _dot(residual, potential)
        result = d.new_zeros(*d.shape[:2], 2, *d.shape[2:])
        for _ in range(CG_STEPS):
            if bool((size <= goal).all()):
                return result
            slope = gradients(d)
            back = divergence(_times(moduli, slope))
            alpha = size / (-_dot(d, back)).clamp(min=1e-30)
            result = torch.addcmul(result, alpha[..., None, None, None], slope)
            residual = torch.addcmul(residual, alpha[..., None, None], back)
            z = self._green(residual)
            new = _dot(residual, z)
            d = torch.addcmul(z, (new / size.clamp(min=1e-30))[..., None, None], d)
            size = new
        return result

    def _green(self, source: Tensor) -> Tensor:
        """The periodic solution of -div grad = source, in these differences."""
        key = (source.dtype, source.device)
        if key not in self._symbols:
            self._symbols[key] = _inverse_laplacian(self.num_points, *key)
        return torch.fft.irfft2(torch.fft.rfft2(source) * self._symbols[key], s=source.shape[-2:])


def gradients(v: Float[Tensor, "*batch x y"]) -> Float[Tensor, "*batch 2 x y"]:
    """Gradient at the centres of pixels from the values at their corners (rotated scheme, unit cell)."""
    n = v.shape[-1]
    right = v.roll(-1, -2)
    total, change = right + v, right - v
    result = v.new_empty(*v.shape[:-2], 2, *v.shape[-2:])
    torch.add(change.roll(-1, -1), change, out=result[..., 0, :, :])
    torch.sub(total.roll(-1, -1), total, out=result[..., 1, :, :])
    return result.mul_(n / 2)


def divergence(f: Float[Tensor, "*batch 2 x y"]) -> Float[Tensor, "*batch x y"]:
    """Minus the adjoint of `gradients`."""
    n = f.shape[-1]
    x, y = f[..., 0, :, :], f[..., 1, :, :]
    before_x, before_y = x.roll(1, -1), y.roll(1, -1)
    across, along = x + before_x, y - before_y
    total, change = along + across, along - across
    return (total + change.roll(1, -2)).mul_(n / 2)


def _inverse_laplacian(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    kx = math.pi * torch.fft.fftfreq(n, dtype=torch.float64)[:, None]
    ky = math.pi * torch.fft.rfftfreq(n, dtype=torch.float64)
    sx, sy = kx.sin().square(), ky.sin().square()
    symbol = 4 * n**2 * (sx * (1 - sy) + sy * (1 - sx))
    # The mean, and for even n the chequerboard, have no gradient.
    inverse = torch.where(symbol > 1e-9 * n**2, 1 / symbol, 0.0)
    return inverse.to(dtype=dtype, device=device)


def _times(moduli: tuple[Tensor, Tensor, Tensor], field: Tensor) -> Tensor:
    """Local tangents times fields (cell, direction, 2, x, y)."""
    xx, xy, yy = (m[:, None] for m in moduli)
    x, y = field[:, :, 0], field[:, :, 1]
    result = torch.empty_like(field)
    result[:, :, 0] = torch.addcmul(xx * x, xy, y)
    result[:, :, 1] = torch.addcmul(xy * x, yy, y)
    return result


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum((-2, -1))


def _take(memory: CellMemory, part: slice) -> CellMemory:
    correctors = None if memory.correctors is None else memory.correctors[part]
    return CellMemory(memory.mean[part], memory.picture[part], memory.field[part], correctors)


def _joined(pieces: list[Response]) -> Response:
    if len(pieces) == 1:
        return pieces[0]
    memories = [p.memory for p in pieces]
    correctors = None if memories[0].correctors is None else torch.cat([m.correctors for m in memories])
    memory = CellMemory(
        torch.cat([m.mean for m in memories]),
        torch.cat([m.picture for m in memories]),
        torch.cat([m.field for m in memories]),
        correctors,
    )
    tangents = [p.tangent for p in pieces if p.tangent is not None]
    return Response(torch.cat([p.flux for p in pieces]), torch.cat(tangents) if tangents else None, memory)
