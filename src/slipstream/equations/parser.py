"""Equations from text: the user's own PDE, as fast as one that is written by hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations import algebra, evaluation, plans
from slipstream.equations.algebra import Factor, Orders, Product
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.evaluation import SpectralPlan
from slipstream.equations.language import AXES, RESERVED, Reader, axes_used, read_lines, vectors_among
from slipstream.equations.plans import Plan, Term
from slipstream.equations.spectral import Spectral
from slipstream.equations.wellposed import check_short_waves
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid, resample
from slipstream.trajectories import Parameters


def parse(
    text: str | Sequence[str],
    parameters: Mapping[str, float | Parameter | Tensor | None] | None = None,
    num_dims: int | None = None,
) -> ParsedEquation:
    """An equation from text: ``parse("u_t = D*laplace(u) + k*u*(1 - u)", parameters={"D": 0.01, "k": 1.0})``.

    Several equations make a system: one a line, separated by semicolons, or a list. An unknown is a vector where it is used as one.

    ======================================== =========================================================
    ``u_t = ...``                            the time derivative of the unknown u
    ``u_x``, ``u_xx``, ``u_xy``              derivatives of an unknown
    ``dx(...)``, ``dy(...)``, ``dz(...)``    derivatives of anything
    ``laplace``, ``inverse_laplace``         of scalars and vectors; the inverse leaves the mean out
    ``grad``, ``div``, ``curl``              of a scalar, of a vector, of a vector
    ``advect(v, u)``, ``dot(v, w)``          v . grad(u); v . w
    ``v.x``, ``[a, b]``                      a component of a vector; a vector from components
    ``x``, ``y``, ``z``, ``pi``              coordinates, and a number
    ``sin``, ``exp``, ``tanh``, ``sqrt`` ... functions of one number
    ======================================== =========================================================

    Parameters
    ----------
    text : the equations. Nothing in it is ever run as code.
    parameters : name -> a number; a tensor (*space) for a field; a `Parameter` with unit and limits; or None where each run brings its own
        number.
    num_dims : number of axes, where the text does not say.

    Raises
    ------
    InputError : the place, what was found there, and the nearest name that is known; or that the equation is ill-posed, because short
        waves would grow without bound.
    """
    given = dict(parameters or {})
    fields = {name: value for name, value in given.items() if isinstance(value, Tensor) and value.ndim > 0}
    scalars = {n: float(v) if isinstance(v, Tensor) else v for n, v in given.items() if n not in fields}
    return ParsedEquation(text, scalars, fields, num_dims)


def values_of(expression: str, grid: Grid) -> Float[Tensor, " *space"]:
    """An expression of the coordinates alone, such as ``"exp(-(x - 3)**2)"``, at the points of a grid (float64)."""
    (line,) = read_lines([f"value_t = {expression}"])
    (value,) = Reader({"value": (0,)}, (), (), grid.num_dims).read(line)
    if any(f[0] in ("unknown", "derivative") for product in value for f in algebra.leaves(product)):
        raise line.mistake(line.offset, "Only coordinates, numbers and functions may stand here.")
    x = grid.coordinates(torch.float64)
    places = {("coordinate", i): x[i] for i in range(grid.num_dims)}
    return torch.zeros(grid.shape, dtype=torch.float64) + evaluation.compile_sum(value)(places, {})


class ParsedEquation(Equation):
    """An equation made by `parse`.

    Linear terms with constant coefficients are stepped exactly; what is left over is evaluated with as few transforms as its form
    allows: each derivative goes up to points once, each product comes down once, ``u*u_x`` counts as ``(u**2/2)_x``.

    Parameters
    ----------
    text, num_dims : as in `parse`. parameters : scalars. fields : name -> (*space) tensor over the box of any grid.
    """

    def __init__(
        self,
        text: str | Sequence[str],
        parameters: Mapping[str, float | Parameter | None] | None = None,
        fields: Mapping[str, Tensor] | None = None,
        num_dims: int | None = None,
    ) -> None:
        self.text, self.fields = text if isinstance(text, str) else tuple(text), dict(fields or {})
        lines = read_lines(text)
        dims = max([axes_used(lines), *(v.ndim for v in self.fields.values())])
        if num_dims is not None and not dims <= num_dims <= 3:
            raise InputError(f"The text speaks of {dims} axes; got num_dims={num_dims}, expected {dims} to 3.")
        self.num_dims = num_dims or dims
        for name, value in self.fields.items():
            if value.ndim != self.num_dims:
                raise ShapeError(
                    f"The field {name!r} has shape {tuple(value.shape)}; expected (*space) with {self.num_dims} axes."
                )
        self.parameters = {n: _spec(n, v) for n, v in (parameters or {}).items()}
        for name in self.fields:
            self.parameters[name] = Parameter()
        vectors = vectors_among(lines, self.num_dims)
        channels: list[Channel] = []
        self.unknowns: dict[str, tuple[int, ...]] = {}
        for line in lines:
            if line.unknown in self.parameters:
                raise line.mistake(0, f"{line.unknown!r} is both an unknown and a parameter.")
            names = (
                [f"{line.unknown}_{a}" for a in AXES[: self.num_dims]] if line.unknown in vectors else [line.unknown]
            )
            self.unknowns[line.unknown] = tuple(range(len(channels), len(channels) + len(names)))
            channels += [Channel(n) for n in names]
        self.channels = tuple(channels)
        scalars = [n for n in self.parameters if n not in self.fields]
        reader = Reader(self.unknowns, scalars, self.fields, self.num_dims)
        self.rates = tuple(s for line in lines for s in reader.read(line))
        unused = set(self.parameters) - {
            f[1] for s in self.rates for p in s for f in algebra.leaves(p) if f[0] in ("parameter", "field")
        }
        if unused:
            raise InputError(f"The parameters {sorted(unused)} are given but do not occur in {self.text!r}.")
        self._sort()
        self._bound: weakref.WeakKeyDictionary[Spectral, SpectralPlan] = weakref.WeakKeyDictionary()
        check_short_waves(self)

    def _sort(self) -> None:
        """Linear terms with constant coefficients, terms without unknowns, and the rest."""
        none: Orders = (0,) * (self.num_dims + 1)
        self.linear_terms: list[tuple[int, int, float, Product, Orders]] = []
        self._force: list[list[tuple[float, Product]]] = [[] for _ in self.rates]
        rest: list[list[Term]] = [[] for _ in self.rates]
        for c, rate in enumerate(self.rates):
            for product, n in rate.items():
                uniform, inner = algebra.split(product)
                if not algebra.depends_on_unknowns(product):
                    self._force[c].append((n, product))
                elif len(inner) == 1 and inner[0][0][0] == "unknown" and inner[0][1] == 1:
                    _, j, orders = inner[0][0]
                    self.linear_terms.append((c, j, n, uniform, orders))
                else:
                    rest[c].append(plans.term_of(product, n))
        self._rest = rest
        self._plan = plans.plan(rest)
        self._plain = plans.make_plan(rest)
        self._coupled = any(c != j and orders != none for c, j, _, _, orders in self.linear_terms)
        self._compiled = {u: evaluation.compile_product(u) for _, _, _, u, _ in self.linear_terms}
        self.dealias = not (self._diffuses() and self._plan.at_points)

    def _diffuses(self) -> bool:
        """Whether every unknown has an even derivative of its own along every axis, in a linear term: well-posed, it damps short waves."""
        own = [(c, o) for c, j, _, _, o in self.linear_terms if c == j]
        axes = range(self.num_dims)
        return all(
            any(c == i and o[a] == sum(o) and o[a] > 0 and o[a] % 2 == 0 for c, o in own)
            for i in range(len(self.rates))
            for a in axes
        )

    # The equation in any calculus.

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        totals: list[Tensor] = [torch.zeros_like(u[:, :1]) for _ in self.rates]
        parts = u.split(1, dim=1)
        for c, j, n, uniform, orders in self.linear_terms:
            totals[c] = totals[c] + n * self._compiled[uniform]({}, p) * evaluation.differentiate(parts[j], d, orders)
        values = self._values(self._plain, parts, d, p)
        down = [self._at_points(s, values, d, p) for s in self._plain.products]
        for c, uses in enumerate(self._plain.uses):
            for use in uses:
                factor = evaluation.compile_product(use.uniform)(values, p)
                for n, orders in use.ops:
                    totals[c] = totals[c] + n * factor * evaluation.differentiate(down[use.product], d, orders)
        for c, terms in enumerate(self._force):
            if terms:
                totals[c] = totals[c] + self._push(terms, u, d, p)
        return torch.cat(totals, dim=1)

    def _values(self, plan: Plan, parts: Sequence[Tensor], d: Calculus, p: Parameters) -> dict[Factor, Tensor]:
        values: dict[Factor, Tensor] = {f: evaluation.differentiate(parts[f[1]], d, f[2]) for f in plan.atoms}
        values.update(evaluation.coordinate_values(plan.products, d))
        for f in plan.nested:
            values[f] = evaluation.differentiate(self._at_points(((f[2], 1.0),), values, d, p), d, f[1])
        return values

    @staticmethod
    def _at_points(s: algebra.Frozen, values: Mapping[Factor, Tensor], d: Calculus, p: Parameters) -> Tensor:
        evaluate = evaluation.compile_sum(s)
        names = [f for f in values if f[0] in ("unknown", "derivative")]

        def function(*fields: Tensor) -> Tensor:
            return evaluate({**values, **dict(zip(names, fields, strict=True))}, p)

        return d.pointwise(function, *(values[f] for f in names))

    def _push(self, terms: list[tuple[float, Product]], u: Tensor, d: Calculus, p: Parameters) -> Tensor:
        """Terms without unknowns, as a field."""
        frozen = tuple((product, n) for n, product in terms)
        values: dict[Factor, Tensor] = dict(evaluation.coordinate_values([frozen], d))
        for f in plans.make_plan([[Term(n, (), (0,), q) for n, q in terms]]).nested:
            inner = torch.zeros_like(u[:, :1]) + evaluation.compile_product(f[2])(values, p)
            values[f] = evaluation.differentiate(inner, d, f[1])
        return torch.zeros_like(u[:1, :1]) + evaluation.compile_sum(frozen)(values, p)

    # The structured forms.

    def _matrix(self, grid: Grid, p: Parameters, like: Tensor) -> dict[tuple[int, int], Tensor]:
        """Symbols of the linear part by (row, column)."""
        entries: dict[tuple[int, int], Tensor] = {}
        for c, j, n, uniform, orders in self.linear_terms:
            one = n * self._compiled[uniform]({}, p) * evaluation.symbol(grid, orders, like.dtype, like.device)
            entries[c, j] = entries[c, j] + one if (c, j) in entries else one
        return {at: e.reshape([1] * (grid.num_dims + 2 - e.ndim) + list(e.shape)) for at, e in entries.items()}

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"] | None:
        if self._coupled or not any(c == j for c, j, *_ in self.linear_terms):
            return None
        entries = self._matrix(grid, p, self._like(p))
        zero = torch.zeros_like(next(iter(entries.values())).real)
        alike = [[q[2:] for q in self.linear_terms if q[0] == q[1] == c] for c in range(len(self.channels))]
        if all(q == alike[0] for q in alike):
            return entries[0, 0]
        diagonal = [entries.get((c, c), zero) for c in range(len(self.channels))]
        return torch.cat(torch.broadcast_tensors(*_alike(diagonal)), dim=1)

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        total = self._nonlinear(d)(u_hat, p)
        if self._coupled:
            parts = list(total.split(1, dim=1))
            for (c, j), symbol in self._matrix(d.grid, p, u_hat.real).items():
                parts[c] = parts[c] + symbol * u_hat[:, j : j + 1]
            total = torch.cat(parts, dim=1)
        return total

    def _nonlinear(self, d: Spectral) -> Callable[[Tensor, Parameters], Tensor]:
        """What neither the linear part of steppers nor the force contains; all that can be known of it before is known once."""
        products: Callable[[Tensor, Parameters], Tensor] | None = None
        if self._plan.products:
            if d not in self._bound:
                with torch.inference_mode(False):
                    self._bound[d] = SpectralPlan(self._plan, d, len(self.channels))
            products = self._bound[d]
        across = [] if self._coupled else [t for t in self.linear_terms if t[0] != t[1]]
        if products is not None and not across:
            return products

        def nonlinear(u_hat: Tensor, p: Parameters) -> Tensor:
            total = torch.zeros_like(u_hat) if products is None else products(u_hat, p)
            if not across:
                return total
            parts = list(total.split(1, dim=1))
            for c, j, n, uniform, _ in across:
                parts[c] = parts[c] + n * self._compiled[uniform]({}, p) * u_hat[:, j : j + 1]
            return torch.cat(parts, dim=1)

        return nonlinear

    def form(self, d: Spectral) -> Form:
        """Half spectra; where derivatives couple unknowns, their linear part is one matrix a wavenumber."""

        def linear(p: Parameters) -> Tensor:
            like = self._like(p)
            entries = self._matrix(d.grid, p, torch.zeros((), dtype=d.dtype, device=d.device))
            shape = (1, 1, *(k.shape[i] for i, k in enumerate(d.grid.wavenumbers())))
            zero = torch.zeros(shape, dtype=like.dtype, device=d.device)
            size = range(len(self.channels))
            whole = torch.broadcast_tensors(zero, *_alike([entries.get((c, j), zero) for c in size for j in size]))[1:]
            return torch.cat(whole, dim=1).unflatten(1, (len(size), len(size)))

        return Form(d.forward, d.inverse, lambda half: half, self._nonlinear(d), linear if self._coupled else None)

    def force(self, d: Spectral, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"] | None:
        if not any(self._force):
            return None
        like = torch.zeros(1, 1, *d.grid.shape, dtype=d.dtype, device=d.device)
        parts = [self._push(terms, like, d, p) if terms else like for terms in self._force]
        return d.forward(torch.cat(torch.broadcast_tensors(*parts), dim=1))

    def speed(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch dim"] | None:
        """From the terms that are a product with a first derivative, and from first derivatives of products."""
        if not self._speeds:
            return None
        parts = u.split(1, dim=1)
        plan = plans.make_plan([[Term(1.0, (), (0,), q) for q in s] for s in self._speeds.values()])
        values = {f: evaluation.differentiate(parts[f[1]], d, f[2]) for f in plan.atoms}
        sums = [algebra.frozen(s) for s in self._speeds.values()]
        values.update(evaluation.coordinate_values(sums, d))
        fastest = u.new_zeros(u.shape[0], self.num_dims)
        for (_, _, axis), s in self._speeds.items():
            value = (torch.zeros_like(parts[0]) + evaluation.compile_sum(s)(values, p)).flatten(1).abs().amax(1)
            fastest[:, axis] = torch.maximum(fastest[:, axis], value)
        return fastest

    @cached_property
    def _speeds(self) -> dict[tuple[int, int, int], algebra.Sum]:
        """By (row, column, axis): the coefficient of a first derivative of an unknown in a nonlinear term."""
        found: dict[tuple[int, int, int], algebra.Sum] = {}
        for c, terms in enumerate(self._rest):
            for t in terms:
                for f, _ in t.inner:
                    if f[0] != "unknown":
                        continue
                    orders = tuple(a + b for a, b in zip(f[2], t.orders, strict=True))
                    if sum(orders) != 1 or orders[-1]:
                        continue
                    key = (c, f[1], orders.index(1))
                    slope = algebra.partial(algebra.times(t.uniform, t.inner), f)
                    slope = {q: n for q, n in slope.items() if not any(g[0] == "derivative" for g, _ in q)}
                    found[key] = algebra.add(found.get(key, {}), algebra.scale(slope, t.number))
        return {key: s for key, s in found.items() if s}

    # Parameters.

    def ready(self, p: Parameters, u: Float[Tensor, "batch channel *space"]) -> dict[str, Tensor]:
        space = tuple(u.shape[2:])
        given = dict(p)
        for name, value in self.fields.items():
            if name not in given:
                value = value.to(u)
                if tuple(value.shape) != space:
                    if len(space) != self.num_dims:
                        raise InputError(f"The field {name!r} is known on a grid; give its values at the points.")
                    value = resample(value, Grid.box(list(value.shape)), Grid.box(list(space)))
                given[name] = value[None]
        # One more entry, for what depends on no parameter but must know the kind of numbers.
        return {**super().ready(given, u), "": u.new_ones([1] * u.ndim)}

    @staticmethod
    def _like(p: Parameters) -> Tensor:
        return p[""]

    # Text.

    @property
    def latex(self) -> str:  # type: ignore[override]
        return self.to_latex()

    def to_sympy(self):
        """The equations as a list of `sympy.Eq`."""
        from slipstream.equations.symbolic import to_sympy

        return to_sympy(self)

    def to_latex(self) -> str:
        """The equations as LaTeX, one a line."""
        from slipstream.equations.symbolic import to_latex

        return to_latex(self)


def _spec(name: str, value: float | Parameter | None) -> Parameter:
    if name in RESERVED or not name.isidentifier():
        raise InputError(f"A parameter cannot be called {name!r}: the language uses that name, or it is no name.")
    if isinstance(value, Parameter) or value is None:
        return value or Parameter()
    return Parameter("", float(value))


def _alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    kind = tensors[0].dtype
    for t in tensors[1:]:
        kind = torch.promote_types(kind, t.dtype)
    return [t.to(kind) for t in tensors]
