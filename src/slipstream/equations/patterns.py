"""Patterns of fourth order: stripes that grow, and phases that part but keep their mass."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class SwiftHohenberg(Equation):
    r"""Convection rolls seen from above.

    .. math:: \partial_t u = r\, u - (q^2 + \Delta)^2 u + g\, u^2 - u^3

    Channels: amplitude.
    Behaviour: waves of wavelength ``2 pi / q`` grow from noise at rate r and order into rolls (g = 0) or hexagons (g about 1);
    defects heal slowly.
    Good values: r = 0.1 to 0.7, q = 1 on a box of 40 to 100, eight points a wavelength. With fixed parameters the free energy never rises.

    Parameters
    ----------
    drive : r. wavenumber : q. asymmetry : g. num_dims : number of axes.
    """

    latex = r"\partial_t u = r\, u - (q^2 + \Delta)^2 u + g\, u^2 - u^3"
    dealias = False

    def __init__(self, drive: float = 0.3, wavenumber: float = 1.0, asymmetry: float = 0.0, num_dims: int = 2) -> None:
        self.drive, self.wavenumber, self.asymmetry, self.num_dims = drive, wavenumber, asymmetry, num_dims
        self.channels = (Channel("amplitude"),)
        self.parameters = {
            "drive": Parameter("", drive),
            "wavenumber": Parameter("", wavenumber),
            "asymmetry": Parameter("", asymmetry),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        q2, g = p["wavenumber"].square(), p["asymmetry"]
        once = q2 * u + d.laplace(u)
        return p["drive"] * u - q2 * once - d.laplace(once) + d.pointwise(lambda v: (g - v) * v * v, u)

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["drive"] - (p["wavenumber"].square() + laplacian(grid, p["drive"])).square()

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        v = d.inverse(d.cut(u_hat))
        return d.cut(d.forward((p["asymmetry"] - v) * v * v))

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            bent = p["wavenumber"].square() * u + d.laplace(u)
            density = (bent.square() - p["drive"] * u**2) / 2 - p["asymmetry"] * u**3 / 3 + u**4 / 4
            return density.flatten(1).mean(-1)

        return {"free energy": energy}


class CahnHilliard(Equation):
    r"""An alloy that separates: like `AllenCahn`, but no phase is made or lost.

    .. math:: \partial_t u = M\, \Delta \left( u^3 - u - \epsilon^2 \Delta u \right)

    Channels: composition, -1 to 1.
    Behaviour: noise separates into domains about ``9 epsilon`` wide after some ``10 epsilon^2 / M``, which coarsen as ``t^(1/3)``.
    Good values: epsilon at least 1.5 grid spacings; M = 1. The mean is kept and the free energy never rises.

    Parameters
    ----------
    mobility : M, m^2/s. width : epsilon, m. num_dims : number of axes.
    """

    latex = r"\partial_t u = M\, \Delta ( u^3 - u - \epsilon^2 \Delta u )"

    def __init__(self, mobility: float = 1.0, width: float = 0.05, num_dims: int = 2) -> None:
        self.mobility, self.width, self.num_dims = mobility, width, num_dims
        self.channels = (Channel("composition"),)
        self.parameters = {
            "mobility": Parameter("m^2/s", mobility, low=0.0),
            "width": Parameter("m", width, low=1e-12),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        cube = d.pointwise(lambda v: v * v * v, u)
        return p["mobility"] * d.laplace(cube - u - p["width"].square() * d.laplace(u))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        s = laplacian(grid, p["mobility"])
        return -p["mobility"] * (s + p["width"].square() * s.square())

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        v = d.inverse(d.kept * u_hat)
        return (-p["mobility"] * (d.kept * d.square)) * d.forward(v * v * v)

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            steep = d.grad(u).square().sum(1, keepdim=True)
            density = 0.5 * p["width"].square() * steep + 0.25 * (1 - u.square()).square()
            return density.flatten(1).mean(-1)

        return {"mass": lambda u, d, p: u.flatten(1).mean(-1), "free energy": energy}
