"""Any number of points, for operators that want multiples of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.layers import check_built, check_input
from slipstream.operators.operator import Operator, OperatorFactory


class AnySize(Operator):
    """An operator that wants multiples of some number of points, on grids of any size: the field is widened, and the answer cut back.

    Periodic axes are widened with what lies beyond the seam, the others by repeating their outermost points. A grid that fits already
    is handed on as it is. An axis that had to be widened is no longer periodic for the operator within; the points near the seam see
    their neighbours in the widening instead, as far as that reaches: at least `multiple` points.

    Parameters
    ----------
    operator : factory of the operator within.
    multiple : what its numbers of points must be divisible by.
    periodic : which axes are.
    in_channels, out_channels, num_dims, num_scalars : handed on.
    """

    def __init__(
        self,
        operator: OperatorFactory,
        multiple: int = 8,
        periodic: bool | Sequence[bool] = False,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        num_scalars: int = 0,
    ) -> None:
        super().__init__()
        check_built(self, in_channels=in_channels, out_channels=out_channels, multiple=multiple)
        self.periodic = (periodic,) * num_dims if isinstance(periodic, bool) else tuple(periodic)
        if len(self.periodic) != num_dims:
            raise InputError(f"AnySize got periodic={periodic!r} for {num_dims} axes; expected one word for each.")
        self.operator, self.multiple = operator, multiple
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.num_scalars = num_scalars
        self.inner = operator(
            in_channels=in_channels, out_channels=out_channels, num_dims=num_dims, num_scalars=num_scalars
        )

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on any grid.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        shape, begins = x.shape[2:], []
        for axis, (n, periodic) in enumerate(zip(shape, self.periodic, strict=True)):
            extra = -n % self.multiple
            if extra and periodic:
                extra += 2 * self.multiple
            begins.append(extra // 2)
            if extra:
                where = torch.arange(-(extra // 2), n + extra - extra // 2, device=x.device)
                x = x.index_select(axis + 2, where % n if periodic else where.clamp(0, n - 1))
        y = self.inner(x) if scalars is None else self.inner(x, scalars)
        for axis, (n, begin) in enumerate(zip(shape, begins, strict=True)):
            y = y.narrow(axis + 2, begin, n)
        return y
