"""Names of classes, and the nearest right name for a wrong one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from slipstream.errors import ForeignCode, InputError


def nearest(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'reynolds'?"``, or nothing where no known word is near. Case does not count."""
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.lower(), name)
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if not close:
        close = [name for name in folded if len(word) > 2 and name.startswith(word.lower())][:1]
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def public_classes(module: ModuleType) -> dict[str, type]:
    """The classes in a module's ``__all__``."""
    return {name: getattr(module, name) for name in module.__all__ if inspect.isclass(getattr(module, name))}


@dataclass(frozen=True)
class Names:
    """Finds classes by short name in the rooms, by room and short name, or by dotted path in allowed packages.

    A room within a room, such as ``solvers.linear``, is looked into where no outer one has a class of that name and kind. Of two that
    share a name, each can be called by its room: ``linear.Multigrid`` or ``solvers.linear.Multigrid``, ``data.Multigrid``.

    Parameters
    ----------
    rooms : room -> short name -> class.
    allow : packages beside slipstream whose classes a recipe may name, and classes of slipstream that start programs. A package that
        is called as a room is comes before the room.
    """

    rooms: Mapping[str, Mapping[str, type]]
    allow: tuple[str, ...] = ()

    def find(self, name: Any, expected: type = object) -> type:
        """The class called `name` that is an `expected`.

        Raises
        ------
        InputError : no such class, several, or one of another kind.
        ForeignCode : the class belongs to a package that was not allowed, and nothing of it was imported; or it is one of ours that
            starts programs (`runs_programs`) and was not allowed by its name.
        """
        if not isinstance(name, str):
            raise InputError(f"the name of a class is text; got {name!r}.")
        found = self.short(name, expected) if self._in_rooms(name) else self.dotted(name)
        if not is_kind(found, expected):
            choices = self.choices(expected)
            raise InputError(
                f"{name} is no {expected.__name__}.{nearest(name, choices)} "
                f"There {'are' if len(choices) > 1 else 'is'}: {', '.join(choices) or 'none'}."
            )
        if vars(found).get("runs_programs") and found.__name__ not in self.allow:
            raise ForeignCode(
                f"{found.__name__} starts the programs that a recipe tells it to: a stranger's recipe could run anything. "
                f"Read its command; if you trust it, allow it: --import {found.__name__}."
            )
        return found

    def choices(self, expected: type = object) -> list[str]:
        """Short names of every class that is an `expected`, without the general word itself."""
        return sorted(
            {n for room in self.rooms.values() for n, c in room.items() if is_kind(c, expected) and c is not expected}
        )

    def called(self, name: str) -> dict[str, type]:
        """Room -> class of that name; only of the room that the name begins with, if it does."""
        room, _, word = name.rpartition(".")
        return {r: classes[word] for r, classes in self.rooms.items() if word in classes and _is_room(r, room)}

    def _in_rooms(self, name: str) -> bool:
        """Whether the name is short, or begins with a room."""
        room = name.rpartition(".")[0]
        return not room or (name.partition(".")[0] not in self.allow and any(_is_room(r, room) for r in self.rooms))

    def dotted(self, path: str) -> type:
        from slipstream.pretrained import find_class

        try:
            return find_class(path, self.allow)
        except InputError as error:
            raise InputError(f"{error}{nearest(path.rpartition('.')[2], self.choices())}") from None

    def short(self, name: str, expected: type) -> type:
        found = self.called(name)
        if not found:
            choices, word = self.choices(expected) or self.choices(), name.rpartition(".")[2]
            raise InputError(
                f"there is no class {name!r}.{nearest(word, choices) or nearest(word, self.choices())} "
                f"Known here: {', '.join(choices)}."
            )
        fitting = {room: c for room, c in found.items() if is_kind(c, expected)} or found
        fitting = {room: c for room, c in fitting.items() if "." not in room} or fitting
        if len({id(c) for c in fitting.values()}) > 1:
            raise InputError(f"{name!r} is in several rooms; write {' or '.join(f'{r}.{name}' for r in fitting)}.")
        return next(iter(fitting.values()))


def _is_room(room: str, called: str) -> bool:
    """Whether a room, or one within it, is called so; ``""`` is every room."""
    return not called or f".{room}".endswith(f".{called}")


def is_kind(found: type, expected: type) -> bool:
    """Whether `found` is a subclass of `expected`; a protocol that cannot be asked accepts every class."""
    try:
        return issubclass(found, expected)
    except TypeError:
        return True
