"""The magics in a real kernel, on the bundled model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from standins.kernel import Cell, Kernel, kernel

BODY = """\
workflow:
  title: A story
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 400}
  seed: ${input.seed as integer | 7}
"""
DECLARE = f"%%compose story\n{BODY}"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("notebook")) as started:
        assert started.run("%load_ext modelcompose_jupyter").status == "ok"
        assert started.run(DECLARE).status == "ok"
        yield started


def error_text(cell: Cell) -> str:
    assert cell.error is not None
    return "\n".join(cell.error["traceback"])


def test_declaring_binds_a_workflow_and_shows_it_without_a_model(shell: Kernel) -> None:
    cell = shell.run("%%compose told\n" + BODY)
    assert "A story" in cell.text
    assert "prompt: text (required)" in cell.text
    assert "<code>prompt</code>" in cell.data[0]["text/html"]
    assert shell.value("type(told).__name__") == "'Workflow'"


def test_declaring_loads_no_torch(tmp_path_factory: pytest.TempPathFactory) -> None:
    with kernel(tmp_path_factory.mktemp("fresh")) as fresh:
        fresh.run("%load_ext modelcompose_jupyter")
        fresh.run(DECLARE)
        loaded = "[m for m in ('torch', 'transformers') if m in __import__('sys').modules]"
        assert fresh.value(loaded) == "[]"


def test_running_streams_the_text_and_says_how_it_ended(shell: Kernel) -> None:
    cell = shell.run(f'%%compose once --run prompt="Once upon a time" length:=4+4\n{BODY}')
    assert cell.status == "ok"
    text, status = cell.stdout.rstrip("\n").rsplit("\n", 1)
    assert text.startswith("Once upon a time")
    assert status.startswith("[length · 8 tokens")
    assert status.endswith("seed 7]")
    assert json.loads(shell.run("import json; print(json.dumps(once.last_run.output))").stdout) == {
        "generated": text
    }


def test_inputs_alone_run_the_cell(shell: Kernel) -> None:
    assert shell.run(f"%%compose prompt=Hello length=2\n{BODY}").stdout.startswith("Hello")


def test_a_prompt_with_braces_and_dollars_stays_as_it_is(shell: Kernel) -> None:
    shell.run("odd = r'${env.HOME} {} $x \\n 안녕'")
    assert shell.value("story(prompt=odd, length=1)['generated'].startswith(odd)") == "True"
    cell = shell.run("%compose run story prompt='${env.HOME} {} $x' length=1")
    assert cell.stdout.startswith("${env.HOME} {} $x")


def test_the_same_seed_gives_the_same_text(shell: Kernel) -> None:
    shell.run("a, b, c = (story(prompt='A', length=20, seed=s) for s in (1, 1, 2))")
    assert shell.value("a == b, a == c") == "(True, False)"


def test_all_ways_to_run_agree(shell: Kernel) -> None:
    shell.run("given = dict(prompt='Once', length=12, seed=3)")
    shell.run("called = story(**given)['generated']")
    shell.run("ran = story.run(**given).text")
    shell.run("submitted = story.submit(**given).result()['generated']")
    shell.run("streamed = ''.join(story.stream(**given))")
    shell.run("awaited = (await story.arun(**given)).text")
    shell.run("waited = (await story.submit(**given))['generated']")
    shell.run("texts = {called, ran, submitted, streamed, awaited, waited}")
    assert shell.value("len(texts)") == "1"


ANNOUNCE = """
import threading

def announce(flow):
    "Print GROWS from a thread as soon as the run of a blocking cell has text beyond its prompt."
    def watch():
        for _ in range(6000):
            if flow.last_run is not None and len(flow.last_run.text) > len("Once"):
                print("GROWS", flush=True)
                return
            threading.Event().wait(0.01)
    threading.Thread(target=watch).start()
"""


@pytest.mark.parametrize(
    "code",
    [
        "%compose run long prompt=Once",
        "long.run(prompt='Once')",
        "long(prompt='Once')",
        "for piece in long.stream(prompt='Once'): pass",
        "await long.arun(prompt='Once')",
        "await long.submit(prompt='Once')",
    ],
)
def test_an_interrupt_stops_the_run_and_keeps_the_text_and_the_model(
    shell: Kernel, code: str
) -> None:
    shell.run(ANNOUNCE)
    # An end token is out of reach, so only the interrupt can end the run early.
    shell.run("%%compose long\n" + BODY + "  min_output_length: 400\n")
    interrupted: list[bool] = []

    def watch(cell: Cell) -> None:
        if "GROWS" in cell.stdout and not interrupted:
            interrupted.append(True)
            shell.interrupt()

    cell = shell.run(f"announce(long)\n{code}", watch=watch)
    assert interrupted
    assert cell.error is not None
    assert cell.error["ename"] in ("KeyboardInterrupt", "CancelledError")
    shell.run("long.last_run.wait(60)")
    assert shell.value("long.last_run.state") == "<State.CANCELLED: 'cancelled'>"
    assert shell.value("long.last_run.finish_reason") == "'cancelled'"
    assert shell.value("long.last_run.text.startswith('Once')") == "True"
    assert shell.value("0 < long.last_run.usage['generated'] < 400") == "True"
    assert "ready" in shell.run("%compose models").text


def test_errors_are_one_paragraph_without_a_traceback(shell: Kernel) -> None:
    cell = shell.run("%%compose wrong\n" + BODY.replace("model: b", "modle: b"))
    assert cell.status == "error"
    assert cell.error is not None
    assert cell.error["ename"] == "DocumentError"
    assert "cell:7:3: unknown key 'modle'" in error_text(cell)
    assert "Did you mean 'model'?" in error_text(cell)
    assert "Traceback" not in error_text(cell)
    assert ".py" not in error_text(cell)


def test_a_missing_input_names_its_line(shell: Kernel) -> None:
    assert "missing input 'prompt'" in error_text(shell.run("story()"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%compose rnu", "Did you mean 'run'?"),
        ("%compose run", "usage: %compose run NAME"),
        ("%compose run storry prompt=a", "Did you mean 'story'?"),
        ("%compose run story prompt='a", "a quote is never closed"),
        ("%compose unload nothing", "nothing"),
        ("%compose validate nowhere.yml", "cannot read it"),
        ("%%compose a b\n" + BODY, "one name is enough"),
        ("%%compose class\n" + BODY, "is no Python name"),
        ("%%compose story --rnu\n" + BODY, "Did you mean '--run'?"),
    ],
)
def test_wrong_lines_say_what_to_do(shell: Kernel, line: str, message: str) -> None:
    cell = shell.run(line)
    assert cell.status == "error"
    assert message in error_text(cell)


def test_models_can_be_seen_and_unloaded(shell: Kernel) -> None:
    shell.run("story(prompt='a', length=1)")
    assert "bundled:storyteller" in shell.run("%compose models").text
    assert "unloaded storyteller" in shell.run("%compose unload").stdout
    assert shell.run("%compose models").text == "No models in memory."
    assert shell.value("len(story(prompt='a', length=1))") == "1"


def test_list_shows_the_workflows_of_the_notebook(shell: Kernel) -> None:
    text = shell.run("%compose list").text
    assert "story" in text
    assert "prompt, length, seed" in text


def test_schema_shows_inputs_or_the_document_language(shell: Kernel) -> None:
    described = shell.run("%compose schema story").data[0]["application/json"]
    assert [each["name"] for each in described["input"]] == ["prompt", "length", "seed"]
    assert "properties" in shell.run("%compose schema").data[0]["application/json"]


def test_help_names_every_verb(shell: Kernel) -> None:
    text = shell.run("%compose help").stdout
    assert all(f"%compose {verb}" in text for verb in ("run", "list", "models", "unload"))


def test_validate_reads_a_file(shell: Kernel) -> None:
    shell.run(f"open('story.yml', 'w').write({BODY!r})")
    assert "story.yml is valid: A story" in shell.run("%compose validate story.yml").stdout
    assert shell.run("%compose run story.yml prompt=Hi length=1").stdout.startswith("Hi")
