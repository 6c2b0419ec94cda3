"""The magics in a real kernel, on the bundled model."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path

import nbformat
import pytest
from standins.kernel import Cell, Kernel, KernelIn, kernel

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.document.reader import read
from modelcompose_jupyter.notebook.magics import VERBS

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
def shell(tmp_path_factory: pytest.TempPathFactory, kernel_in: KernelIn, ipykernel: str) -> Kernel:
    shell = kernel_in(tmp_path_factory.mktemp("notebook"), ipykernel)
    assert shell.run("%load_ext modelcompose_jupyter").status == "ok"
    assert shell.run(DECLARE).status == "ok"
    return shell


def error_text(cell: Cell) -> str:
    assert cell.error is not None
    return "\n".join(cell.error["traceback"])


def test_declaring_binds_a_workflow_and_shows_its_panel(shell: Kernel) -> None:
    cell = shell.run("%%compose told\n" + BODY)
    panel, saved = cell.data
    assert "application/vnd.jupyter.widget-view+json" in panel
    assert "prompt: text (required)" in panel["text/plain"]
    assert "<code>prompt</code>" in panel["text/html"]
    assert saved["text/plain"] == ""
    assert shell.value("type(told).__name__, type(_).__name__") == "('Workflow', 'Panel')"


def test_a_panel_need_not_be_shown(shell: Kernel) -> None:
    assert shell.run("%%compose told --no-panel\n" + BODY).data == []
    shell.run("%config ComposeMagics.panel = False")
    assert shell.run("%%compose told\n" + BODY).data == []
    shell.run("%config ComposeMagics.panel = True")


def test_a_panel_runs_and_the_notebook_keeps_its_text_and_record(shell: Kernel) -> None:
    shell.run("%%compose told\n" + BODY)
    shell.run("panel = _")
    cell = shell.run(
        "panel.inputs.prompt.value, panel.inputs.length.value = 'Once', 8\n"
        "panel.submit().wait()\n"
        "import threading; kept = threading.Event()\n"
        "panel._view.observe(lambda change: change.new and kept.set(), 'cards')\n"
        "panel._view.cards or kept.wait(30)\n"
    )
    assert cell.status == "ok"
    updates = [each for each in cell.updates if "modelcompose" in each["metadata"]]
    assert updates[-1]["data"]["text/plain"].startswith("Once")
    assert 'class="modelcompose-saved"' in updates[-1]["data"]["text/html"]
    record = updates[-1]["metadata"]["modelcompose"]
    assert record["input"] == {"prompt": "Once", "length": 8, "seed": 7}
    assert record["generations"][0]["parameters"]["seed"] == 7


def test_declaring_loads_no_torch(tmp_path_factory: pytest.TempPathFactory) -> None:
    with kernel(tmp_path_factory.mktemp("fresh")) as fresh:
        fresh.run("%load_ext modelcompose_jupyter")
        fresh.run(DECLARE)
        loaded = "[m for m in ('torch', 'transformers') if m in __import__('sys').modules]"
        assert fresh.value(loaded) == "[]"


def test_running_streams_the_text_and_says_how_it_ended(shell: Kernel) -> None:
    cell = shell.run(f'%%compose once --run prompt="Once upon a time" length:=4+4\n{BODY}')
    assert cell.status == "ok"
    text, status = cell.shown
    assert text.startswith("Once upon a time")
    assert status.startswith("[Cut at 8 tokens · ")
    assert status.endswith(" tokens/s · seed 7]")
    assert cell.stdout == ""
    assert cell.metadata[1]["modelcompose"]["input"]["prompt"] == "Once upon a time"
    assert json.loads(shell.run("import json; print(json.dumps(once.last_run.output))").stdout) == {
        "generated": text
    }


def test_a_stream_that_ends_a_cell_shows_its_text(shell: Kernel) -> None:
    cell = shell.run("story.stream(prompt='Once', length=4)")
    text, status = cell.shown
    assert text == shell.value("story.last_run.text").strip("'")
    assert status.startswith("[Cut at 4 tokens · ")


def test_what_is_waited_for_is_shown_and_gone_at_the_end(shell: Kernel) -> None:
    """A run that stands in a queue, since it must wait for another."""
    body = BODY.replace("component:", "component:\n  max_concurrent_count: 1")
    shell.run(f"%%compose queued --no-panel\n{body}")
    shell.run("others = [queued.submit(prompt='Once', length=400) for _ in range(60)]")
    shell.run("import threading")
    shell.run("stop = threading.Timer(1, lambda: [each.cancel() for each in others])")
    cell = shell.run("stop.start(); queued.run(prompt='Once', length=1, seed=1).state")
    updates = [each["data"]["text/plain"] for each in cell.updates]
    assert any("ahead in the queue" in each for each in [cell.text, *updates])
    assert cell.shown == ["", "<State.COMPLETED: 'completed'>"]


def test_inputs_alone_run_the_cell(shell: Kernel) -> None:
    assert shell.run(f"%%compose prompt=Hello length=2\n{BODY}").shown[0].startswith("Hello")


def test_a_prompt_with_braces_and_dollars_stays_as_it_is(shell: Kernel) -> None:
    shell.run("odd = r'${env.HOME} {} $x \\n 안녕'")
    assert shell.value("story(prompt=odd, length=1)['generated'].startswith(odd)") == "True"
    cell = shell.run("%compose run story prompt='${env.HOME} {} $x' length=1")
    assert cell.shown[0].startswith("${env.HOME} {} $x")


def test_the_same_seed_gives_the_same_text(shell: Kernel) -> None:
    shell.run("a, b, c = (story(prompt='A', length=20, seed=s) for s in (1, 1, 2))")
    assert shell.value("a == b, a == c") == "(True, False)"


def test_all_ways_to_run_agree(shell: Kernel) -> None:
    shell.run("given = dict(prompt='Once', length=12, seed=3)")
    shell.run("called = story(**given)['generated']")
    shell.run("ran = story.run(**given).text")
    shell.run("submitted = story.submit(**given).result()['generated']")
    shell.run("streamed = ''.join(story.stream(**given))")
    shell.run("heard = ''.join([piece async for piece in story.stream(**given)])")
    shell.run("awaited = (await story.arun(**given)).text")
    shell.run("waited = (await story.submit(**given))['generated']")
    shell.run("texts = {called, ran, submitted, streamed, heard, awaited, waited}")
    assert shell.value("len(texts)") == "1"


ANNOUNCE = """
import threading

def announce(flow):
    "Print GROWS from a thread as soon as the run of a blocking cell has more than its prompts."
    def watch():
        for _ in range(6000):
            if flow.last_run is not None and flow.last_run.text.replace("Once", "").strip():
                print("GROWS", flush=True)
                return
            threading.Event().wait(0.01)
    threading.Thread(target=watch).start()
"""


@pytest.mark.stop
@pytest.mark.parametrize(
    "code",
    [
        "%compose run long prompt=Once",
        "long.run(prompt='Once')",
        "long(prompt='Once')",
        "for piece in long.stream(prompt='Once'): pass",
        "async for piece in long.stream(prompt='Once'): pass",
        "await long.arun(prompt='Once')",
        "await long.submit(prompt='Once')",
    ],
)
def test_an_interrupt_stops_the_run_and_keeps_the_text_and_the_model(
    shell: Kernel, code: str
) -> None:
    shell.run(ANNOUNCE)
    # Texts enough that the interrupt comes before the last of them.
    body = BODY.replace("title: A story", "title: A story\n  repeat_count: 200")
    shell.run(f"%%compose long\n{body}  min_output_length: 400\n")
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
    assert shell.value("0 < long.last_run.usage['generated'] < 200 * 400") == "True"
    assert "ready" in shell.run("%compose models").text


def test_a_document_may_be_json_with_tabs_behind_a_mark(shell: Kernel) -> None:
    body = json.dumps(read(BODY).data, indent="\t")
    shell.run(f"%%compose marked --no-panel\n\ufeff{body}\n")
    assert shell.value("marked.document.hash") == repr(load_document(BODY).hash)
    cell = shell.run("%%compose wrong\n\ufeff" + BODY.replace("model: b", "modle: b"))
    assert "cell:7:3: unknown key 'modle'" in error_text(cell)


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


def test_declaring_again_keeps_what_was_entered(shell: Kernel) -> None:
    shell.run("%%compose told\n" + BODY)
    shell.run("_.inputs.prompt.value, _.inputs.length.value = 'Once', 5")
    shell.run("%%compose told\n" + BODY.replace("400", "300"))
    assert shell.value("_.inputs.prompt.value, _.inputs.length.value") == "('Once', 5)"
    assert shell.value("_.workflow is told") == "True"
    assert shell.value("_.submit().wait(60)") == "True"
    copied = shell.value("_._snippets(_.run)[0]['text']")
    assert copied == repr("told(prompt='Once', length=5, seed=7)")


def test_a_model_in_use_is_not_unloaded_and_that_is_said(shell: Kernel) -> None:
    shell.run("%%compose long --no-panel\n" + BODY + "  min_output_length: 400\n")
    shell.run("runs = [long.submit(prompt='Once') for _ in range(20)]")
    shell.run("while len(runs[0].text) < 5: runs[0].wait(0.01)")
    assert "storyteller is in use and stays" in shell.run("%compose unload").stdout
    shell.run("%compose stop")
    shell.run("for run in runs: run.wait(60)")


def test_models_can_be_seen_and_unloaded(shell: Kernel) -> None:
    shell.run("story(prompt='a', length=1)")
    cell = shell.run("%compose models")
    assert "bundled:storyteller" in cell.text
    assert "private (USS)" in cell.text
    assert "<br>" not in cell.text
    assert "private (USS)" in cell.data[0]["text/html"]
    assert "unloaded storyteller" in shell.run("%compose unload").stdout
    assert shell.run("%compose models").text.startswith("No models in memory.\nthis process: ")
    assert shell.value("len(story(prompt='a', length=1))") == "1"


def test_runs_are_listed_with_their_parameters(shell: Kernel) -> None:
    shell.run("run = story.run(prompt='Hello there', length=3)")
    first = shell.run("%compose runs").text.splitlines()[1]
    assert first.startswith(shell.value("run.id").strip("'"))
    assert "Hello there" in first and "Cut at 3 tokens" in first


def test_a_run_can_be_run_again(shell: Kernel) -> None:
    shell.run(
        "%%compose drawn --no-panel\n" + BODY.replace("seed: ${input.seed as integer | 7}", "")
    )
    shell.run("run = drawn.run(prompt='Once', length=12)")
    run_id = shell.value("run.id").strip("'")
    cell = shell.run(f"%compose rerun {run_id}")
    assert f"the same text as run {run_id}" in cell.stdout
    assert cell.shown[0] == shell.value("run.text").strip("'")
    assert shell.run("drawn.run(prompt='Once', length=12).text == run.text").text == "False"


def test_a_run_of_an_earlier_kernel_can_be_run_again(shell: Kernel, tmp_path: Path) -> None:
    body = BODY.replace("seed: ${input.seed as integer | 7}", "")
    cell = shell.run("%%compose drawn --run prompt=Once length=12\n" + body)
    record = cell.metadata[-1]["modelcompose"]
    output = nbformat.v4.new_output("display_data", metadata={"modelcompose": record})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    path = tmp_path / "old.ipynb"
    nbformat.write(notebook, path)
    path.write_bytes(BOM_UTF8 + path.read_bytes())  # as some editors save it
    with kernel(tmp_path, JPY_SESSION_NAME=str(path)) as fresh:
        fresh.run("%load_ext modelcompose_jupyter")
        missing = fresh.run(f"%compose rerun {record['run']}")
        assert "is not declared here" in error_text(missing)
        fresh.run("%%compose drawn --no-panel\n" + body)
        assert fresh.value("drawn.history['text'].to_list()") == repr([cell.shown[0]])
        same = "drawn.rerun(drawn.history.iloc[0]).result() == drawn.history.output.iloc[0]"
        assert fresh.value(same) == "True"
        for line in (
            f"%compose rerun {record['run'][:6]}",
            f"%compose rerun {record['run']} old.ipynb",
        ):
            again = fresh.run(line)
            assert f"the same text as run {record['run']}" in again.stdout
        unknown = fresh.run("%compose rerun zzzz")
        assert "there is no run 'zzzz' in" in error_text(unknown)
        fresh.run("run = drawn.run(prompt='Once', length=3)")
        fresh.run("from modelcompose_jupyter import local_host; local_host().limit(run_ttl=0)")
        forgotten = fresh.run(f"%compose rerun {fresh.value('run.id')[1:-1]}")
        assert "is forgotten: the time" in error_text(forgotten)
        again = fresh.run(f"%compose rerun {record['run']}")
        assert f"the same text as run {record['run']}" in again.stdout


def test_runs_can_be_stopped(shell: Kernel) -> None:
    shell.run("%%compose long --no-panel\n" + BODY + "  min_output_length: 400\n")
    shell.run("runs = [long.submit(prompt='Once') for _ in range(3)]")
    stopped = shell.run("%compose stop").stdout
    shell.run("for run in runs: run.wait(60)")
    assert shell.value("[run.state.value for run in runs]") == str(["cancelled"] * 3)
    assert stopped.count("stopped ") == 3
    assert shell.run("%compose stop").stdout == "nothing runs\n"


def test_limits_of_memory_can_be_configured(shell: Kernel) -> None:
    shell.run("%config ComposeMagics.memory_budget = 2.5")
    shell.run("%config ComposeMagics.cache_budget = 0.5")
    shell.run("%config ComposeMagics.idle_timeout = 600")
    shell.run("from modelcompose_jupyter import local_host; cache = local_host()._cache")
    assert shell.value("cache.memory_budget, cache.idle_timeout") == "(2500000000, 600.0)"
    assert shell.value("cache.cache_budget") == "500000000"
    shell.run("%config ComposeMagics.memory_budget = None")
    shell.run("%config ComposeMagics.idle_timeout = None")
    assert shell.value("cache.memory_budget, cache.idle_timeout") == "(None, None)"


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
    assert all(f"%compose {verb}" in text for verb in VERBS)


def test_validate_reads_a_file(shell: Kernel) -> None:
    shell.run(f"open('story.yml', 'w').write({BODY!r})")
    assert "story.yml is valid: A story" in shell.run("%compose validate story.yml").stdout
    assert shell.run("%compose run story.yml prompt=Hi length=1").shown[0].startswith("Hi")
