"""Sources of training windows, and data on disk."""

from slipstream.data.allpairs import AllPairs
from slipstream.data.choose import as_source
from slipstream.data.dataset import Dataset
from slipstream.data.formats.the_well import write as write_well
from slipstream.data.formats.words import describe
from slipstream.data.laws import LawSamples
from slipstream.data.opening import open
from slipstream.data.pairs import FieldPairs
from slipstream.data.pool import StatePool
from slipstream.data.simulate import simulate
from slipstream.data.source import Source
from slipstream.data.store import Store
from slipstream.data.windows import Windows

__all__ = [
    "AllPairs",
    "Dataset",
    "FieldPairs",
    "LawSamples",
    "Source",
    "StatePool",
    "Store",
    "Windows",
    "as_source",
    "describe",
    "open",
    "simulate",
    "write_well",
]
