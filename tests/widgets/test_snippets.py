"""What is copied of a run runs, and gives its text again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelcompose_jupyter import LocalHost, Workflow, host_selection, load
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.host import local_host
from modelcompose_jupyter.server.catalog import Catalog, Served
from modelcompose_jupyter.server.server import Server, ServerSettings
from modelcompose_jupyter.widgets.snippets import again, as_curl, as_python
from modelcompose_jupyter.workflow import Run

HEAD = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 12
controller: {port: 18473}
"""
REPEATED = HEAD + "workflow: {repeat_count: 2}\n"
OWN_SEED = HEAD.replace("  max", "  seed: ${input.seed as integer | null}\n  max")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHost]:
    """This process's own host, which serves nothing afterwards."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    yield local_host()
    host_selection.stop_serving()
    local_host().close()


def done(run: Run) -> Run:
    assert run.wait(30)
    return run


def copied(flow: Workflow, run: Run) -> Any:
    """What the Python that is copied of a run gives."""
    return eval(as_python("story", run.input, again(run)), {"story": flow})


@pytest.mark.parametrize("document", [HEAD, REPEATED], ids=["one", "repeated"])
def test_python_has_the_seed_that_was_drawn(document: str, here: LocalHost) -> None:
    flow = load(document)
    run = flow.run(prompt="Once 'upon' a")
    seed = run.record["seed"]
    assert as_python("story", run.input, again(run)) == (
        f"story.start({{'prompt': \"Once 'upon' a\"}}, seed={seed}).result()"
    )
    assert copied(flow, run) == run.output


def test_python_of_an_extended_run(here: LocalHost) -> None:
    flow = load(HEAD)
    run = next(
        run
        for seed in range(50)
        if (run := done(flow.start({"prompt": "Once"}, seed=seed))).extendable_by
    )
    longer = done(flow.extend(run, 9))
    assert again(longer) == {"seed": run.record["seed"], "extended_by": 9}
    assert copied(flow, longer) == longer.output != run.output


def test_a_seed_that_the_inputs_say_is_not_said_twice(here: LocalHost) -> None:
    flow = load(OWN_SEED)
    run = flow.run(prompt="Once", seed=7)
    assert as_python("story", run.input, again(run)) == "story(prompt='Once', seed=7)"
    assert copied(flow, run) == run.output
    drawn = flow.run(prompt="Once")
    assert again(drawn) == {"seed": drawn.record["seed"]}
    assert copied(flow, drawn) == drawn.output


def test_without_sampling_there_is_no_seed(here: LocalHost) -> None:
    flow = load(HEAD.replace("  max", "  do_sample: false\n  max"))
    run = flow.run(prompt="Once")
    assert again(run) == {}
    assert copied(flow, run) == run.output


def by_curl(command: str) -> Any:
    """The output that a copied command gives."""
    answer = subprocess.run(
        ["sh", "-c", command.replace("curl", "curl --silent --noproxy '*'", 1)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return json.loads(answer.stdout)["output"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_workflows_are_served_to_be_copied_as_curl(here: LocalHost) -> None:
    flow, other = load(HEAD), load(HEAD.replace("12", "5"))
    assert host_selection.served_at(flow.document, flow.id) is None

    first = host_selection.serve_also(flow.functions, flow.id, "story")
    assert first == host_selection.served_at(flow.document, flow.id)
    assert first == host_selection.serve_also(flow.functions, flow.id, "any")
    assert (first.url.startswith("http://127.0.0.1:"), first.workflow) == (True, None)
    run = flow.run(prompt="It's a")
    assert by_curl(as_curl(flow.document, flow.id, run.input, given=again(run))) == run.output

    second = host_selection.serve_also(other.functions, other.id, "other")
    assert (second.url, second.workflow) == (first.url, "other")
    for each in (flow, other):
        run = each.run(prompt="Once")
        assert by_curl(as_curl(each.document, each.id, run.input, given=again(run))) == run.output


def test_a_taken_port_is_not_in_the_way(here: LocalHost) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        flow = load(HEAD.replace("18473", str(port)))
        endpoint = host_selection.serve_also(flow.functions, flow.id, "story")
    assert f":{port}/" not in endpoint.url


def test_what_a_notebook_serves_already_stays(here: LocalHost) -> None:
    """As '%compose serve' serves it, under its names."""
    flow, other = load(HEAD), load(HEAD.replace("12", "5"))
    catalog = Catalog({"story": Served(flow.document, flow.document.workflow(None))})
    server = host_selection.serve(
        Server(here, lambda: catalog, settings=ServerSettings(port=0)),
    )
    endpoint = host_selection.serve_also(other.functions, other.id, "story")
    assert endpoint.workflow == "story_2"
    assert list(server.documents.catalog.workflows) == ["story_2", "story"]
    assert server.documents.catalog.find("__default__").document is flow.document


def test_visitors_of_a_page_serve_nothing(here: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    flow = load(HEAD)
    with pytest.raises(UsageError, match="visitors serve nothing"):
        host_selection.serve_also(flow.functions, flow.id, "story")
    assert host_selection.serving() is None
