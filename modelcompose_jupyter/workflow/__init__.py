"""Running workflows: the Run that every surface observes, and the runner that drives it."""

from .feed import Feed
from .run import METADATA_KEY, Event, Run, State
from .runnable import Runnable
from .runner import run_workflow

__all__ = ["METADATA_KEY", "Event", "Feed", "Run", "Runnable", "State", "run_workflow"]
