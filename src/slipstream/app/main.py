"""The command ``slipstream``: finds the command, runs it, and turns errors into one message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from slipstream.app.help import COMMANDS, overview, page, parse
from slipstream.app.names import nearest
from slipstream.errors import ForeignCode, InputError, ShapeError, SlipstreamError

if TYPE_CHECKING:
    from slipstream.app.house import House

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None, house: Callable[[], House] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : the words after ``slipstream``; None takes them from the process.
    house : makes the rooms and functions that recipes see; None means slipstream's own.

    Returns
    -------
    0 done, 1 failed, 2 the input was refused, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words, house)
    except SlipstreamError as error:
        if "--traceback" in words:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError | ShapeError | ForeignCode) else FAILED
    except KeyboardInterrupt:
        print("\nStopped. The same command continues.", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # The reader has gone (`slipstream list | head`); keep Python from complaining once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(words: list[str], house: Callable[[], House] | None) -> int:
    first, rest = (words[0], words[1:]) if words else ("--help", [])
    if first in ("-h", "--help", "help"):
        print(overview())
        return DONE
    if first == "--version":
        from slipstream import __version__

        print(f"slipstream {__version__}")
        return DONE
    if first not in COMMANDS:
        raise InputError(f"There is no command {first!r}.{nearest(first, COMMANDS)} There are: {', '.join(COMMANDS)}.")
    command = COMMANDS[first]
    if "-h" in rest or "--help" in rest:
        print(page(command))
        return DONE
    options = parse(command, rest)

    from slipstream.app import commands
    from slipstream.app.house import slipstream_house

    result = getattr(commands, command.function)(options, house or slipstream_house)
    return DONE if result is None else result
