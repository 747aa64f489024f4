"""The perceptron at every point: no space needed, and none seen."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError
from slipstream.operators import MLP


def moved(**arguments) -> MLP:
    operator = MLP(2, 3, hidden_channels=12, n_layers=2, **arguments).double()
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return operator


def test_states_without_space_are_mapped_like_points_of_a_field():
    torch.manual_seed(0)
    plane = moved(num_dims=2, num_scalars=1)
    point = MLP(2, 3, 0, hidden_channels=12, n_layers=2, num_scalars=1).double()
    point.load_state_dict(plane.state_dict())
    u, s = torch.randn(4, 2, 5, 6, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    y = plane(u, s)
    assert y.shape == (4, 3, 5, 6)
    assert torch.allclose(y[:, :, 3, 1], point(u[:, :, 3, 1], s), atol=1e-14)


def test_points_see_nothing_of_each_other():
    torch.manual_seed(0)
    operator, u = moved(num_dims=1), torch.randn(2, 2, 7, dtype=torch.float64)
    other = u.clone()
    other[:, :, 4] += 1
    change = (operator(u) - operator(other)).abs().amax((0, 1))
    assert change[4] > 0.01
    assert change[[0, 1, 2, 3, 5, 6]].max() == 0


def test_the_last_layer_can_begin_small():
    u = torch.randn(5, 2)
    torch.manual_seed(3)
    whole = MLP(2, 3)(u)
    torch.manual_seed(3)
    assert torch.allclose(MLP(2, 3, output_scale=0.1)(u), 0.1 * whole, atol=1e-7)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="num_dims of at least 0"):
        MLP(num_dims=-1)
    with pytest.raises(InputError, match="hidden_channels"):
        MLP(hidden_channels=0)
