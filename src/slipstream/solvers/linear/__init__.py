"""Linear systems: one verb, `solve`, and the methods that do it."""

from slipstream.solvers.linear.algebraic import AMG
from slipstream.solvers.linear.cells import CellPoisson
from slipstream.solvers.linear.choosing import Candidate, Choice, choose_solver
from slipstream.solvers.linear.conjugate import CG, MINRES
from slipstream.solvers.linear.dcdm import DCDM
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.direct import LU
from slipstream.solvers.linear.flat import Flat
from slipstream.solvers.linear.generating import Generated, generate
from slipstream.solvers.linear.gmres import FGMRES, GMRES
from slipstream.solvers.linear.method import Correction, Method, Preconditioner, Result
from slipstream.solvers.linear.multigrid import Multigrid
from slipstream.solvers.linear.ordering import gray_order, greedy_order, lexicographic_order
from slipstream.solvers.linear.poisson import FastPoisson
from slipstream.solvers.linear.preconditioners import IC, ILU, Jacobi
from slipstream.solvers.linear.recycling import GCRODR, Recycled, largest_angle
from slipstream.solvers.linear.sequence import solve_sequence
from slipstream.solvers.linear.shared import SharedLU
from slipstream.solvers.linear.solve import Solver, solve
from slipstream.solvers.linear.stabilised import BiCGStab
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.transforms import Boundary

__all__ = [
    "AMG",
    "CG",
    "DCDM",
    "FGMRES",
    "GCRODR",
    "GMRES",
    "IC",
    "ILU",
    "LU",
    "MINRES",
    "BiCGStab",
    "Boundary",
    "Candidate",
    "CellPoisson",
    "Choice",
    "Correction",
    "Diffusion",
    "FastPoisson",
    "Flat",
    "Generated",
    "Jacobi",
    "Method",
    "Multigrid",
    "Preconditioner",
    "Recycled",
    "Result",
    "SharedLU",
    "Solver",
    "Stencil",
    "choose_solver",
    "generate",
    "gray_order",
    "greedy_order",
    "largest_angle",
    "lexicographic_order",
    "solve",
    "solve_sequence",
]
