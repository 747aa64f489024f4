"""In which order to solve many similar systems, so that each profits from the one before."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.errors import InputError


def _flat(parameters: Tensor) -> Tensor:
    if parameters.ndim < 1 or parameters.shape[0] < 1:
        raise InputError(f"parameters must be (systems, ...), one entry a system; got {tuple(parameters.shape)}.")
    flat = parameters.detach().reshape(parameters.shape[0], -1)
    flat = torch.view_as_real(flat).flatten(1) if flat.is_complex() else flat
    if not bool(torch.isfinite(flat).all()):
        raise InputError("Parameters to be sorted by must be finite.")
    return flat.to(torch.float64)


def greedy_order(parameters: Shaped[Tensor, "systems ..."], first: int = 0) -> list[int]:
    """Always on to the nearest system not yet solved (Frobenius distance of parameters), starting at `first`.

    O(systems^2) distances; from some thousand systems on, use `gray_order`.

    Source: Wang et al., "Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling", ICLR 2024.
    """
    flat = _flat(parameters)
    free = torch.ones(flat.shape[0], dtype=torch.bool)
    order, current = [first], first
    free[first] = False
    for _ in range(flat.shape[0] - 1):
        distance = torch.linalg.vector_norm(flat - flat[current], dim=1)
        distance[~free] = torch.inf
        current = int(distance.argmin())
        free[current] = False
        order.append(current)
    return order


def lexicographic_order(parameters: Shaped[Tensor, "systems ..."]) -> list[int]:
    """By the first parameter, ties by the second, and so on: for sweeps of a few numbers."""
    flat = _flat(parameters)
    return sorted(range(flat.shape[0]), key=lambda i: tuple(flat[i].tolist()))


def gray_order(parameters: Shaped[Tensor, "systems ..."], dims: int = 7) -> list[int]:
    """For thousands of systems: boxes in a few coordinates visited so that neighbours share a face, greedy inside each box.

    The coordinates are the leading principal components of the parameters (of the lowest 12 frequencies an axis, where they are fields);
    each is cut at its median, and the ``2^dims`` boxes come in the order of the reflected Gray code.

    Source: as `greedy_order`.
    """
    if not 1 <= dims <= 20:
        raise InputError(f"dims must be from 1 to 20; got {dims}.")
    flat = _flat(parameters)
    coordinates = _principal(_low_frequencies(parameters, flat), dims)
    bits = (coordinates > coordinates.median(dim=0).values).long()
    code = (bits * (2 ** torch.arange(bits.shape[1]))).sum(1)
    order: list[int] = []
    for box in range(2 ** bits.shape[1]):
        members = torch.nonzero(code == box ^ (box >> 1))[:, 0]
        if not members.numel():
            continue
        inside = flat[members]
        start = 0
        if order:
            start = int(torch.linalg.vector_norm(inside - flat[order[-1]], dim=1).argmin())
        order += members[greedy_order(inside, start)].tolist()
    return order


def _low_frequencies(parameters: Tensor, flat: Tensor) -> Tensor:
    if parameters.ndim < 3 or parameters.is_complex():
        return flat
    axes = tuple(range(parameters.ndim - 2, parameters.ndim))
    low = torch.fft.rfft2(parameters.to(torch.float64), dim=axes)[..., :12, :12]
    return torch.view_as_real(low.contiguous()).flatten(1)


def _principal(features: Float[Tensor, "systems features"], dims: int) -> Float[Tensor, "systems dims"]:
    centred = features - features.mean(dim=0)
    U, S, _ = torch.linalg.svd(centred, full_matrices=False)
    floor = 1e-12 * float(S.max()) + 1e-300
    keep = min(dims, int((floor < S).sum()))
    # The sign of a component is a matter of taste; fix it, so that the order does not depend on the linear algebra library.
    scores = U[:, :keep] * S[:keep]
    sign = torch.sign(scores.gather(0, scores.abs().argmax(dim=0, keepdim=True)))
    return scores * sign


def path_length(parameters: Shaped[Tensor, "systems ..."], order: list[int]) -> float:
    """Sum of the distances from each system to the next."""
    flat = _flat(parameters)[order]
    return float(torch.linalg.vector_norm(flat[1:] - flat[:-1], dim=1).sum())
