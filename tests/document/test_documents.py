"""Documents: the forms that are accepted, what they mean, and what is wrong with others."""

from __future__ import annotations

import pytest
from seed.blocks import (
    SEED_BATCH,
    SEED_INSTRUCTION,
    SEED_OTHER_MODEL,
    SEED_PARAMETERS,
    SEED_TEMPLATE,
    SEED_TUNED,
)

from modelcompose_jupyter.document import load_document, render, signature, types
from modelcompose_jupyter.document.document import Controller, RayRuntime
from modelcompose_jupyter.errors import DocumentError, InputError

from .conftest import HEAD

COMPONENT = {
    "type": "model",
    "task": "text-generation",
    "model": "bundled:storyteller",
    "text": "${input.prompt as text}",
}


def written(templates):
    """Templates by name, as they are written."""
    return {name: template.value for name, template in templates.items()}


def jobs_of(document, workflow=None):
    return {job.id: job for job in document.workflow(workflow).jobs}


# The example's own blocks


def test_the_parameters_block_fits_into_a_component(component):
    (found,) = component("text: hi\n" + SEED_PARAMETERS).components
    assert written(found.actions[0].parameters) == {
        "max_output_length": 32768,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 50,
        "repetition_penalty": 1.1,
        "do_sample": True,
    }


def test_the_block_with_two_models_says_to_choose(problems):
    first = problems(SEED_OTHER_MODEL)[0]
    assert "'text' is missing" in first.message
    twice = problems(SEED_OTHER_MODEL)[1]
    assert twice.message == "key 'model' stands twice in one mapping, on line 4 and line 6"


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        (
            SEED_TUNED,
            ["prompt: text (required)", "temperature: number = 0.7", "top_p: number = 0.9"],
        ),
        (SEED_INSTRUCTION, ["instruction: text (required)"]),
        (SEED_TEMPLATE, ["template: text", "topic: text"]),
    ],
)
def test_the_component_blocks_are_documents(text, inputs):
    document = load_document(text)
    assert [str(each) for each in signature(document, document.workflow()).inputs] == inputs


def test_the_batch_block_is_a_workflow_of_a_named_component():
    text = SEED_BATCH + SEED_TUNED.replace("component:\n", "component:\n  id: text-generator\n")
    job = jobs_of(load_document(text))["generate-multiple"]
    assert job.work.component.id == "text-generator"
    assert job.work.repeat_count.value == "${input.batch_size}"


# Forms


def both(**changes):
    return {"component": {**COMPONENT, **changes}}


@pytest.mark.parametrize(
    "document",
    [
        {"component": COMPONENT},
        {"component": {**COMPONENT, "text": None, "prompt": COMPONENT["text"]}},
        {"components": [COMPONENT]},
        {"components": COMPONENT},
        {"component": {**COMPONENT, "text": None, "action": {"text": COMPONENT["text"]}}},
        {"component": {**COMPONENT, "text": None, "actions": [{"prompt": COMPONENT["text"]}]}},
        {"component": COMPONENT, "workflow": {}},
        {"component": COMPONENT, "workflows": [{"job": {}}]},
        {"component": COMPONENT, "workflow": {"jobs": [{"component": "__default__"}]}},
        {"workflow": {"component": COMPONENT}},
        {"workflow": {"job": {"component": COMPONENT}}},
        {"x-mine": {"anything": 1}, "component": COMPONENT},
    ],
    ids=range(12),
)
def test_all_forms_mean_the_same(document):
    if "component" not in document and "components" not in document:
        document = {"component": {**COMPONENT, "id": "other", "text": "no"}, **document}
    (job,) = load_document(document).workflow().jobs
    assert job.work.action.text.value == COMPONENT["text"]
    assert job.work.component.model["source"].value == "bundled:storyteller"
    assert (job.input, job.work.repeat_count, job.depends_on) == (None, None, ())


@pytest.mark.parametrize(
    ("workflow", "output"),
    [
        (None, {"generated": "${output}"}),
        ({"title": "T"}, {"generated": "${output}"}),
        ({"input": "${input}"}, None),
        ({"job": {}}, None),
        ({"job": {}, "output": {"a": "${output}"}}, {"a": "${output}"}),
    ],
)
def test_what_the_workflow_gives(workflow, output):
    document = load_document({"component": COMPONENT, "workflow": workflow})
    found = document.workflow().output
    assert (found and found.value) == output


def test_an_action_with_an_output_of_its_own_is_not_wrapped():
    document = load_document(both(output={"text": "${output}"}))
    assert document.workflow().output is None


def test_parameters_come_from_every_level(component):
    document = component(
        "top_k: 1\nparams: {top_p: 0.5}\naction:\n  text: hi\n  seed: 2\n  params: {num_beams: 3}"
    )
    parameters = document.components[0].actions[0].parameters
    assert written(parameters) == {"top_k": 1, "top_p": 0.5, "seed": 2, "num_beams": 3}


@pytest.mark.parametrize(
    "model",
    [
        {"repository": "a/b", "revision": "v1"},
        {"provider": "huggingface", "repository": "a/b", "revision": "v1"},
    ],
)
def test_the_long_form_of_a_model(model):
    assert written(load_document(both(model=model)).components[0].model) == {
        "source": "a/b",
        "revision": "v1",
    }


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ({"path": "folder"}, "./folder"),
        ({"path": "/folder"}, "/folder"),
        ({"name": "storyteller"}, "bundled:storyteller"),
        ({"repository": "a/b", "file": "x.gguf"}, "a/b/x.gguf"),
        ({"repository": "a/b", "file": "more/x.GGUF"}, "a/b/more/x.GGUF"),
        ({"path": "folder/", "file": "x.gguf"}, "./folder/x.gguf"),
        ({"path": "./x.gguf"}, "./x.gguf"),
        ("a/b/x.gguf", "a/b/x.gguf"),
        ("x" * 300, "x" * 300),
    ],
)
def test_where_a_model_comes_from(model, source):
    assert load_document(both(model=model)).components[0].model["source"].value == source


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "storyteller", "file": "x.gguf"}, "'file' is of a repository or a folder"),
        ({"repository": "a/b", "file": "x.bin"}, "'file' names a GGUF file"),
        ({"repository": "a", "file": "x.gguf"}, "the repository of a GGUF file has an owner"),
        ({"file": "x.gguf"}, "exactly one of 'repository', 'path' and 'name'"),
    ],
)
def test_a_file_that_no_model_has(model, words):
    with pytest.raises(DocumentError, match=words):
        load_document(both(model=model))


def test_a_file_that_an_input_names():
    model = {"repository": "${input.repository}", "file": "${input.name}-Q8_0.gguf"}
    source = load_document(both(model=model)).components[0].model["source"]
    given = {"repository": "a/b", "name": "x"}
    assert render(str(source), {"input": given}) == "a/b/x-Q8_0.gguf"


def test_the_default_among_several():
    document = load_document(
        {
            "components": [
                {**COMPONENT, "id": "a"},
                {**COMPONENT, "id": "b", "default": True, "text": None, "actions": [
                    {"id": "x", "text": "1"}, {"id": "y", "text": "2", "default": True}]},
            ],
            "workflows": [
                {"id": "one", "component": "a"},
                {"id": "two", "default": True},
                {"id": "three", "action": "x"},
            ],
        }
    )  # fmt: skip
    assert document.workflow().id == "two"
    assert document.workflow("__default__").id == "two"
    called = [jobs_of(document, name)["__job__"].work.action for name in ("one", "two", "three")]
    assert [action.text.value for action in called] == [COMPONENT["text"], "2", "1"]


def test_a_workflow_that_is_not_there():
    document = load_document(
        {"component": COMPONENT, "workflows": [{"id": "story"}, {"id": "poem"}]}
    )
    with pytest.raises(InputError, match=r"there is no workflow 'stroy'\n  Did you mean 'story'?"):
        document.workflow("stroy")
    with pytest.raises(InputError, match="none is the default"):
        document.workflow()


def test_jobs_wait_for_those_whose_output_they_use():
    document = load_document(
        {
            "component": COMPONENT,
            "workflow": {
                "jobs": [
                    {"id": "c", "input": {"prompt": "${input.x | ${jobs.b.output.y[0]}}"}},
                    {"id": "a"},
                    {"id": "b", "depends_on": "a", "output": "${jobs.a.output}${output}"},
                ]
            },
        }
    )
    waits = {name: job.predecessors for name, job in jobs_of(document).items()}
    assert waits == {"c": ("b",), "a": (), "b": ("a",)}
    assert [job.id for job in document.workflow().last_jobs] == ["c"]


@pytest.mark.parametrize(
    ("controller", "result"),
    [
        (None, Controller()),
        (
            {"type": "http-server", "port": 1, "webui": {"port": "2"}},
            Controller(port=1, webui_port=2),
        ),
        (
            {"adapter": {"type": "http-server", "base_path": "/x"}, "webui": {"driver": "gradio"}},
            Controller(base_path="/x"),
        ),
        ({"host": "${env.HOST}", "port": "${env.PORT | 9}"}, Controller(host="h", port=9)),
        ({"runtime": "native"}, Controller()),
        ({"runtime": {"type": "docker", "image": "x"}}, Controller()),
        ({"runtime": "ray"}, Controller(ray=RayRuntime())),
        (
            {
                "runtime": {
                    "type": "ray",
                    "address": "${env.HOST}:6379",
                    "replicas": {"min": 1, "max": "3"},
                    "resources": {"gpu": 0.5, "memory": "16GB", "tpu": 1},
                }
            },
            Controller(
                ray=RayRuntime("h:6379", 1, 3, {"gpu": 0.5, "memory": 16 * 10**9, "tpu": 1})
            ),
        ),
    ],
    ids=["none", "flat", "nested", "env", "native", "docker", "ray", "ray in full"],
)
def test_where_it_is_served(controller, result):
    document = load_document(
        {"component": COMPONENT, "controller": controller}, environ={"HOST": "h"}
    )
    assert document.controller == result


def test_keys_without_effect_are_told(component):
    (warning,) = component("text: hi\nstreaming: true").warnings
    assert str(warning) == "<text>:6:3: 'streaming' has no effect: every run streams"


# The environment


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("${env.A}", {"A": "1"}),
        ("${env.B | x}", {}),
        ("${env.B | ${env.A}}", {"A": "1"}),
        ("${env.A | ${env.B}}", {"A": "1"}),
        ("${input.x | ${env.A}}", {"A": "1"}),
    ],
)
def test_the_environment_is_that_of_the_variables_named(component, text, used):
    assert component(f"text: {text}", environ={"A": "1", "C": "2"}).environment == used


@pytest.mark.parametrize("text", ["${env.B}", "${input.x | ${env.B}}", "${env.B | ${env.B}}"])
def test_a_variable_that_is_not_set_is_an_error(wrong_lines, text):
    assert "the environment variable B is not set" in wrong_lines(f"text: {text}")[0]


@pytest.mark.parametrize(
    "lines",
    [
        "text: ${env.TOKEN as integer} ${nosuch}",
        "text: hi\ntemperature: ${env.TOKEN}",
        "text: hi\ntop_k: ${env.TOKEN as integer | 5}",
        "text: hi\ntoken: ${env.TOKEN}\nnosuch: 1",
    ],
)
def test_a_secret_stands_in_no_message(lines):
    with pytest.raises(DocumentError) as caught:
        text = HEAD + "".join(f"  {line}\n" for line in lines.splitlines())
        load_document(text, environ={"TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_secret_stands_in_no_repr(component):
    document = component(
        "text: ${input.x | ${env.TOKEN}}\ntoken: ${env.TOKEN}", environ={"TOKEN": "hunter2"}
    )
    described = signature(document, document.workflow())
    assert "hunter2" not in f"{document!r} {described!r} {described.to_dict()}"
    assert "hunter2" not in " ".join(map(str, described.inputs))


def test_a_port_that_the_environment_gives_is_checked(problems):
    document = {"component": COMPONENT, "controller": {"port": "${env.P}", "host": "${env.P}"}}
    (found,) = problems(document, environ={"P": "secret"})
    assert found.message == "'port' cannot be what ${env.P} gives"


# Parameters


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("temperature", (0, 0.0, 100, "0.5"), (-0.001, "hot", True)),
        ("top_k", (0, 1, "7", 2.0), (-1, 1.5)),
        ("top_p", (0, 0.001, 1), (-0.001, 1.001)),
        ("min_p", (0, 1), (-0.001, 1.001)),
        ("repetition_penalty", (0.001, 5, 1000), (0, 5e-324, 1000.1)),
        ("num_beams", (1, 256), (0, 257)),
        ("num_return_sequences", (1, 256), (0, 257)),
        ("length_penalty", (-5, 0, 5.5), ("long", 1e308, -101)),
        ("max_output_length", (0, 1, 10**9), (-1,)),
        ("min_output_length", (1,), (0,)),
        ("max_input_length", (1,), (0,)),
        ("seed", (0, 2**63 - 1), (-1, 2**63, 0.5)),
        ("do_sample", (True, "yes", 0), (2, "maybe")),
        ("include_prompt", (False, "off"), (0.5,)),
        ("early_stopping", (True, "never", "no"), ("sometimes", 2)),
        (
            "stop_sequences",
            ("x", ["x", "\n"], ["x" * 256] * 64),
            ("", [], [""], [5], ["x"] * 65, "x" * 257),
        ),
    ],
)
def test_the_range_of_each_parameter(problems, name, inside, outside):
    for value in (*inside, "${input.value}"):
        assert name in load_document(both(**{name: value})).components[0].actions[0].parameters
    for value in outside:
        (found,) = problems(both(params={name: value}))
        assert found.where.keys.startswith(f"component.params.{name}")
        assert f"'{name}" in found.message


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("top_p: 7", "2:8 'top_p' must be at most 1, and it is 7"),
        ("top_p: -1", "2:8 'top_p' must be at least 0, and it is -1"),
        ("repetition_penalty: 0", "2:21 'repetition_penalty' must be at least 0.001, and it is 0"),
        (
            "stop_sequences: [" + "a, " * 40_000 + "]",
            "2:17 'stop_sequences': there are 40000 of them, and at most 64 are taken",
        ),
        ("stop_sequences: " + "a" * 300, "2:17 'stop_sequences' must have at most 256 characters"),
        ("max_output_length: -1", "2:20 'max_output_length' must be at least 0, and it is -1"),
        ("seed: -1", "2:7 'seed' must be at least 0, and it is -1"),
        ("temperature: hot", """2:14 'temperature': "hot" is not a number"""),
        ("temperature: .nan", "2:14 'temperature': NaN is not a finite number"),
        ("do_sample: maybe", """2:12 'do_sample': "maybe" is not a boolean (true or false)"""),
        ("early_stopping: 7", "2:17 'early_stopping': expected true, false or never"),
        ("stop_sequences: [a, 5]", "2:21 'stop_sequences[1]': 5 is not text; put it in quotes"),
        ("params: 5", "2:9 'params' must be a mapping, and it is 5"),
        ("precision: float8", """2:12 'precision' cannot be "float8\""""),
        ("id: " + "x" * 201, "2:5 'id' must have at most 200 characters"),
        ("temprature: 1", "2:1 unknown key 'temprature'"),
        ("max_new_tokens: 1", "2:1 unknown key 'max_new_tokens'"),
        ("quantization: int3", """2:15 'quantization' cannot be "int3\""""),
        ("cache_quantization: int4", """2:21 'cache_quantization' cannot be "int4\""""),
        (
            "cache_budget: 2 parsecs",
            """2:15 'cache_budget': "2 parsecs" is not a size such as 2GB""",
        ),
        ("cache_budget: 0", "2:15 'cache_budget' must be above 0, and it is 0"),
        ("prompt_lookup: perhaps", """2:16 'prompt_lookup': "perhaps" is neither a number of"""),
        ("prompt_lookup: 101", "2:16 'prompt_lookup' must be at most 100, and it is 101"),
        ("prompt_lookup: -1", "2:16 'prompt_lookup' must be at least 0, and it is -1"),
        ("peft_adapters: [{weight: 2}]", "2:17 'model' is missing"),
        ("peft_adapters: [{model: x, wieght: 2}]", "2:28 unknown key 'wieght'"),
        ("peft_adapters: [{model: x, type: ia3}]", """2:34 'type' cannot be "ia3\""""),
        ("peft_adapters: [{model: {}}]", "2:25 a model has exactly one of"),
        ("peft_adapter: {weight: 2}", "2:15 'model' is missing"),
        ("peft_adapter: [{model: x}, {model: {}}]", "2:36 a model has exactly one of"),
        ("peft_adapter: {model: x, wieght: 2}", "2:26 unknown key 'wieght'"),
        ("peft_adapter: {model: x, weight: '${inptu}'}", "2:35 unknown source 'inptu'"),
        (
            "peft_adapter: {model: x}\npeft_adapters: [{model: y}]",
            "3:1 'peft_adapters' cannot stand beside 'peft_adapter' (line 6)",
        ),
        ("peft_adapters: [{model: x, weight: '${inptu}'}]", "2:37 unknown source 'inptu'"),
        ("assistant_model: x", "2:1 unknown key 'assistant_model'"),
        ("top_k: 1\nparams: {top_k: 2}", "3:10 'top_k' is given twice, first on line 6"),
        ("prompt: hi", "2:1 'prompt' cannot stand beside 'text' (line 5)"),
        ("actions: []", "2:10 'actions' must not be empty"),
        (
            "min_output_length: 9\nparams: {max_output_length: 3}",
            "2:20 min_output_length 9 is above max_output_length 3",
        ),
        ("temperature: ${env.T | hot}", "2:14 'temperature' cannot be what ${env.T | hot} gives"),
        ("top_k: ${input.k as integer | x}", """2:8 "x" is not an integer in"""),
    ],
)
def test_what_is_wrong_with_a_parameter(wrong_lines, lines, wrong):
    (found,) = wrong_lines("text: hi\n" + lines)
    assert found.startswith(wrong)


def test_lengths_that_disagree_across_levels(component, wrong_lines):
    assert component("text: hi\nmin_output_length: 3\nparams: {max_output_length: 3}")
    lines = "max_output_length: 2\naction: {text: hi, min_output_length: 3}"
    assert wrong_lines(lines) == ["2:39 min_output_length 3 is above max_output_length 2"]


# What is wrong, and only that


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"componnet": COMPONENT}, "unknown key 'componnet'"),
        ({"component": 5}, "'component' must be a mapping, and it is 5"),
        ({"components": []}, "'components' must not be empty"),
        ({"components": [5, COMPONENT]}, "'components[0]' must be a mapping, and it is 5"),
        (both(text=5), "'text': 5 is not text; put it in quotes"),
        (both(text=["a", None]), "'text': there is no text here"),
        (both(text=None, txt="hi"), "unknown key 'txt'"),
        (both(model=5), "'model': 5 is not text; put it in quotes"),
        (both(model=""), "'model': an empty text is not allowed here"),
        (both(model={"reposotory": "a"}), "unknown key 'reposotory'"),
        (both(type="modle"), "'type' cannot be \"modle\""),
        (both(task="text-generator"), "'task' cannot be \"text-generator\""),
        (both(text=None, action=5), "'action' must be a mapping, and it is 5"),
        ({**both(), "workflow": {"jobs": {"a": {}}}}, "'jobs' is a list, and this is a mapping"),
        ({**both(id=5), "workflow": {"component": "x"}}, "'id': 5 is not text; put it in quotes"),
        (
            {**both(), "workflow": {"jobs": [{"id": 5}, {"id": "b", "depends_on": "a"}]}},
            "'id': 5 is not text; put it in quotes",
        ),
        (both(text=None), "'text' is missing: the prompt"),
        (
            {"component": {"type": "model", "task": "text-generation", "text": "x"}},
            "'model' is missing",
        ),
        ({}, "'component' is missing"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_only_the_cause_is_reported(problems, document, message):
    assert [each.message for each in problems(document)] == [message]


def test_a_key_under_another_name_is_not_also_missing(problems):
    text = HEAD.replace("model: bundled", "model_id: bundled") + "  text: hi\n"
    (found,) = problems(text)
    assert (found.message, found.hint) == ("unknown key 'model_id'", "Here it is called 'model'.")


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        ({"component": "x"}, "there is no component 'x'"),
        ({"action": "x"}, "there is no action 'x'"),
        ({"jobs": [{"id": "a"}, {"id": "a"}]}, "two jobs have the id 'a'"),
        ({"jobs": [{}, {}]}, "a second job has no 'id'"),
        ({"jobs": [{"id": "__default__"}]}, "'__default__' is no id: it means the default job"),
        ({"jobs": [{"id": "a", "depends_on": "a"}]}, "a job cannot wait for itself"),
        ({"jobs": [{"id": "a", "depends_on": ["b"]}]}, "there is no job 'b'"),
        ({"jobs": [{"id": "a", "input": "${jobs.a.output}"}]}, "there is no other job 'a', in"),
        ({"jobs": [{"id": "a", "input": "${jobs}"}]}, "a job is named, as jobs.ID.output, in"),
        (
            {"jobs": [{"id": "a", "input": "${jobs.b.input}"}, {"id": "b"}]},
            "of a job only its output is known, in ${jobs.b.input}",
        ),
        (
            {"jobs": [{"id": "a", "depends_on": "b"}, {"id": "b", "input": "${jobs.a.output}"}]},
            "these jobs wait for each other: a → b → a",
        ),
        ({"job": {}, "jobs": [{}]}, "'jobs' cannot stand beside 'job'"),
        ({"job": {}, "repeat_count": 2}, "'repeat_count' cannot stand beside 'job'"),
        ({"repeat_count": 0}, "'repeat_count' must be at least 1, and it is 0"),
        ({"input": {"topic": "x"}}, "the job gives no 'prompt', which"),
        ({"input": "${index}"}, "'index' is not available here, in ${index}"),
        ({"input": "${output}"}, "'output' is not available here, in ${output}"),
        ({"input": "${inptu}"}, "unknown source 'inptu' in ${inptu}"),
        ({"input": "${env}"}, "name one variable in ${env}"),
        ({"output": "${result}"}, "'result' is not available here, in ${result}"),
        ({"output": {"*": "${output}", "x": "${itme}"}}, "unknown source 'itme' in ${itme}"),
        ({"output": {"?": {"not": {"input": 1}}}}, "a condition is a mapping with"),
        ({"output": {"|": "${output}"}}, "'|' needs a template beside it"),
        ({"output": ["...${output", "${output}"]}, "it is never closed in ${output"),
        ({"hook": {}}, "'hook' is not supported"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_a_workflow(problems, workflow, message):
    (found,) = problems({"component": COMPONENT, "workflow": workflow})
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("place", "sources"),
    [
        ("text", {"input", "context"}),
        ("output", {"input", "context", "output", "result", "response"}),
    ],
)
def test_the_sources_of_a_component(component, place, sources):
    for source in ("input", "context", "output", "result", "response", "item", "index", "error"):
        lines = f"{place}: ${{{source}.x}}" + ("" if place == "text" else "\ntext: hi")
        if source in sources:
            assert component(lines)
        else:
            with pytest.raises(DocumentError, match=f"'{source}' is not available here"):
                component(lines)


def test_items_are_sources_inside_operators(component):
    assert component("text: hi\noutput: {'*': '${output}', n: '${index}', t: '${item}'}")


def test_expressions_in_keys_are_text():
    given = {"${nosuch}": "x", "prompt": "y"}
    document = load_document({"component": COMPONENT, "workflow": {"input": given}})
    assert jobs_of(document)["__job__"].input.value == given


def test_every_wrong_part_of_a_template_is_reported_where_it_stands(problems):
    condition = {"input": 1, "operater": "gt"}
    output = {"a": ["x", "...${output"], "b": {"?": condition, "c": "${nosuch}"}}
    found = problems(both(output=output))
    assert [(each.where.keys, each.message.partition(" in ")[0]) for each in found] == [
        ("component.output.a[1]", "it is never closed"),
        ("component.output.b", "a condition has no key 'operater'"),
        ("component.output.b.c", "unknown source 'nosuch'"),
    ]


def test_every_wrong_expression_of_a_text_is_reported(wrong_lines):
    text = "text: 'a ${input.x as txt} b ${input.y} ${inptu.z} c ${input.y as nmber}'"
    assert wrong_lines(text) == [
        "1:10 unknown type 'txt' in ${input.x as txt}",
        "1:41 unknown source 'inptu' in ${inptu.z}",
        "1:54 unknown type 'nmber' in ${input.y as nmber}",
    ]


def test_all_problems_come_together_in_order(problems):
    text = """\
workflow:
  jobs:
    - id: a
      depends_on: [nope]
    - id: a
      repeat_count: 0
component:
  type: model
  tsak: text-generation
  model: bundled:storyteller
  model: again
  text: ${inptu.prompt} ${input.x as txt}
  params: {top_p: 7, top_k: 1}
  top_k: 2
  seed: ${env.NOPE}
"""
    found = [f"{p.where.line}:{p.where.column} {p.message}" for p in problems(text)]
    assert found == [
        "4:20 there is no job 'nope'",
        "5:11 two jobs have the id 'a', first on line 3",
        "6:21 'repeat_count' must be at least 1, and it is 0",
        "9:3 unknown key 'tsak'",
        "11:3 key 'model' stands twice in one mapping, on line 10 and line 11",
        "12:9 unknown source 'inptu' in ${inptu.prompt}",
        "12:25 unknown type 'txt' in ${input.x as txt}",
        "13:19 'top_p' must be at most 1, and it is 7",
        "13:22 'top_k' is given twice, first on line 14",
        "15:9 the environment variable NOPE is not set, for ${env.NOPE}",
    ]


def test_the_message_has_a_line_for_each_problem(problems, tmp_path):
    path = tmp_path / "my.yml"
    path.write_text(HEAD + "  txt: hi\n  top_p: 7\n")
    with pytest.raises(DocumentError) as caught:
        load_document(path)
    assert [line for line in str(caught.value).splitlines() if line.startswith(str(path))] == [
        f"{path}:5:3: unknown key 'txt'",
        f"{path}:6:10: 'top_p' must be at most 1, and it is 7",
    ]
    named = problems(path.read_text())
    assert str(named[0].where) == "<text>:5:3"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "null\n", "- a\n", "42\n"])
def test_text_that_is_no_mapping(problems, text):
    (found,) = problems(text)
    assert found.message.startswith("a document is a mapping, and this one ")
    assert found.where.line is not None


def test_the_hash_is_that_of_what_the_document_says(component):
    one = component("text: hi # comment\nseed: 1")
    other = component("seed:   1\n\ntext: 'hi'")
    assert one.hash == other.hash != component("text: hi\nseed: 2").hash


@pytest.mark.parametrize("adapter", [False, True])
def test_origins_that_may_call_are_named_one_by_one(adapter):
    def read(origins):
        controller = {"type": "http-server", "origins": origins}
        controller = {"adapter": controller} if adapter else controller
        return load_document({"controller": controller, "component": COMPONENT})

    named = read(["https://a.example, http://b.example:80"]).controller.origins
    assert named == ("https://a.example", "http://b.example:80")
    every = read("*")
    assert every.controller.origins == ()
    assert "every web page" in every.warnings[0].message
    with pytest.raises(DocumentError, match=r"'example\.org' is no origin"):
        read("example.org")


@pytest.mark.parametrize(
    ("written", "bytes"),
    [
        (2, 2 * 10**9),
        (0.5, 5 * 10**8),
        ("2", 2 * 10**9),
        ("2GB", 2 * 10**9),
        ("500 mb", 5 * 10**8),
        ("1.5GiB", 3 * 2**29),
        ("64 KiB", 2**16),
        ("123B", 123),
    ],
)
def test_sizes(written, bytes):
    assert types.byte_size(written) == bytes


@pytest.mark.parametrize("wrong", ["", "GB", "2 parsecs", "1e400", True, None, "9" * 400 + "TB"])
def test_what_is_no_size(wrong):
    with pytest.raises(types.ConversionError, match="is not a size such as 2GB"):
        types.byte_size(wrong)


@pytest.mark.parametrize(
    ("written", "tokens"),
    [(True, 8), (False, 0), ("true", 8), ("no", 0), (1, 1), ("1", 1), (0, 0), ("12", 12)],
)
def test_numbers_of_tokens_to_look_up(written, tokens):
    assert types.lookup_tokens(written) == tokens


def test_an_adapters_keys_without_effect_are_said(component):
    adapter = "{model: ./a, precision: float16, low_cpu_mem_usage: true}"
    warnings = load_document(HEAD + f"  text: hi\n  peft_adapters: [{adapter}]\n").warnings
    assert [each.message.split(" ")[0] for each in warnings] == [
        "'precision'",
        "'low_cpu_mem_usage'",
    ]


def test_a_folder_of_an_adapter_or_a_draft_model_makes_other_documents(tmp_path):
    def keys(lines):
        folders = (tmp_path, tmp_path / "other")
        return {load_document(HEAD + "  text: hi\n" + lines, folder=each).key for each in folders}

    assert len(keys("")) == 1
    assert len(keys("  peft_adapters: [{model: owner/name}]\n")) == 1
    for lines in (
        "  draft_model: ./small\n",
        "  peft_adapters: [{model: ./a}]\n",
        "  peft_adapters: [{model: {path: a}}]\n",
    ):
        assert len(keys(lines)) == 2, lines


def test_a_note_that_nobody_reads_is_a_warning(component):
    (warning,) = component("text: ${input.a as text @(desc What) @(label 제목)}").warnings
    names = "description, label, example, placeholder"
    assert warning.message == f"a note 'desc' says nothing. There are {names}."
    assert warning.where.line is not None


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"type": "ray", "adress": "auto"}, "unknown key 'adress'"),
        ({"type": "ray", "replicas": {"min": 4, "max": 3}}, "'max' is less than 'min', which is 4"),
        ({"type": "ray", "replicas": {"min": 0}}, "'min' must be at least 1"),
        ({"type": "ray", "resources": {"tpu": "a"}}, "'tpu': \"a\" is not a number"),
    ],
)
def test_a_wrong_runtime(runtime, message):
    with pytest.raises(DocumentError, match=message):
        load_document({"component": COMPONENT, "controller": {"runtime": runtime}})
