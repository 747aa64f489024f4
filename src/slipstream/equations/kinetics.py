"""Chemical kinetics by the law of mass action: reactions are data, rates and their derivatives follow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.errors import InputError
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class Reaction:
    """One reaction: its constant and what becomes what.

    Parameters
    ----------
    text : for example ``"O1D -> 2 OH"``. constant : the rate is this times the product of the left-hand concentrations.
    light : whether the parameter ``light`` multiplies the rate.
    """

    text: str
    constant: float
    light: bool = False

    def sides(self) -> tuple[Counter[str], Counter[str]]:
        """How many of each species come in and go out."""
        left, arrow, right = self.text.partition("->")
        result = (Counter[str](), Counter[str]())
        for side, counts in zip((left, right), result, strict=True):
            for term in filter(None, (t.strip() for t in side.split("+"))):
                *number, name = term.split()
                counts[name] += int(number[0]) if number else 1
        if not arrow or not result[0]:
            raise InputError(f"A reaction reads 'A + B -> 2 C'; got {self.text!r}.")
        return result


class MassAction(Equation):
    r"""Species that react where they are, each reaction at a rate proportional to the concentrations it consumes.

    .. math:: \dot u_i = \sum_r \nu_{ir}\, k_r \prod_j u_j^{n_{jr}}

    Channels: concentrations, one a species.
    Behaviour: as many time scales as species; fast ones follow slow ones. Sums of atoms are kept exactly.

    Parameters
    ----------
    species : names. reactions : what they do.
    """

    latex = r"\dot u_i = \sum_r \nu_{ir} k_r \prod_j u_j^{n_{jr}}"

    def __init__(self, species: Sequence[str], reactions: Sequence[Reaction]) -> None:
        self.species, self.reactions = tuple(species), tuple(reactions)
        self.channels = tuple(Channel(name) for name in self.species)
        self.parameters = {"light": Parameter("", 1.0, low=0.0)} if any(r.light for r in self.reactions) else {}
        place = {name: i for i, name in enumerate(self.species)}
        self._in: list[tuple[int, ...]] = []
        self._net: list[dict[int, int]] = []
        for reaction in self.reactions:
            left, right = reaction.sides()
            if unknown := sorted({*left, *right} - place.keys()):
                raise InputError(
                    f"The reaction {reaction.text!r} names {unknown}; the species are {list(self.species)}."
                )
            self._in.append(tuple(place[name] for name in left.elements()))
            change = {place[n]: right[n] - left[n] for n in {**left, **right}}
            self._net.append({i: n for i, n in sorted(change.items()) if n})

    def _constants(self, p: Parameters) -> list[Tensor | float]:
        light = p["light"][:, 0] if self.parameters else 1.0
        return [r.constant * light if r.light else r.constant for r in self.reactions]

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        c = u.unbind(1)
        totals: list[Tensor | None] = [None] * len(c)
        for constant, reactants, net in zip(self._constants(p), self._in, self._net, strict=True):
            speed = constant * math.prod((c[j] for j in reactants[1:]), start=c[reactants[0]])
            for i, n in net.items():
                known = totals[i]
                totals[i] = n * speed if known is None else torch.add(known, speed, alpha=n)
        return torch.stack([torch.zeros_like(a) if t is None else t for t, a in zip(totals, c, strict=True)], dim=1)

    @property
    def pattern(self) -> tuple[tuple[int, int], ...]:
        """Where the Jacobian has entries: (row, column)."""
        return tuple(sorted({(i, j) for r, net in zip(self._in, self._net, strict=True) for j in r for i in net}))

    def slopes(self, u: Float[Tensor, "batch channel *space"], p: Parameters) -> dict[tuple[int, int], Tensor]:
        """The entries of the Jacobian, each (batch, *space): exact, and only those that are not zero."""
        c, found = u.unbind(1), dict[tuple[int, int], Tensor]()
        for constant, reactants, net in zip(self._constants(p), self._in, self._net, strict=True):
            for j, order in Counter(reactants).items():
                others = list(reactants)
                others.remove(j)
                value = order * constant * math.prod((c[k] for k in others), start=torch.ones_like(c[0]))
                for i, n in net.items():
                    known = found.get((i, j))
                    found[i, j] = n * value if known is None else torch.add(known, value, alpha=n)
        return found


class AirPollution(MassAction):
    r"""Photochemical smog: 20 species and 25 reactions of a model of polluted air.

    .. math:: \dot u_i = \sum_r \nu_{ir}\, k_r \prod_j u_j^{n_{jr}}, \qquad k_r \propto \text{light for photolysis}

    Channels: mole fractions (ppm); time in minutes. Rate constants from 1e-4 to 4e11 a minute.
    Behaviour: radicals settle within 1e-9 to 1 min, ozone and oxides of nitrogen exchange within minutes, the rest takes hours.
    Nitrogen (NO2, NO, PAN, HNO3, NO3 and twice N2O5) and sulphur (SO2 and SO4) are kept.

    Source: Verwer, SIAM J. Sci. Comput. 15 (1994) 1243; the problem POLLU of the IVP test set.
    """

    latex = MassAction.latex

    def __init__(self) -> None:
        super().__init__(SPECIES, REACTIONS)

    def invariants(self):
        def total(**counts: int):
            return lambda u, d, p: sum(
                n * u[:, SPECIES.index(name)].reshape(u.shape[0], -1).mean(1) for name, n in counts.items()
            )

        return {
            "nitrogen": total(NO2=1, NO=1, PAN=1, HNO3=1, NO3=1, N2O5=2),
            "sulphur": total(SO2=1, SO4=1),
        }


SPECIES = tuple(
    "NO2 NO O3P O3 HO2 OH HCHO CO ALD MEO2 C2O3 CO2 PAN CH3O HNO3 O1D SO2 SO4 NO3 N2O5".split()  # noqa: SIM905
)
REACTIONS = (
    Reaction("NO2 -> NO + O3P", 0.35, light=True),
    Reaction("NO + O3 -> NO2", 26.6),
    Reaction("HO2 + NO -> NO2 + OH", 1.23e4),
    Reaction("HCHO -> 2 HO2 + CO", 8.6e-4, light=True),
    Reaction("HCHO -> CO", 8.2e-4, light=True),
    Reaction("HCHO + OH -> HO2 + CO", 1.5e4),
    Reaction("ALD -> MEO2 + HO2 + CO", 1.3e-4, light=True),
    Reaction("ALD + OH -> C2O3", 2.4e4),
    Reaction("C2O3 + NO -> NO2 + MEO2 + CO2", 1.65e4),
    Reaction("C2O3 + NO2 -> PAN", 9.0e3),
    Reaction("PAN -> C2O3 + NO2", 2.2e-2),
    Reaction("MEO2 + NO -> CH3O + NO2", 1.2e4),
    Reaction("CH3O -> HCHO + HO2", 1.88),
    Reaction("NO2 + OH -> HNO3", 1.63e4),
    Reaction("O3P -> O3", 4.8e6),
    Reaction("O3 -> O1D", 3.5e-4, light=True),
    Reaction("O3 -> O3P", 1.75e-2, light=True),
    Reaction("O1D -> 2 OH", 1.0e8),
    Reaction("O1D -> O3P", 4.44e11),
    Reaction("SO2 + OH -> SO4 + HO2", 1.24e3),
    Reaction("NO3 -> NO", 2.1, light=True),
    Reaction("NO3 -> NO2 + O3P", 5.78, light=True),
    Reaction("NO2 + O3 -> NO3", 4.74e-2),
    Reaction("NO3 + NO2 -> N2O5", 1.78e3),
    Reaction("N2O5 -> NO3 + NO2", 3.12),
)
