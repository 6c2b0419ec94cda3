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


def is_keyword(name: str) -> bool:
    """Whether Python takes a name as a keyword argument."""
    return name.isidentifier() and not keyword.iskeyword(name)


def examples(signature: Signature) -> dict[str, Any]:
    """Inputs that show what a call looks like: those that it cannot do without."""
    return {each.name: "…" for each in signature.inputs if each.required}


def as_python(name: str, values: Mapping[str, Any]) -> str:
    """A call of the workflow that is bound to ``name``; secrets among the values are masked."""
    values = without_secrets(values)
    if all(map(is_keyword, values)):
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})"
    return f"{name}({dict(values)!r})"


def as_curl(
    document: Document, workflow: str, values: Mapping[str, Any], endpoint: Endpoint | None = None
) -> str:
    """A request to the run API for a workflow by id, where it is served or would be.

    ``endpoint`` says where; what this process knows if None.
    """
    endpoint = endpoint or endpoint_of(document, workflow)
    body: dict[str, Any] = {"input": without_secrets(values)}
    if endpoint.workflow is not None:
        body["workflow_id"] = endpoint.workflow
    # Never the token itself: commands are shown, and shared.
    token = f'  -H "Authorization: Bearer ${endpoint.token}" \\\n' if endpoint.token else ""
    return (
        f"curl -X POST {shlex.quote(endpoint.url + '/workflows/runs')} \\\n"
        f"{token}"
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False, default=str))}"
    )
