"""Signals: a request to stop is noted and waits for the end of the step."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Signals:
    """Within the block Ctrl-C and SIGTERM are only noted; a second Ctrl-C acts at once. Signals reach the main thread alone.

    Who leaves the block looks at `number`. If an error ends it, nobody does: then the signal acts as if it came afterwards.
    """

    number = 0

    def __enter__(self) -> Signals:
        self.before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt("A second Ctrl-C: the training stops where it is; what was saved before stays.")
        self.number = number

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.number and kind is not None and issubclass(kind, Exception):
            signal.raise_signal(self.number)
