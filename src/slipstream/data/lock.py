"""One writer at a time: a lock that the kernel drops when its process dies."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from slipstream.errors import StoreError


class Lock:
    """Held from construction to `release` (or the end of the process, however it ends).

    The file only carries the name of the holder; it stays behind and never blocks anybody by itself, because what
    locks is `flock`, which belongs to the process.

    Parameters
    ----------
    path : file to lock, made when it is not there.
    what : what is locked, for the message.

    Raises
    ------
    StoreError : somebody else holds it (the message says who), or the file cannot be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        import fcntl

        try:
            self.file = open(path, "a+")  # noqa: SIM115  (open for as long as the lock is held)
        except OSError as error:
            raise StoreError(
                f"{what} cannot be written: {error.strerror or error}. Change its permissions, or open it to read: mode='r'."
            ) from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.seek(0)
            holder = self.file.read()
            self.file.close()
            if not isinstance(error, BlockingIOError):
                raise StoreError(f"{what} cannot be locked: {error.strerror or error}.") from error
            raise StoreError(
                f"{what} is being written by {_name(holder)}. Wait until it ends or stop it; reading is possible: mode='r'."
            ) from None
        self.file.truncate(0)
        self.file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self.file.flush()

    def release(self) -> None:
        self.file.close()


def _name(holder: str) -> str:
    try:
        found = json.loads(holder)
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # caught between taking the lock and writing its name
