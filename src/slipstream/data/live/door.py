"""Door: where programs that do not inherit a pipe connect."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterable

from slipstream.client import HELLO
from slipstream.data.live.protocol import Header, Parser, Unreadable
from slipstream.data.live.running import Running

ROOM = 256
"""Connections that have not said who they are; more are turned away."""


def _only_hello(header: Header) -> None:
    if header.kind != HELLO:
        raise Unreadable("a connection begins with a record that says whose it is")


class Door:
    """A port of this machine. Whoever connects has to show the token of a program that was started and has not connected yet; others, among
    them the programs of earlier attempts, are turned away without a word.

    Parameters
    ----------
    timeout : seconds in which a connection has to do so. clock : the engine's.
    """

    def __init__(self, timeout: float, clock: Callable[[], float]) -> None:
        self.timeout, self.clock = timeout, clock
        self._port = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port.setblocking(False)
        self._strangers: dict[socket.socket, tuple[Parser, float]] = {}
        self.address = "tcp:{}:{}".format(*self._port.getsockname())

    def let_in(self, programs: Iterable[Running]) -> None:
        """Connect programs to those who have shown their token."""
        expected = [p for p in programs if p.token is not None]
        while len(self._strangers) < ROOM:
            try:
                connection, _ = self._port.accept()
            except OSError:  # nobody there, or gone again
                break
            connection.setblocking(False)
            self._strangers[connection] = (Parser(_only_hello), self.clock())
        for connection, (parser, since) in list(self._strangers.items()):
            shown = _token(connection, parser)
            if shown is None and self.clock() - since <= self.timeout:
                continue
            del self._strangers[connection]
            known = [p for p in expected if p.token is not None and secrets.compare_digest(p.token, shown or "")]
            if known:
                known[0].connect(connection.detach())
            else:
                connection.close()

    def descriptors(self) -> list[int]:
        """Readable when there is something to do."""
        return [s.fileno() for s in (self._port, *self._strangers)]

    def close(self) -> None:
        for connection in (self._port, *self._strangers):
            connection.close()
        self._strangers.clear()


def _token(connection: socket.socket, parser: Parser) -> str | None:
    """What a connection has shown: None while it is not there yet, "" for what is none."""
    try:
        while count := connection.recv_into(parser.room()):
            record = parser.took(count)
            if record is not None:
                return record.text if record.text.isascii() else ""
    except BlockingIOError:
        return None
    except (OSError, Unreadable):
        pass
    return ""
