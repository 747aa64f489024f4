"""Written equations as SymPy sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipstream.equations.algebra import Factor, Frozen, Product, Sum

if TYPE_CHECKING:
    from slipstream.equations.parser import ParsedEquation


def to_sympy(equation: ParsedEquation) -> list[Any]:
    """One `sympy.Eq` a channel: functions of t and the coordinates, symbols for parameters, derivatives left as they are."""
    import sympy

    t = sympy.Symbol("t")
    axes = sympy.symbols(" ".join("xyz"[: equation.num_dims]), seq=True)
    unknowns = [sympy.Function(c.name)(t, *axes) for c in equation.channels]
    inverse = sympy.Function("inverse_laplace")

    def derivative(expression: Any, orders: tuple[int, ...]) -> Any:
        for axis, n in zip(axes, orders[:-1], strict=True):
            if n:
                expression = sympy.Derivative(expression, (axis, n))
        for _ in range(orders[-1]):
            expression = inverse(expression)
        return expression

    def factor(f: Factor) -> Any:
        if f[0] == "parameter":
            return sympy.Symbol(f[1])
        if f[0] == "field":
            return sympy.Function(f[1])(*axes)
        if f[0] == "coordinate":
            return axes[f[1]]
        if f[0] == "unknown":
            return derivative(unknowns[f[1]], f[2])
        if f[0] == "derivative":
            return derivative(product(f[2]), f[1])
        if f[0] == "sum":
            return total(f[1])
        return (sympy.Abs if f[1] == "abs" else getattr(sympy, f[1]))(total(f[2]))

    def exact(n: float) -> Any:
        return sympy.Integer(int(n)) if n == int(n) else sympy.Float(n)

    def product(p: Product) -> Any:
        return sympy.Mul(*(factor(f) ** (sympy.Rational(1, 2) if e == 0.5 else exact(e)) for f, e in p))

    def total(s: Frozen | Sum) -> Any:
        items = s.items() if isinstance(s, dict) else s
        return sympy.Add(*(exact(n) * product(p) for p, n in items))

    return [sympy.Eq(sympy.Derivative(u, t), total(s)) for u, s in zip(unknowns, equation.rates, strict=True)]


def to_latex(equation: ParsedEquation) -> str:
    import sympy

    return r" \\ ".join(sympy.latex(e) for e in to_sympy(equation))
