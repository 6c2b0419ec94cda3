"""Workflows whose jobs ask a scripted model, which answers ``<prompt>`` unless a test says else."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from modelcompose_jupyter import DocumentError, LocalHost, Run, Workflow, load

COMPONENT = """
components:
  - {type: model, task: text-generation, model: scripted, text: "${input}", default: true}
"""


def flow_of(host: LocalHost, workflow: str) -> Workflow:
    """A workflow of which the YAML is given."""
    return load(COMPONENT + textwrap.dedent(workflow), host=host)


def ran(host: LocalHost, workflow: str, /, **inputs: Any) -> Run:
    """A run that has ended, of a workflow's YAML."""
    run = flow_of(host, workflow).run(**inputs)
    assert run.wait(90)
    return run


def given(host: LocalHost, workflow: str, /, **inputs: Any) -> Any:
    """What a workflow gives."""
    return ran(host, workflow, **inputs).result()


def states(run: Run) -> dict[str, str]:
    """The states of a run's jobs."""
    return {name: job["state"] for name, job in run.jobs.items()}


def problem(workflow: str) -> str:
    """What is wrong with a workflow."""
    with pytest.raises(DocumentError) as caught:
        load(COMPONENT + textwrap.dedent(workflow))
    return str(caught.value)
