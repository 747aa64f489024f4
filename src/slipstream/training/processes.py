"""Processes: one training on several processes under torchrun, each with its own windows and all with the same weights."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slipstream.errors import SlipstreamError
from slipstream.training.checkpoint import checksum, pack, unpack


@dataclass(frozen=True)
class Processes:
    """The processes that train together; `world` is 1 and nothing is sent where there is only one."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def greatest(self, *values: float) -> list[float]:
        """Each value's maximum over the processes, so that all of them decide alike."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def spread(self, state: Any) -> Any:
        """The first process's nest of tensors and numbers, on every process."""
        if self.world == 1:
            return state
        content = torch.frombuffer(bytearray(pack(state)), dtype=torch.uint8) if self.first else torch.empty(0)
        size = torch.tensor(content.numel())
        dist.broadcast(size, 0)
        content = content if self.first else torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(content, 0)
        return unpack(content.numpy().tobytes())

    def collect(self, state: Any) -> list[Any]:
        """Every process's nest of tensors and numbers, on the first process; elsewhere nothing."""
        if self.world == 1:
            return [state]
        content = pack(state)
        length = int(self.greatest(float(len(content)))[0])
        padded = torch.frombuffer(bytearray(content.ljust(length, b" ")), dtype=torch.uint8)
        sizes = [torch.tensor(0) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor(len(content)))
        all_of_them = [torch.empty_like(padded) for _ in sizes] if self.first else None
        dist.gather(padded, all_of_them)
        return [unpack(c[: int(n)].numpy().tobytes()) for c, n in zip(all_of_them or (), sizes, strict=False)]

    @torch.no_grad()
    def equalise(self, module: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.world > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.data, 0)

    def check_equal(self, state: Any, step: int) -> None:
        """Refuse to go on when the processes no longer hold the same `state`."""
        if self.world == 1:
            return
        number = float(checksum(state))
        greatest, least = self.greatest(number, -number)
        if greatest != -least:
            raise SlipstreamError(
                f"At step {step} the processes no longer hold the same weights. Gradients are averaged when backward() reaches the "
                "module's parameters; an update that changes weights by other means has to average those itself."
            )

    @contextmanager
    def averaging(self, module: nn.Module) -> Iterator[None]:
        """Within the block every backward() leaves the gradients' mean over the processes in the module's parameters.

        Whatever the update does next (clipping, an optimiser, a line search) sees the mean. A gradient that no process has stays None;
        one that some have counts as zero elsewhere.
        """
        if self.world == 1:
            yield
            return
        parameters = list(module.parameters())
        queued = False

        def average() -> None:
            nonlocal queued
            queued = False
            _average_gradients(parameters, self.world)

        def when_reached(_: Tensor) -> None:
            nonlocal queued
            if not queued:  # once a backward, when all of it is done; as torch's own data parallelism does
                queued = True
                torch.autograd.Variable._execution_engine.queue_callback(average)

        hooks = [p.register_post_accumulate_grad_hook(when_reached) for p in parameters if p.requires_grad]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@torch.no_grad()
def _average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """One message a dtype and device: all gradients in a row, and how many processes have each."""
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for p in parameters:
        kinds.setdefault((p.dtype, p.device), []).append(p)
    for (_, device), group in kinds.items():
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        real = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
        having = torch.tensor([p.grad is not None for p in group], device=device, dtype=real[0].dtype)
        message = torch.cat([having, *(g.reshape(-1) for g in real)])
        dist.all_reduce(message)
        counts = message[: len(group)].tolist()
        means = (message[len(group) :] / world).split([g.numel() for g in real])
        for p, gradient, target, mean, count in zip(group, gradients, real, means, counts, strict=True):
            if count:
                target.copy_(mean.view_as(target))
                p.grad = gradient


def joined() -> Processes:
    """The processes that torchrun started, or those of a group that the caller made, or this one alone.

    A group made here lasts as long as the process: gloo cannot meet a second time in the same store.
    """
    if not dist.is_available():
        return Processes()
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        # Every optimiser imports this. Imported while a group exists, it keeps the group alive to the very end of the
        # process, threads and all, and a thread that is still busy then aborts the process.
        import torch._dynamo

        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Processes()


def _leave() -> None:
    """Leave the group together: one that goes while another still talks to it may be aborted on its way out."""
    with suppress(RuntimeError):  # the others may have died; then there is nobody to wait for
        dist.monitored_barrier(timeout=timedelta(seconds=10))
    dist.destroy_process_group()
