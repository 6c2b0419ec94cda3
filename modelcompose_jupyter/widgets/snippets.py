"""The same run, asked for from elsewhere: as Python and as a curl command."""

from __future__ import annotations

import json
import keyword
import shlex
from collections.abc import Mapping
from typing import Any

from ..document import Document, Signature
from ..host_selection import Endpoint, endpoint_of
from ..redaction import without_secrets
from ..workflow import Run, is_first_seed
from ..workflow.options import API_NAMES, OPTIONS


def is_keyword(name: str) -> bool:
    """Whether Python takes a name as a keyword argument."""
    return name.isidentifier() and not keyword.iskeyword(name)


def examples(signature: Signature) -> dict[str, Any]:
    """Inputs that show what a call looks like: those that it cannot do without."""
    return {each.name: "…" for each in signature.inputs if each.required}


def again(run: Run) -> dict[str, Any]:
    """What a call takes beside a run's inputs to give its text again: the ``seed`` that was drawn
    for it, by how much it was extended, what it begins with. Empty where the inputs say it all."""
    record = run.record
    drawn = {"seed": run.parameters["seed"]} if "seed" in run.parameters else {}
    if record:
        drawn = {"seed": record["seed"]} if _hangs_on(record["seed"], record) else {}
    elif run.parameters.get("do_sample") is False:
        drawn = {}
    others = {name: record[name] for name in OPTIONS if name in record and name != "seed"}
    return {**drawn, **others}


def _hangs_on(seed: int, record: Mapping[str, Any]) -> bool:
    """Whether a text was drawn with numbers that follow from a run's seed, not from the
    document's."""
    return any(
        each["parameters"].get("do_sample") is not False
        and is_first_seed(each["parameters"].get("seed"), seed)
        for each in record["generations"]
        if each["stream"][1:] == [0, 0]
    )


def as_python(name: str, values: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> str:
    """A call of the workflow that is bound to ``name``; secrets among the values are masked.

    ``given`` is what it takes beside the inputs, as `again` says.
    """
    values = without_secrets(values)
    if given:
        options = "".join(f", {key}={value!r}" for key, value in given.items())
        return f"{name}.start({dict(values)!r}{options}).result()"
    if all(map(is_keyword, values)):
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})"
    return f"{name}({dict(values)!r})"


def as_curl(
    document: Document,
    workflow: str,
    values: Mapping[str, Any],
    endpoint: Endpoint | None = None,
    given: Mapping[str, Any] | None = None,
) -> str:
    """A request to the run API for a workflow by id, where it is served or would be.

    ``endpoint`` says where; what this process knows if None. ``given`` is what it takes beside the
    inputs, as `again` says.
    """
    endpoint = endpoint or endpoint_of(document, workflow)
    body: dict[str, Any] = {"input": without_secrets(values)}
    if endpoint.workflow is not None:
        body["workflow_id"] = endpoint.workflow
    body |= {API_NAMES.get(key, key): value for key, value in (given or {}).items()}
    # Never the token itself: commands are shown, and shared.
    token = f'  -H "Authorization: Bearer ${endpoint.token}" \\\n' if endpoint.token else ""
    return (
        f"curl -X POST {shlex.quote(endpoint.url + '/workflows/runs')} \\\n"
        f"{token}"
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False, default=str))}"
    )
