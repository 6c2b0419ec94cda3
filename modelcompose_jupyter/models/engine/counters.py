"""Counters of an engine, which only grow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """Written by the model's thread alone; whoever reads them takes differences.

    Attributes:
        tokens: generated, of all texts.
        steps: of the scheduler.
        step_seconds: that these took.
        forward_seconds: of these, in the model's forward pass.
    """

    tokens: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    forward_seconds: float = 0.0
