"""The language of written equations: Python's expression syntax, an allow-list of names, and nothing that runs.

Text is parsed to a syntax tree by `ast` and walked; no part of it is ever evaluated as code.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slipstream.equations import algebra
from slipstream.equations.algebra import Orders, Sum
from slipstream.errors import InputError

AXES = "xyz"
FUNCTIONS = ("abs", "cos", "cosh", "exp", "log", "sin", "sinh", "sqrt", "tan", "tanh")
OPERATORS = ("advect", "curl", "div", "dot", "dx", "dy", "dz", "grad", "inverse_laplace", "laplace")
RESERVED = {*AXES, "t", "pi", *FUNCTIONS, *OPERATORS}
MOST_CHARACTERS = 4000

Value = tuple[Sum, ...]
"""One sum for a scalar, one an axis for a vector. On a line the two are the same."""


class Mistake(InputError):
    """Something wrong at a place in the text."""


@dataclass(frozen=True)
class Line:
    """One equation, ``unknown_t = right``."""

    text: str
    unknown: str
    right: ast.expr
    offset: int

    def mistake(self, node: ast.AST | int, reason: str) -> Mistake:
        column = node if isinstance(node, int) else self.offset + getattr(node, "col_offset", 0)
        return Mistake(f"{reason}\n    {self.text}\n    {' ' * column}^ column {column + 1}")


def nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def read_lines(text: str | Sequence[str]) -> list[Line]:
    """The equations in a text (one a line, or separated by semicolons) or in a list of texts."""
    whole = [text] if isinstance(text, str) else list(text)
    pieces = [p for part in whole for p in re.split(r"[;\n]", part) if p.strip()]
    if not pieces:
        raise Mistake("There is no equation in the text; write for example 'u_t = D*laplace(u)'.")
    lines = [_read(p.strip()) for p in pieces]
    for line in lines:
        if [other.unknown for other in lines].count(line.unknown) > 1:
            raise line.mistake(0, f"{line.unknown!r} has more than one equation.")
    return lines


def _read(text: str) -> Line:
    blank = Line(text, "", ast.Constant(0), 0)
    if len(text) > MOST_CHARACTERS:
        raise Mistake(f"An equation of {len(text)} characters is too long; at most {MOST_CHARACTERS} are read.")
    if not text.isascii():
        at = next(i for i, c in enumerate(text) if not c.isascii())
        raise blank.mistake(at, f"{text[at]!r} is not understood; write names and signs in ASCII, powers as **.")
    left, equals, right = text.partition("=")
    if not equals:
        raise blank.mistake(len(text), "An equation needs '=': unknown_t = right-hand side.")
    found = re.fullmatch(r"\s*([A-Za-z][A-Za-z0-9]*)_t\s*", left)
    if not found or found[1] in RESERVED:
        raise blank.mistake(
            0, f"The left side is the time derivative of an unknown, such as u_t; got {left.strip()!r}."
        )
    offset = len(left) + 1 + len(right) - len(right.lstrip())
    if not right.strip():
        raise blank.mistake(len(text), "The right side is empty.")
    try:
        tree = ast.parse(right.strip(), mode="eval").body
    except SyntaxError as error:
        at = offset + max(0, (error.offset or 1) - 1)
        raise blank.mistake(at, f"This is no expression: {error.msg}.") from None
    except (RecursionError, MemoryError, ValueError):
        raise blank.mistake(offset, "The right side is nested too deeply to be read.") from None
    return Line(text, found[1], tree, offset)


def axes_used(lines: list[Line]) -> int:
    """How many axes the text speaks of: up to the last of x, y, z in a name, a subscript, a component or a derivative."""
    most = 1
    unknowns = {line.unknown for line in lines}
    for line in lines:
        for node in ast.walk(line.right):
            letters = ""
            if isinstance(node, ast.Name):
                name, _, subscript = node.id.rpartition("_")
                if node.id in AXES:
                    letters = node.id
                elif name in unknowns and set(subscript) <= set(AXES):
                    letters = subscript
                elif node.id in ("dx", "dy", "dz"):
                    letters = node.id[1]
                elif node.id == "curl":
                    letters = "y"
            elif isinstance(node, ast.Attribute) and node.attr in AXES:
                letters = node.attr
            elif isinstance(node, ast.List):
                letters = AXES[: len(node.elts)]
            most = max([most, *(AXES.index(c) + 1 for c in letters)])
    return most


def vectors_among(lines: list[Line], num_dims: int) -> set[str]:
    """Unknowns that carry, diverge, turn or have components, and those whose right side is a vector."""
    if num_dims == 1:
        return set()
    unknowns, found = {line.unknown for line in lines}, set()
    for line in lines:
        for node in ast.walk(line.right):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                if node.func.id in ("advect", "div", "curl") and isinstance(node.args[0], ast.Name):
                    found.add(node.args[0].id)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.add(node.value.id)
    found &= unknowns

    def is_vector(node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id.partition("_")[0] in found
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in ("grad", "curl"):
                return name == "grad" or num_dims == 3
            if name in ("advect", "laplace", "inverse_laplace", "dx", "dy", "dz") and node.args:
                return is_vector(node.args[-1])
            return False
        if isinstance(node, ast.BinOp):
            return is_vector(node.left) or is_vector(node.right)
        return is_vector(node.operand) if isinstance(node, ast.UnaryOp) else isinstance(node, ast.List)

    while True:
        more = {line.unknown for line in lines if is_vector(line.right)} | found
        if more == found:
            return found
        found |= more


class Reader:
    """Turns right sides into sums of products.

    Parameters
    ----------
    unknowns : name -> its channels (one, or one an axis).
    scalars, fields : names of parameters of either kind.
    num_dims : number of axes.
    """

    def __init__(
        self, unknowns: dict[str, tuple[int, ...]], scalars: Iterable[str], fields: Iterable[str], num_dims: int
    ) -> None:
        self.unknowns, self.scalars, self.fields = unknowns, set(scalars), set(fields)
        self.num_dims = num_dims
        self.none: Orders = (0,) * (num_dims + 1)

    def read(self, line: Line) -> Value:
        value = self._value(line, line.right)
        expected = len(self.unknowns[line.unknown])
        if len(value) != expected:
            kinds = {True: "a scalar", False: "a vector"}
            raise line.mistake(
                line.right, f"{line.unknown} is {kinds[expected == 1]}, but its right side is {kinds[len(value) == 1]}."
            )
        return value

    def _value(self, line: Line, node: ast.expr) -> Value:
        try:
            return self._node(line, node)
        except Mistake:
            raise
        except RecursionError:
            raise line.mistake(line.offset, "The right side is nested too deeply to be read.") from None
        except InputError as error:
            raise line.mistake(node, str(error)) from None

    def _node(self, line: Line, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
                if not math.isfinite(float(node.value)):
                    raise line.mistake(node, "This number is too large.")
                return (algebra.number(node.value),)
            raise line.mistake(node, f"{node.value!r} is no number.")
        if isinstance(node, ast.Name):
            return self._name(line, node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
            return tuple(algebra.scale(s, sign) for s in self._value(line, node.operand))
        if isinstance(node, ast.BinOp):
            return self._operation(line, node)
        if isinstance(node, ast.Call):
            return self._call(line, node)
        if isinstance(node, ast.List):
            if len(node.elts) != self.num_dims:
                raise line.mistake(node, f"A vector has {self.num_dims} components here; got {len(node.elts)}.")
            return tuple(self._scalar(line, e) for e in node.elts)
        if isinstance(node, ast.Attribute) and node.attr in AXES[: self.num_dims]:
            value = self._value(line, node.value)
            if len(value) != self.num_dims:
                raise line.mistake(node, "Only a vector has components.")
            return (value[AXES.index(node.attr)],)
        raise line.mistake(node, f"{type(node).__name__} is not part of the language of equations.")

    def _name(self, line: Line, node: ast.Name) -> Value:
        name = node.id
        stem, _, subscript = name.rpartition("_")
        if name in self.unknowns:
            return self._unknown(name, "")
        if name in self.scalars or name in self.fields:
            return (algebra.factor(("parameter" if name in self.scalars else "field", name)),)
        if name in AXES[: self.num_dims]:
            return (algebra.factor(("coordinate", AXES.index(name))),)
        if name == "pi":
            return (algebra.number(math.pi),)
        if stem in self.unknowns and subscript and set(subscript) <= set(AXES[: self.num_dims]):
            return self._unknown(stem, subscript)
        if name == "t":
            raise line.mistake(
                node, "The right side must not depend on the time t; make it a parameter that is given anew."
            )
        if name in FUNCTIONS or name in OPERATORS:
            raise line.mistake(node, f"{name} takes its arguments in brackets: {name}(...).")
        if stem and subscript and set(subscript) <= set(AXES):
            raise line.mistake(
                node,
                f"{name} is a derivative of {stem!r}, which has no equation.{nearest(stem, self.unknowns)} "
                f"Add one: {stem}_t = ...",
            )
        known = [*self.unknowns, *self.scalars, *self.fields, *AXES[: self.num_dims], "pi", *FUNCTIONS, *OPERATORS]
        raise line.mistake(
            node,
            f"Unknown symbol {name!r}.{nearest(name, known)} A parameter needs a value (parameters={{{name!r}: ...}}), "
            f"an unknown its own equation ({name}_t = ...).",
        )

    def _unknown(self, name: str, subscript: str) -> Value:
        orders = (*(subscript.count(a) for a in AXES[: self.num_dims]), 0)
        return tuple(algebra.factor(("unknown", c, orders)) for c in self.unknowns[name])

    def _operation(self, line: Line, node: ast.BinOp) -> Value:
        if isinstance(node.op, ast.BitXor):
            raise line.mistake(node, "Powers are written **, as in u**2.")
        a, b = self._value(line, node.left), self._value(line, node.right)
        if isinstance(node.op, (ast.Add, ast.Sub)):
            if len(a) != len(b):
                raise line.mistake(node, "A scalar and a vector cannot be added.")
            sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
            return tuple(algebra.add(p, algebra.scale(q, sign)) for p, q in zip(a, b, strict=True))
        if isinstance(node.op, ast.Mult):
            if len(a) > 1 and len(b) > 1:
                raise line.mistake(node, "Two vectors are multiplied by dot(a, b).")
            many, one = (a, b[0]) if len(b) == 1 else (b, a[0])
            return tuple(algebra.multiply(s, one) for s in many)
        if isinstance(node.op, ast.Div):
            if len(b) > 1:
                raise line.mistake(node, "Nothing can be divided by a vector.")
            return tuple(algebra.multiply(s, algebra.power(b[0], -1)) for s in a)
        if isinstance(node.op, ast.Pow):
            if len(a) > 1 or len(b) > 1 or not algebra.is_number(b[0]):
                raise line.mistake(node, "A power takes a scalar and a number: u**3.")
            return (algebra.power(a[0], b[0].get(algebra.ONE, 0.0)),)
        raise line.mistake(node, f"{type(node.op).__name__} is not part of the language of equations.")

    def _scalar(self, line: Line, node: ast.expr) -> Sum:
        value = self._value(line, node)
        if len(value) != 1:
            raise line.mistake(node, "A scalar is needed here, but this is a vector.")
        return value[0]

    def _vector(self, line: Line, node: ast.expr) -> Value:
        value = self._value(line, node)
        if len(value) != self.num_dims:
            raise line.mistake(node, f"A vector of {self.num_dims} components is needed here, but this is a scalar.")
        return value

    def _along(self, axis: int, order: int = 1) -> Orders:
        return tuple(order if i == axis else 0 for i in range(self.num_dims + 1))

    def _call(self, line: Line, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise line.mistake(node, "Functions are called by name, with plain arguments: laplace(u).")
        name, args = node.func.id, node.args
        known = {**dict.fromkeys(FUNCTIONS, 1), **dict.fromkeys(OPERATORS, 1), "advect": 2, "dot": 2}
        if name not in known:
            raise line.mistake(
                node, f"There is no function {name!r}.{nearest(name, known)} There are: {', '.join(known)}."
            )
        if len(args) != known[name]:
            raise line.mistake(node, f"{name} takes {known[name]} argument{'s' * (known[name] > 1)}; got {len(args)}.")
        if name in FUNCTIONS:
            return (self._function(name, self._scalar(line, args[0])),)
        if name in ("dx", "dy", "dz"):
            axis = AXES.index(name[1])
            if axis >= self.num_dims:
                raise line.mistake(node, f"{name} needs {axis + 1} axes; this equation has {self.num_dims}.")
            return tuple(algebra.differentiate(s, self._along(axis)) for s in self._value(line, args[0]))
        if name == "laplace":
            return tuple(self._laplace(s) for s in self._value(line, args[0]))
        if name == "inverse_laplace":
            inverse = self._along(self.num_dims)
            return tuple(algebra.differentiate(s, inverse) for s in self._value(line, args[0]))
        if name == "grad":
            s = self._scalar(line, args[0])
            return tuple(algebra.differentiate(s, self._along(i)) for i in range(self.num_dims))
        if name == "div":
            parts = enumerate(self._vector(line, args[0]))
            return (algebra.add(*(algebra.differentiate(s, self._along(i)) for i, s in parts)),)
        if name == "curl":
            return self._curl(line, node)
        a = self._vector(line, args[0])
        if name == "dot":
            return (
                algebra.add(*(algebra.multiply(p, q) for p, q in zip(a, self._vector(line, args[1]), strict=True))),
            )
        return tuple(
            algebra.add(*(algebra.multiply(v, algebra.differentiate(s, self._along(i))) for i, v in enumerate(a)))
            for s in self._value(line, args[1])
        )

    def _laplace(self, s: Sum) -> Sum:
        return algebra.add(*(algebra.differentiate(s, self._along(i, 2)) for i in range(self.num_dims)))

    def _curl(self, line: Line, node: ast.Call) -> Value:
        v = self._vector(line, node.args[0])

        def part(i: int, j: int) -> Sum:
            down = algebra.scale(algebra.differentiate(v[i], self._along(j)), -1.0)
            return algebra.add(algebra.differentiate(v[j], self._along(i)), down)

        return (part(0, 1),) if self.num_dims == 2 else (part(1, 2), part(2, 0), part(0, 1))

    def _function(self, name: str, s: Sum) -> Sum:
        if name == "sqrt":
            return algebra.power(s, 0.5)
        if algebra.is_number(s):
            at = s.get(algebra.ONE, 0.0)
            try:
                return algebra.number(abs(at) if name == "abs" else getattr(math, name)(at))
            except (ValueError, OverflowError):
                raise InputError(f"{name}({at:g}) is no finite number.") from None
        return algebra.factor(("function", name, algebra.frozen(s)))
