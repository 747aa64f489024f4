"""Plans carried out: at points, in any calculus, and between Fourier coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slipstream.equations import algebra
from slipstream.equations.algebra import Factor, Frozen, Orders, Product, Sum
from slipstream.equations.calculus import Calculus
from slipstream.equations.plans import Plan
from slipstream.equations.points import Autograd
from slipstream.equations.spectral import Spectral
from slipstream.grids import Grid
from slipstream.trajectories import Parameters

Values = Mapping[Factor, Tensor]
Evaluate = Callable[[Values, Parameters], Any]
"""From the values of factors and of parameters to a tensor, or to a number where nothing varies."""

FUNCTIONS = {n: getattr(torch, n) for n in ("abs", "cos", "cosh", "exp", "log", "sin", "sinh", "tan", "tanh")}


def compile_sum(s: Frozen | Sum) -> Evaluate:
    """A function of the values of factors and of parameters."""
    items = list(s.items() if isinstance(s, dict) else s)
    terms = [(compile_product(p), n) for p, n in items]
    if len(terms) == 1:
        one, n = terms[0]
        return one if n == 1 else lambda values, p: n * one(values, p)

    def evaluate(values: Values, p: Parameters) -> Tensor | float:
        total: Tensor | float | None = None
        for term, n in terms:
            v = term(values, p)
            if total is None:
                total = v if n == 1 else n * v
            elif isinstance(total, Tensor) and isinstance(v, Tensor):
                total = torch.add(total, v, alpha=n)
            else:
                total = total + n * v
        return 0.0 if total is None else total

    return evaluate


def compile_product(product: Product) -> Evaluate:
    pieces: list[Evaluate] = []
    for f, e in product:
        base = _compile_factor(f)
        if e == int(e) and 1 <= e <= algebra.MOST_EXPANDED:
            pieces += [base] * int(e)
        else:
            pieces.append(_raised(base, e))
    if len(pieces) == 1:
        return pieces[0]
    if len(pieces) in (2, 3):
        a, b, *others = pieces
        if not others:
            return lambda values, p: a(values, p) * b(values, p)
        (c,) = others
        return lambda values, p: a(values, p) * b(values, p) * c(values, p)

    def evaluate(values: Values, p: Parameters) -> Tensor | float:
        total: Tensor | float = 1.0
        for i, piece in enumerate(pieces):
            total = piece(values, p) if i == 0 else total * piece(values, p)
        return total

    return evaluate


def _raised(base: Evaluate, e: float) -> Evaluate:
    return lambda values, p: torch.as_tensor(base(values, p)).pow(e)


def _compile_factor(f: Factor) -> Evaluate:
    if f[0] in ("parameter", "field"):
        name = f[1]
        return lambda values, p: p[name]
    if f[0] == "function":
        inner, function = compile_sum(f[2]), FUNCTIONS[f[1]]
        return lambda values, p: function(torch.as_tensor(inner(values, p)))
    if f[0] == "sum":
        return compile_sum(f[1])
    return lambda values, p: values[f]


# Symbols.


def symbol(grid: Grid, orders: Orders, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
    """Of a derivative on a half spectrum; real where it can be."""
    k = grid.wavenumbers(torch.float64)
    total = torch.ones((), dtype=torch.float64)
    for q, n, points in zip(k, orders[:-1], grid.shape, strict=True):
        if n % 2 and points % 2 == 0:
            q = torch.where(q.abs() < q.abs().max() * (1 - 1e-6), q, torch.zeros_like(q))
        total = total * q**n
    if orders[-1]:
        square = sum((q**2 for q in k[1:]), k[0] ** 2)
        total = total * torch.where(square > 0, -1 / square.clamp(min=1e-300), torch.zeros_like(square)) ** orders[-1]
    turns = sum(orders[:-1])
    real = (total * (-1) ** (turns // 2)).to(device, dtype)
    return 1j * real if turns % 2 else real


def differentiate(u: Tensor, d: Calculus, orders: Orders) -> Tensor:
    """A derivative in the caller's calculus."""
    for axis, n in enumerate(orders[:-1]):
        if n:
            u = d.derivative(u, axis, n)
    for _ in range(orders[-1] if orders else 0):
        u = d.inverse_laplace(u)
    return u


def coordinate_values(s: Sequence[Frozen], d: Calculus) -> dict[Factor, Tensor]:
    """The coordinates that some sums speak of, broadcastable against fields."""
    needed = {f for one in s for p, _ in one for f in algebra.leaves(p) if f[0] == "coordinate"}
    if not needed:
        return {}
    x = d.coordinates()
    return {f: x[:, f[1] : f[1] + 1] if isinstance(d, Autograd) else x[f[1]] for f in needed}


class SpectralPlan:
    """A plan on one grid: coefficients in, coefficients out."""

    def __init__(self, plan: Plan, d: Spectral, channels: int) -> None:
        self.d, self.plan = d, plan
        self._fixed = coordinate_values(plan.products, d)
        self._compiled = [compile_sum(s) for s in plan.products]
        self._nested = [(f, compile_product(f[2]), self._op(((1.0, f[1]),))) for f in plan.nested]
        ups = self._group(channels)
        # Each derivative of each product is formed once, whatever multiples of it the channels take.
        bases: dict[tuple[int, Product, tuple[tuple[float, Orders], ...]], int] = {}
        self._takes: list[list[tuple[int, float]]] = []
        for uses in plan.uses:
            takes = []
            for use in uses:
                first = use.ops[0][0]
                key = (use.product, use.uniform, tuple((n / first, o) for n, o in use.ops))
                takes.append((bases.setdefault(key, len(bases)), first))
            self._takes.append(takes)
        once = [sum(t[0] == i for takes in self._takes for t in takes) == 1 for i in range(len(bases))]
        scale = {t[0]: t[1] for takes in self._takes for t in takes if once[t[0]]}
        self._takes = [[(i, 1.0 if once[i] else n) for i, n in takes] for takes in self._takes]
        self._bases = [
            (index, scale.get(i, 1.0) * self._op(ops), compile_product(uniform) if uniform else None)
            for (index, uniform, ops), i in bases.items()
        ]
        # Where each channel takes one product and nothing else, its own or all the same, one multiplication does for all of them.
        self._straight = len(plan.products) in (1, channels) and all(len(takes) == 1 for takes in self._takes)
        whole = {atoms[0][2] for atoms, _, which in ups if which is None}
        self._together, alone = _together(plan, channels, whole)
        self._ups = [(atoms, op, which, not alone.isdisjoint(atoms)) for atoms, op, which in ups]
        self._known: tuple[Parameters | None, list[tuple[int, Tensor]]] = (None, [])

    def _op(self, ops: Sequence[tuple[float, Orders]]) -> Tensor:
        d = self.d
        if not d.dealias and not any(any(o) for _, o in ops):  # one number: nothing is dropped, nothing derived
            return d.square.new_tensor(sum(n for n, _ in ops))
        terms = [n * symbol(d.grid, o, d.dtype, d.device) for n, o in ops]
        return d.cut(sum(terms[1:], terms[0])).to(d.dtype.to_complex())

    def _group(self, channels: int) -> list[tuple[tuple[Factor, ...], Tensor | None, slice | Tensor | None]]:
        """Derivatives of the same order go up together: which they are, their symbol, and the channels that they are of.

        The symbol is None where coefficients go up as they are.
        """
        by_orders: dict[Orders, list[Factor]] = {}
        for f in self.plan.atoms:
            by_orders.setdefault(f[2], []).append(f)
        groups = []
        for orders, atoms in by_orders.items():
            picked = [f[1] for f in atoms]
            neighbours = picked == list(range(picked[0], picked[0] + len(picked)))
            which: slice | Tensor | None = (
                slice(picked[0], picked[-1] + 1) if neighbours else torch.tensor(picked, device=self.d.device)
            )
            which = None if picked == list(range(channels)) else which
            op = self._op(((1.0, orders),)) if self.d.dealias or any(orders) else None
            groups.append((tuple(atoms), op, which))
        return groups

    def _ops(self, p: Parameters) -> list[tuple[int, Tensor]]:
        """What becomes of each product, uniform factors and all: kept from one evaluation of a march to the next."""
        d, (known, ops) = self.d, self._known
        if known is p:
            return ops
        with torch.inference_mode(False):
            ops = [(i, op if uniform is None else uniform({}, p) * op) for i, op, uniform in self._bases]
        if self._straight and len(self._takes) > 1:
            with torch.inference_mode(False):
                taken = [n * ops[i][1] for ((i, n),) in self._takes]
                whole = [op.reshape([1] * (d.num_dims + 2 - op.ndim) + list(op.shape)) for op in taken]
                ops = [(0, torch.cat(torch.broadcast_tensors(*whole), dim=1))]
        if not any(op.requires_grad for _, op in ops):
            self._known = p, ops
        return ops

    def __call__(self, u_hat: Tensor, p: Parameters) -> Tensor:
        d, values = self.d, dict(self._fixed)
        for atoms, op, which, apart in self._ups:
            part = u_hat if which is None else u_hat[:, which]
            up = d.inverse(part if op is None else op * part)
            if which is None:
                values["all", atoms[0][2]] = up
            if len(atoms) == 1:
                values[atoms[0]] = up
            elif apart:
                values.update(zip(atoms, up.split(1, dim=1), strict=True))
        for f, product, op in self._nested:
            values[f] = d.inverse(op * d.forward(product(values, p)))
        one = len(self._compiled) == 1
        if self._together is not None:
            down = d.forward(self._together(values, p))
        else:
            products = [s(values, p) for s in self._compiled]
            down = d.forward(products[0] if one else torch.cat(products, dim=1))
        if self._straight:
            return self._ops(p)[0][1] * down
        formed = [op * (down if one else down[:, i : i + 1]) for i, op in self._ops(p)]
        pieces = []
        for takes in self._takes:
            total = None
            for i, n in takes:
                if total is None:
                    total = formed[i] if n == 1 else -formed[i] if n == -1 else n * formed[i]
                else:
                    total = torch.add(total, formed[i], alpha=n)
            pieces.append(torch.zeros_like(u_hat[:, :1]) if total is None else total)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _together(plan: Plan, channels: int, whole: set[Orders]) -> tuple[Evaluate | None, set[Factor]]:
    """One sum for the products of all channels, where that of each is the same but for whose derivatives it has; None where they differ.

    So it is where a vector is carried along, component by component. `whole` are the derivatives that go up of all channels at once.
    Beside the sum: the factors that are needed one by one.
    """
    every = set(plan.atoms)
    if channels < 2 or len(plan.products) != channels:
        return None, every

    def split(c: int) -> set[tuple[Product, Orders, float]]:
        """Terms of product c, each as a derivative of unknown c and what it is multiplied with."""
        return {
            (algebra.times(product, ((f, -1),)), f[2], n)
            for product, n in plan.products[c]
            for f, e in product
            if f[:2] == ("unknown", c) and e >= 1 and f[2] in whole
        }

    common = sorted(set.intersection(*(split(c) for c in range(channels))), key=repr)
    for c, product in enumerate(plan.products):
        again = algebra.add(*({algebra.times(rest, ((("unknown", c, o), 1),)): n} for rest, o, n in common))
        if again != dict(product):
            return None, every
    needed = {f for rest, *_ in common for f in algebra.leaves(rest)}
    return compile_sum(tuple(((*rest, (("all", orders), 1)), n) for rest, orders, n in common)), needed
