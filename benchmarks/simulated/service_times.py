"""How long each part of a cluster takes for its work, as it was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class EngineTimes:
    """The engine of one replica, with a model.

    Attributes:
        model: its name.
        step_base, step_each: seconds of a step that gives each of ``n`` texts a token, which are
            ``step_base + n * step_each``.
        prompt_token: seconds of each token of a prompt that is read.
        most_texts: that run at once; others wait.
        kept_tokens, kept_texts: of earlier texts, that the prefix cache has at most.
    """

    model: str
    step_base: float
    step_each: float
    prompt_token: float
    most_texts: int
    kept_tokens: int
    kept_texts: int

    def step(self, texts: int) -> float:
        return self.step_base + self.step_each * texts


@dataclass(frozen=True)
class ServerTimes:
    """A server (an ingress) of the run API, which is one process, and the directory of runs, which
    is one for all of them. Seconds of their processors' time, but for ``path``.

    Attributes:
        run: of the server for each run that is submitted.
        event: of the server for each event that it passes on.
        attempt: of the server for each replica that is asked and refuses.
        ranking: of the server for each run and each replica that there is: who is best.
        directory: of the directory for each run, over its life.
        path: that pass for a run besides, while nobody computes.
    """

    run: float
    event: float
    attempt: float
    ranking: float
    directory: float
    path: float


@dataclass(frozen=True)
class ServiceTimes:
    """All of it.

    Attributes:
        machine: where it was measured.
        restart: seconds from the end of a replica until there is another one with its model.
    """

    machine: dict[str, Any]
    engines: dict[str, EngineTimes]
    server: ServerTimes
    restart: float

    @classmethod
    def load(cls, file: Path) -> ServiceTimes:
        told = json.loads(file.read_text("utf-8"))
        engines = {name: EngineTimes(**each) for name, each in told["engines"].items()}
        return cls(told["machine"], engines, ServerTimes(**told["server"]), told["restart"])

    @classmethod
    def empty(cls) -> ServiceTimes:
        """Before anything was measured."""
        return cls({}, {}, ServerTimes(0, 0, 0, 0, 0, 0), 0.0)

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where the straight line through points begins, at 0, and how much it rises; each point counts
    by how exact it is, in parts of itself."""
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    middle_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    middle_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    rises = sum(
        w * (x - middle_x) * (y - middle_y) for w, (x, y) in zip(weights, points, strict=True)
    )
    slope = rises / sum(w * (x - middle_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    return middle_y - slope * middle_x, slope
