"""Multigrid as a linear layer: smoothing on ever coarser grids, and the way back, with learnt stencils everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers.convolutions import CONVOLUTIONS
from slipstream.operators.layers.levels import Restriction, Smoothing, Smoothings, Transfer
from slipstream.operators.layers.padding import Pad, Padding
from slipstream.operators.layers.stencils import coarse_stencils, prolongation_kernel, restriction_kernel

Cycle = Sequence[Sequence[int]]
LEAST = {"zero": (1, 1), "periodic": (1, 1), "reflect": (3, 2)}
"""Points an axis needs on a grid that has a coarser one, and on the coarsest."""


class MultigridConv(nn.Module):
    r"""One multigrid cycle as a linear map of fields, all of whose stencils are learnt; as wide as its coarsest grid.

    On the finest grid it starts with ``u = S f`` and goes on with ``u <- u + S (f - A u)``, then does the same on ever coarser
    grids and adds each one's answer to the finer one's, ``u <- u + P u_coarse``. Each step has an ``A`` and an ``S`` of its own.
    What lies beyond the ends (periodic, zero, mirrored) is built into every stencil. It takes any numbers of points, odd ones too,
    but belongs to the spacing that it was trained on. With periodic padding it commutes with shifts by the product of the factors
    of all levels.

    What the coarser grid is given is a choice. ``"field"``: ``R f``, and ``Pi u`` to start from, as in the published networks.
    ``"residual"``: ``R (f - A u)``, and zero to start from: the classical V-cycle. `from_operator` fills that one in from a
    given stencil, so that it starts as a multigrid solver.

    Parameters
    ----------
    in_channels, out_channels : channels.
    num_dims : space axes, 1 to 3.
    cycle : for each grid, finest first, the smoothing steps before and after the coarser ones. ``((1, 1),) * 4`` is V(1, 1) on four
        grids. Only the steps before count on the coarsest, at least one; so do those on the finest.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"`` (mirrored at the outermost point), for all axes or one for each.
    restriction : ``"field"`` or ``"residual"``.
    coarsen : for each step to a coarser grid, a factor an axis, 1 or 2; None halves every axis each time. A long axis of finer
        spacing is coarsened first: ``((2, 1), (2, 2))``.
    norm : normalise over channels and points after each coarser grid's answer was added. Such a layer is no longer linear.

    References
    ----------
    He, Liu & Xu, MgNO, ICLR 2024 (arXiv:2310.19809); Briggs, Henson & McCormick, A Multigrid Tutorial, SIAM 2000.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_dims: int = 2,
        cycle: Cycle = ((1, 0), (1, 0), (1, 0), (2, 0)),
        padding: Padding | Sequence[Padding] = "periodic",
        restriction: Restriction = "field",
        coarsen: Sequence[Sequence[int]] | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.cycle = tuple((before, after) for before, after in cycle)
        self.restriction, self.norm = restriction, norm
        self.coarsen = None if coarsen is None else tuple(tuple(factors) for factors in coarsen)
        factors = self.coarsen or ((2,) * num_dims,) * (len(self.cycle) - 1)
        self._check_built(factors)
        self.pad = Pad(padding, num_dims)
        last = len(self.cycle) - 1
        self.before, self.after = nn.ModuleList(), nn.ModuleList()
        for level, (before, after) in enumerate(self.cycle):
            starts = level == 0 or restriction == "residual"
            self.before.append(self._steps(before, first_from_zero=starts))
            if level < last:
                self.after.append(self._steps(after, first_from_zero=False))
        self.transfers = nn.ModuleList(
            Transfer(in_channels, out_channels, self.pad, factor, restriction) for factor in factors
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, out_channels) if norm else nn.Identity() for _ in factors)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def _steps(self, number: int, first_from_zero: bool) -> Smoothings:
        return Smoothings(
            Smoothing(self.in_channels, self.out_channels, self.pad, from_zero=first_from_zero and i == 0)
            for i in range(number)
        )

    def _check_built(self, factors: tuple[tuple[int, ...], ...]) -> None:
        if self.num_dims not in CONVOLUTIONS or min(self.in_channels, self.out_channels) < 1:
            raise InputError(
                f"MultigridConv got num_dims={self.num_dims}, channels {self.in_channels} -> {self.out_channels}; expected 1, 2 "
                "or 3 axes and at least one channel."
            )
        if self.restriction not in get_args(Restriction):
            raise InputError(f"restriction={self.restriction!r} is unknown; expected 'field' or 'residual'.")
        needed = [
            int(level in (0, len(self.cycle) - 1) or self.restriction == "residual") for level in range(len(self.cycle))
        ]
        steps = zip(self.cycle, needed, strict=True)
        if not self.cycle or any(before < least or after < 0 for (before, after), least in steps):
            raise InputError(
                f"cycle={self.cycle}: expected (steps before, steps after) for each grid, none below 0, at least one before on the "
                "finest and the coarsest, and with restriction='residual' on every one. For example ((1, 1), (1, 1), (2, 0))."
            )
        if len(factors) != len(self.cycle) - 1 or any(len(f) != self.num_dims or set(f) - {1, 2} for f in factors):
            raise InputError(
                f"coarsen={factors} does not fit {len(self.cycle)} grids of {self.num_dims} axes; expected {len(self.cycle) - 1} "
                f"entries of {self.num_dims} factors, each 1 or 2."
            )

    def grids(self, space: Sequence[int]) -> list[tuple[int, ...]]:
        """Points of every grid, finest first.

        Raises
        ------
        ShapeError : the coarsest grid would be too small.
        """
        found = [tuple(space)]
        for transfer in self._transfers():
            found.append(transfer.coarsened(found[-1]))
        for kind, *numbers in zip(self.padding, *found, strict=True):
            inner, coarsest = LEAST[kind]
            if numbers[-1] < coarsest or min(numbers[:-1], default=inner) < inner:
                raise ShapeError(
                    f"A multigrid cycle over {len(self.cycle)} grids with {kind} padding makes {numbers} points of {numbers[0]} along an "
                    f"axis; at least {coarsest} are needed on the coarsest grid and {inner} on the others. Use a finer grid or a shorter "
                    "cycle."
                )
        return found

    def _transfers(self) -> list[Transfer]:
        return cast("list[Transfer]", list(self.transfers))

    def forward(self, f: Float[Tensor, "batch in_channels *space"]) -> Float[Tensor, "batch out_channels *space"]:
        """One cycle, from zero.

        Raises
        ------
        ShapeError : too few points for so many grids.
        """
        if not torch.compiler.is_compiling():
            self.grids(f.shape[2:])
        passed = []
        u = self.before[0](f, None)
        for transfer, smooth in zip(self._transfers(), self.before[1:], strict=True):
            passed.append((f, u))
            f, u = transfer.down(f, u)
            u = smooth(f, u)
        for transfer, norm, smooth in reversed(list(zip(self._transfers(), self.norms, self.after, strict=True))):
            f, fine = passed.pop()
            u = smooth(f, norm(fine + transfer.up(u, f.shape[2:])))
        return u

    def as_matrix(self, space: Sequence[int]) -> Float[Tensor, "out_points in_points"]:
        """The layer on a grid of `space` points as a dense matrix; rows and columns run over channels, then points."""
        size = self.in_channels * math.prod(space)
        like = next(self.parameters())
        unit = torch.eye(size, dtype=like.dtype, device=like.device).unflatten(1, (self.in_channels, *space))
        return self(unit).flatten(1).mT

    def preconditioner(self, space: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """The layer as a map of vectors ``(*batch, points)``, as iterative solvers want it; the points are those of `space`."""
        shape = (self.in_channels, *space)

        def apply(r: Float[Tensor, "*batch points"]) -> Float[Tensor, "*batch points"]:
            return self(r.reshape(-1, *shape)).reshape(*r.shape[:-1], -1)

        return apply

    @classmethod
    def from_operator(
        cls,
        stencil: Float[Tensor, "*three"],
        levels: int,
        steps: Sequence[int] = (1, 1),
        padding: Padding | Sequence[Padding] = "periodic",
        damping: float | None = None,
        coarse: Literal["galerkin", "rescaled"] = "galerkin",
        coarsen: Sequence[Sequence[int]] | None = None,
    ) -> MultigridConv:
        r"""The multigrid solver of a constant-coefficient operator: ``u = W f`` is one V-cycle for ``A u = f`` from zero.

        Damped Jacobi smoothing, full-weighting restriction, multilinear prolongation. ``u <- u + W (f - A u)`` then converges at
        a rate that does not depend on the grid, provided that smoothing alone solves the coarsest one. With equally many steps
        before and after it is symmetric under periodic and zero padding: a preconditioner for conjugate gradients. All of it may be
        trained on.

        Parameters
        ----------
        stencil : of A, three points an axis, divided by powers of the spacing already; either sign.
        levels : grids; such that the coarsest has one to three points an axis, under zero padding best 2^k - 1 on the finest.
        steps : smoothing steps before and after, V(before, after). The coarsest grid gets both.
        padding : as above. The walls of zero padding lie one spacing beyond the outermost points; mirrors lie on them.
        damping : of the Jacobi step; None is the best for the Laplacian, 2 d / (2 d + 1).
        coarse : operators on coarser grids: ``"galerkin"`` is R A P, for any operator; ``"rescaled"`` the same stencil at twice the
            spacing, for purely second-order operators only.
        coarsen : as above.

        Raises
        ------
        InputError : a stencil that is not three points wide, or has a zero centre.
        """
        dims = stencil.ndim
        if dims not in CONVOLUTIONS or any(n != 3 for n in stencil.shape) or stencil[(1,) * dims] == 0:
            raise InputError(
                f"from_operator got a stencil of shape {tuple(stencil.shape)}; expected three points along each of 1 to 3 axes and a "
                "centre that is not zero."
            )
        before, after = steps
        cycle = ((before, after),) * (levels - 1) + ((before + after, 0),)
        layer = cls(1, 1, dims, cycle, padding, "residual", coarsen).to(stencil)
        damping = 2 * dims / (2 * dims + 1) if damping is None else damping
        transfers = layer._transfers()
        stencils = coarse_stencils(stencil, [t.factors for t in transfers], coarse)
        centre: tuple[int, ...] = (0, 0, *(1,) * dims)
        three: tuple[int | slice, ...] = (0, 0, *(slice(3),) * dims)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
            for level, own in enumerate(stencils):
                groups = [layer.before[level], *layer.after[level : level + 1]]
                for module in (m for group in groups for m in group.modules()):
                    if isinstance(module, Smoothing):
                        module.smoother.weight[centre] = damping / own[(1,) * dims]
                        if module.operator is not None:
                            module.operator.weight[three] = own
            for own, transfer in zip(stencils, transfers, strict=False):
                if transfer.operator is not None:
                    transfer.operator.weight[three] = own
                transfer.restrict.weight[three] = restriction_kernel(transfer.factors).to(stencil)
                transfer.prolong.weight[three] = prolongation_kernel(transfer.factors).to(stencil)
        return layer
