"""Draws what the simulation of many replicas says."""

from __future__ import annotations

from typing import Any

from style import pyplot, save

# Colours that also those tell apart who see few of them, and a shape for each besides.
_MARKS = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"))
_USERS = {10_000: "10,000 users", 100_000: "100,000 users", 1_000_000: "1,000,000 users"}
_WORK = {"chats": "chats", "prompts": "prompts that begin alike"}


def draw(told: dict[str, Any]) -> Any:
    count = 1 if told["picture"] == "failures" else 2
    figure, axes = pyplot.subplots(1, count, figsize=(9, 3.8), layout="constrained", squeeze=False)
    panels = axes[0]
    {"scale": _scale, "routing": _routing, "failures": _failures}[told["picture"]](told, panels)
    for axes in panels:
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def _scale(told: dict[str, Any], panels: Any) -> None:
    for (users, label), (color, marker) in zip(_USERS.items(), _MARKS, strict=True):
        rows = [row for row in told["scale"] if row["users"] == users]
        replicas = [row["replicas"] for row in rows]
        for axes, key in zip(panels, ("runs_a_second", "first_p95"), strict=True):
            values = [row[key] for row in rows]
            axes.plot(replicas, values, color=color, marker=marker, markersize=5, label=label)
    for axes, label in zip(panels, ("answers a second", "first token, 95 %, seconds"), strict=True):
        _by_replicas(axes)
        axes.set_yscale("log")
        axes.set_ylabel(label)
    panels[0].legend(frameon=False)


def _routing(told: dict[str, Any], panels: Any) -> None:
    for (work, label), (color, marker) in zip(_WORK.items(), _MARKS[:2], strict=True):
        for by_beginning, how, style in ((True, "by beginning", "-"), (False, "by load", "--")):
            rows = [
                row for row in told["routing"]
                if (row["workload"], row["by_beginning"]) == (work, by_beginning)
            ]  # fmt: skip
            replicas = [row["replicas"] for row in rows]
            for axes, values in (
                (panels[0], [100 * row["hit_rate"] for row in rows]),
                (panels[1], [row["first_p95"] for row in rows]),
            ):
                axes.plot(
                    replicas, values, color=color, marker=marker, markersize=5, linestyle=style,
                    label=f"{label}, {how}",
                )  # fmt: skip
    for axes, label in zip(
        panels, ("% of prompts' tokens not read again", "first token, 95 %, seconds"), strict=True
    ):
        _by_replicas(axes)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(label)
    panels[0].figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )


def _failures(told: dict[str, Any], panels: Any) -> None:
    (axes,) = panels
    for row, (color, marker) in zip(told["failures"], _MARKS, strict=True):
        shares = [100 / 2**number for number in range(len(row["whole"]))]
        label = f"{100 * row['failures_an_hour']:g} % of replicas fail in an hour"
        axes.plot(row["whole"], shares, color=color, marker=marker, markersize=4, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("seconds to the end of an answer")
    axes.set_ylabel("% of answers that take longer")
    axes.legend(frameon=False)


def _by_replicas(axes: Any) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks([4**number for number in range(5)], [str(4**number) for number in range(5)])
    axes.set_xlabel("replicas")


save(draw)
