"""What all tests share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _same_numbers():
    """Every test starts from the same global random state."""
    torch.manual_seed(0)
