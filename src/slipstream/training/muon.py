"""Muon: descent along orthogonalised momentum, for networks of many small convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of ``a x + b x^3 + c x^5``: drives every singular value in (0, 1] into about [0.7, 1.2] within five rounds."""


def orthogonalise(m: Float[Tensor, "batch row column"], rounds: int = 5) -> Float[Tensor, "batch row column"]:
    """Roughly the orthogonal factor of each matrix: its singular vectors, with singular values near 1 (zero ones stay zero).

    Only matrix products, many small matrices at once. Source: Jordan et al., Muon (2024); coefficients as there.
    """
    a, b, c = QUINTIC
    tall = m.shape[1] > m.shape[2]
    x = m.mT if tall else m
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Weights of convolutions and linear layers move along orthogonalised momentum, all else by Adam at the same rate.

    A weight is seen as a matrix, outputs by everything else; those of one shape are treated together, so that a stepper of many
    small networks pays for a few products a step. Updates have the root mean square size 0.2 that Adam's have, so that learning rates carry
    over; two to four times those of Adam are often good. Meant for weights whose first axis counts outputs; spectral layers keep theirs
    otherwise: train these with Adam.

    Parameters
    ----------
    params : tensors or groups, as for any optimiser of PyTorch.
    lr : learning rate. momentum : of the matrices (Nesterov). betas, eps : of Adam for the rest. rounds : of the orthogonalisation.

    Notes
    -----
    Source: Jordan et al., Muon (2024); the size of updates as in Liu et al., arXiv 2502.16982. PyTorch's own takes matrices alone,
    one by one.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        rounds: int = 5,
    ) -> None:
        if not (lr >= 0 and 0 <= momentum < 1 and all(0 <= b < 1 for b in betas) and rounds >= 1):
            raise InputError(
                f"Muon expects lr >= 0, momentum and betas in [0, 1) and rounds >= 1; got {lr}, {momentum}, {betas}, {rounds}."
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "rounds": rounds})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices: dict[tuple[int, ...], list[Tensor]] = {}
            rest: list[Tensor] = []
            for p in (p for p in group["params"] if p.grad is not None):
                wide = p.ndim >= 2 and p.shape[0] > 1 and p[0].numel() > 1 and not p.is_complex()
                (matrices.setdefault(tuple(p.shape), []) if wide else rest).append(p)
            for same in matrices.values():
                self._orthogonal(same, group)
            if rest:
                self._adam(rest, group)
        return loss

    def _orthogonal(self, params: list[Tensor], group: dict[str, Any]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        buffers = [self._kept(p, "momentum") for p in params]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, buffers, group["momentum"])
        moved = orthogonalise(torch.stack(ahead).flatten(2), group["rounds"])
        size = 0.2 * math.sqrt(max(moved.shape[1:]))
        torch._foreach_add_(
            params, [u.view_as(p) for u, p in zip(moved, params, strict=True)], alpha=-group["lr"] * size
        )

    def _adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        grads = [p.grad for p in params if p.grad is not None]
        mean, square = ([self._kept(p, name) for p in params] for name in ("mean", "square"))
        for p in params:
            self.state[p]["step"] = self.state[p].get("step", 0) + 1
        torch._foreach_lerp_(mean, grads, 1 - first)
        torch._foreach_mul_(square, second)
        torch._foreach_addcmul_(square, grads, grads, 1 - second)
        steps = [self.state[p]["step"] for p in params]
        root = torch._foreach_sqrt(square)
        torch._foreach_div_(root, [math.sqrt(1 - second**n) for n in steps])
        torch._foreach_add_(root, group["eps"])
        torch._foreach_addcdiv_(params, mean, root, [-group["lr"] / (1 - first**n) for n in steps])

    def _kept(self, p: Tensor, name: str) -> Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]
