"""How a workflow shows itself: in notebooks, to ``help()``, ``?``, completion and interact."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pickle
import pydoc
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ipywidgets import FloatSlider, Text, interactive
from standins.kernel import Kernel, kernel
from standins.scripted import ScriptedModels

from modelcompose_jupyter import (
    ComposeError,
    InputError,
    LocalHost,
    ModelError,
    Run,
    Workflow,
    load,
)

STORY = """\
workflow:
  title: A story
  description: Continues a prompt.
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text @(description How it begins)}
  temperature: ${input.temperature as number | 0.7}
  max_output_length: ${input.length | ${input.size}}
"""


def story(host: LocalHost | None = None) -> Workflow:
    return load(STORY, host=host)


def of(text: str, **keys: Any) -> Workflow:
    component = {"type": "model", "task": "text-generation", "model": "m", "text": text}
    return load({"component": component, "workflow": keys})


# In notebooks and terminals


def test_repr_ends_with_the_diagram() -> None:
    assert repr(story()).splitlines() == [
        "Workflow A story",
        "  Continues a prompt.",
        "  model: bundled:storyteller",
        "  inputs: prompt: text (required), temperature: number = 0.7, length: integer, size: text",
        "  outputs: generated: text",
        "",
        "  input(prompt, temperature, length, size) ─▶ Default [bundled:storyteller]"
        " ─▶ output(generated)",
    ]


def test_a_notebook_gets_the_inputs_with_the_diagram() -> None:
    flow = story()
    bundle = flow._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "text/vnd.mermaid"}
    assert bundle["text/plain"] == repr(flow)
    assert bundle["text/vnd.mermaid"] == flow.diagram.mermaid
    root = ElementTree.fromstring(bundle["text/html"])
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert rows[0][:3] == ["input", "type", "default"]
    assert rows[1] == ["prompt", "text", "required", "How it begins"]
    assert rows[2][:3] == ["temperature", "number", "0.7"]
    assert rows[3][:3] == ["length", "integer", "optional"]
    said = " ".join("".join(root.itertext()).split())
    assert "A story · bundled:storyteller" in said
    assert "Continues a prompt." in said
    assert "gives generated: text" in said
    assert flow.diagram.svg in bundle["text/html"]


def test_what_is_wanted_is_what_comes() -> None:
    flow = story()
    assert set(flow._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}
    assert "text/html" not in flow._repr_mimebundle_(exclude=["text/html"])


def test_nothing_in_a_document_becomes_html() -> None:
    odd = "<script>alert('1')</script>&amp;\"`"
    flow = of(
        '${input["<b>"] | "<i>" @(description ' + odd + ")}",
        title=odd,
        description=odd,
        output={odd: "${output}"},
    )
    root = ElementTree.fromstring(flow._repr_mimebundle_()["text/html"])
    tags = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert not tags & {"script", "b", "i"}
    assert "".join(root.itertext()).count(odd) >= 4


# To Python's tools


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        ("hello", "()"),
        ("${input.b} ${input.a | 1}", "(*, b, a=1)"),
        ("${input.a | x} ${input.b}", "(*, a='x', b)"),
        ("${input.a | ${input.b}}", "(*, a=None, b=None)"),
        ("${input.class} ${input.a}", "(input=None, /, *, a)"),
        ('${input["sp ace"]}', "(input=None, /)"),
        ("${input}", "(input=None, /, **inputs)"),
        (
            "${input} ${input.input} ${input.inputs}",
            "(input_=None, /, *, input, inputs, **inputs_)",
        ),
    ],
)
def test_the_signature_names_the_inputs(text: str, signature: str) -> None:
    assert str(inspect.signature(of(text))) == signature


def test_the_class_keeps_its_own_signature_and_documentation() -> None:
    names = ["document", "workflow", "host", "name", "for_guests", "functions"]
    assert list(inspect.signature(Workflow).parameters) == names
    assert (inspect.getdoc(Workflow) or "").startswith("A workflow of a document")


def test_help_says_what_goes_in_and_what_comes_out() -> None:
    text = pydoc.plain(pydoc.render_doc(story()))
    lines = [line.strip() for line in text.splitlines()]
    for line in (
        "A story",
        "Continues a prompt.",
        "prompt: text (required)",
        "How it begins",
        "temperature: number = 0.7",
        "length: integer (optional)",
        "generated: text",
        "workflow(prompt='…')['generated']",
        "help(type(workflow)) says what else it can do.",
    ):
        assert line in lines


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "${input.a}",
        "${input.a | 1}",
        '${input["sp ace"]} ${input.class as integer}',
        "${input.a as integer} ${input.b as number} ${input.c as boolean} ${input.d as json}",
        "${input.a as select/x,y} ${input.b as slider/1,5} ${input.c as slider/0,1,0.1}",
        "${input.a as list} ${input.b as object} ${input.c as integer[]} ${input.d as base64}",
        "${input}",
    ],
)
def test_the_example_is_a_call_that_the_workflow_takes(text: str) -> None:
    flow = of(text)
    given: list[dict[str, Any]] = []

    def called(input: Any = None, /, **inputs: Any) -> dict[str, str]:
        given.append({**(input or {}), **inputs})
        return {"generated": ""}

    example = (flow.__doc__ or "").rpartition("Example:\n")[2].splitlines()[0].strip()
    assert eval(example, {"workflow": called}) == ""
    flow.signature.validate(given[0])


def test_the_example_has_the_workflows_own_name() -> None:
    assert "tell(prompt='…')" in (
        load(STORY.replace("title: A", "id: tell\n  title: A")).__doc__ or ""
    )
    assert "workflow(prompt='…')" in (
        load(STORY.replace("title: A", "id: a-b\n  title: A")).__doc__ or ""
    )


def test_a_workflow_in_another_process_says_the_same() -> None:
    flow = story()
    copy = pickle.loads(pickle.dumps(flow))
    assert copy.__doc__ == flow.__doc__
    assert inspect.signature(copy) == inspect.signature(flow)
    assert repr(copy) == repr(flow)


def test_interact_makes_widgets_of_the_inputs() -> None:
    host = LocalHost(ScriptedModels())  # type: ignore[arg-type]
    flow = load(STORY.replace("${input.length | ${input.size}}", "5"), host=host)
    form = interactive(flow, prompt="Once")
    assert [(type(each), each.value) for each in form.kwargs_widgets] == [
        (Text, "Once"),
        (FloatSlider, 0.7),
    ]
    form.update()
    assert form.result == {"generated": "<Once>"}
    host.close()


# In a kernel


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder: Path = tmp_path_factory.mktemp("notebook")
    with kernel(folder) as started:
        (folder / "story.yml").write_text(STORY, encoding="utf-8")
        cell = started.run("import modelcompose_jupyter as m; story = m.load('story.yml')")
        assert cell.status == "ok"
        yield started


def test_the_kernels_inspector_shows_the_inputs(shell: Kernel) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", shell.inspect("story(", 5))
    assert "story(*, prompt, temperature=0.7, length=None, size=None)" in text
    assert "prompt: text (required)" in text
    assert "How it begins" in text


def test_the_kernel_completes_inputs(shell: Kernel) -> None:
    for code, completed in (("story(pro", "prompt="), ("story(prompt='a', te", "temperature=")):
        assert completed in shell.complete(code, len(code))["matches"]


def test_a_cell_shows_the_workflow_in_all_forms(shell: Kernel) -> None:
    (data,) = shell.run("story").data
    assert set(data) == {"text/plain", "text/html", "text/vnd.mermaid"}


def test_nothing_of_it_needs_torch(shell: Kernel) -> None:
    shell.run("story.diagram, repr(story), story._repr_mimebundle_(), story.__doc__")
    assert (
        shell.value("[m for m in ('torch', 'ipywidgets') if m in __import__('sys').modules]")
        == "[]"
    )


TWO = {
    "component": {"type": "model", "task": "text-generation", "model": "m", "text": "x"},
    "workflows": [{"id": "one", "default": True}, {"id": "two", "title": "Second"}],
}


def test_all_workflows_of_a_document_can_be_had(host: LocalHost) -> None:
    workflows = load(TWO, host=host).workflows
    assert list(workflows) == ["one", "two"]
    assert workflows["two"].title == "Second"
    assert workflows["two"].run().workflow == "two"


# In coroutines


def told(host: LocalHost) -> Workflow:
    return load(STORY.replace("${input.length | ${input.size}}", "5"), host=host)


async def read(flow: Workflow, **inputs: Any) -> str:
    return "".join([piece async for piece in flow.stream(**inputs)])


def waited(flow: Workflow) -> Run:
    """The last run, when it has begun and ended."""
    end = time.monotonic() + 30
    while flow.last_run is None:
        assert time.monotonic() < end, "it never began"
        time.sleep(0.01)
    assert flow.last_run.wait(30)
    return flow.last_run


def test_several_streams_in_coroutines(host: LocalHost, models: ScriptedModels) -> None:
    models.reply = lambda prompt: ["<", prompt, ">"]
    flow = told(host)

    async def main() -> list[str]:
        return await asyncio.gather(*(read(flow, prompt=prompt) for prompt in "abc"))

    assert asyncio.run(main()) == ["<a>", "<b>", "<c>"]


@pytest.mark.parametrize("how", ["break", "error", "cancel", "timeout", "close"])
def test_leaving_a_loop_of_a_coroutine_stops_the_run(
    host: LocalHost, models: ScriptedModels, how: str
) -> None:
    models.hold = ("a",)
    flow = told(host)

    async def leave() -> None:
        async for _ in flow.stream(prompt="a"):
            if how == "break":
                break
            if how == "error":
                raise ZeroDivisionError
            first.set()

    async def main() -> None:
        task = asyncio.ensure_future(leave())
        if how == "cancel":
            shown = asyncio.ensure_future(first.wait())
            await asyncio.wait({task, shown}, return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
        with contextlib.suppress(ZeroDivisionError, asyncio.CancelledError):
            await task

    async def timeout() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await leave()

    async def close() -> None:
        async with contextlib.aclosing(flow.stream(prompt="a")) as stream:
            assert await anext(stream) == "<a>"

    first = asyncio.Event()
    asyncio.run({"timeout": timeout, "close": close}.get(how, main)())
    assert waited(flow).state == "cancelled"
    assert models.leases == 0


def test_a_coroutine_that_waits_for_text_holds_up_nobody(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("a",)
    flow = told(host)

    async def main() -> str:
        reader = asyncio.ensure_future(read(flow, prompt="a"))
        while not models.started.acquire(blocking=False):
            await asyncio.sleep(0.001)
        models.gate.set()  # by the loop that the reader waits on
        return await reader

    assert asyncio.run(main()) == "<a>"


def test_what_goes_wrong_is_raised_in_the_coroutine(
    host: LocalHost, models: ScriptedModels
) -> None:
    flow = told(host)

    async def main() -> None:
        with pytest.raises(InputError, match="there is no input"):
            flow.stream(prompt="a", other=1)  # before anything is asked for
        with pytest.raises(InputError, match="missing input 'prompt'"):
            flow.stream()
        models.failure = ModelError("no such model", code="model_not_found")
        with pytest.raises(ModelError, match="no such model"):
            await read(flow, prompt="a")
        host.close()
        with pytest.raises(ComposeError, match="closed"):
            await read(flow, prompt="a")

    asyncio.run(main())


def test_a_stream_of_a_coroutine_has_its_run(host: LocalHost, models: ScriptedModels) -> None:
    flow = told(host)

    async def main() -> None:
        given = {"prompt": "a"}
        stream = flow.stream(given)
        given["prompt"] = "b"
        assert stream.run is stream.run is flow.last_run
        assert [piece async for piece in stream] == list(stream.run.stream()) == ["<a>"]
        assert list(flow.stream(prompt="c")) == ["<c>"]  # as in a cell of a notebook

    asyncio.run(main())
    assert models.prompts == ["a", "c"]


def test_a_stream_of_a_coroutine_that_nobody_holds_is_stopped(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("a",)
    flow = told(host)

    async def main() -> None:
        assert flow.stream(prompt="a") is not None

    asyncio.run(main())
    assert waited(flow).state == "cancelled"


class SlowHost:
    """A host that takes its time to begin; `begins` and `go` are its doors."""

    def __init__(self, host: LocalHost) -> None:
        self._host = host
        self.closed = False
        self.begins, self.go = threading.Event(), threading.Event()

    def submit(self, *arguments: Any, **options: Any) -> Run:
        self.begins.set()
        assert self.go.wait(30)
        return self._host.submit(*arguments, **options)


@pytest.mark.parametrize("kind", ["stream", "arun"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_host_that_is_slow_to_begin_holds_up_nobody(
    host: LocalHost, models: ScriptedModels, kind: str, leaves: bool
) -> None:
    slow = SlowHost(host)
    models.hold = ("a",) if leaves else ()
    flow = told(slow)  # type: ignore[arg-type]

    async def main() -> None:
        work: Any = read(flow, prompt="a") if kind == "stream" else flow.arun(prompt="a")
        task = asyncio.ensure_future(work)
        while not slow.begins.is_set():
            await asyncio.sleep(0.001)
        if leaves:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        slow.go.set()
        if not leaves:
            await task

    asyncio.run(main())
    assert waited(flow).state == ("cancelled" if leaves else "completed")


def test_a_run_can_be_run_again_as_it_is(host: LocalHost) -> None:
    flow = load(TWO, host=host)
    assert flow.rerun(flow.run()).result() == flow.run().output
