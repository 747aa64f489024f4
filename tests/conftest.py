"""What all tests share."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import install_import_hook

# Before the first import of slipstream: every annotation with a shape is checked at run time.
install_import_hook("slipstream", "runtime_types.check")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _short_turns():
    """Nothing that a test proves depends on how long a job's turn in a race lasts; `test_speed` looks at it by itself."""
    from slipstream.assessment import speed

    speed.TURN = 0.0


@pytest.fixture(autouse=True)
def _same_numbers():
    """Every test starts from the same global random state."""
    torch.manual_seed(0)
