"""How a written equation is evaluated with few transforms: which derivatives go up to points, which products come down, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slipstream.equations import algebra
from slipstream.equations.algebra import Factor, Frozen, Orders, Product, Sum


@dataclass(frozen=True)
class Term:
    """``number * uniform * (derivative of inner)``, one term of a right side."""

    number: float
    uniform: Product
    orders: Orders
    inner: Product


@dataclass(frozen=True)
class Use:
    """What becomes of a product that came down: a uniform factor times a combination of derivatives, ``(number, orders)``."""

    product: int
    uniform: Product
    ops: tuple[tuple[float, Orders], ...]


@dataclass(frozen=True)
class Plan:
    """The nonlinear part.

    Attributes
    ----------
    products : sums that are evaluated at points and come down, each once.
    uses : for each channel, which of them it takes and how.
    atoms : derivatives of unknowns that go up to points, each once.
    nested : derivatives of products inside products, in the order in which they can be evaluated.
    """

    products: tuple[Frozen, ...]
    uses: tuple[tuple[Use, ...], ...]
    atoms: tuple[Factor, ...] = field(default=())
    nested: tuple[Factor, ...] = field(default=())

    @property
    def transforms(self) -> int:
        return len(self.atoms) + len(self.products) + 2 * len(self.nested)

    @property
    def at_points(self) -> bool:
        """Whether no derivative occurs, of an unknown or of a product."""
        ops = [o for uses in self.uses for use in uses for _, o in use.ops]
        return not self.nested and not any(any(o) for o in (*(f[2] for f in self.atoms), *ops))


def term_of(product: Product, number: float) -> Term:
    """A term whose derivative, if it is one as a whole, is told from what is inside."""
    uniform, rest = algebra.split(product)
    if len(rest) == 1 and rest[0][1] == 1 and rest[0][0][0] == "derivative":
        _, orders, inner = rest[0][0]
        return Term(number, uniform, orders, inner)
    dims = next((len(f[2]) for f in algebra.leaves(rest) if f[0] == "unknown"), 0)
    return Term(number, uniform, (0,) * dims, rest)


def conservative(term: Term) -> Term:
    """``u^n u_x`` as ``(u^(n+1) / (n+1))_x``: one field up to points instead of two."""
    powers = dict(term.inner)
    if len(powers) != 2 or any(term.orders):
        return term
    slope = next(
        (f for f, e in powers.items() if f[0] == "unknown" and sum(f[2]) == 1 and not f[2][-1] and e == 1), None
    )
    if slope is None:
        return term
    plain: Factor = ("unknown", slope[1], (0,) * len(slope[2]))
    n = powers.get(plain, 0)
    if n < 1 or n != int(n):
        return term
    return Term(term.number / (n + 1), term.uniform, slope[2], ((plain, n + 1),))


def plan(terms: Sequence[Sequence[Term]]) -> Plan:
    """The plan with the fewest transforms for the nonlinear terms of each channel."""
    plain = make_plan(terms)
    rewritten = make_plan([[conservative(t) for t in channel] for channel in terms])
    return rewritten if rewritten.transforms < plain.transforms else plain


def make_plan(terms: Sequence[Sequence[Term]]) -> Plan:
    gathered = [_gather(channel) for channel in terms]
    shared = [key for channel in gathered for _, key in channel]
    known: dict[Frozen, int] = {}
    uses = []
    for channel in gathered:
        lonely = [(use, key) for use, key in channel if shared.count(key) == 1 and len(use) == 1]
        channel = [entry for entry in channel if entry not in lonely] + _merge(lonely)
        made = []
        for parts, key in channel:
            first = key[0][1]
            normal = tuple((p, n / first) for p, n in key)
            index = known.setdefault(normal, len(known))
            for uniform, ops in parts:
                made.append(Use(index, uniform, tuple((n * first, o) for n, o in ops)))
        uses.append(tuple(made))
    products = tuple(known)
    atoms: dict[Factor, None] = {}
    nested: dict[Factor, None] = {}

    def visit(product: Product) -> None:
        for f in algebra.leaves(product):
            if f[0] == "unknown":
                atoms[f] = None
            elif f[0] == "derivative" and f not in nested:
                visit(f[2])
                nested[f] = None

    for s in products:
        for p, _ in s:
            visit(p)
    return Plan(products, tuple(uses), tuple(sorted(atoms, key=repr)), tuple(nested))


Parts = list[tuple[Product, tuple[tuple[float, Orders], ...]]]


def _gather(channel: Sequence[Term]) -> list[tuple[Parts, Frozen]]:
    """Terms of one channel that come down together: the same derivatives and the same uniform factor."""
    by_inner: dict[Product, dict[Product, list[tuple[float, Orders]]]] = {}
    for t in channel:
        by_inner.setdefault(t.inner, {}).setdefault(t.uniform, []).append((t.number, t.orders))
    groups: dict[tuple, tuple[Parts, Sum]] = {}
    for inner, uniforms in by_inner.items():
        if len(uniforms) > 1:
            parts = [(u, tuple(ops)) for u, ops in uniforms.items()]
            groups[inner, "alone"] = (parts, {inner: 1.0})
            continue
        ((uniform, ops),) = uniforms.items()
        ops = sorted(ops, key=lambda q: q[1])
        first = ops[0][0]
        normal = tuple((n / first, o) for n, o in ops)
        groups.setdefault((uniform, normal), ([(uniform, normal)], {}))[1][inner] = first
    return [(parts, algebra.frozen(s)) for parts, s in groups.values()]


def _merge(lonely: list[tuple[Parts, Frozen]]) -> list[tuple[Parts, Frozen]]:
    """Sums that only one channel takes, with the same derivatives but different uniform factors, come down as one."""
    by_ops: dict[tuple, list[tuple[Product, Frozen]]] = {}
    for ((uniform, ops),), key in lonely:
        by_ops.setdefault(ops, []).append((uniform, key))
    result: list[tuple[Parts, Frozen]] = []
    for ops, members in by_ops.items():
        if len(members) == 1:
            result.append(([(members[0][0], ops)], members[0][1]))
            continue
        inside = algebra.add(*({algebra.times(u, p): n for p, n in key} for u, key in members))
        result.append(([((), ops)], algebra.frozen(inside)))
    return result
