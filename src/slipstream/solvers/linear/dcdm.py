"""Deep conjugate directions: a network says where to go, conjugation and an exact line search see to it that it never hurts."""

from __future__ import annotations

import os

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.pretrained import Pretrained
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Method, Trace, inner, norm
from slipstream.solvers.linear.stencil import Stencil

_INDEFINITE = "A is not positive definite (a direction of no or negative curvature was met): use MINRES() or GMRES()"
_LOST = "DCDM left finite numbers"
_USELESS = "the network gave a direction without curvature: train it, or allow the fallback with patience="


class Guess:
    r"""A network as a map of residuals (rhs, n) to search directions (rhs, n), each good up to a factor.

    The network sees the residual as a field of mean square one, which looks alike on every grid and in every iteration, in the precision
    of its own weights: channels ``[residual, *conditions]``. Cells that couple with nothing are left out of what it answers; an equation
    of one unknown is solved by division.

    Parameters
    ----------
    network : (rhs, 1 + conditions, \*space) -> (rhs, 1, \*space), any module.
    space : of the fields. conditions : (1 or rhs, conditions, \*space), or None.
    alone : (1 or rhs, \*space), the reciprocal diagonal, in the network's units, of cells that couple with nothing; 0 where its answer
        counts. None is everywhere.
    """

    def __init__(
        self,
        network: nn.Module,
        space: tuple[int, ...],
        conditions: Float[Tensor, "told conditions *space"] | None = None,
        alone: Float[Tensor, "some *space"] | None = None,
    ) -> None:
        self.network, self.space, self.conditions, self.alone = network, space, conditions, alone

    def __call__(self, r: Float[Tensor, "rhs n"]) -> Float[Tensor, "rhs n"]:
        like = next((p for p in self.network.parameters() if p.is_floating_point()), r)
        scale = norm(r) / r.shape[1] ** 0.5
        fields = (r / torch.where(scale > 0, scale, 1)[:, None]).reshape(-1, 1, *self.space)
        channels = [fields.to(like)]
        if self.conditions is not None:
            channels.append(self.conditions.to(like).expand(len(r), *self.conditions.shape[1:]))
        answer = self.network(torch.cat(channels, 1))
        if answer.shape != fields.shape:
            raise ShapeError(
                f"A network of directions must give {tuple(fields.shape)} for {len(channels[0])} residuals on {self.space} points; "
                f"got {tuple(answer.shape)}."
            )
        q = answer.to(r)
        if self.alone is not None:
            alone = self.alone.to(r)[:, None]
            q = torch.where(alone > 0, alone * fields, q)
        return q.reshape(r.shape)

    def rows(self, chosen: Tensor) -> Guess:
        """The same for some of the right-hand sides."""

        def some(t: Tensor | None) -> Tensor | None:
            return t if t is None or len(t) == 1 else t[chosen]

        return Guess(self.network, self.space, some(self.conditions), some(self.alone))


def conditions_of(A: Stencil) -> Float[Tensor, "batch channels *space"]:
    """What a stencil tells a network about its system, in units of an inner cell: 2 dims + 1 channels, the couplings with the lower
    neighbour along each axis, those with the upper one, and by how much the diagonal exceeds their sum (beside a wall or an opening that
    holds the value). All zero in cells that couple with nothing."""
    joined = _joined(A)
    total = joined.sum(1)
    excess = torch.where(total > 0, (A.centre - total).clamp_min(0), 0)
    return torch.cat([joined, excess[:, None]], 1) / _unit(joined)[:, None]


def _joined(A: Stencil) -> Tensor:
    """(batch, 2 dims, *space), what couples each cell with its neighbours."""
    sides = []
    for side, couplings in enumerate((A.below, A.above)):
        for axis, (c, ring) in enumerate(zip(couplings, A.ring, strict=True), start=1):
            joined = c.neg().clamp_min(0)
            if not ring:  # what reaches beyond an end counts for nothing
                joined.narrow(axis, side * (c.shape[axis] - 1), 1).zero_()
            sides.append(joined)
    return torch.stack(sides, 1)


def _unit(joined: Tensor) -> Tensor:
    """(batch, 1, ...): the couplings of an inner cell; one where nothing couples."""
    size = joined.flatten(2).amax(2).sum(1).reshape(-1, *[1] * (joined.ndim - 2))
    return torch.where(size > 0, size, 1)


def coupled(conditions: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch *space"]:
    """Of `conditions_of`: 1 in cells that couple with others, 0 elsewhere."""
    return (conditions.sum(1) > 0).to(conditions)


class DCDM(Method):
    r"""Deep conjugate direction method, for real symmetric positive definite A.

    In every iteration the network guesses a direction q from the residual r, conjugation makes it A-orthogonal to the last `directions`
    ones, and the step :math:`x \leftarrow x + \frac{q \cdot r}{q \cdot A q} q` is the best along it. So the energy norm of the error
    never rises, whatever the network says, and a constant factor in its answer, of either sign, changes nothing. With the identity
    in its place and at least one direction it is the conjugate gradient method; with a linear positive definite map it is that method
    preconditioned.

    Where the network is of no use, a right-hand side goes on with conjugate gradients to its end, so that it converges as those do;
    `Result.fallback` says in how many iterations. It is of no use where its direction has no curvature that is new, and where
    over `patience` iterations neither the residual fell nor the energy: the residual of a good direction may well rise at first, so it is
    given up only if its steps took off less than as many along the residual itself would, or hardly less than those of the
    iterations before (where an iteration converges, what a step takes off falls with the error that is left).

    The iteration runs in the precision of the right-hand side, the network in that of its weights. Matrix-free; several
    right-hand sides and several systems at once. A preconditioner serves the fallback alone. For a singular but consistent system
    a part of the null space may enter x, as with any start that has one.

    Good values: 2 directions; more help little and cost two inner products each; None keeps all.

    Parameters
    ----------
    network : (rhs, channels, \*space) -> (rhs, 1, \*space), such as `slipstream.operators.DirectionNet`, trained with
        `slipstream.objectives.ConjugateDirection` on `slipstream.data.RitzVectors`; see `Guess` for what it sees. Or the folder where
        one was saved, as recipes and steppers that are saved themselves need it: they keep arguments, not the weights of this module.
    directions : how many of the last directions each is made A-orthogonal to; None is all of them.
    patience : iterations after which the network is judged; None never falls back.
    progress : the share by which the residual, or what steps take off the energy, must have fallen by then.
    refresh : every so many iterations the residual is computed anew, ``b - A x``, for one product more; 0 never. In double precision
        the recurrence is as exact as that of conjugate gradients, so this matters in single precision.
    space : points along each axis, for matrices, which do not tell; None asks A.
    conditions : channels (1 or rhs, channels, \*space) or (channels, \*space) for the network beside the residual. None gives it those
        of `conditions_of` where its `in_channels` say that it wants them and A is a `Stencil`.

    Raises
    ------
    InputError : A is complex or says that it is not symmetric; conditions are wanted and nobody gives them.
    ShapeError : `space` does not fit A, or the network's answer does not fit the residual.

    Source: Kaneda et al., ICML 2023 (arXiv:2205.10763).
    """

    def __init__(
        self,
        network: nn.Module | str | os.PathLike,
        directions: int | None = 2,
        patience: int | None = 5,
        progress: float = 0.1,
        refresh: int = 10,
        space: tuple[int, ...] | None = None,
        conditions: Float[Tensor, "..."] | None = None,
    ) -> None:
        if (directions is not None and directions < 0) or refresh < 0 or not 0 < progress < 1:
            raise InputError(
                f"DCDM needs directions >= 0 or None, refresh >= 0 and progress within (0, 1); got directions={directions}, "
                f"refresh={refresh}, progress={progress}."
            )
        if patience is not None and (patience < 1 or directions == 0):
            raise InputError(
                f"The fallback needs patience >= 1 and a direction to be conjugate to; got patience={patience}, "
                f"directions={directions}. patience=None does without it."
            )
        self.network = network if isinstance(network, nn.Module) else os.fspath(network)
        self.directions, self.patience, self.progress = directions, patience, progress
        self.refresh, self.space, self.conditions = refresh, space, conditions
        self.module: nn.Module = network if isinstance(network, nn.Module) else Pretrained.from_pretrained(network)

    def guess(self, A: LinearMap) -> Guess:
        """The network as a map of residuals of this system."""
        if A.dtype.is_complex or getattr(A.source, "hermitian", None) is False:
            raise InputError(
                "DCDM is for real symmetric positive definite systems, and this one says that it is not. Use MINRES() or GMRES()."
            )
        known: tuple[int, ...] = getattr(A, "space", (A.size,))
        space = known if self.space is None else self.space
        if torch.Size(space).numel() != A.size:
            raise ShapeError(f"DCDM got space={tuple(space)} for a system of {A.size} unknowns.")
        wanted = getattr(self.module, "in_channels", 1) - 1
        conditions, alone = self.conditions, None
        if conditions is not None:
            conditions = conditions if conditions.ndim == len(space) + 2 else conditions[None]
        if isinstance(A.source, Stencil):
            told = conditions_of(A.source)
            alone = torch.where(coupled(told) > 0, 0, _unit(_joined(A.source)) / A.source.centre)
            conditions = told if conditions is None and wanted else conditions
        if conditions is None and wanted:
            raise InputError(
                f"{type(self.module).__name__} wants {wanted} channels beside the residual. Give DCDM conditions=, or A as a Stencil "
                "such as CellPoisson, from which they are made."
            )
        return Guess(self.module, tuple(space), conditions, alone)

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        guess, trace, memory = self.guess(A), Trace(x.clone()), _Memory(self.directions)
        start, x, r = x, trace.x, residual.clone()
        norms = norm(r)
        active, learned = norms > target, torch.ones_like(norms, dtype=torch.bool)
        before, earlier, gained = norms, torch.full_like(norms, torch.inf), torch.zeros_like(norms)
        while bool(active.any()) and trace.iterations < max_iterations:
            if self.patience is not None and trace.iterations and trace.iterations % self.patience == 0:
                stalled = active & learned & ~(norms <= (1 - self.progress) * before)
                if bool(stalled.any()):
                    plain = inner(r, r).square() / inner(r, A(r))  # what a step along the residual would take off
                    helps = (gained >= self.patience * plain) & (gained <= (1 - self.progress) * earlier)
                    stalled = stalled & ~helps
                learned, before, earlier, gained = learned & ~stalled, norms, gained, torch.zeros_like(gained)
                memory.forget(stalled)
            q = r if inverse is None or not bool((active & ~learned).any()) else inverse(r)
            asked = active & learned
            if bool(asked.any()):
                q = q.index_put((asked,), guess.rows(asked)(r[asked]))
            q = memory.orthogonal(q)
            image = A(q)
            curvature = inner(q, image)
            useless = asked & ~(curvature > 0)
            if self.patience is not None and bool(useless.any()):  # zero, not finite, or what was there already
                learned = learned & ~useless
                memory.forget(useless)
                q = torch.where(useless[:, None], r if inverse is None else inverse(r), q)
                image = A(q)
                curvature = inner(q, image)
            if bool((active & ~(curvature > 0)).any()):
                lost = not bool(torch.isfinite(curvature[active]).all())
                trace.reason = _LOST if lost else _INDEFINITE if not bool(useless.any()) else _USELESS
                break
            along = inner(q, r)
            step = torch.where(active, along / curvature, 0)[:, None]
            gained = gained + torch.where(active, along.square() / curvature, 0)
            x.addcmul_(q, step)
            r.addcmul_(image, step, value=-1)
            trace.iterations += 1
            trace.fallback += bool((active & ~learned).any())
            if self.refresh and trace.iterations % self.refresh == 0:
                r = residual - A(x - start)
            norms = norm(r)
            trace.norms.append(norms)
            memory.keep(q, image, curvature)
            active = norms > target
        return trace


class _Memory:
    """The last directions with their images and curvatures; None keeps all."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def orthogonal(self, q: Tensor) -> Tensor:
        """q without what it has, in the inner product of A, of every direction that is kept."""
        for p, image, curvature in self.kept:
            q = torch.addcmul(q, p, (inner(q, image) / curvature)[:, None], value=-1)
        return q

    def keep(self, p: Tensor, image: Tensor, curvature: Tensor) -> None:
        self.kept.append((p, image, curvature))
        if self.most is not None:
            del self.kept[: max(len(self.kept) - self.most, 0)]
        self.forget(~(curvature > 0), last=True)

    def forget(self, rows: Tensor, last: bool = False) -> None:
        """Drop the directions of some right-hand sides."""
        if not bool(rows.any()):
            return
        for i in range(len(self.kept)) if not last else range(len(self.kept))[-1:]:
            p, image, curvature = self.kept[i]
            column = rows[:, None]
            self.kept[i] = torch.where(column, 0, p), torch.where(column, 0, image), torch.where(rows, 1, curvature)
