"""Running workflows: the Run that every surface observes, and the runner that drives it."""

from .events import EVENT_DATA, Event, State
from .extension import RunExtension
from .run import METADATA_KEY, EventIterator, Run
from .runnable import Runnable
from .runner import is_first_seed, run_workflow

__all__ = [
    "EVENT_DATA",
    "METADATA_KEY",
    "Event",
    "EventIterator",
    "Run",
    "RunExtension",
    "Runnable",
    "State",
    "is_first_seed",
    "run_workflow",
]
