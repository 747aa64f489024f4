"""Sums of products in a normal form: what a written equation becomes, so that its linear part can be told from the rest.

A `Sum` maps products to numbers; a product is a sorted tuple of (factor, exponent). Factors are tuples, told apart by their first entry:

- ``("parameter", name)``: a number a run; ``("field", name)``: a value a point; ``("coordinate", axis)``
- ``("unknown", channel, orders)``: a derivative of an unknown, `orders` one an axis, then how often the Laplacian is inverted
- ``("derivative", orders, product)``: a derivative of a product, as the user wrote it (conservative forms stay conservative)
- ``("function", name, sum)`` and ``("sum", sum)``: what is not expanded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from slipstream.errors import InputError

Factor = tuple
Product = tuple[tuple[Factor, float], ...]
Sum = dict[Product, float]
Frozen = tuple[tuple[Product, float], ...]
Orders = tuple[int, ...]

ONE: Product = ()
MOST_TERMS = 400
MOST_EXPANDED = 8


def number(value: float) -> Sum:
    return {ONE: float(value)} if value else {}


def factor(f: Factor, exponent: float = 1) -> Sum:
    exponent = int(exponent) if exponent == int(exponent) else exponent
    return {((f, exponent),): 1.0}


def frozen(s: Sum) -> Frozen:
    """The sum as a hashable key, in one order."""
    return tuple(sorted(s.items(), key=repr))


def add(*sums: Sum) -> Sum:
    total: Sum = {}
    for s in sums:
        for product, n in s.items():
            total[product] = total.get(product, 0.0) + n
    return {p: n for p, n in total.items() if n}


def scale(s: Sum, n: float) -> Sum:
    return {p: n * v for p, v in s.items() if n * v}


def times(p: Product, q: Product) -> Product:
    exponents: dict[Factor, float] = dict(p)
    for f, e in q:
        exponents[f] = exponents.get(f, 0) + e
    return tuple(sorted(((f, e) for f, e in exponents.items() if e), key=repr))


def multiply(a: Sum, b: Sum) -> Sum:
    """The product, expanded."""
    if len(a) * len(b) > MOST_TERMS:
        raise InputError(
            f"the expression expands to more than {MOST_TERMS} terms; give its parts equations of their own."
        )
    return add(*({times(p, q): n * m} for p, n in a.items() for q, m in b.items()))


def is_number(s: Sum) -> bool:
    return not s or set(s) == {ONE}


def power(s: Sum, exponent: float) -> Sum:
    """A power: expanded where it is a small whole one, moved into the factors where there is one product."""
    whole = exponent == int(exponent)
    if is_number(s):
        base = s.get(ONE, 0.0)
        try:
            value = base**exponent
        except (OverflowError, ZeroDivisionError):
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            raise InputError(f"{base:g} ** {exponent:g} is no finite number.")
        return number(value)
    if whole and len(s) == 1:
        ((product, n),) = s.items()
        return {tuple((f, int(e * exponent)) if e == int(e) else (f, e * exponent) for f, e in product): n**exponent}
    if whole and 0 <= exponent <= MOST_EXPANDED:
        total = number(1)
        for _ in range(int(exponent)):
            total = multiply(total, s)
        return total
    return factor(("sum", frozen(s)), exponent)


def is_uniform(f: Factor) -> bool:
    """Whether a factor has one value a run, the same at every point."""
    if f[0] in ("function", "sum"):
        return all(is_uniform(g) for product, _ in f[-1] for g, _ in product)
    return f[0] == "parameter"


def split(product: Product) -> tuple[Product, Product]:
    """The factors that are uniform, and the others."""
    return tuple(q for q in product if is_uniform(q[0])), tuple(q for q in product if not is_uniform(q[0]))


def leaves(product: Product) -> Iterable[Factor]:
    """Every factor, those inside functions, sums and derivatives too."""
    for f, _ in product:
        yield f
        if f[0] in ("function", "sum"):
            for inner, _ in f[-1]:
                yield from leaves(inner)
        elif f[0] == "derivative":
            yield from leaves(f[2])


def depends_on_unknowns(product: Product) -> bool:
    return any(f[0] == "unknown" for f in leaves(product))


def differentiate(s: Sum, orders: Orders) -> Sum:
    """A derivative (or inverse Laplacian) of each product; uniform factors come out of it."""
    total: list[Sum] = []
    for product, n in s.items():
        uniform, rest = split(product)
        if not rest:
            continue
        if len(rest) == 1 and rest[0][1] == 1 and rest[0][0][0] in ("unknown", "derivative"):
            f = rest[0][0]
            at = 2 if f[0] == "unknown" else 1
            merged = tuple(a + b for a, b in zip(f[at], orders, strict=True))
            inner: Factor = (*f[:at], merged, *f[at + 1 :])
        else:
            inner = ("derivative", orders, rest)
        total.append({times(uniform, ((inner, 1),)): n})
    return add(*total)


def partial(product: Product, unknown: Factor) -> Sum:
    """The derivative of a product of powers with respect to one of its factors."""
    exponents = dict(product)
    e = exponents.get(unknown, 0)
    return {times(product, ((unknown, -1),)): float(e)} if e else {}
