"""Orders of a sequence of systems."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import seeded

from slipstream.errors import InputError
from slipstream.solvers.linear import gray_order, greedy_order, lexicographic_order
from slipstream.solvers.linear.ordering import path_length
from slipstream.solvers.linear.systems import gaussian_fields, unit_box


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_order_is_a_permutation(count, size, seed):
    p = torch.randn(count, size, generator=seeded(seed))
    for order in (greedy_order(p), gray_order(p, 3), lexicographic_order(p)):
        assert sorted(order) == list(range(count))


def test_on_a_line_greedy_and_lexicographic_walk_along_it():
    p = torch.randperm(30, generator=seeded(0)).to(torch.float64)
    start = int(p.argmin())
    assert greedy_order(p, first=start) == lexicographic_order(p) == p.argsort().tolist()


def test_greedy_always_takes_the_nearest_that_is_left():
    p = torch.randn(20, 3, 4, generator=seeded(1), dtype=torch.float64)
    order = greedy_order(p)
    assert order[0] == 0
    for step, (current, following) in enumerate(itertools.pairwise(order), start=1):
        left = order[step:]
        distance = {i: float((p[i] - p[current]).norm()) for i in left}
        assert distance[following] == min(distance.values())


def test_lexicographic_breaks_ties_by_the_next_parameter():
    p = torch.tensor([[1.0, 2.0], [0.0, 5.0], [1.0, -1.0], [0.0, 4.0]])
    assert lexicographic_order(p) == [3, 1, 2, 0]


def test_neighbouring_boxes_share_a_face():
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).to(torch.float64) * torch.tensor([3.0, 2.0, 1.0])
    order = gray_order(corners, dims=3)
    for a, b in itertools.pairwise(order):
        assert int((corners[a] != corners[b]).sum()) == 1


def test_sorting_shortens_the_way():
    fields = gaussian_fields(200, unit_box(16, 2), seeded(0), length=0.5, smoothness=3.0)
    random = torch.randperm(200, generator=seeded(1)).tolist()
    assert path_length(fields, greedy_order(fields)) < 0.7 * path_length(fields, random)
    assert path_length(fields, gray_order(fields, 5)) < 0.9 * path_length(fields, random)


def test_bad_parameters_are_refused():
    with pytest.raises(InputError, match="finite"):
        greedy_order(torch.tensor([1.0, float("nan")]))
    with pytest.raises(InputError, match="dims"):
        gray_order(torch.ones(3, 2), dims=0)
