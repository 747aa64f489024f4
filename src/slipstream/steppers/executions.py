"""How many small networks of one shape are run: one after the other, as one, or in processes of their own. The numbers are the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.steppers.workers import Workers

Networks = Sequence[nn.Module]
"""One for each input, or a single one for all."""


class Execution:
    """Networks on inputs of one shape, each on its own; all get the same scalars."""

    name: ClassVar[str]

    def __call__(
        self,
        networks: Networks,
        inputs: Float[Tensor, "network batch in_channel *space"],
        scalars: Float[Tensor, "batch scalar"] | None,
    ) -> Float[Tensor, "network batch out_channel *space"]:
        raise TypeError(f"{type(self).__name__} runs nothing.")

    def close(self) -> None:
        """Give back what is held between calls."""


class Loop(Execution):
    """One after the other."""

    name = "loop"

    def __call__(
        self,
        networks: Networks,
        inputs: Float[Tensor, "network batch in_channel *space"],
        scalars: Float[Tensor, "batch scalar"] | None,
    ) -> Float[Tensor, "network batch out_channel *space"]:
        conditions = () if scalars is None else (scalars,)
        return torch.stack([networks[i % len(networks)](x, *conditions) for i, x in enumerate(inputs)])


class Grouped(Execution):
    """As one network whose weights have an axis more: `torch.vmap` turns convolutions into grouped ones, products into batched ones.

    A single network for all gets one large batch. Gradients reach the weights of each network. Without gradients the stacked weights are
    kept until one changes.
    """

    name = "grouped"

    def __init__(self) -> None:
        self._stacked: tuple[Any, dict[str, Tensor]] = (None, {})

    def __call__(
        self,
        networks: Networks,
        inputs: Float[Tensor, "network batch in_channel *space"],
        scalars: Float[Tensor, "batch scalar"] | None,
    ) -> Float[Tensor, "network batch out_channel *space"]:
        conditions = () if scalars is None else (scalars,)
        if len(networks) == 1:
            repeated = [c.repeat(inputs.shape[0], 1) for c in conditions]
            return networks[0](inputs.flatten(0, 1), *repeated).unflatten(0, inputs.shape[:2])

        def one(state: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(networks[0], state, (x, *conditions))

        with warnings.catch_warnings():
            # Fused in-place products have no batched form and are looped over inside: right numbers, and not news to the user.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            return torch.vmap(one, randomness="different")(self._state(networks), inputs)

    def _state(self, networks: Networks) -> dict[str, Tensor]:
        if torch.is_grad_enabled():
            return _stack(networks)
        seen = version(networks)
        if self._stacked[0] != seen:
            self._stacked = (seen, _stack(networks))
        return self._stacked[1]

    def close(self) -> None:
        self._stacked = (None, {})


class Processes(Execution):
    """Spread over worker processes, one a core that this process may use, each with one thread. For inference; see `Workers`."""

    name = "processes"

    def __init__(self) -> None:
        self.workers = Workers()

    def __call__(
        self,
        networks: Networks,
        inputs: Float[Tensor, "network batch in_channel *space"],
        scalars: Float[Tensor, "batch scalar"] | None,
    ) -> Float[Tensor, "network batch out_channel *space"]:
        return self.workers(networks, inputs, scalars, version(networks))

    def close(self) -> None:
        self.workers.close()


EXECUTIONS: dict[str, type[Execution]] = {e.name: e for e in (Loop, Grouped, Processes)}


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _stack(networks: Networks) -> dict[str, Tensor]:
    each = [_tensors(n) for n in networks]
    return {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}


def version(networks: Networks) -> list[Any]:
    """Differs once a weight, a buffer or a mode has changed."""
    tensors = [t for n in networks for t in _tensors(n).values()]
    return [(id(n), n.training) for n in networks] + [
        (t.data_ptr(), t.dtype, 0 if t.is_inference() else t._version) for t in tensors
    ]
