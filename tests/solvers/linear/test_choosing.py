"""Choosing a solver by measurement, and remembering it."""

from __future__ import annotations

import json

import pytest
import torch
from linear_cases import seeded
from rich.console import Console

from slipstream.errors import InputError
from slipstream.solvers.linear import CG, GCRODR, GMRES, LU, Candidate, Jacobi, choose_solver, choosing
from slipstream.solvers.linear.systems import convection_diffusion, darcy

CANDIDATES = {
    "LU": Candidate(LU()),
    "CG": Candidate(CG()),
    "GCRO-DR": Candidate(GCRODR(20, 8), Jacobi()),
    "GMRES(2)": Candidate(GMRES(2)),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def choose(systems, candidates=CANDIDATES, max_iterations=60, **arguments):
    return choose_solver(systems, candidates, max_iterations=max_iterations, **arguments)


def test_only_what_reaches_the_tolerance_can_win():
    transport = convection_diffusion(3, 10, seeded(0), dims=2)
    choice = choose(transport, CANDIDATES, tol=1e-9)
    rows = {row.name: row for row in choice.rows}
    assert set(rows) == set(CANDIDATES)
    assert not rows["CG"].reached
    assert rows["LU"].reached
    assert rows[choice.name].reached
    reached = [row for row in choice.rows if row.reached]
    assert all(row.residual <= 1e-9 for row in reached)
    assert choice.name == min(reached, key=lambda row: row.seconds).name == choice.rows[0].name
    assert choice.method is CANDIDATES[choice.name].method
    assert not choice.remembered


def test_it_is_remembered_for_the_same_question_only(monkeypatch):
    systems = darcy(2, 8, seeded(0))
    first = choose(systems, CANDIDATES, tol=1e-8)
    monkeypatch.setattr(choosing, "_measure", lambda *a: pytest.fail("measured again"))
    again = choose(systems, CANDIDATES, tol=1e-8)
    assert again.remembered
    assert again.rows == first.rows
    assert again.method is CANDIDATES[first.name].method
    for other in (
        lambda: choose(systems, CANDIDATES, tol=1e-6),
        lambda: choose(darcy(2, 9, seeded(0)), CANDIDATES, tol=1e-8),
        lambda: choose(systems, {**CANDIDATES, "CG": Candidate(CG(), Jacobi())}, tol=1e-8),
        lambda: choose(systems, CANDIDATES, tol=1e-8, remember=False),
    ):
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            other()


def test_the_memory_lies_whole_in_the_cache_folder(cache):
    choose(darcy(2, 8, seeded(0)))
    files = [p for p in cache.rglob("*") if p.is_file()]
    assert len(files) == 1
    assert files[0].parent == cache / "slipstream" / "solvers"
    assert {row["name"] for row in json.loads(files[0].read_text())} == set(CANDIDATES)
    files[0].write_text(files[0].read_text()[:40])
    assert not choose(darcy(2, 8, seeded(0))).remembered
    assert choose(darcy(2, 8, seeded(0))).remembered


def test_the_table_names_every_candidate_and_why_it_failed():
    choice = choose(convection_diffusion(2, 10, seeded(0), dims=2), CANDIDATES)
    console = Console(width=140, record=True)
    console.print(choice.table())
    text = console.export_text()
    for name in CANDIDATES:
        assert name in text
    assert "were not enough" in text


def test_none_that_reaches_it_is_an_error():
    with pytest.raises(InputError, match="No candidate reaches"):
        choose(darcy(1, 16, seeded(0)), {"CG": Candidate(CG())}, max_iterations=2)
    with pytest.raises(InputError, match="need one"):
        choose([], CANDIDATES)


def test_a_list_of_pairs_will_do():
    A = torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64))
    choice = choose([(A, torch.ones(5, dtype=torch.float64))] * 2, {"CG": Candidate(CG()), "LU": Candidate(LU())})
    assert choice.name in ("CG", "LU")
