"""Laws at points: a flux from a gradient and what is known of the point."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.pretrained import Pretrained


class PointwiseLaw(Pretrained):
    """A map (point, inputs) -> (point, outputs) that is fitted to samples and knows where these lay.

    The first two inputs are the gradient by which `linearised` differentiates. A subclass sets `inputs` and `outputs` through this
    constructor and writes `forward` and `fit`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, inputs: int, outputs: int = 2) -> None:
        super().__init__()
        if inputs < 1 or outputs < 1:
            raise InputError(
                f"{type(self).__name__} needs at least 1 input and 1 output; got inputs={inputs}, outputs={outputs}."
            )
        self.inputs, self.outputs = inputs, outputs
        self.register_buffer("low", torch.full((inputs,), -torch.inf))
        self.register_buffer("high", torch.full((inputs,), torch.inf))

    def fit(self, x: Float[Tensor, "sample inputs"], y: Float[Tensor, "sample outputs"]) -> PointwiseLaw:
        """Fit to samples, and remember the box that they fill. Returns itself."""
        raise TypeError(f"{type(self).__name__} defines no fit(x, y).")

    def inside(self, x: Float[Tensor, "point inputs"]) -> Bool[Tensor, " point"]:
        """Which points lie in the box of the samples; everywhere, before a fit."""
        return ((x >= self.low) & (x <= self.high)).all(-1)

    def box(self) -> tuple[Float[Tensor, " inputs"], Float[Tensor, " inputs"]]:
        """Lowest and highest inputs of the samples; -1 and 1 before a fit."""
        one = torch.ones_like(self.low)
        return torch.where(self.low.isfinite(), self.low, -one), torch.where(self.high.isfinite(), self.high, one)

    def linearised(
        self, x: Float[Tensor, "point inputs"]
    ) -> tuple[Float[Tensor, "point outputs"], Float[Tensor, "point outputs 2"]]:
        """The outputs, and their exact derivatives by the first two inputs."""
        directions = torch.eye(2, self.inputs, dtype=x.dtype, device=x.device)

        def along(direction: Tensor) -> tuple[Tensor, Tensor]:
            value, slope, *_ = torch.func.jvp(self, (x,), (direction.expand_as(x),))
            return value, slope

        (y, first), (_, second) = along(directions[0]), along(directions[1])
        return y, torch.stack([first, second], dim=-1)

    def _samples(self, x: Tensor, y: Tensor) -> None:
        """Refuse samples that do not fit, and keep their box."""
        self._check(x)
        if y.ndim != 2 or y.shape != (len(x), self.outputs):
            raise ShapeError(
                f"{type(self).__name__}.fit expects y of shape ({len(x)}, {self.outputs}) beside x of {tuple(x.shape)}; "
                f"got {tuple(y.shape)}."
            )
        if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise InputError(f"{type(self).__name__}.fit got non-finite samples; leave them out.")
        self.low.copy_(x.amin(0))
        self.high.copy_(x.amax(0))

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ShapeError(f"{type(self).__name__} expects (point, {self.inputs}); got {tuple(x.shape)}.")


def levenberg_marquardt(
    module: PointwiseLaw,
    x: Float[Tensor, "sample inputs"],
    y: Float[Tensor, "sample outputs"],
    weight: Float[Tensor, " sample"],
    steps: int,
    rows: int = 2048,
) -> list[float]:
    """Fit the parameters of a small module by damped Gauss-Newton steps, in place (float64 inside).

    Minimises ``mean(weight * |module(x) - y|^2)``. A step costs (samples x outputs x parameters^2) operations: for up to a few thousand
    parameters, where it beats gradient descent by orders of magnitude in accuracy.

    Returns
    -------
    The loss before each step and after the last.

    References
    ----------
    Marquardt, SIAM J. Appl. Math. 11 (1963) 431.
    """
    kept = next(module.parameters()).dtype
    module.double()
    x, y, root = x.double(), y.double(), (weight.double() / len(x)).sqrt()
    values = {k: v.detach() for k, v in module.named_parameters()}
    buffers = dict(module.named_buffers())
    names, sizes = list(values), [v.numel() for v in values.values()]

    def unflat(flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split(sizes)
        return {k: p.reshape(values[k].shape) for k, p in zip(names, parts, strict=True)}

    def residual(flat: Tensor, part: slice) -> Tensor:
        out = torch.func.functional_call(module, {**unflat(flat), **buffers}, (x[part],))
        return root[part, None] * (out - y[part])

    def loss(flat: Tensor) -> float:
        return float(residual(flat, slice(None)).square().sum())

    def one(flat: Tensor, point: Tensor) -> Tensor:
        return torch.func.functional_call(module, {**unflat(flat), **buffers}, (point[None],))[0]

    slopes = torch.func.vmap(torch.func.jacrev(one), in_dims=(None, 0))
    theta = torch.cat([v.flatten() for v in values.values()])
    damping, losses = 1e-2, [loss(theta)]
    for _ in range(steps):
        normal, right = theta.new_zeros(len(theta), len(theta)), theta.new_zeros(len(theta))
        for first in range(0, len(x), rows):
            part = slice(first, first + rows)
            j = (root[part, None, None] * slopes(theta, x[part])).flatten(0, 1)
            normal.addmm_(j.mT, j)
            right.addmv_(j.mT, residual(theta, part).flatten())
        for _ in range(8):
            damped = normal + torch.diag(damping * normal.diagonal() + 1e-14 * normal.diagonal().max())
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not bool(failed):
                trial = theta - torch.cholesky_solve(right[:, None], factor)[:, 0]
                new = loss(trial)
                if new < losses[-1]:
                    theta, damping = trial, max(damping / 5, 1e-12)
                    break
            damping *= 4
        else:
            break
        losses.append(new)
    with torch.no_grad():
        for name, value in unflat(theta).items():
            module.get_parameter(name).copy_(value)
    module.to(kept)
    return losses
