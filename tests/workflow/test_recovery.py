"""What becomes of a job that fails: retry, timeout, on_error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import InputError, LocalHost, ModelError, load
from modelcompose_jupyter.document.jobs import Retry
from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.workflow.bounded_gather import together

from .flows import flow_of, given, problem, ran, states


@pytest.fixture(scope="module")
def real() -> Iterator[LocalHost]:
    """A host with the models that there are."""
    host = LocalHost()
    yield host
    host.close()


class Failing:
    """Replies of which the first ``count`` to each prompt that begins with ``bad`` fail."""

    def __init__(self, count: int = 1_000_000) -> None:
        self.tried: list[str] = []
        self._count = count

    def reply(self, prompt: str) -> list[str]:
        self.tried.append(prompt)
        if prompt.startswith("bad") and self.tried.count(prompt) <= self._count:
            raise ModelError(f"no answer to {prompt}", code="refused")
        return [f"<{prompt}>"]


# Retry


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (Retry(5), [0, 0, 0, 0]),
        (Retry(5, 1.5), [1.5, 1.5, 1.5, 1.5]),
        (Retry(5, 1.5, "exponential"), [1.5, 3, 6, 12]),
        (Retry(5, 1.5, "exponential", 5.0), [1.5, 3, 5, 5]),
        (Retry(5, 7.0, "fixed", 5.0), [5, 5, 5, 5]),
    ],
)
def test_the_seconds_before_the_next_attempt(retry: Retry, delays: list[float]) -> None:
    assert [retry.delay_after(attempt) for attempt in range(1, 5)] == delays


def test_the_delay_of_very_many_attempts_is_a_number() -> None:
    assert Retry(100, 1e-300, "exponential").delay_after(99) > 0


def test_a_job_is_tried_until_it_succeeds(host: LocalHost, models: ScriptedModels) -> None:
    failing = Failing(2)
    models.reply = failing.reply
    run = ran(host, "workflow: {job: {input: bad, retry: 5}}")
    assert run.output == "<bad>"
    assert failing.tried == ["bad"] * 3
    job = run.jobs["__job__"]
    assert (job["state"], job["failed"]) == ("completed", 2)
    assert [each["attempt"] for each in job["failures"]] == [1, 2]
    assert {each["message"] for each in job["failures"]} == {"no answer to bad"}
    assert run.record["jobs"]["__job__"] == job


def test_a_job_is_tried_as_often_as_it_says(host: LocalHost, models: ScriptedModels) -> None:
    failing = Failing()
    models.reply = failing.reply
    run = ran(host, "workflow: {job: {input: bad, retry: {max_attempt_count: 3, delay: 1ms}}}")
    assert isinstance(run.error, ModelError) and run.error.message == "no answer to bad"
    assert len(failing.tried) == 3
    assert run.jobs["__job__"]["failed"] == 2  # and the last, which is its error
    assert run.jobs["__job__"]["error"] == {"code": "refused", "message": "no answer to bad"}


def test_a_job_that_waits_for_its_next_attempt_says_so_and_can_be_stopped(
    host: LocalHost, models: ScriptedModels
) -> None:
    failing = Failing()
    models.reply = failing.reply
    flow = "workflow: {job: {input: bad, retry: {max_attempt_count: 3, delay: 1h}}}"
    run = flow_of(host, flow).start({})
    assert run.wait_for(lambda: run.jobs.get("__job__", {}).get("state") == "waiting", 90)
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"
    assert run.jobs["__job__"]["state"] == "cancelled"
    assert failing.tried == ["bad"]


def test_a_wrong_input_is_not_tried_again(host: LocalHost, models: ScriptedModels) -> None:
    flow = """
    workflow:
      job: {input: "${input.x}", retry: 5, output: "${output as integer}"}
    """
    run = ran(host, flow, x="a")
    assert isinstance(run.error, InputError)
    assert models.prompts == ["a"]
    assert "failed" not in run.jobs["__job__"]


def test_each_attempt_has_another_seed_and_the_same_ones_again(
    host: LocalHost, models: ScriptedModels
) -> None:
    """An attempt within another one, too: of the loop, and of what is in it."""
    models.reply = Failing().reply
    flow = """
    workflow:
      job:
        type: loop
        retry: 3
        max_iteration_count: 1
        until: {input: 1, value: 1}
        do: {input: bad, retry: 3}
    """
    story = flow_of(host, flow)
    run = story.start({}, seed=5)
    assert run.wait(90) and run.state == "failed"
    seeds = [each["seed"] for each in models.parameters]
    assert len(set(seeds)) == len(seeds) == 9
    again = story.start({}, seed=5)
    assert again.wait(90)
    assert [each["seed"] for each in models.parameters[9:]] == seeds
    assert run.jobs["__job__"]["failed"] == 8


STORY = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: Once upon a time
  temperature: 1.0
  max_output_length: ${input.tokens | 8}
"""


def test_another_attempt_gives_another_text_and_its_stream_begins_anew(real: LocalHost) -> None:
    """A sentence that does not end within its limit is a failure."""
    text = STORY + "  format: {regex: '[A-Za-z ,]+[.]'}\nworkflow: {job: {retry: 100}}\n"
    run = load(text, host=real).start({"tokens": 12}, seed=1)
    assert run.wait(90) and run.state == "completed"
    made = run.record["generations"]
    assert len({each["parameters"]["seed"] for each in made}) == len(made) > 1
    assert len({each["texts"][0] for each in made}) > 1
    assert {tuple(each["stream"]) for each in made} == {("__job__", 0, 0)}
    assert [each["code"] for each in run.jobs["__job__"]["failures"]][:1] == ["format_cut"]
    assert run.jobs["__job__"]["failed"] == len(made) - 1
    assert (run.text, run.finish_reason) == (run.output, "eos")
    assert run.extendable_by == 0  # of the attempt that counts nothing is cut
    again = real.rerun(run.id)
    assert again.wait(90)
    assert (again.output, again.streams) == (run.output, run.streams)
    texts = [each["texts"] for each in made]
    assert [each["texts"] for each in again.record["generations"]] == texts


# Timeout


def test_an_attempt_that_takes_too_long_is_stopped_within_a_token(real: LocalHost) -> None:
    text = STORY.replace("temperature", "min_output_length: ${input.tokens | 8}\n  temperature")
    load(text, host=real)()  # which loads the model
    flow = load(text + "workflow: {job: {timeout: 50ms, retry: 2}}\n", host=real)
    run = flow.start({"tokens": 500})
    assert run.wait(90)
    assert run.error is not None and run.error.code == "job_timeout"
    assert "longer than 0.05 s" in run.error.message
    assert run.error.where is not None and run.error.where.keys == "workflow.job.timeout"
    made = run.record["generations"]
    assert [each["finish_reasons"] for each in made] == [["cancelled"]] * 2
    assert all(each["usage"]["generated"] < 500 for each in made)
    assert len({each["parameters"]["seed"] for each in made}) == 2
    assert run.jobs["__job__"]["failures"][0]["code"] == "job_timeout"
    assert run.finish_reason == "cancelled"


def test_what_a_timeout_leads_to(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("a",)
    flow = """
    workflow:
      job: {input: a, timeout: 1ms, on_error: {output: "${error.code}"}}
    """
    run = ran(host, flow)
    assert run.output == "job_timeout"
    assert models.leases == 0
    models.hold = ()
    assert given(host, flow.replace("1ms", "1h")) == "<a>"


def test_an_inner_job_has_its_own_timeout(host: LocalHost, models: ScriptedModels) -> None:
    models.hold = ("held",)
    flow = """
    workflow:
      job:
        type: for-each
        timeout: 1h
        input: [held, held]
        do: {input: "${item}", timeout: 1ms, on_error: {output: "${error.code}"}}
        on_error: ignore
    """
    assert given(host, flow) == ["job_timeout"] * 2


def test_a_timeout_stays_one_though_something_within_has_failed_before(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold, models.reply = ("held",), Failing().reply
    flow = """
    workflow:
      job:
        type: loop
        timeout: 100ms
        max_iteration_count: 2
        until: {input: "${iteration}", value: 1}
        do:
          type: for-each
          input: ${output | ["bad"]}
          do: {input: "${item}"}
          on_error: {output: [held]}
        on_error: {output: "it took too long: ${error.code}"}
    """
    run = ran(host, flow)
    assert run.output == "it took too long: job_timeout"
    assert [each["code"] for each in run.jobs["__job__"]["failures"]] == ["refused", "job_timeout"]


# Failures that lead elsewhere


def test_a_failure_is_ignored(host: LocalHost, models: ScriptedModels) -> None:
    models.reply = Failing().reply
    flow = """
    workflow:
      jobs:
        - {id: a, input: bad, on_error: ignore}
        - {id: b, input: "b ${jobs.a.output}"}
    """
    run = ran(host, flow)
    assert run.output == "<b >"
    assert states(run) == {"a": "completed", "b": "completed"}
    assert run.jobs["a"]["error"] == {"code": "refused", "message": "no answer to bad"}


def test_a_failure_gives_a_value_that_says_why(host: LocalHost, models: ScriptedModels) -> None:
    models.reply = Failing().reply
    flow = """
    workflow:
      jobs:
        - id: a
          input: "${input.x}"
          on_error: {output: {why: "${error.message}", code: "${error.code}", of: "${input.x}"}}
          output: {text: "${output}"}
    """
    assert given(host, flow, x="good") == {"text": "<good>"}
    assert given(host, flow, x="bad") == {
        "why": "no answer to bad", "code": "refused", "of": "bad"
    }  # fmt: skip


def test_errors_of_templates_are_failures_too(host: LocalHost) -> None:
    flow = """
    workflow:
      job:
        type: for-each
        input: ${input.list}
        do: {type: delay, duration: 0, input: "${item as integer}"}
        on_error: {output: "${error.code}"}
    """
    assert given(host, flow, list=["1", "2"]) == [1, 2]
    assert given(host, flow, list=["1", "b"]) == "invalid_expression"


HANDLED = """
workflow:
  jobs:
    - {id: a, input: "${input.x}", on_error: ON_ERROR}
    - {id: handler, input: "handled ${input.x}"}
    - {id: after, input: "after ${jobs.a.output}"}
    - {id: merged, input: "merged ${jobs.after.output | ${jobs.handler.output}}"}
"""


def test_a_failure_leads_to_a_job_which_is_skipped_where_there_is_none(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.reply = Failing().reply
    flow = HANDLED.replace("ON_ERROR", "{to: handler}")
    run = ran(host, flow, x="bad")
    assert run.output == "<merged <handled bad>>"
    assert states(run) == {
        "a": "failed", "handler": "completed", "after": "skipped", "merged": "completed"
    }  # fmt: skip
    assert run.jobs["a"]["route"] == "handler"
    run = ran(host, flow, x="good")
    assert run.output == "<merged <after <good>>>"
    assert states(run)["handler"] == "skipped"
    assert "route" not in run.jobs["a"]


def test_a_failure_leads_to_a_job_and_gives_a_value(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.reply = Failing().reply
    run = ran(host, HANDLED.replace("ON_ERROR", "{to: handler, output: instead}"), x="bad")
    assert set(states(run).values()) == {"completed"}
    assert run.output == "<merged <after instead>>"


def test_a_failure_that_nothing_recovers_fails_the_run_and_ends_the_others(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.reply, models.hold = Failing().reply, ("held",)
    flow = """
    workflow:
      jobs:
        - {id: held, input: held}
        - {id: a, type: delay, input: "${input.x}", duration: "${input.seconds | 0}"}
        - {id: b, input: "${jobs.a.output}"}
        - {id: c, input: "${jobs.b.output}"}
    """
    run = ran(host, flow, x="bad")
    assert run.state == "failed"
    assert states(run) == {"held": "cancelled", "a": "completed", "b": "failed", "c": "pending"}


@pytest.mark.parametrize(
    ("requester", "file"),
    [
        (Requester(), "/srv/of jane/keys.txt"),
        (Requester("them", is_guest=True), "…/keys.txt"),
        (Requester("them", is_guest=True, user="ada"), "…/keys.txt"),
    ],
)
def test_guests_with_and_without_a_name_see_no_folder_in_what_a_failure_gives(
    host: LocalHost, models: ScriptedModels, requester: Requester, file: str
) -> None:
    def fail(prompt: str) -> list[str]:
        raise ModelError("no /srv/of jane/keys.txt", code="refused")

    models.reply = fail
    flow = flow_of(host, 'workflow: {job: {input: a, on_error: {output: "${error.message}"}}}')
    run = host.submit(flow.document, requester=requester)
    assert run.wait(30)
    assert run.output == f"no {file}"


def test_what_on_error_cannot_give_is_the_failure(host: LocalHost, models: ScriptedModels) -> None:
    models.reply = Failing().reply
    run = ran(host, 'workflow: {job: {input: bad, on_error: {output: "${error.code as integer}"}}}')
    assert isinstance(run.error, InputError)
    assert run.jobs["__job__"]["state"] == "failed"


def test_failures_of_several_jobs_are_handled_by_one(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.reply = Failing().reply
    flow = """
    workflow:
      jobs:
        - {id: a, input: "${input.x}", on_error: {to: handler}}
        - {id: b, input: "${input.y}", on_error: {to: handler}}
        - {id: handler, input: handled}
      output: ${jobs.handler.output | fine}
    """
    outputs = [given(host, flow, x=x, y=y) for x in ("bad", "a") for y in ("bad", "b")]
    assert outputs == ["<handled>"] * 3 + ["fine"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("retry: 0", "'retry'"),
        ("retry: 101", "'retry'"),
        ("retry: {delay: 1}", "'max_attempt_count' is missing"),
        ("retry: {max_attempt_count: 2, backoff: slow}", "'backoff'"),
        ("retry: {max_attempt_count: 2, delay: -1}", "'delay'"),
        ("timeout: 0", "'timeout'"),
        ("timeout: soon", "'timeout'"),
        ("on_error: other", "'on_error' cannot be 'other'"),
        ("on_error: {to: other}", "there is no job 'other'"),
        ("on_error: {}", "'output' is missing"),
        ("on_error: {output: '${error.message}'}, output: '${error.code}'", "'error'"),
    ],
)
def test_wrong_recoveries_are_errors_of_the_document(keys: str, message: str) -> None:
    assert message in problem(f"workflow: {{jobs: [{{id: a, {keys}}}]}}")


# Many tasks together


async def never() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise ModelError("it has failed")


def test_who_is_cancelled_as_something_fails_is_cancelled() -> None:
    """So that nothing goes on from a failure in a run that is stopped."""

    async def work() -> None:
        await together([never(), fails()])

    async def main() -> None:
        task = asyncio.create_task(work())
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()

    asyncio.run(main())


def test_a_failure_leaves_no_mark_of_a_cancel() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                with pytest.raises(ModelError):
                    await together([never(), fails()])
                await never()
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()

    asyncio.run(main())


def test_what_is_cancelled_by_what_it_calls_is_a_failure() -> None:
    async def cancelled() -> None:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def main() -> None:
        with pytest.raises(ComposeError, match="was cancelled, and not by the run"):
            await together([never(), cancelled()])

    asyncio.run(main())


def test_a_run_is_stopped_within_a_token_whatever_would_recover_it(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("a",)
    flow = """
    workflow:
      jobs:
        - id: a
          type: for-each
          input: [a]
          retry: 3
          do: {input: "${item}", retry: 3, timeout: 1h, on_error: ignore}
          on_error: {to: b, output: x}
        - {id: b, input: b}
    """
    run = flow_of(host, flow).start({})
    assert models.started.acquire(timeout=90)
    run.cancel()
    assert run.wait(90) and run.state == "cancelled"
    until(lambda: models.leases == 0)
    assert models.prompts == ["a"]
    assert states(run) == {"a": "cancelled", "b": "pending"}
