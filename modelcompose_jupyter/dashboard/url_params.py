"""What the query of a page's address says: which workflow, and values for its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from ..document import Document, Workflow
from ..document.document import choose_default
from ..errors import ComposeError, InputError, UsageError, did_you_mean
from ..widgets import inputs as fields
from ..widgets.inputs import Inputs

_MAX_FIELDS = 100
# What Voila takes from the query; where an input has such a name, it gets the value as well.
_APPLICATIONS_OWN = ("theme", "template", "token")


class UrlParams:
    """The query, and in ``notes`` an error for each part of it that could not be used.

    Args:
        text: as in an address, without its ``?``.
    """

    def __init__(self, text: str) -> None:
        self.notes: list[ComposeError] = []
        self._values: dict[str, list[str]] = {}
        try:
            self._values = parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            self.notes.append(
                UsageError(
                    "the page's address cannot be read",
                    hint=f"It has {_MAX_FIELDS} values at most.",
                )
            )

    def choose(self, document: Document, workflows: Mapping[str, Workflow]) -> str:
        """The id of that of the workflows, one at least, which is meant: the default one, else the
        first, if none is named."""
        candidates = list(workflows.values())
        default: Workflow = choose_default(candidates) or candidates[0]
        if len(workflows) == 1:
            return default.id
        name = self._values.pop("workflow", [default.id])[-1]
        if name in workflows:
            return name
        self.notes.append(
            InputError(
                f"there is no workflow '{name}'",
                hint=did_you_mean(name, workflows) or f"There are {', '.join(workflows)}.",
            )
        )
        return default.id

    def fill(self, inputs: Inputs) -> None:
        """Put the values into the inputs' widgets, as if somebody had typed them there."""
        for name, texts in self._values.items():
            if name in _APPLICATIONS_OWN and (name == "token" or name not in inputs):
                continue
            try:
                fields.enter(inputs, name, texts)
            except InputError as error:
                self.notes.append(error)
