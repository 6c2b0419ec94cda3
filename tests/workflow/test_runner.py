"""How jobs are scheduled and what a workflow's output is, with scripted models."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from seed.blocks import SEED_BATCH, SEED_INSTRUCTION, SEED_TEMPLATE, SEED_TUNED
from standins.scripted import ScriptedModels

from modelcompose_jupyter import InputError, LocalHost, ModelError, Run, RunCancelled, State, load
from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.workflow import EVENT_DATA, Event

COMPONENT = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text}
"""


def run(host: LocalHost, workflow: str, **inputs: Any) -> Run:
    text = COMPONENT + textwrap.dedent(workflow)
    return load(text, host=host).run(**inputs)


def output(host: LocalHost, workflow: str, **inputs: Any) -> Any:
    return run(host, workflow, **inputs).result()


def job_events(run: Run) -> list[tuple[str, str]]:
    return [
        (event.data["job"], event.data["state"])
        for event in run.events()
        if event.type == "progress" and event.data["phase"] == "job"
    ]


def test_events_have_the_shapes_that_are_written_down(
    host: LocalHost, models: ScriptedModels
) -> None:
    """Each key of each event, however a run ends; ``test_tokens`` has those of tokens,
    ``test_tool_loop`` those of tools, ``test_interrupts`` those of questions, ``test_job_events``
    those of elements."""
    runs = [run(host, "workflow: {repeat_count: 2}", prompt="a")]
    models.failure = ModelError("none", code="load_failed")
    runs.append(run(host, "", prompt="a"))
    events = [event for each in runs for event in each.events()]
    assert {event.type for event in events} == EVENT_DATA.keys() - {
        "reasoning", "tokens", "call", "tool", "messages", "question", "item"
    }  # fmt: skip
    for event in events:
        shape = EVENT_DATA[event.type]
        assert event.data.keys() <= shape.model_fields.keys()
        shape.model_validate(event.data)


def test_without_a_job_the_output_is_generated(host: LocalHost) -> None:
    assert output(host, "", prompt="a") == {"generated": "<a>"}


def test_a_flat_job_without_output_gives_the_text(host: LocalHost) -> None:
    assert output(host, "workflow: {input: '${input}'}", prompt="a") == "<a>"


def test_a_list_of_prompts_gives_a_list(host: LocalHost) -> None:
    text = COMPONENT.replace("as text", "as list")
    assert load(text, host=host)(prompt=["a", "b"]) == {"generated": ["<a>", "<b>"]}


@pytest.mark.parametrize("value", ['["A", "A"]', '"A A"'])
def test_jobs_that_double_a_value_end_with_an_error(host: LocalHost, value: str) -> None:
    jobs = "  - {id: j0, input: '${input}', output: ['${output}']}\n"
    for number in range(1, 60):
        doubled = value.replace("A", f"${{jobs.j{number - 1}.output}}")
        jobs += f"  - {{id: j{number}, input: '${{input}}', output: {doubled}}}\n"
    run = load(f"{COMPONENT}workflow:\n  jobs:\n{jobs}", host=host).run(prompt="a")
    assert run.error is not None
    assert run.error.code == "value_too_large"
    assert run.error.where is not None and run.error.where.line is not None
    assert run.error.hint is not None and "repeat no value" in run.error.hint


def test_what_last_jobs_share_is_counted_for_each(host: LocalHost) -> None:
    """The result would be written out for each of them, though it is one object."""
    jobs = "  - {id: a, input: '${input}', output: '${input.large}'}\n"
    for number in range(20):
        jobs += f"  - {{id: j{number}, input: '${{input}}', output: '${{jobs.a.output}}'}}\n"
    flow = load(f"{COMPONENT}workflow:\n  jobs:\n{jobs}", host=host)
    assert len(flow(prompt="a", large="x" * 1000)) == 20
    run = flow.run(prompt="a", large="x" * 15_000_000)
    assert run.error is not None and run.error.code == "value_too_large"


def test_repeats_give_a_list_in_order(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - repeat_count: ${input.count}
          input: {prompt: "${input.prompts[${index}]}"}
    """
    assert output(host, flow, count=3, prompts=["a", "b", "c"]) == ["<a>", "<b>", "<c>"]


def test_one_repeat_is_still_a_list(host: LocalHost) -> None:
    flow = "workflow: {job: {repeat_count: 1, output: {all: '${output}'}}}"
    assert output(host, flow, prompt="a") == {"all": ["<a>"]}


@pytest.mark.parametrize("count", [0, -1, 1.5, {"a": 1}])
def test_a_wrong_repeat_count_is_an_input_error_with_its_place(host: LocalHost, count: Any) -> None:
    flow = """
    workflow:
      job:
        repeat_count: ${input.count as json}
    """
    done = run(host, flow, prompt="a", count=count)
    assert done.state == "failed"
    assert isinstance(done.error, InputError)
    assert done.error.where is not None
    assert done.error.where.keys == "workflow.job.repeat_count"


def test_a_job_waits_for_the_job_whose_output_it_uses(
    host: LocalHost, models: ScriptedModels
) -> None:
    flow = """
    workflow:
      jobs:
        - id: second
          input: {prompt: "2 ${jobs.first.output}"}
        - id: first
          input: {prompt: "1 ${input.prompt}"}
    """
    done = run(host, flow, prompt="a")
    assert done.output == "<2 <1 a>>"
    assert job_events(done) == [
        ("first", "started"),
        ("first", "completed"),
        ("second", "started"),
        ("second", "completed"),
    ]


def test_jobs_that_wait_for_nothing_run_side_by_side(host: LocalHost) -> None:
    models = ScriptedModels(hold=("a", "b"))
    both = LocalHost(models)  # type: ignore[arg-type]
    flow = load(
        COMPONENT + "workflow: {jobs: [{id: x, input: {prompt: a}}, {id: y, input: {prompt: b}}]}",
        host=both,
    )
    pending = flow.submit()
    assert models.started.acquire(timeout=30)
    assert models.started.acquire(timeout=30)  # the second stands while the first still does
    models.gate.set()
    assert pending.result(30) == {"x": "<a>", "y": "<b>"}
    both.close()


def test_several_last_jobs_give_a_mapping_by_id(host: LocalHost) -> None:
    flow = """
    workflow:
      jobs:
        - {id: start, input: {prompt: s}}
        - {id: left, depends_on: start, input: {prompt: l}}
        - {id: right, depends_on: [start], input: {prompt: r}}
    """
    assert output(host, flow) == {"left": "<l>", "right": "<r>"}


def test_the_workflow_output_sees_every_job(host: LocalHost) -> None:
    flow = """
    workflow:
      output: {first: "${jobs.a.output}", last: "${output}"}
      jobs:
        - {id: a, input: {prompt: x}}
        - {id: b, input: {prompt: "${jobs.a.output}"}}
    """
    assert output(host, flow) == {"first": "<x>", "last": "<<x>>"}


def test_an_action_output_is_what_the_job_gets(host: LocalHost) -> None:
    text = COMPONENT + "  output: {said: '${result}', to: '${input.prompt}'}\n"
    assert load(text, host=host)(prompt="a") == {"said": "<a>", "to": "a"}


def test_an_inline_component_runs(host: LocalHost, models: ScriptedModels) -> None:
    flow = """
    workflow:
      job:
        component:
          type: model
          task: text-generation
          model: other
          text: inline ${input.prompt}
    """
    assert output(host, flow, prompt="a") == "<inline a>"
    assert [spec.source for spec in models.specs] == ["other"]


def test_a_failing_job_fails_the_run_and_stops_the_others() -> None:
    models = ScriptedModels(hold=("slow",))
    host = LocalHost(models)  # type: ignore[arg-type]
    flow = """
workflow:
  jobs:
    - {id: slow, input: {prompt: slow}}
    - {id: bad, input: {prompt: x}, repeat_count: "${input.count | 0}"}
"""
    done = load(COMPONENT + flow, host=host).run()
    assert done.state == "failed"
    assert "'repeat_count' must be at least 1" in str(done.error)
    assert models.leases == 0
    host.close()


def test_an_error_of_the_model_says_where_the_model_is_named(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.failure = ModelError("there is no such model", hint="Look again.")
    done = run(host, "", prompt="a")
    assert done.state == "failed"
    assert isinstance(done.error, ModelError)
    assert done.error.where is not None
    assert done.error.where.keys == "component.model"
    with pytest.raises(ModelError, match="no such model"):
        done.result()


def test_a_parameter_out_of_range_is_found_when_it_is_rendered(host: LocalHost) -> None:
    text = COMPONENT + "  temperature: ${input.heat as number | 0.5}\n"
    done = load(text, host=host).run(prompt="a", heat=-1)
    assert isinstance(done.error, InputError)
    assert "'temperature' must be at least 0, and it is -1.0" in str(done.error)


def test_parameters_reach_the_model_with_their_types(
    host: LocalHost, models: ScriptedModels
) -> None:
    text = COMPONENT + "  params: {top_k: '${input.k}', stop_sequences: ['${input.s}']}\n"
    load(text, host=host)(prompt="a", k="7", s="${env.HOME}")
    (given,) = models.parameters
    assert given == {"top_k": 7, "stop_sequences": ["${env.HOME}"], "seed": given["seed"]}


@pytest.mark.parametrize(
    "prompt", ["${env.HOME}", "{}", "$x", r"\n \${a} \\", "안녕 🌙", "a: b # c", "%s {0} ${"]
)
def test_a_prompt_reaches_the_model_unchanged(
    host: LocalHost, models: ScriptedModels, prompt: str
) -> None:
    assert output(host, "", prompt=prompt) == {"generated": f"<{prompt}>"}
    assert models.prompts == [prompt]


def test_cancel_keeps_the_text_and_gives_the_model_back() -> None:
    models = ScriptedModels(lambda prompt: ["one ", "two ", "three"], hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    pending = load(COMPONENT, host=host).submit(prompt="a")
    assert models.started.acquire(timeout=30)
    pending.cancel()
    assert pending.wait(30)
    assert (pending.state, pending.finish_reason) == ("cancelled", "cancelled")
    assert pending.text == "one "
    assert models.leases == 0
    with pytest.raises(RunCancelled):
        pending.result()
    host.close()


def test_a_run_cancelled_before_it_starts_is_cancelled() -> None:
    host = LocalHost(ScriptedModels(hold=("a",)))  # type: ignore[arg-type]
    pending = load(COMPONENT, host=host).submit(prompt="a")
    pending.cancel()
    assert pending.wait(30)
    assert pending.state is State.CANCELLED
    assert list(pending.events())[-1].data["state"] == "cancelled"
    host.close()


def test_cancelling_twice_or_after_the_end_changes_nothing(host: LocalHost) -> None:
    done = run(host, "", prompt="a")
    done.cancel()
    done.cancel()
    assert done.state == "completed"


def test_wrong_inputs_are_refused_before_a_run_exists(host: LocalHost) -> None:
    flow = load(COMPONENT, host=host)
    with pytest.raises(InputError, match="missing input 'prompt'"):
        flow.submit()
    with pytest.raises(InputError, match="Did you mean 'prompt'"):
        flow.submit(promt="a")
    assert host.runs() == []


def test_runs_are_known_to_the_host_by_the_start_of_their_id(host: LocalHost) -> None:
    done = run(host, "", prompt="a")
    assert host.run(done.id[:6]) is done
    with pytest.raises(ComposeError, match="there is no run"):
        host.run("zzz")


def test_the_record_has_what_it_takes_to_run_again(host: LocalHost) -> None:
    done = run(host, "", prompt="a")
    record = done.record
    assert record["input"] == {"prompt": "a"}
    assert record["document"].startswith("sha256:")
    assert record["generations"][0]["parameters"]["seed"] == done.parameters["seed"]
    assert done.usage == {"prompt": 1, "reused": 0, "generated": 1}


def test_a_value_of_the_environment_is_not_shown(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAT", "s3cret")
    text = COMPONENT + "  temperature: ${input.heat | ${env.HEAT}}\n"
    done = load(text, host=host).run(prompt="a")
    assert isinstance(done.error, InputError)
    assert "'temperature' cannot be what ${input.heat | ${env.HEAT}} gives" in str(done.error)
    assert "s3cret" not in str(done.error)


def test_model_settings_may_be_templates(host: LocalHost, models: ScriptedModels) -> None:
    text = COMPONENT.replace("model: scripted", "model: ${input.model | small}")
    flow = load(text + "  precision: ${input.precision | auto}\n", host=host)
    flow(prompt="a", precision="float32")
    assert [(spec.source, spec.precision) for spec in models.specs] == [("small", "float32")]
    done = flow.run(prompt="a", precision="float23")
    assert "'precision' cannot be \"float23\"" in str(done.error)
    assert "Did you mean 'float32'?" in str(done.error)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("  peft_adapter: {model: ./lora, weight: 0.5}\n", [("lora", 0.5)]),
        ("  peft_adapter:\n  - {model: ./a}\n  - {model: ./b}\n", [("a", 1.0), ("b", 1.0)]),
        ("  peft_adapters: {model: ./lora}\n", [("lora", 1.0)]),
    ],
)
def test_one_adapter_or_a_list_under_either_key(
    tmp_path: Path,
    host: LocalHost,
    models: ScriptedModels,
    lines: str,
    found: list[tuple[str, float]],
) -> None:
    (tmp_path / "model-compose.yml").write_text(f"{COMPONENT.rstrip()}\n{lines}")
    load(tmp_path / "model-compose.yml", host=host)(prompt="a")
    (spec,) = models.specs
    assert [(Path(each.model.source).name, each.weight) for each in spec.adapters] == found


def test_what_is_loaded_beside_the_weights(
    tmp_path: Path, host: LocalHost, models: ScriptedModels
) -> None:
    lines = """
  quantization: ${input.quantization | none}
  draft_model: ./small
  prompt_lookup: ${input.lookup | false}
  cache_budget: ${input.budget | 2}
  token: secret
  peft_adapters:
    - {model: ./lora, weight: "${input.weight | 0.5}", name: style}
    - model: {provider: huggingface, repository: owner/lora, revision: v1, token: other}
    - {type: lora, model: {provider: local, path: beside}, low_cpu_mem_usage: true}
"""
    (tmp_path / "model-compose.yml").write_text(COMPONENT.rstrip() + lines)
    flow = load(tmp_path / "model-compose.yml", host=host)
    flow(prompt="a")
    flow(prompt="a", quantization="int8", lookup="true", budget="500MB", weight="-1")
    first, second = models.specs
    assert (first.quantization, first.prompt_lookup, first.cache_budget) == (None, 0, 2 * 10**9)
    assert (second.quantization, second.prompt_lookup) == ("int8", 8)
    assert second.cache_budget == 500 * 10**6
    assert first.draft_model == str(tmp_path / "small")
    found = [(each.model.source, each.model.revision, each.weight) for each in first.adapters]
    assert found == [
        (str(tmp_path / "lora"), None, 0.5),
        ("owner/lora", "v1", 1.0),
        (str(tmp_path / "beside"), None, 1.0),
    ]
    assert [each.model.token for each in first.adapters] == ["secret", "other", "secret"]
    assert first.adapters[0].name == "style"
    assert second.adapters[0].weight == -1.0
    done = flow.run(prompt="a", quantization="int3")
    assert "'quantization' cannot be \"int3\"" in str(done.error)
    done = flow.run(prompt="a", lookup="perhaps")
    assert "'prompt_lookup': \"perhaps\" is neither" in str(done.error)
    with pytest.raises(InputError, match="'weight': \"heavy\" is not a number"):
        flow.run(prompt="a", weight="heavy")


def test_a_drawn_seed_is_known_at_once_and_counts_up(
    host: LocalHost, models: ScriptedModels
) -> None:
    flow = load(COMPONENT + "workflow: {repeat_count: 3}\n", host=host)
    run = flow.submit(prompt="a")
    seed = run.parameters["seed"]
    run.result(30)
    assert [each["seed"] for each in models.parameters] == [seed, seed + 1, seed + 2]
    assert run.parameters["seed"] == seed
    seeds = [each["parameters"]["seed"] for each in run.record["generations"]]
    assert sorted(seeds) == [seed, seed + 1, seed + 2]


def test_a_given_seed_is_the_same_for_every_repeat(host: LocalHost, models: ScriptedModels) -> None:
    text = COMPONENT + "  seed: 5\nworkflow: {repeat_count: 2}\n"
    run = load(text, host=host).submit(prompt="a")
    assert run.parameters == {"seed": 5}
    run.result(30)
    assert [each["seed"] for each in models.parameters] == [5, 5]


def test_an_error_that_several_runs_share_has_the_place_of_each(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.failure = ModelError("there is no such model")
    first = load(COMPONENT, host=host).run(prompt="a")
    second = load("# a comment\n" + COMPONENT, host=host).run(prompt="a")
    assert first.error is not None and first.error.where is not None
    assert second.error is not None and second.error.where is not None
    assert second.error.where.line == (first.error.where.line or 0) + 1


@pytest.mark.parametrize(
    ("block", "inputs", "prompt"),
    [
        (SEED_TUNED, {"prompt": "Hi", "temperature": 0.5}, "Hi"),
        (
            SEED_INSTRUCTION,
            {"instruction": "Sing."},
            "### Instruction:\nSing.\n\n### Response:\n",
        ),
        (SEED_TEMPLATE, {"topic": "cats"}, "Generate text about: cats"),
        (SEED_TEMPLATE, {"template": "As it is", "topic": "cats"}, "As it is"),
    ],
)
def test_the_example_blocks_give_the_prompt_that_a_reader_expects(
    host: LocalHost, models: ScriptedModels, block: str, inputs: dict[str, Any], prompt: str
) -> None:
    assert load(block, host=host)(**inputs) == {"generated": f"<{prompt}>"}
    assert models.prompts == [prompt]


def test_the_example_batch_gives_one_text_for_each_prompt(host: LocalHost) -> None:
    component = SEED_TUNED.replace("component:\n", "component:\n  id: text-generator\n")
    flow = load(SEED_BATCH + component, host=host)
    prompts = ["one", "two", "three"]
    assert flow(batch_size=3, prompts=prompts) == ["<one>", "<two>", "<three>"]


UNTYPED = COMPONENT.replace(" as text", "")
PARALLEL = """
workflow:
  jobs:
    - {id: one, repeat_count: 3}
    - {id: two, input: {prompt: ["x", "y"]}}
"""


def seeds(models: ScriptedModels) -> list[int]:
    return sorted(each["seed"] for each in models.parameters)


def test_every_generation_of_a_run_has_a_seed_of_its_own(
    host: LocalHost, models: ScriptedModels
) -> None:
    done = load(UNTYPED + PARALLEL, host=host).run(prompt="a")
    assert done.state == State.COMPLETED
    assert len(set(seeds(models))) == 5


def test_a_run_again_has_the_seeds_of_the_first(host: LocalHost, models: ScriptedModels) -> None:
    flow = load(UNTYPED + PARALLEL, host=host)
    first = flow.run(prompt="a")
    drawn = seeds(models)
    for again in (lambda: host.rerun(first.id), lambda: flow.rerun(first.record)):
        models.parameters.clear()
        again().result(30)
        assert seeds(models) == drawn


def test_a_record_of_another_document_is_refused(host: LocalHost) -> None:
    record = load(COMPONENT, host=host).run(prompt="a").record
    with pytest.raises(InputError, match="of another document"):
        load(COMPONENT + "  top_k: 3\n", host=host).rerun(record)


def test_repeats_and_prompts_tell_how_many_have_ended(host: LocalHost) -> None:
    text = COMPONENT.replace("as text", "as list") + "workflow: {repeat_count: 2}\n"
    seen: list[Event] = []
    host.observe(lambda run: run.watch(lambda: seen.append(run.events_so_far()[-1])))
    load(text, host=host).run(prompt=["x", "y", "z"])
    counted = [
        (event.data["phase"], event.data["done"], event.data["total"])
        for event in seen
        if event.type == "progress" and event.data["phase"] in ("repeat", "prompt")
    ]
    assert sorted(counted) == sorted(
        [("repeat", 1, 2), ("repeat", 2, 2)] + 2 * [("prompt", n, 3) for n in (1, 2, 3)]
    )


def test_the_texts_of_several_sequences_are_announced_in_order(host: LocalHost) -> None:
    several = load(
        {
            "component": {
                "type": "model",
                "task": "text-generation",
                "model": "bundled:storyteller",
                "text": "${input.prompts}",
                "num_return_sequences": 2,
            }
        },
        host=host,
    )

    run = several.run(prompts=["a", "b"])

    assert [stream[2:] for stream in run.streams] == [(0, 0), (0, 1), (1, 0), (1, 1)]
