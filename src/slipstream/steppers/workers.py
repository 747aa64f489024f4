"""Worker processes that keep networks and run them: one thread each, inputs in and outputs back through a pipe."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor, nn

from slipstream.errors import InputError, SlipstreamError

Packed = tuple[bytes, torch.dtype, tuple[int, ...]]


class Workers:
    """A team of processes among which networks are spread. It starts at the first call, and again after one of them has died.

    Weights are sent when they have changed, so that a call costs the transport of its inputs and outputs. For inference: gradients do not
    pass between processes. Copies, also by pickle, are teams of their own that have not started. Started processes end with `close`,
    with this object, or with this process.

    Parameters
    ----------
    count : how many processes at most; None is one a core that this process may use.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count
        self._team: list[tuple[BaseProcess, Connection]] = []
        self._sent: Any = None
        self._idle = True
        self._end: weakref.finalize | None = None

    def __reduce__(self) -> tuple[type[Workers], tuple[int | None]]:
        return Workers, (self.count,)

    @property
    def processes(self) -> list[int]:
        """Their process ids; none before the first call."""
        return [p.pid for p, _ in self._team if p.pid is not None]

    def __call__(
        self, networks: Sequence[nn.Module], inputs: Tensor, scalars: Tensor | None, version: Any = None
    ) -> Tensor:
        """Outputs (network, batch, ...) for inputs (network, batch, ...): each by its own network, or all by a single one.

        Parameters
        ----------
        version : equal to that of the last call where networks and weights are the same; None sends them in any case.

        Raises
        ------
        InputError : gradients are asked for, the inputs are not on the CPU, or the networks cannot be sent to another process.
        SlipstreamError : a process has died, or a network has failed in it. The next call starts a new team.
        """
        self._check(networks, inputs, scalars)
        try:
            return self._call(networks, inputs, scalars, version)
        except (EOFError, OSError) as error:
            raise SlipstreamError(
                f"A worker process of execution='processes' died (exit codes {self._codes()}; None: alive). The next call starts new ones. "
                "If this was the first call, see whether the script does its work under `if __name__ == '__main__':`, which new "
                "processes need; if the machine is out of memory, use execution='loop'."
            ) from error
        finally:
            # Whatever went wrong, an interrupt too: replies to this call must not be taken for those to the next one.
            if not self._idle:
                self.close()

    def _codes(self) -> list[int | None]:
        for process, _ in self._team:
            process.join(0.1)  # the pipe may end a moment before the process does
        return [process.exitcode for process, _ in self._team]

    def _check(self, networks: Sequence[nn.Module], inputs: Tensor, scalars: Tensor | None) -> None:
        wanted = [inputs, *([] if scalars is None else [scalars]), *(p for n in networks for p in n.parameters())]
        if torch.is_grad_enabled() and any(t.requires_grad for t in wanted):
            raise InputError(
                "execution='processes' is for inference: gradients do not pass between processes. "
                "Call it under torch.no_grad() (rollout does), or train with execution='loop' or 'grouped'."
            )
        if inputs.device.type != "cpu":
            raise InputError(
                f"execution='processes' spreads over CPU cores; the frames are on {inputs.device}. Use 'grouped'."
            )

    def _call(self, networks: Sequence[nn.Module], inputs: Tensor, scalars: Tensor | None, version: Any) -> Tensor:
        number = min(self.count or _cores(), len(inputs))
        shares = [list(range(i, len(inputs), number)) for i in range(number)]
        key = (version, len(inputs))
        if len(self._team) != number:
            self.close()
        if self._sent is None or version is None or self._sent != key:
            packed = [_packed_networks(networks, share) for share in shares]  # before anything is started
            self._idle = False
            self._start(number)
            self._sent = key
            for (_, connection), content in zip(self._team, packed, strict=True):
                connection.send_bytes(content)
        self._idle = False
        conditions = None if scalars is None else _pack(scalars)
        for (_, connection), share in zip(self._team, shares, strict=True):
            connection.send(([_pack(inputs[i]) for i in share], conditions))
        replies = [connection.recv() for _, connection in self._team]
        self._idle = True
        if failed := next((r for r in replies if isinstance(r, str)), None):
            raise SlipstreamError(f"A sub-solver failed in a worker process: {failed}")
        outputs: list[Tensor | None] = [None] * len(inputs)
        for share, reply in zip(shares, replies, strict=True):
            for i, output in zip(share, reply, strict=True):
                outputs[i] = _unpack(output)
        return torch.stack([o for o in outputs if o is not None])

    def _start(self, number: int) -> None:
        if self._team:
            return
        # A fork of a process with threads may stop in a lock that nobody will open: fresh interpreters.
        context = multiprocessing.get_context("spawn")
        self._end = weakref.finalize(self, _dismiss, self._team)
        for _ in range(number):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there,), daemon=True)
            process.start()
            there.close()  # so that its death is the end of the pipe
            self._team.append((process, here))

    def close(self) -> None:
        """End the processes. The next call starts new ones."""
        if self._end is not None:
            self._end()
        self._team, self._sent, self._end, self._idle = [], None, None, True


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dismiss(team: list[tuple[BaseProcess, Connection]]) -> None:
    for _, connection in team:
        connection.close()  # which they take as the end
    for process, _ in team:
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join()


def _pack(t: Tensor) -> Packed:
    return t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), t.dtype, tuple(t.shape)


def _unpack(packed: Packed) -> Tensor:
    content, dtype, shape = packed
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)


def _packed_networks(networks: Sequence[nn.Module], share: list[int]) -> bytes:
    try:
        return pickle.dumps([networks[i] for i in share] if len(networks) > 1 else [networks[0]])
    except Exception as error:
        raise InputError(
            f"{type(networks[0]).__name__} cannot be sent to another process ({error}). Use execution='loop' or 'grouped'."
        ) from error


def _work(connection: Connection) -> None:
    """What a process does: networks come as bytes, work as inputs and scalars, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    torch.set_num_threads(1)
    networks: list[nn.Module] = []
    reply: list[Packed] | str
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if isinstance(message, list):
            networks = message
            continue
        inputs, scalars = message
        try:
            with torch.inference_mode():
                conditions = () if scalars is None else (_unpack(scalars),)
                each = [networks[i % len(networks)](_unpack(x), *conditions) for i, x in enumerate(inputs)]
                reply = [_pack(y) for y in each]
        except Exception as error:
            reply = f"{type(error).__name__}: {error}"
        connection.send(reply)
