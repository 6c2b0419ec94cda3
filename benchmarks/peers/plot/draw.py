"""Draws results: how many times better ours is than each peer, item by item."""

from __future__ import annotations

from typing import Any

from style import pyplot, save, title

_ROW_INCHES = 0.22


def draw(results: dict[str, Any]) -> Any:
    lines = [line for line in results["lines"] if line["advantage"] is not None]
    peers = list(dict.fromkeys(line["peer"] for line in lines))
    rows = list(dict.fromkeys((line["work"], line["measure"]) for line in lines))
    height = 1.6 + _ROW_INCHES * len(lines)
    figure, axes = pyplot.subplots(figsize=(9, height), layout="constrained")
    colors = {peer: f"C{number}" for number, peer in enumerate(peers)}
    place, ticks, seen = 0.0, [], set()
    for row in rows:
        own = [line for line in lines if (line["work"], line["measure"]) == row]
        ticks.append((place + (len(own) - 1) / 2, ": ".join(row)))
        for line in own:
            label = line["peer"] if line["peer"] not in seen else None
            seen.add(line["peer"])
            _mark(axes, place, line["advantage"], colors[line["peer"]], label)
            place += 1
        axes.axhline(place, color="0.9", linewidth=0.8)
        place += 1
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(place, -1)
    axes.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks])
    axes.set_xlabel("times that ours is better (right of 1) or worse; median and quartiles")
    axes.set_title(title(results), fontsize="medium")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _mark(axes: Any, place: float, spread: dict[str, float], color: str, label: str | None) -> None:
    axes.plot([spread["low"], spread["high"]], [place, place], color=color, linewidth=2, alpha=0.5)
    axes.plot([spread["median"]], [place], "o", color=color, markersize=5, label=label)


save(draw)
