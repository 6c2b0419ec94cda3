"""A workflow's output in parts that a notebook can show: text, markdown, records, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..document import Output
from ..progress import as_text
from ..workflow import Run
from .markdown import markdown as markdown
from .markdown import preformatted as preformatted
from .records import record_html


@dataclass(frozen=True)
class Part:
    """One value of an output.

    Attributes:
        label: its name; empty where it is the only one.
        kind: how it is to be shown.
        text: the value as text; of ``markdown`` its source.
        html: the value as HTML that is safe to show.
    """

    label: str
    kind: Literal["text", "markdown", "json"]
    text: str
    html: str


def parts(run: Run, outputs: Sequence[Output]) -> list[Part]:
    """The output of a run that has ended, as the outputs of its workflow's signature say; empty
    where its texts have said it all."""
    if run.output is None:
        return []
    entries = _entries(run.output, outputs)
    found = [part for name, value, type_ in entries for part in _parts(name, value, type_)]
    if _texts_say_it_all(run) and not any(part.kind == "markdown" for part in found):
        return []
    if len(found) == 1:
        return [Part("", found[0].kind, found[0].text, found[0].html)]
    return found


def said(run: Run) -> str:
    """What a run says, as one text: its texts, or its output where these have not said it all."""
    output = run.output
    if output is None or _texts_say_it_all(run):
        return run.text
    if isinstance(output, Mapping) and len(output) == 1:
        (output,) = output.values()
    return as_text(output)


def _texts_say_it_all(run: Run) -> bool:
    return sorted(filter(None, _leaves(run.output))) == sorted(filter(None, run.streams.values()))


def _entries(output: Any, outputs: Sequence[Output]) -> Iterator[tuple[str, Any, str]]:
    types = {each.name: each.type.name for each in outputs}
    if isinstance(output, Mapping) and None not in types:
        for name, value in output.items():
            yield str(name), value, types.get(name, "json")
    else:
        yield "", output, types.get(None, "json")


def _parts(label: str, value: Any, type_name: str) -> Iterator[Part]:
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        for number, text in enumerate(value, start=1):
            yield from _parts(f"{label} {number}".strip(), text, type_name)
    elif type_name == "markdown":
        source = as_text(value)
        yield Part(label, "markdown", source, markdown(source))
    elif isinstance(value, str):
        yield Part(label, "text", value, preformatted(value))
    else:
        yield Part(label, "json", as_text(value), record_html(value))


def _leaves(value: Any) -> Iterator[str]:
    """The texts in an output; what is no text, or is beside them, stands for itself as JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    else:
        yield as_text(value)
