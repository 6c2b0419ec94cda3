"""From the figures of each round to ratios, and these as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .processes import PEERS
from .work import ONE_STREAM, WORK, Measure, Work

LIMIT = "share of the memory's speed"


@dataclass(frozen=True)
class Row:
    """What one peer did on one item of work in one round: figures by the name of their measure."""

    round: int
    work: str
    peer: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


@dataclass(frozen=True)
class Line:
    """A measure of a peer over all rounds.

    Attributes:
        figure: in the measure's unit.
        advantage: how many times better `Peer.ours` is, each ratio taken within one round; above 1,
            ours is. None for ours itself and where no round has both.
    """

    work: str
    measure: str
    unit: str
    peer: str
    figure: Spread
    advantage: Spread | None
    rounds: int


def figures(work: Work, records: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of one answer."""
    found = ((measure.name, measure.of(records)) for measure in work.measures)
    return {name: value for name, value in found if value is not None}


def limit_share(least_bytes: int, token_ms: float, bandwidth: float) -> float:
    """How much of the memory's speed one stream uses: 1 is as fast as weights can be read.

    Args:
        least_bytes: that a step reads at least.
        token_ms: milliseconds of a step.
        bandwidth: bytes a second.
    """
    return least_bytes / bandwidth / (token_ms / 1000)


def lines(rows: Sequence[Row]) -> list[Line]:
    """A line for each item, measure and peer, in the order of their definition."""
    return [
        line
        for work in WORK.values()
        for measure in _measures(work)
        for peer in PEERS
        if (line := _line(rows, work, measure, peer)) is not None
    ]


def _measures(work: Work) -> Iterator[Measure]:
    yield from work.measures
    if work.name == ONE_STREAM:
        yield Measure(LIMIT, "", "higher", lambda _: None)


def _line(rows: Sequence[Row], work: Work, measure: Measure, peer: str) -> Line | None:
    by_round = _by_round(rows, work.name, measure.name, peer)
    if not by_round:
        return None
    compared = PEERS[peer].ours
    ours = _by_round(rows, work.name, measure.name, compared)
    ratios = [
        value / ours[round] if measure.better == "lower" else ours[round] / value
        for round, value in by_round.items()
        if round in ours and peer != compared
    ]
    return Line(
        work.name,
        measure.name,
        measure.unit,
        peer,
        Spread.of(list(by_round.values())),
        Spread.of(ratios) if ratios else None,
        len(by_round),
    )


def _by_round(rows: Sequence[Row], work: str, measure: str, peer: str) -> dict[int, float]:
    return {
        row.round: row.figures[measure]
        for row in rows
        if row.work == work and row.peer == peer and measure in row.figures
    }


def table(found: Sequence[Line], missing: dict[str, str]) -> str:
    """The lines as text, and why peers are not among them."""
    text = [f"{'':24}{'figure':>12}  {'quartiles':21}{'ours is better by':>18}  quartiles"]
    head = ("", "")
    for line in found:
        if (line.work, line.measure) != head:
            head = (line.work, line.measure)
            unit = f", {line.unit}" if line.unit else ""
            text += ["", f"{WORK[line.work].title}: {line.measure}{unit}"]
        text.append(_text(line))
    text += ["", *(f"{name}: {reason}" for name, reason in missing.items())]
    return "\n".join(text).rstrip()


def _text(line: Line) -> str:
    figure = f"  {line.peer:22}{_number(line.figure.median):>12}  {_quartiles(line.figure):21}"
    if line.advantage is None:
        return figure.rstrip()
    return f"{figure}{line.advantage.median:>17.2f}x  {_quartiles(line.advantage)}"


def _quartiles(spread: Spread) -> str:
    return f"{_number(spread.low)} to {_number(spread.high)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def agreement(heads: Mapping[str, Mapping[int, Sequence[int]]], with_peer: str) -> dict[str, str]:
    """In how many rounds the first token of each peer was that of another one.

    Args:
        heads: the first tokens by peer and round.
    """
    reference = heads.get(with_peer, {})
    found = {}
    for peer, by_round in heads.items():
        both = [round for round in by_round if by_round[round] and reference.get(round)]
        same = sum(by_round[round][0] == reference[round][0] for round in both)
        if both and peer != with_peer:
            found[peer] = f"{same} of {len(both)}"
    return found


def as_json(found: Sequence[Line], rows: Sequence[Row]) -> dict[str, Any]:
    """Lines, and the figures of each round that they come from."""
    return {"lines": [asdict(line) for line in found], "rows": [asdict(row) for row in rows]}
