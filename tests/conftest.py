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


@pytest.fixture(autouse=True)
def _same_numbers():
    """Every test starts from the same global random state."""
    torch.manual_seed(0)
