"""Draws what formats change beside how fast they are: a point for each format of each engine."""

from __future__ import annotations

from typing import Any

from matplotlib.transforms import Bbox
from style import pyplot, save, title

# Colours that also those tell apart who see few of them, and a shape for each besides.
_MARKS = {
    "ours": ("#0072b2", "o"),
    "llama.cpp": ("#d55e00", "s"),
    "openvino": ("#009e73", "^"),
}
_PLACES = ((1, 1), (-1, 1), (1, -1), (-1, -1))
_SIZE = 7
_AWAY = 5
"""Points from the middle of a mark to its label."""


def draw(told: dict[str, Any]) -> Any:
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for name, (color, marker) in _MARKS.items():
        own = [each for each in told["points"] if each["engine"] == name]
        if own:
            _mark(axes, name, own, color, marker)
    axes.set_yscale("log")
    axes.margins(0.1)
    axes.set_xlim(left=0)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    engine, quality = told["engine"], told["quality"]
    axes.set_xlabel(
        f"tokens a second of one stream, {engine['model']['shape']}; median and quartiles"
    )
    axes.set_ylabel(
        f"KL divergence to float32, {quality['model']}, {quality['texts']} texts; standard error"
    )
    axes.set_title(
        f"how much formats change what a model says, and their speed; best is below on the right\n"
        f"{title(engine)}",
        fontsize="medium",
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.draw_without_rendering()  # so that it is known where everything is
    _label(axes, told["points"])
    return figure


def _mark(axes: Any, name: str, own: list[dict[str, Any]], color: str, marker: str) -> None:
    axes.errorbar(
        [each["speed"]["median"] for each in own],
        [each["divergence"] for each in own],
        xerr=[
            [each["speed"]["median"] - each["speed"]["low"] for each in own],
            [each["speed"]["high"] - each["speed"]["median"] for each in own],
        ],
        yerr=[each["error"] for each in own],
        fmt=marker,
        color=color,
        markersize=_SIZE,
        elinewidth=1.5,
        label=name,
    )


def _label(axes: Any, points: list[dict[str, Any]]) -> None:
    """Write the format beside each point, where nothing else is if there is such a place."""
    taken = [box for each in points for box in _boxes(axes, each)]
    for each in points:
        for right, up in _PLACES:
            text = axes.annotate(
                each["format"],
                (each["speed"]["median"], each["divergence"]),
                (right * _AWAY, up * _AWAY),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="bottom" if up > 0 else "top",
                color=_MARKS[each["engine"]][0],
                fontsize="small",
            )
            extent = text.get_window_extent()
            if not any(extent.overlaps(box) for box in taken) or (right, up) == _PLACES[-1]:
                break
            text.remove()
        taken.append(extent)


def _boxes(axes: Any, point: dict[str, Any]) -> list[Any]:
    """What a point covers of the picture: its mark and its two bars."""
    speed, divergence, error = point["speed"], point["divergence"], point["error"]
    middle = axes.transData.transform((speed["median"], divergence))
    half = _SIZE / 2
    return [
        Bbox([middle - half, middle + half]),
        Bbox(axes.transData.transform([[speed["low"], divergence], [speed["high"], divergence]])),
        Bbox(
            axes.transData.transform(
                [[speed["median"], divergence - error], [speed["median"], divergence + error]]
            )
        ),
    ]


save(draw)
