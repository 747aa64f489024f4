"""How well a guessed direction solves a linear system, whatever its length: the label-free loss of deep conjugate directions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.solvers.linear.dcdm import DCDM
from slipstream.solvers.linear.maps import LinearMap, as_map
from slipstream.solvers.linear.stencil import Stencil
from slipstream.trajectories import Window

MEMBER, SYSTEM, ENERGY = "member", "system", "energy"
"""Parameters of a window: of which member of a list of systems its right-hand sides b are, to which system of that batch each belongs, and
what b A^-1 b is."""


class ConjugateDirection(Objective):
    r"""What the best step along the network's direction y leaves of the error of ``A x = b``; its length does not matter, no solution
    is needed, and gradients flow through the length of the step.

    The step is the one that `slipstream.solvers.linear.DCDM` takes, :math:`\lambda = \frac{y \cdot b}{y \cdot A y}`. It leaves

    - ``"energy"``: the share :math:`1 - \frac{(y \cdot b)^2}{(y \cdot A y)\, (b \cdot A^{-1} b)}` of the squared energy norm, which
      is what the method reduces, and which falls from 1 to 0; :math:`b \cdot A^{-1} b` is a number that the source knows
      (`slipstream.data.RitzVectors`; where that is a little too small, the loss may end a little below 0);
    - ``"residual"``: :math:`\| b - \lambda A y \|^2` for unit b, the loss of the paper. It rises above 1 for any y with
      a little roughness, however well it points, since A magnifies that; so it guides slowly.

    Parameters
    ----------
    A : symmetric positive definite, as for `slipstream.solvers.linear.solve`, with attribute ``space`` or the points of the window; or
        a list of those, on several grids say, of which ``window.parameters["member"]`` chooses one. For a batch of systems,
        ``window.parameters["system"]`` names that of each right-hand side.
    left : ``"energy"`` or ``"residual"``.
    conditions : for the network, as for `DCDM`.

    Raises
    ------
    InputError : as `DCDM`; a window without the parameters that are needed, or on another grid than its system.

    Source: Kaneda et al., ICML 2023 (arXiv:2205.10763), for ``"residual"``.
    """

    def __init__(
        self, A: Any, left: Literal["energy", "residual"] = "energy", conditions: Float[Tensor, "..."] | None = None
    ) -> None:
        if left not in ("energy", "residual"):
            raise InputError(f"What is left is measured as 'energy' or as 'residual'; got {left!r}.")
        self.A, self.left, self.conditions = A, left, conditions
        self.members = list(A) if isinstance(A, (list, tuple)) else [A]

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        return 1, 0

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        b = window.frames[:, 0, 0]
        system = self._system(window)
        A, r = as_map(system, b if hasattr(system, "space") else b.flatten(1)), b.flatten(1)
        y = DCDM(module, space=tuple(b.shape[1:]), conditions=self.conditions).guess(A)(r)
        # Of unit length, so that no power of a small answer vanishes in single precision.
        y = y / torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny)
        image = _Symmetric.apply(y, A)
        along, curvature = (y * r).sum(1), (y * image).sum(1)
        if self.left == "energy":
            scores = 1 - along.square() / (curvature * self._of(window, ENERGY))
        else:
            size = r.square().sum(1)
            scores = (r - image * (along / curvature)[:, None]).square().sum(1) / size
        loss = scores.mean()
        return Loss(loss, {self.left: loss.detach()}, scores=scores.detach())

    def _system(self, window: Window) -> Any:
        space, A = tuple(window.frames.shape[3:]), self.members[0]
        if len(self.members) > 1:
            A = self.members[int(self._of(window, MEMBER)[0])]
        if tuple(getattr(A, "space", space)) != space:
            raise InputError(f"The system acts on {tuple(A.space)} points; this window has {space}.")
        if not isinstance(A, Stencil) or A.batch == 1:
            return A
        i = self._of(window, SYSTEM)
        return Stencil(A.centre[i], [c[i] for c in A.below], [c[i] for c in A.above], A.ring, A.hermitian)

    def _of(self, window: Window, name: str) -> Tensor:
        if name not in window.parameters:
            raise InputError(
                f"The window has no parameter {name!r}, which ConjugateDirection needs here. Draw windows from RitzVectors of the same A."
            )
        return window.parameters[name]


class _Symmetric(torch.autograd.Function):
    """The product with a symmetric map of any kind; its gradient is the same product."""

    @staticmethod
    def forward(ctx, v: Tensor, A: LinearMap) -> Tensor:
        ctx.A = A
        return A(v.detach().to(A.dtype)).to(v)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ctx.A(gradient.to(ctx.A.dtype)).to(gradient), None
