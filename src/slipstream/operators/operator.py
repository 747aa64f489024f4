"""Operator: fields in, fields out; knows nothing of time, normalisation or the problem."""

from __future__ import annotations

from collections.abc import Callable

from slipstream.pretrained import Pretrained


class Operator(Pretrained):
    """A learnt map (batch, in_channels, *space) -> (batch, out_channels, *space).

    Called as ``operator(x)`` or ``operator(x, scalars)`` with `scalars` of shape (batch, num_scalars) where it was built with
    ``num_scalars > 0``. Every constructor argument is kept under its own name, so that it can be saved.
    """


OperatorFactory = Callable[..., Operator]
"""Called with ``in_channels=, out_channels=, num_dims=, num_scalars=``; usually a class or a `functools.partial` of one."""
