"""What the form of a panel lets vary in a grid, and what was entered there. The browser's side is
``grid_form.js``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..comparing.axes import SEED
from ..document import Input
from ..document.types import Type
from ..workflow import Runnable
from .form import label_of, label_of_name

_TEMPERATURES = (0.2, 0.7, 1.2)
"""From nearly the likeliest text to a surprising one."""
_NUMBERS = ("integer", "number", "slider")
_OPTIONS = ("select", "boolean")
_SEEDS = (1, 2, 3)


def choices(workflow: Runnable) -> list[dict[str, Any]]:
    """What may vary, as ``grid_form.js`` has it: the temperature first, where there is one."""
    quick = temperatures(workflow)
    inputs = [each for each in workflow.signature.inputs if _may_vary(each)]
    found = [_choice(each, quick.get(each.name, ())) for each in inputs]
    if takes_seeds(workflow):
        found.append(_numbers(SEED, label_of_name(SEED), _SEEDS))
    return sorted(found, key=lambda choice: choice["name"] not in quick)


def _may_vary(each: Input) -> bool:
    return not each.secret and each.type.name != "messages"


def takes_seeds(workflow: Runnable) -> bool:
    """Whether the seeds of runs are what a grid gives, and no input."""
    is_input = any(each.name == SEED for each in workflow.signature.inputs)
    return not is_input and not workflow.document.sets_seed(workflow.document.workflow(workflow.id))


def _choice(each: Input, suggested: Sequence[float]) -> dict[str, Any]:
    label, type_ = label_of(each), each.type
    if type_.holds_list or type_.name not in (*_NUMBERS, *_OPTIONS):
        # Numbers are of any input that a parameter is, whatever its type says.
        if suggested:
            return _numbers(each.name, label, suggested)
        return {"name": each.name, "label": label, "kind": "lines", "options": [], "values": ""}
    if type_.name in _OPTIONS:
        options = list(type_.options) or ["true", "false"]
        return {
            "name": each.name, "label": label, "kind": "options", "options": options, "values": ""
        }  # fmt: skip
    return _numbers(each.name, label, suggested or _ends(type_))


def _numbers(name: str, label: str, values: Sequence[float]) -> dict[str, Any]:
    shown = ", ".join(f"{value:g}" for value in values)
    return {"name": name, "label": label, "kind": "numbers", "options": [], "values": shown}


def _ends(type_: Type) -> Sequence[float]:
    """A slider's least, middle and most; nothing for other numbers."""
    if type_.name != "slider":
        return ()
    least, most, _ = type_.range
    middle = (least + most) / 2
    return least, int(middle) if type_.counts_whole else middle, most


def temperatures(workflow: Runnable) -> dict[str, tuple[float, ...]]:
    """The input that is the temperature, if there is one that is nothing else, and values of it
    that are worth a look."""
    calls = workflow.document.model_calls(workflow.document.workflow(workflow.id))
    draws = any(
        "do_sample" not in each.action.parameters
        or each.action.parameters["do_sample"].value is not False
        for each in calls
    )
    found = [each for each in workflow.signature.inputs if each.parameter == "temperature"]
    if len(found) != 1 or not draws or found[0].type.name not in ("number", "slider", "text"):
        return {}
    type_ = found[0].type
    if type_.name != "slider":
        return {found[0].name: _TEMPERATURES}
    least, most, _ = type_.range
    fits = least <= _TEMPERATURES[0] and most >= _TEMPERATURES[-1]
    return {found[0].name: _TEMPERATURES if fits else (least, (least + most) / 2, most)}
