"""What every operator refuses, said once."""

from __future__ import annotations

from torch import Tensor

from slipstream.errors import InputError, ShapeError


def check_input(
    owner: object, x: Tensor, scalars: Tensor | None, in_channels: int, num_dims: int, num_scalars: int
) -> None:
    """Refuse fields and scalars of the wrong shape.

    Raises
    ------
    ShapeError : `x` is not (batch, in_channels, *space) with `num_dims` space axes, or `scalars` not (batch, num_scalars).
    """
    name = type(owner).__name__
    if x.ndim != 2 + num_dims or x.shape[1] != in_channels:
        if x.ndim == 1 + num_dims:
            hint = "There is no channel axis: for a single-channel field write u[:, None]."
        elif x.ndim == 3 + num_dims:
            hint = "There is one axis too many: if the second is time, fold it into the channels with u.flatten(1, 2)."
        elif x.ndim != 2 + num_dims:
            hint = f"Expected {num_dims} space axes; build it with num_dims={x.ndim - 2} for this field."
        else:
            hint = f"The channel axis (the second) has {x.shape[1]} entries; build it with in_channels={x.shape[1]} for this field."
        raise ShapeError(
            f"{name} expects (batch, {in_channels}, *space) with {num_dims} space axes because in_channels={in_channels} "
            f"and num_dims={num_dims}; got {tuple(x.shape)}. {hint}"
        )
    if num_scalars == 0 and scalars is not None:
        raise ShapeError(
            f"{name} was built with num_scalars=0 but got scalars of shape {tuple(scalars.shape)}. "
            f"Leave them out, or build it with num_scalars={scalars.shape[-1]}."
        )
    if num_scalars > 0 and (scalars is None or tuple(scalars.shape) != (x.shape[0], num_scalars)):
        found = "none" if scalars is None else f"shape {tuple(scalars.shape)}"
        raise ShapeError(
            f"{name} expects scalars of shape ({x.shape[0]}, {num_scalars}) because num_scalars={num_scalars}; got {found}. "
            "Give one row a sample."
        )


def check_built(owner: object, **counts: int) -> None:
    """Refuse counts (channels, layers ...) below one."""
    wrong = {k: v for k, v in counts.items() if v < 1}
    if wrong:
        raise InputError(f"{type(owner).__name__} got {wrong}; expected at least 1 of each.")
