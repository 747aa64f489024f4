import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the problem in `growth` is shared


@pytest.fixture
def clock(monkeypatch):
    """The clock of `slipstream.assessment.speed`; it stands still until somebody works."""
    from growth import Clock

    from slipstream.assessment import speed

    clock = Clock()
    monkeypatch.setattr(speed.time, "perf_counter", clock)
    return clock
