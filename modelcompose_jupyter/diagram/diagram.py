"""The diagram of a workflow: a graph that shows itself in a notebook, a page and a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from graphlib import TopologicalSorter
from typing import Any

from ..document import Document, Workflow
from ..translation import ENGLISH, preferred, reader_language, translated
from .graph import Edge, Link, Node, graph
from .layout import Layout
from .mermaid import mermaid
from .plain_text import plain_text
from .states import JobState, edge_states, job_state
from .svg import label_size, size, svg
from .words import SPOKEN, cut, in_language

# What a notebook's page is sure to be wide, and the column of a panel that shows a run.
_PAGE_WIDTH, _COLUMN_WIDTH = 860, 620
# A page draws no larger mermaid than this, unless it was set up to.
_MERMAID_EDGES, _MERMAID_CHARACTERS = 500, 100_000


def diagram(
    document: Document, workflow: Workflow, *, for_guests: bool = False, language: str = ""
) -> Diagram:
    """The diagram of one of a document's workflows; for guests without this computer's folders; in
    a language, or that of who reads what is shown here."""
    language = language or reader_language()
    found = graph(document, workflow, for_guests=for_guests, language=language)
    again = partial(diagram, document, workflow, for_guests=for_guests)
    return Diagram(found.nodes, found.links, language, again)


@dataclass(frozen=True, repr=False)
class Diagram:
    """The jobs of a workflow as a graph, from its inputs to its outputs.

    ``nodes`` are the input, the jobs in the document's order, and the output; ``links`` are what
    edges stand for, by pairs of the nodes' indexes, the awaited one first. What is said of them is
    in a language.
    """

    nodes: tuple[Node, ...]
    links: Mapping[Edge, Link]
    language: str = ENGLISH
    _again: Callable[..., Diagram] | None = field(default=None, compare=False)

    def in_language(self, language: str) -> Diagram:
        """The same in another language, a tag; this one where none is named."""
        wanted = preferred(language) if language else self.language
        if self._again is None or wanted == self.language:
            return self
        return self._again(language=wanted)

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(self.links)

    @cached_property
    def text(self) -> str:
        """One line where each job waits for the one before, else a line for each job."""
        order = sorted(range(len(self.nodes)), key=self._layers.__getitem__)
        return plain_text(self.nodes, self.links, order, in_language(self.language))

    @cached_property
    def mermaid(self) -> str:
        """A flowchart in the language of mermaid."""
        return mermaid(self.nodes, self.links, sideways=self._layout.sideways)

    @cached_property
    def svg(self) -> str:
        """A picture that scales to the width that it is given, as long as it can be read."""
        return svg(self.nodes, self.links, self._layout, self._spoken)

    @property
    def says_more(self) -> bool:
        """Whether there is more to see in a run than one call."""
        jobs = [node for node in self.nodes if node.kind == "job"]
        return len(jobs) > 1 or any(node.type != "component" for node in jobs)

    def of_run(self, jobs: Mapping[str, Mapping[str, Any]]) -> str:
        """The picture with the states of a run's jobs, which are as `Run.jobs` has them; with room
        for them, where there are none."""
        states = {name: self._state(job) for name, job in jobs.items()}
        edges = edge_states(self.nodes, self.links, jobs)
        told = [
            f"{node.label}: {states[node.job].words}" for node in self.nodes if node.job in states
        ]
        spoken = cut("; ".join(told), SPOKEN) or self._spoken
        return svg(self.nodes, self.links, self._layout_of_runs, spoken, states, edges)

    def _state(self, job: Mapping[str, Any]) -> JobState:
        state = job_state(job)
        return replace(state, words=translated(state.words, self.language))

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        small = len(self.edges) <= _MERMAID_EDGES and len(self.mermaid) <= _MERMAID_CHARACTERS
        return {
            "text/plain": self.text,
            "text/html": f'<div style="overflow:auto">{self.svg}</div>',
            "image/svg+xml": self.svg,
            **({"text/vnd.mermaid": self.mermaid} if small else {}),
        }

    @property
    def _spoken(self) -> str:
        return cut(" ".join(self.text.split()), SPOKEN)

    @cached_property
    def _layers(self) -> list[int]:
        """For each node, the length of the longest way to it from the input."""
        awaited: dict[int, list[int]] = {node: [] for node in range(len(self.nodes))}
        for first, last in self.edges:
            awaited[last].append(first)
        layers = [0] * len(self.nodes)
        for node in TopologicalSorter(awaited).static_order():
            layers[node] = max((layers[each] + 1 for each in awaited[node]), default=0)
        return layers

    @cached_property
    def _layout(self) -> Layout:
        return self._laid_out(_PAGE_WIDTH, has_states=False)

    @cached_property
    def _layout_of_runs(self) -> Layout:
        return self._laid_out(_COLUMN_WIDTH, has_states=True)

    def _laid_out(self, width: float, *, has_states: bool) -> Layout:
        """Sideways where that fits a width, else in the direction that takes less."""
        sizes = [size(node, has_state=has_states) for node in self.nodes]
        labels = {edge: label_size(link) for edge, link in self.links.items() if link.label}
        sideways = Layout(sizes, self.edges, self._layers, labels, sideways=True)
        down = Layout(sizes, self.edges, self._layers, labels, sideways=False)
        return sideways if sideways.size[0] <= max(width, down.size[0]) else down
