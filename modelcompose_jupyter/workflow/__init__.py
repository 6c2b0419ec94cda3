"""Running workflows: the Run that every surface observes, and the runner that drives it."""

from .run import METADATA_KEY, Event, Run, State
from .runnable import Runnable
from .runner import run_workflow

__all__ = ["METADATA_KEY", "Event", "Run", "Runnable", "State", "run_workflow"]
