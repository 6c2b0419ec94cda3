"""Running workflows: the Run that every surface observes, and the runner that drives it."""

from .run import Event, Run, State
from .runner import run_workflow

__all__ = ["Event", "Run", "State", "run_workflow"]
