"""Running workflows: the Run that every surface observes, and the runner that drives it."""

from .events import EVENT_DATA, Event, State
from .feed import Feed
from .run import METADATA_KEY, Run
from .runnable import Runnable
from .runner import run_workflow

__all__ = [
    "EVENT_DATA",
    "METADATA_KEY",
    "Event",
    "Feed",
    "Run",
    "Runnable",
    "State",
    "run_workflow",
]
