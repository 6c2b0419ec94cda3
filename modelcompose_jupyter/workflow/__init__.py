"""Running workflows: the Run that every surface observes, and the runner that drives it."""

from .events import EVENT_DATA, Event, State
from .notebook_metadata import METADATA_KEY
from .options import RunOptions
from .run import EventIterator, Run
from .runnable import Runnable
from .runner import is_first_seed, run_workflow
from .tokens import Alternative, Token

__all__ = [
    "EVENT_DATA",
    "METADATA_KEY",
    "Alternative",
    "Event",
    "EventIterator",
    "Run",
    "RunOptions",
    "Runnable",
    "State",
    "Token",
    "is_first_seed",
    "run_workflow",
]
