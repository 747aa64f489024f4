"""Tables of what there is: aligned and coloured on a terminal, plain lines in a pipe."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from slipstream.app.arguments import PROBLEM, describe
from slipstream.app.hints import arguments_of
from slipstream.app.house import House


def first_line(text: str | None) -> str:
    """The first sentence of a docstring, as far as its first line goes."""
    return (text or "").strip().partition("\n")[0].strip()


def rooms(house: House, names: Iterable[str]) -> None:
    """One line a class. Rooms with a general word show what is of that kind, and not the word itself."""
    kinds = {"problems": house.problem, "steppers": house.stepper, "operators": house.operator}
    general = {*kinds.values(), house.objective}
    for room in names:
        kind = kinds.get(room, object)
        classes = {n: c for n, c in sorted(house.rooms[room].items()) if issubclass(c, kind) and c not in general}
        if classes:
            table({n: first_line(c.__doc__) for n, c in classes.items()}, room)


def table(rows: Mapping[str, str], title: str = "") -> None:
    """Two columns. In a pipe: one line a row, cut nowhere."""
    console = Console()
    if not console.is_terminal:
        width = max(map(len, rows))
        if title:
            print(title)
        for name, text in rows.items():
            print(f"  {name:<{width}}  {text}".rstrip())
        return
    grid = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=True
    )
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column()
    for name, text in rows.items():
        grid.add_row(name, text)
    console.print(grid)


def one(name: str, cls: type, house: House) -> None:
    """What a class is, and the arguments that a recipe gives it, with defaults."""
    print(f"{name} ({cls.__module__})\n")
    print(inspect.cleandoc(cls.__doc__ or ""))
    given = {PROBLEM, *(house.filled if issubclass(cls, house.operator) else ())}
    arguments = [a for a in arguments_of(cls).values() if a.name not in given]
    print("\narguments in a recipe:" if arguments else "\nno arguments")
    for argument in arguments:
        print(f"  {describe(argument)}")
