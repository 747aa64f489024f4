"""Lock: one process at a time, by a lock that the kernel drops when its process dies."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from slipstream.errors import StoreError


class Lock:
    """Held from construction to `release`, or to the end of the ``with`` block, or of the process, however it ends.

    The file only carries the name of the holder; it stays behind and never blocks anybody by itself, because what
    locks is `flock`, which belongs to the process.

    Parameters
    ----------
    path : file to lock, made when it is not there.
    what : what is locked, for the message: ``"The store flow.zarr"``.
    remedy : what one may do instead, for the message: ``"choose another --out"``.

    Raises
    ------
    StoreError : somebody else holds it (the message says who), or the file cannot be written.
    """

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        import fcntl

        otherwise = f"{remedy[0].upper()}{remedy[1:]}."
        try:
            self.file = open(path, "ab+", buffering=0)  # noqa: SIM115  (open for as long as the lock is held)
        except OSError as error:
            raise StoreError(f"{what} is not writable: {error.strerror or error}. {otherwise}") from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.seek(0)
            holder = self.file.read()
            self.file.close()
            if not isinstance(error, BlockingIOError):
                raise StoreError(f"{what} cannot be locked: {error.strerror or error}. {otherwise}") from error
            raise StoreError(f"{what} is in use by {_name(holder)}. Wait until it ends, or {remedy}.") from None
        with suppress(OSError):  # on a full disk the lock has no name; it locks all the same
            self.file.truncate(0)
            self.file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())

    def release(self) -> None:
        """Let others in."""
        self.file.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _name(holder: bytes) -> str:
    try:
        found = json.loads(holder)
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # caught between taking the lock and writing its name
