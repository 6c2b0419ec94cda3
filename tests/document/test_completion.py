"""What is offered at a cursor, marked ``▮``, in whole documents and in broken ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seed import blocks

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.document.completion import (
    Completions,
    complete,
    explain,
    input_names,
    named_models,
)
from modelcompose_jupyter.document.references import SOURCES
from modelcompose_jupyter.document.schema import JOB_TYPES
from modelcompose_jupyter.document.types import TYPE_HELP, TYPE_NAMES
from modelcompose_jupyter.errors import DocumentError, Problem

from .conftest import HEAD

SEED = Path(__file__).parent.parent / "seed"
ENVIRONMENT = {"HOME": "/home/kim", "HF_TOKEN": "secret", "PORT": "8080", "한글": "x"}
FUNCTIONS = ["shorten", "judge"]
MODELS = ["bundled:storyteller", "HuggingFaceTB/SmolLM3-3B", "./models/own"]
FORMS = """\
x-shared: &shared {top_k: 5}
components:
  - id: teller
    type: model
    task: text-generation
    model: {repository: a/b, revision: main}
    params: {<<: *shared, temperature: 0.7}
    actions:
      - id: begin
        text: |
          Tell of ${input.hero | a fox},
            and of ${input.place}.
      - id: "go on"
        prompt: ${input.story}
        params:
          max_output_length: 12
        output:
          said: ${output}
  - {id: other, type: model, task: text-generation, model: m, text: 'a # b', default: true}
workflows:
- id: long
  default: true
  jobs:
  - id: opening
    component: teller
    action: begin
    repeat_count: 2
  - id: ending
    depends_on: [opening]
    component: teller
    action: go on
    input:
      story: ${jobs.opening.output[0]}
      items: {"*": "${input.list}", n: "${item}"}
  output: ${jobs.ending.output}
- id: short
  job:
    component:
      type: model
      task: text-generation
      model: m
      text: hi # a comment
controller:
  adapter:
    type: http-server
    port: ${env.PORT | 8080}
"""
WHOLE = [
    *((SEED / name).read_text(encoding="utf-8") for name in ("flat.yml", "nested.yml")),
    blocks.SEED_TUNED,
    blocks.SEED_INSTRUCTION,
    blocks.SEED_TEMPLATE,
    HEAD + "  id: text-generator\n  text: hi\n" + blocks.SEED_BATCH,
    FORMS,
]
BLOCKS = [value for name, value in vars(blocks).items() if name.startswith("SEED_")]


def models(typed: str) -> Iterable[str]:
    return [name for name in MODELS if name.startswith(typed)]


def offer(marked: str) -> Completions:
    """What is offered at the mark of a text."""
    before, _, after = marked.partition("▮")
    return complete(
        before + after, len(before), models=models, functions=lambda: FUNCTIONS, environ=ENVIRONMENT
    )


def texts(marked: str) -> list[str]:
    return [item.text for item in offer(marked).items]


def keys(marked: str) -> set[str]:
    """The names of the keys that are offered."""
    offered = (item.text for item in offer(marked).items if item.kind == "key")
    return {text.removeprefix("- ").rstrip(": ") for text in offered}


def accepted(marked: str, text: str) -> str:
    """The document after one of the offered texts was chosen."""
    before, _, after = marked.partition("▮")
    return before[: offer(marked).start] + text + after


def problems(text: str) -> list[Problem]:
    try:
        load_document(text, name="document", environ=ENVIRONMENT)
    except DocumentError as error:
        return error.problems
    return []


def test_the_documents_here_are_whole() -> None:
    assert [problems(text) for text in WHOLE] == [[] for _ in WHOLE]


# Keys


@pytest.mark.parametrize(
    ("marked", "offered"),
    [
        ("▮", {"component", "components", "workflow", "workflows", "controller", "name"}),
        ("component:\n  mo▮", {"model"}),
        ("component:\n  type: model\n  params:\n    top▮", {"top_k", "top_p"}),
        ("component:\n  action:\n    st▮", {"stop_sequences"}),
        ("components:\n  - id: a\n    max_c▮", {"max_concurrent_count"}),
        ("components:\n  - actions:\n    - max_o▮", {"max_output_length"}),
        ("component:\n  model:\n    re▮", {"repository", "revision"}),
        ("workflow:\n  rep▮", {"repeat_count"}),
        ("workflow:\n  jobs:\n    - id: a\n      de▮", {"depends_on"}),
        ("workflow:\n  jobs:\n  - id: a\n  - de▮", {"depends_on"}),
        ("workflow:\n  job:\n    component:\n      ta▮", {"task"}),
        ("workflows:\n  - pri▮", {"private"}),
        ("controller:\n  webui:\n    ▮", {"host", "port", "driver", "static_dir", "server_dir"}),
        ("controller:\n  adapter:\n    ba▮", {"base_path"}),
        ("workflow:\n  jobs:\n    - {id: a, de▮", {"depends_on"}),
        ("component: {type: model, params: {temp▮}, text: hi}", {"temperature"}),
        ("component: {\n  type: model,\n  ta▮\n}", {"task"}),
        ("component: &a\n  ta▮", {"task"}),
        ("component:\n  TA▮", {"task"}),
    ],
)  # fmt: skip
def test_keys_are_those_of_the_place(marked: str, offered: set[str]) -> None:
    assert keys(marked) == offered


@pytest.mark.parametrize(
    "marked",
    [
        "component:\n  type: model\n    ▮",
        "component:\n  text: |\n    some ▮",
        "component:\n  text: |\n    some\n\n    ▮",
        "component:\n  text: some text\n    te▮",
        "component:\n  # te▮",
        "component:\n  type: model # te▮",
        "component:\n  'te▮",
        "component:\n  te▮xt: hi",
        "component:\n  ▮text: hi",
        "component:\n  ▮  text: hi",
        "component:\n   ▮\n  text: hi",
        "component:\n  nosuch:\n    ▮",
        "component:\n  - ▮",
        "component:\n  type:▮",
        "- ▮",
        "x-mine:\n  ▮",
        "workflow:\n  input:\n    ▮",
        "workflow:\n  jobs:\n    -▮",
        "workflow: [▮]",
        "component: {type: model} ▮",
    ],
)
def test_no_keys_where_none_can_stand(marked: str) -> None:
    assert offer(marked).items == ()


def test_keys_that_stand_there_are_left_out_before_and_behind_the_cursor() -> None:
    offered = keys(f"{HEAD}  ▮\n  text: hi\n  seed: 1\nworkflow:\n  title: a\n")
    assert {"params", "temperature", "output"} <= offered
    assert offered.isdisjoint({"type", "task", "model", "text", "seed", "title"})


def test_a_key_that_is_changed_is_offered_itself_without_a_second_colon() -> None:
    assert texts("component:\n  params:\n    temper▮: 0.5\n") == ["temperature"]
    assert texts("component: {tas▮ : a}") == ["task"]


def test_required_keys_come_first() -> None:
    names = [item.text for item in offer("component:\n  ▮").items]
    assert names[:5] == ["type: ", "task: ", "model: ", "text: ", "messages: "]
    assert texts("components:\n  - type: model\n    ▮")[:3] == ["task: ", "model: ", "id: "]
    assert texts("workflow:\n  ▮")[:2] == ["title: ", "jobs:"]
    assert texts("▮")[:2] == ["component:", "workflow:"]
    assert texts("workflow:\n  jobs:\n    - ▮")[:3] == ["type: ", "id: ", "component: "]
    assert texts("workflow:\n  jobs:\n    - type: switch\n      ▮")[:3] == [
        "input: ",
        "cases:",
        "id: ",
    ]
    assert texts("workflow:\n  job:\n    type: loop\n    ▮")[:2] == ["do:", "max_iteration_count: "]


JOB = "workflow:\n  jobs:\n    - id: a\n"
TYPED = {
    "if": {"operator", "value", "if_true", "if_false", "conditions", "otherwise"},
    "switch": {"cases", "otherwise"},
    "for-each": {"do", "batch_size"},
    "filter": {"where"},
    "loop": {"do", "until", "while", "max_iteration_count"},
    "accumulate": {"do", "accumulator"},
    "delay": {"mode", "duration", "time", "timezone"},
    "random-router": {"routings", "mode", "session", "salt"},
    "component": {"component", "action", "repeat_count"},
}
OF_ALL = {"name", "input", "output", "depends_on", "retry", "on_error", "timeout", "interrupt"}


@pytest.mark.parametrize("type_", TYPED)
def test_a_job_has_the_keys_of_its_type(type_: str) -> None:
    assert keys(f"{JOB}      type: {type_}\n      ▮") == TYPED[type_] | OF_ALL
    assert keys(f"{JOB}      ▮\n      type: {type_}\n") == TYPED[type_] | OF_ALL
    assert keys(f"workflow:\n  job: {{type: {type_}, ▮}}") == TYPED[type_] | OF_ALL | {"id"}


def test_a_job_without_a_type_calls_a_component() -> None:
    for line in ("", "      type: acti\n", "      type: action\n"):
        offered = keys(f"{JOB}{line}      ▮")
        assert offered - {"type"} == TYPED["component"] | OF_ALL


@pytest.mark.parametrize("outer", ["for-each", "loop", "accumulate"])
def test_an_inner_job_has_the_keys_of_its_own_type_and_waits_for_none(outer: str) -> None:
    do = f"{JOB}      type: {outer}\n      do:\n        "
    expected = TYPED["component"] | OF_ALL | {"id", "type"}
    assert keys(f"{do}▮") == expected - {"depends_on"}
    assert texts(f"{do}▮")[0] == "type: "
    inner = f"{do}type: filter\n        "
    assert keys(f"{inner}▮") == (TYPED["filter"] | OF_ALL | {"id"}) - {"depends_on"}
    assert keys(f"{do}component:\n          type: function\n          ▮") == {
        "id", "function", "output", "default", "max_concurrent_count"
    }  # fmt: skip


def test_keys_further_within_a_job() -> None:
    test = {"input", "operator", "value", "all", "any", "not"}
    assert keys(f"{JOB}      type: filter\n      where:\n        ▮") == test
    assert keys(f"{JOB}      type: loop\n      until:\n        all:\n        - ▮") == test
    assert keys(f"{JOB}      type: loop\n      while:\n        not: {{▮}}") == test
    assert keys(f"{JOB}      type: loop\n      until: {{any: []}}\n      wh▮") == set()
    assert keys(f"{JOB}      type: if\n      if_true:\n        ▮") == {"to", "output"}
    assert keys(f"{JOB}      type: switch\n      cases:\n        - ▮") == {"value", "then"}
    assert keys(f"{JOB}      type: random-router\n      routings:\n        - ▮") == {
        "to", "output", "weight"
    }  # fmt: skip
    assert keys(f"{JOB}      on_error:\n        ▮") == {"to", "output"}
    assert keys(f"{JOB}      retry:\n        ▮") == {
        "max_attempt_count", "delay", "backoff", "max_delay"
    }  # fmt: skip
    assert keys(f"{JOB}      interrupt:\n        before:\n          me▮") == {
        "message", "metadata"
    }  # fmt: skip


def test_components_have_the_keys_of_their_type() -> None:
    assert "function" in keys("components:\n  - type: function\n    ▮")
    assert keys("component:\n  type: workflow\n  ▮") >= {"workflow", "input", "output"}
    assert "workflow" not in keys("component:\n  ▮")
    assert "model" not in keys("component: {type: workflow, ▮}")


def test_what_follows_a_key() -> None:
    offered = texts("workflow:\n  jobs:\n    - ▮")
    assert {"component: ", "input: ", "depends_on: "} <= set(offered)
    assert texts("component:\n  param▮") == ["params:"]
    assert texts("workflow:\n  jo▮") == ["jobs:", "job:"]


def test_a_list_of_mappings_begins_with_a_dash() -> None:
    assert "- id: " in texts("workflow:\n  jobs:\n    ▮")
    assert "- id: " in texts("workflow:\n  jobs:\n    - id: a\n    ▮")
    assert "id: " in texts("workflow:\n  jobs:\n    - ▮")
    assert "id: " in texts("workflow:\n  jobs:\n    component: a\n    ▮")


def test_keys_without_effect_are_not_offered() -> None:
    assert keys("component:\n  ▮").isdisjoint({"streaming", "preload", "runtime", "batch_size"})
    adapter = keys("component:\n  peft_adapters:\n    - ▮")
    assert {"model", "weight"} <= adapter
    assert adapter.isdisjoint({"precision", "quantization", "low_cpu_mem_usage"})


COMPONENT = "{type: model, task: text-generation, model: m, text: hi}"
TOLD = f"{HEAD}  text: hi\n"
LONG_FORM = (
    "component:\n  type: model\n  task: text-generation\n  text: a\n  model:\n    token: b\n"
)
EXCLUSIVE = {
    "name: a\n": (f"component: {COMPONENT}", f"components: [{COMPONENT}]"),
    TOLD: ("workflow: {title: a}", "workflows: [{title: b}]"),
    HEAD: ("  action: {text: a}", "  actions: [{text: b}]", "  text: c"),
    f"{HEAD}  id: a\n": ("  text: a", "  prompt: b"),
    f"{HEAD}  seed: 1\n": ("  action: {text: a}", "  output: ${output}"),
    f"{TOLD}workflow:\n  title: a\n": ("  job: {id: a}", "  jobs: [{id: b}]", "  repeat_count: 2"),
    f"{TOLD}controller:\n  name: a\n": ("  adapter: {type: http-server}", "  port: 80"),
    LONG_FORM: ("    repository: a", "    path: b", "    name: c"),
}


@pytest.mark.parametrize("place", EXCLUSIVE)
def test_keys_that_exclude_each_other_are_those_that_the_checker_refuses(place: str) -> None:
    lines = EXCLUSIVE[place]
    indentation = " " * (len(lines[0]) - len(lines[0].lstrip()))
    for first in lines:
        for second in lines:
            key = second.strip().partition(":")[0]
            assert key in keys(f"{place}{indentation}▮")
            assert key not in keys(f"{place}{first}\n{indentation}▮")
            assert first == second or problems(f"{place}{first}\n{second}\n")


@pytest.mark.parametrize(
    "marked",
    [
        f"{HEAD}  text: hi\n  params:\n    ▮\n  seed: 1\n",
        f"{HEAD}  text: hi\n  params:\n    seed: 1\n  ▮\n",
        f"{HEAD}  seed: 1\n  action:\n    text: hi\n    ▮\n",
        f"{HEAD}  params:\n    seed: 1\n  actions:\n    - text: hi\n      params:\n        ▮\n",
        f"{HEAD}  actions:\n    - text: hi\n      params:\n        seed: 1\n  ▮\n",
    ],
)
def test_parameters_that_would_be_given_twice_are_left_out(marked: str) -> None:
    assert "top_k" in keys(marked)
    assert "seed" not in keys(marked)
    assert any("given twice" in p.message for p in problems(marked.replace("▮", "seed: 2")))


# Values


@pytest.mark.parametrize(
    ("marked", "offered"),
    [
        ("component:\n  type: ▮", ["model", "function", "workflow"]),
        ("component:\n  type: m▮\n", ["model"]),
        ("component:\n  task: te▮", ["text-generation"]),
        ("component:\n  precision: ▮", ["auto", "float32", "float16", "bfloat16"]),
        ("component:\n  device: c▮", ["cpu", "cuda"]),
        ("component:\n  quantization: ▮", ["none", "auto", "int8", "int4"]),
        ("component:\n  draft_model: ▮", MODELS),
        ("component:\n  params: {do_sample: ▮}", ["true", "false"]),
        ("component:\n  early_stopping: ▮", ["never", "true", "false"]),
        ("controller:\n  type: ▮", ["http-server"]),
        ("workflow:\n  jobs:\n    - type: ▮", list(JOB_TYPES)),
        ("workflow:\n  jobs:\n    - type: fi▮\n      where: {}", ["filter"]),
        ("workflow:\n  jobs:\n    - type: if\n      operator: not▮", ["not-in"]),
        ("workflow:\n  job:\n    on_error: ▮", ["ignore"]),
        ("workflow:\n  job:\n    retry: {backoff: ▮}", ["fixed", "exponential"]),
        ("component:\n  model: ▮", MODELS),
        ("component:\n  model: bundled:st▮", ["bundled:storyteller"]),
        ("component:\n  model: 'bundled:st▮'", ["bundled:storyteller"]),
        ("component:\n  model:\n    name: st▮", ["storyteller"]),
        ("component:\n  model:\n    repository: ▮", ["HuggingFaceTB/SmolLM3-3B"]),
        ("component:\n  model: {path: ▮}", ["./models/own"]),
        ("component:\n  text: ▮", []),
        ("component:\n  type: ▮model", []),
        ("component:\n  type: # ▮", []),
        ("name: ▮", []),
    ],
)
def test_values_are_those_of_the_key(marked: str, offered: list[str]) -> None:
    assert texts(marked) == offered


WAYS = "  jobs:\n    - id: one\n    - id: two\n    - id: way\n      type: if\n"


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        ("  jobs:\n    - component: ▮", ["teller", "other"]),
        ("  component: t▮", ["teller"]),
        ("  jobs:\n    - component: teller\n      action: ▮", ["begin", "go on"]),
        ("  jobs:\n    - component: other\n      action: ▮", []),
        ("  jobs:\n    - action: ▮", ["begin", "go on"]),
        ("  job:\n    component:\n      actions: [{id: own}]\n    action: ▮", ["own"]),
        ("  jobs:\n  - id: a\n  - id: b\n  - id: c\n    depends_on: ▮", ["a", "b"]),
        ("  jobs:\n  - id: a\n  - {id: b}\n  - id: c\n    depends_on: [a, ▮]", ["b"]),
        ("  jobs:\n  - depends_on:\n    - a\n    - ▮\n  - id: a\n  - id: b", ["b"]),
        ("  jobs:\n  - id: a\n  - depends_on:\n    - a▮\n", ["a"]),
        (f"{WAYS}      if_true: ▮", ["one", "two"]),
        (f"{WAYS}      if_false: {{to: ▮}}", ["one", "two"]),
        (f"{WAYS}      otherwise: {{output: ▮}}", []),
        (f"{WAYS}      conditions: [{{if_true: t▮}}]", ["two"]),
        (f"{WAYS}      depends_on: [[one, ▮]]", ["two"]),
        (f"{WAYS}      depends_on:\n      - [one]\n      - ▮", ["two"]),
        (f"{WAYS}      on_error: {{to: ▮}}", ["one", "two"]),
        (WAYS.replace("if", "switch") + "      cases: [{value: 1, then: ▮}]", ["one", "two"]),
        (WAYS.replace("if", "switch") + "      otherwise: ▮", ["one", "two"]),
        (WAYS.replace("if", "random-router") + "      routings: [{to: ▮}]", ["one", "two"]),
        (WAYS.replace("if", "loop") + "      do: {component: ▮}", ["teller", "other"]),
        (WAYS.replace("if", "loop") + "      do: {type: if, if_true: ▮}", []),
        (WAYS.replace("if", "loop") + "      do: {type: if, on_error: ▮}", ["ignore"]),
        ("  job:\n    component: {type: function, function: ▮}", FUNCTIONS),
        ("  job:\n    component: {type: model, tools: [s▮]}", ["shorten"]),
    ],
)
def test_references_are_to_what_the_document_has(lines: str, offered: list[str]) -> None:
    components = FORMS[FORMS.index("components:") : FORMS.index("workflows:")]
    assert texts(f"{components}workflow:\n{lines}") == offered


def test_a_component_may_name_another_workflow() -> None:
    flows = "workflows:\n- id: one\n- id: two\n- id: three\n"
    assert texts(f"component:\n  type: workflow\n  workflow: ▮\n{flows}") == ["one", "two", "three"]
    inner = "  job: {component: {type: workflow, workflow: ▮}}\n"
    assert texts(f"{flows}{inner}") == ["one", "two"]


# Expressions


TEST = "{input: '${§}', operator: gt, value: 1}"
TEMPLATES_OF_JOBS = [
    "{type: if, input: '${§}', value: 1, if_true: {output: 1}}",
    "{type: if, value: '${§}', if_true: {output: 1}}",
    "{type: if, value: 1, if_true: {output: '${§}'}}",
    "{type: if, conditions: [{input: '${§}', value: 1, if_true: {output: 1}}]}",
    "{type: if, value: 1, otherwise: {output: ['${§}']}}",
    "{type: switch, input: 1, cases: [{value: '${§}', then: {output: 1}}]}",
    "{type: switch, input: 1, cases: [{value: 1, then: {output: '${§}'}}]}",
    "{type: random-router, routings: [{output: '${§}', weight: 1}]}",
    "{type: random-router, routings: [{output: 1, weight: '${§}'}]}",
    "{type: random-router, routings: [{output: 1}], session: '${§}'}",
    "{type: delay, duration: '${§}'}",
    "{type: delay, time: '${§}', timezone: UTC}",
    "{type: filter, input: '${§}'}",
    "{type: filter, input: [1], where: {any: [TEST]}}".replace("TEST", TEST),
    "{type: for-each, input: '${§}', do: {}}",
    "{type: for-each, input: [1], batch_size: '${§}', do: {}}",
    "{type: for-each, input: [1], do: {input: '${§}'}}",
    "{type: for-each, input: [1], do: {repeat_count: 2, input: '${§}'}}",
    "{type: for-each, input: [1], do: {output: '${§}'}}",
    "{type: for-each, input: [1], do: {on_error: {output: '${§}'}}}",
    "{type: for-each, input: [1], do: {component: COMPONENT}}".replace(
        "COMPONENT", COMPONENT.replace("hi", "'${§}'")
    ),
    "{type: accumulate, input: [1], accumulator: '${§}', do: {}}",
    "{type: accumulate, input: [1], do: {input: '${§}'}}",
    "{type: loop, do: {}, until: TEST, max_iteration_count: 2}".replace("TEST", TEST),
    "{type: loop, do: {}, while: {not: TEST}, max_iteration_count: 2}".replace("TEST", TEST),
    "{type: loop, do: {}, until: {input: 1, value: 1}, max_iteration_count: '${§}'}",
    "{type: loop, do: {output: '${§}'}, until: {input: 1, value: 1}, max_iteration_count: 2}",
    "{type: loop, max_iteration_count: 2, until: {input: 1, value: 1},"
    " do: {type: for-each, input: [1], do: {output: '${§}'}}}",
    "{component: {type: function, function: a, output: '${§}'}}",
]


def test_a_place_has_the_sources_that_the_checker_knows_there() -> None:
    jobs = f"{TOLD}workflow:\n  jobs:\n    - id: one\n    - id: two\n"
    flows = f"{TOLD}workflows:\n- id: b\n- jobs:\n    - id: one\n    - id: two\n"
    places = [
        f"{HEAD}  text: ${{§}}",
        f"{HEAD}  text: [a, 'b ${{§}}']",
        f"{TOLD}  params:\n    top_k: ${{§}}",
        f"{TOLD}  top_k: ${{§}}",
        f"{TOLD}  output: ${{§}}",
        f"{TOLD}  output:\n    said: <${{§}}>",
        f"{TOLD}  device: ${{§}}",
        f"{TOLD}  draft_model: ${{§}}",
        f"{TOLD}  cache_budget: ${{§}}",
        f"{TOLD}  peft_adapters:\n    - model: a\n      weight: ${{§}}",
        f"{TOLD}  peft_adapters:\n    - model: {{path: '${{§}}'}}",
        f"{TOLD.replace('bundled:storyteller', '${§}')}",
        f"{TOLD.replace('bundled:storyteller', '{repository: ${§}}')}",
        f"{HEAD}  action:\n    text: ${{§}}",
        f"{HEAD}  actions:\n    - text: hi\n      output: ${{§}}",
        f"{TOLD}workflow:\n  input: ${{§}}",
        f"{TOLD}workflow:\n  output: ${{§}}",
        f"{TOLD}workflow:\n  repeat_count: 2\n  input: {{a: '${{§}}'}}",
        f"{jobs}      input: ${{§}}",
        f"{jobs}      input:\n        a: ${{§}}\n      repeat_count: 2",
        f"{jobs}      output: ${{§}}",
        f"{jobs}      repeat_count: ${{§}}",
        f"{jobs}  output:\n    a: ${{§}}",
        f"{jobs}      component: {COMPONENT.replace('hi', '${§}')}",
        f"{jobs}      input: {{'*': '${{§}}', a: 1}}",
        f"{jobs}      input: {{'*': '${{input.a}}', a: '${{§}}'}}",
        f"{jobs}      input: {{'|': '${{input.a}}', a: {{b: '${{§}}'}}}}",
        f"{jobs}      input: {{'*': {{input: '${{input.a}}', where: {{input: '${{§}}'}}}}}}",
        f"{jobs}      on_error: {{output: '${{§}}'}}",
        f"{jobs}      timeout: 1\n      interrupt: {{before: {{message: '${{§}}'}}}}",
        f"{jobs}      interrupt: {{after: {{condition: {{value: 1, input: '${{§}}'}}}}}}",
        *(f"{TOLD}workflow:\n  jobs:\n    - id: one\n    - {each}" for each in TEMPLATES_OF_JOBS),
        f"{flows}      component: {{type: workflow, workflow: b, input: '${{§}}'}}",
        f"{flows}      component: {{type: workflow, workflow: b, output: '${{§}}'}}",
        f"{TOLD}controller:\n  port: ${{§}}",
        f"{TOLD}controller:\n  webui:\n    host: ${{§}}",
    ]
    paths = {"jobs": "jobs.one.output", "env": "env.PORT"}
    for place in places:
        known = {
            source
            for source in SOURCES
            if not problems(place.replace("§", paths.get(source, source)) + "\n")
        }
        assert known, place
        assert set(texts(place.replace("§", "▮"))) == known, place


@pytest.mark.parametrize("line", ["  id: ${▮}", "  type: ${▮}", "  default: ${▮}"])
def test_no_sources_where_no_template_can_stand(line: str) -> None:
    assert texts(f"{HEAD}{line}") == []


TYPES = [f"{name}/" if name in ("select", "slider") else name for name in TYPE_HELP]
ENDING = FORMS[: FORMS.index("      story:")]


@pytest.mark.parametrize(
    ("expression", "offered"),
    [
        ("${i▮", ["input"]),
        ("${ in▮", ["input"]),
        ("${input.▮", ["hero", "place", "story"]),
        ("${input.▮}", ["hero", "place", "story"]),
        ("${input.pl▮}", ["place"]),
        ("${input.place▮}", ["place"]),
        ("${input.unheard▮}", []),
        ("so ${input.hero} and ${input.pl▮} ...", ["place"]),
        ("${input.hero | ${input.pl▮}}", ["place"]),
        ('"${input.pl▮}"', ["place"]),
        ("${jobs.▮}", ["opening.output"]),
        ("${jobs.▮.output}", ["opening"]),
        ("${jobs.op▮", ["opening.output"]),
        ("${jobs.opening.▮", ["output"]),
        ("${env.H▮", ["HF_TOKEN", "HOME"]),
        ("${env.P▮", ["PORT"]),
        ("${env.한▮", ["한글"]),
        ("${input.list[jo▮]}", ["jobs"]),
        ("${input.list[${jo▮}]}", ["jobs"]),
        ("${input.hero ▮}", ["as "]),
        ("${input.hero as ▮", TYPES),
        ("${input.hero as n▮}", ["number"]),
        ("${input.hero as s▮}", ["select/", "slider/", "string"]),
        ("${input.hero as t▮}", ["text"]),
        ("${input.hero as text ▮}", []),
        ("${input.hero | ▮}", []),
        ("${input.hero @(▮", ["description ", "label ", "example ", "placeholder "]),
        ("${input.hero @(ex▮", ["example "]),
        ("${input.hero @(example A fox▮", []),
        ("${input.hero.▮}", []),
        ("${input['▮", []),
        ("${input.▮place}", []),
        ("\\${▮}", []),
        ("\\\\${i▮}", ["input"]),
        ("$▮", []),
        ("${input.hero} ▮", []),
    ],
)
def test_what_may_follow_in_an_expression(expression: str, offered: list[str]) -> None:
    assert texts(f"{ENDING}      story: {expression}") == offered


def test_an_expression_of_several_lines() -> None:
    lines = "  text: |\n    Tell of ${input.▮\n    and ${input.place}\n"
    assert texts(f"{HEAD}{lines}") == ["place"]


def test_the_inputs_that_a_broken_document_uses() -> None:
    assert input_names(FORMS.replace("components:", "componnets: [")) == [
        "hero", "place", "story", "list"
    ]  # fmt: skip


# What it all means


def explained(marked: str) -> tuple[str, str] | None:
    """What the characters at the mark are said to be, and of which kind; None if nothing is."""
    before, _, after = marked.partition("▮")
    found = explain(before + after, len(before))
    if found is None:
        return None
    assert (before + after)[found.start : found.end] == found.name
    assert found.start <= len(before) <= found.end
    assert found.help.endswith(".")
    return found.name, found.kind


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ("compo▮nent:\n", ("component", "key")),
        ("component:\n  ▮task: a", ("task", "key")),
        ("component:\n  task▮: a", ("task", "key")),
        ("component: {params: {top▮_k: 1}}", ("top_k", "key")),
        ("component:\n  preload▮: true", ("preload", "key")),
        ("component:\n  task: text-▮generation # a", ("text-generation", "value")),
        ("component:\n  precision: 'flo▮at16'", ("float16", "value")),
        ("component:\n  type: mo▮del", ("model", "value")),
        ("component:\n  text: a ${in▮put.a as text}", ("input", "source")),
        ("component:\n  text: ${input.a as te▮xt}", ("text", "type")),
        ("component:\n  text: ${input.a as sli▮der/0,1}", ("slider", "type")),
        ("component:\n  text: |\n    a ${input.a as n▮umber | 1}", ("number", "type")),
        ("workflow:\n  output: ${input.a[in▮dex]}", ("index", "source")),
        (f"{JOB}      type: lo▮op", ("loop", "value")),
        (f"{JOB}      type: i▮f", ("if", "value")),
        (f"{JOB}      type: loop\n      unt▮il: {{}}", ("until", "key")),
        (f"{JOB}      type: loop\n      do▮: {{}}", ("do", "key")),
        (f"{JOB}      type: loop\n      cas▮es: []", None),
        (f"{JOB}      type: if\n      operator: i▮n", ("in", "value")),
        (f"{JOB}      type: if\n      conditions: [{{opera▮tor: in}}]", ("operator", "key")),
        (f"{JOB}      type: filter\n      where: {{not: {{val▮ue: 1}}}}", ("value", "key")),
        (f"{JOB}      on_error: ign▮ore", ("ignore", "value")),
        (f"{JOB}      type: loop\n      do: {{input: '${{iter▮ation}}'}}", ("iteration", "source")),
        (f"{JOB}      on_error: {{output: '${{err▮or.code}}'}}", ("error", "source")),
        ("component:\n  type: function\n  func▮tion: a", ("function", "key")),
        ("component:\n  type: function\n  te▮xt: a", None),
        ("component:\n  text: ${input.na▮me}", None),
        ("component:\n  text: inp▮ut", None),
        ("component:\n  task: story-▮telling", None),
        ("component:\n  nosuch▮: 1", None),
        ("component:\n  task: a # ta▮sk", None),
        ("x-mine:\n  ta▮sk: 1", None),
        ("▮", None),
    ],
)  # fmt: skip
def test_what_stands_there_is_explained(marked: str, said: tuple[str, str] | None) -> None:
    assert explained(marked) == said


def test_whatever_is_offered_of_the_language_is_explained() -> None:
    places = [
        "▮",
        "component:\n  ▮",
        "workflow:\n  ▮",
        "controller:\n  ▮",
        f"{TOLD}  params:\n    ▮",
    ]
    places += ["component:\n  precision: ▮", "component:\n  task: ▮", "component:\n  model: ▮"]
    places += ["component:\n  text: ${▮}", "component:\n  text: ${input.a ▮}"]
    places += [f"{JOB}      type: {each}\n      ▮" for each in TYPED]
    places += [f"{JOB}      type: ▮", f"{JOB}      type: if\n      operator: ▮"]
    places += ["component:\n  text: ${input.a as ▮}", "component:\n  model:\n    ▮"]
    for place in places:
        items = offer(place).items
        assert items, place
        assert [each.text for each in items if not each.help.endswith(".")] == [], place


def test_the_types_are_those_of_the_language() -> None:
    assert set(TYPE_HELP) == set(TYPE_NAMES)


def test_the_models_that_a_document_names_are_found() -> None:
    text = (
        "component:\n  model: 'a/b' # c\n  draft_model: ./d\nworkflow:\n  jobs:\n"
        "  - component: {model: {path: e}}\n  - component: {model: {name: f}}\n"
        "  - component: {model: {repository: g/h, revision: i}}\n"
        "  - component: {model: {repository: g/h, file: i.gguf}}\n"
        "  - component: {model: '${input.model}'}\n  - component: some\n"
    )
    found = named_models(text)
    assert [each.source for each in found] == ["a/b", "./d", "./e", "bundled:f", "g/h"]
    assert [text[each.start : each.end] for each in found] == ["a/b", "./d", "e", "f", "g/h"]


# What is replaced


@pytest.mark.parametrize(
    ("marked", "result"),
    [
        ("component:\n  tas▮", "component:\n  task: "),
        ("component:\n  mod▮: a", "component:\n  model: a"),
        ("component:\n  model: bundled:st▮", "component:\n  model: bundled:storyteller"),
        ("component:\n  model: 'bun▮'", "component:\n  model: 'bundled:storyteller'"),
        ("# 한국어\r\ncomponent:\r\n  tas▮\r\n", "# 한국어\r\ncomponent:\r\n  task: \r\n"),
        (f"{HEAD}  text: 한 ${{in▮}}", f"{HEAD}  text: 한 ${{input}}"),
        (f"{HEAD}  text: ${{input.a as bo▮}}", f"{HEAD}  text: ${{input.a as boolean}}"),
    ],
)
def test_what_is_chosen_replaces_what_was_typed(marked: str, result: str) -> None:
    (item,) = offer(marked).items
    assert accepted(marked, item.text) == result


# Whatever the text


@pytest.mark.parametrize("text", [*WHOLE, *BLOCKS], ids=range(len(WHOLE) + len(BLOCKS)))
def test_every_beginning_of_a_document_and_every_place_in_it(text: str) -> None:
    for cursor in range(len(text) + 1):
        for written in (text[:cursor], text):
            found = complete(written, cursor, models=models, environ=ENVIRONMENT)
            typed = written[found.start : cursor].lower()
            assert all(item.text.lower().startswith(typed) for item in found.items)
        about = explain(text, cursor)
        assert about is None or text[about.start : about.end] == about.name


PIECES = [
    "component:", "workflow:", "jobs:", "- ", "-", "id: a", "params", ": ", ":", "\n", "\n  ",
    "\n    ", "\r\n", "\t", " ", "{", "}", "[", "]", ",", "${", "input.", "jobs.a", " as ", "|",
    ">", "'", '"', "\\", "#", " # ", "&a ", "*a", "<<: ", "!!x ", "? ", "%", "---", "한글",
    "\ud800", "\x00",
]  # fmt: skip
written = st.lists(st.sampled_from(PIECES), max_size=20).map("".join) | st.text()


@settings(max_examples=400, deadline=None)
@given(text=written, data=st.data())
def test_any_text_at_all(text: str, data: st.DataObject) -> None:
    cursor = data.draw(st.integers(0, len(text)))
    found = complete(text, cursor, models=models, environ=ENVIRONMENT)
    assert 0 <= found.start <= cursor
    about = explain(text, cursor)
    assert about is None or 0 <= about.start <= about.end <= len(text)
    assert all(text[each.start : each.end] for each in named_models(text))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_document_with_something_amiss(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(WHOLE))
    start = data.draw(st.integers(0, len(whole)))
    middle = data.draw(written)
    text = whole[:start] + middle + whole[start + data.draw(st.integers(0, 8)) :]
    complete(text, start + len(middle), models=models, environ=ENVIRONMENT)


@pytest.mark.parametrize("text", WHOLE, ids=range(len(WHOLE)))
def test_no_key_that_was_chosen_is_refused(text: str) -> None:
    lines = text.splitlines(keepends=True)
    chosen = 0
    for number in range(len(lines) + 1):
        for column in range(0, 11, 2):
            before, after = "".join(lines[:number]), "".join(lines[number:])
            margin = " " * column
            offered = [item.text for item in offer(f"{before}{margin}▮\n{after}").items]
            written = "".join(f"{margin}{key}\n" for key in offered)
            refused = {
                problem.message
                for problem in problems(before + written + after)
                if 0 <= (problem.where.line or 0) - number - 1 < len(offered)
            }
            unknown = {f"unknown key '{key.strip('- :')}'" for key in offered}
            assert refused.isdisjoint(unknown), (before, margin)
            chosen += len(offered)
    assert chosen > 20


# Formats


FORMAT = "component:\n  format:\n    json_schema:\n      "


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("component:\n  format:\n    ▮", {"json_schema", "json", "regex", "choices", "grammar"}),
        (FORMAT + "prop▮", {"properties"}),
        (FORMAT + "properties:\n        name:\n          max▮", {"maxLength", "maximum", "maxItems",
         "maxProperties"}),
        (FORMAT + "properties:\n        ▮", set()),
        (FORMAT + "items: {properties: {a: {form▮}}}", {"format"}),
        (FORMAT + "anyOf:\n      - pat▮", {"pattern", "patternProperties"}),
        (FORMAT + "$defs: {a: {req▮}}", {"required"}),
    ],
)  # fmt: skip
def test_keys_of_formats_and_schemas(marked: str, expected: set[str]) -> None:
    assert keys(marked) == expected


def test_values_of_formats_and_schemas() -> None:
    assert texts("component:\n  format: ▮") == ["json"]
    assert texts(FORMAT + "type: n▮") == ["number", "null"]
    assert texts(FORMAT + "items:\n        format: date▮") == ["date", "date-time"]
    assert "input" in texts(FORMAT + "properties: {a: {enum: ${▮}}}")
    assert texts(FORMAT + "properties: {type: {t▮}}") == ["type: ", "title: "]


def test_what_keywords_mean_is_explained() -> None:
    document = FORMAT + "additionalProperties: false\n"
    found = explain(document, document.index("additional") + 3)
    assert found is not None and found.help.endswith("false for none.")
    found = explain(document, document.index("json_schema") + 3)
    assert found is not None and found.help.startswith("JSON of this schema")
