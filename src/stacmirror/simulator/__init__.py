"""The retired Radiant MLHub API as a local server: deterministic, of any size, with faults on demand.

Called by the command line (`simulate`, `demo`), by tests and by benchmarks. It stands apart: it imports
nothing else of stacmirror, so that a mistake in the mirror cannot hide behind the same mistake here.
"""

from .faults import FAULTS, TRAPS, parse_fault
from .log import RequestLog, RequestRecord
from .server import Simulator, main
from .settings import GENERATIONS, ITEMS_MAX, SimulatorSettings

__all__ = [
    "FAULTS",
    "GENERATIONS",
    "ITEMS_MAX",
    "TRAPS",
    "RequestLog",
    "RequestRecord",
    "Simulator",
    "SimulatorSettings",
    "main",
    "parse_fault",
]
