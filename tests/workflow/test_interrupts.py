"""Runs that wait for a person: what they ask, what an answer does, how long they wait."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, InputError, LocalHost, Run, State, load
from modelcompose_jupyter.document import DocumentError
from modelcompose_jupyter.workflow import EVENT_DATA

COMPONENT = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input as text}
"""
SECONDS = 20


def submit(host: LocalHost, jobs: str, **inputs: Any) -> Run:
    flow = load(COMPONENT + "workflow:\n  jobs:\n" + jobs, host=host)
    return flow.submit(inputs or ({"prompt": "a"} if flow.inputs else {}))


def asked(run: Run, count: int = 1) -> list[dict[str, Any]]:
    """The questions that a run waits at, when there are so many."""
    assert run.wait_for(lambda: run.done or len(run.questions) == count, SECONDS)
    assert not run.done, run.error
    return run.questions


def ended(run: Run) -> Any:
    assert run.wait(SECONDS)
    return run.result()


BEFORE = """
    - id: write
      input: ${input.prompt as text}
      interrupt:
        before: {message: "Write ${job.input}?", metadata: {words: 3}}
"""
AFTER = """
    - id: write
      input: ${input.prompt as text}
      output: {text: "${output}"}
      interrupt: {after: {message: "${job.input} gave ${job.output}"}}
"""


def test_a_job_asks_before_it_runs(host: LocalHost, models: ScriptedModels) -> None:
    run = submit(host, BEFORE)
    (question,) = asked(run)
    assert question["id"] == "write.before"
    assert (question["job"], question["place"], question["phase"]) == ("write", [], "before")
    assert (question["message"], question["metadata"]) == ("Write a?", {"words": 3})
    assert (question["value"], question["choices"]) == ("a", None)
    assert run.state == "interrupted" == run.jobs["write"]["state"]
    assert models.prompts == []
    run.answer("b")
    assert ended(run) == "<b>"
    assert run.jobs["write"]["state"] == "completed"


@pytest.mark.parametrize(("jobs", "output"), [(BEFORE, "<a>"), (AFTER, {"text": "<a>"})])
def test_no_answer_is_to_go_on_as_it_is(host: LocalHost, jobs: str, output: Any) -> None:
    run = submit(host, jobs)
    asked(run)
    run.answer()
    assert ended(run) == output


def test_a_job_asks_when_it_has_run_and_before_its_output_is_made(host: LocalHost) -> None:
    run = submit(host, AFTER)
    (question,) = asked(run)
    assert (question["message"], question["value"]) == ("a gave <a>", "<a>")
    run.answer("better")
    assert ended(run) == {"text": "better"}


def test_the_bare_form_asks_without_words(host: LocalHost) -> None:
    run = submit(
        host, "    - {id: write, input: '${input.prompt as text}', interrupt: {after: true}}"
    )
    (question,) = asked(run)
    assert (question["message"], question["metadata"], question["value"]) == (None, None, "<a>")
    run.answer(["any", "data"])
    assert ended(run) == ["any", "data"]


CONDITION = """
    - id: write
      input: ${input.prompt as text}
      interrupt:
        after: {condition: {input: "${job.output}", operator: match, value: bad}}
"""


def test_a_condition_says_whether_it_is_asked(host: LocalHost) -> None:
    good = submit(host, CONDITION, prompt="good")
    assert ended(good) == "<good>"
    assert (good.asked, good.has_asked, "questions" in good.record) == ([], False, False)
    bad = submit(host, CONDITION, prompt="bad")
    asked(bad)
    bad.answer("good")
    assert ended(bad) == "good"


CHOICES = """
    - id: write
      input: ${input.prompt as text}
      interrupt: {after: {choices: ["${job.output}", other, 3]}}
"""


def test_of_choices_the_answer_is_one(host: LocalHost) -> None:
    run = submit(host, CHOICES)
    (question,) = asked(run)
    assert question["choices"] == ["<a>", "other", 3]
    with pytest.raises(InputError, match="none of the answers") as caught:
        run.answer("fourth")
    assert caught.value.code == "not_a_choice"
    run.answer(3)
    assert ended(run) == 3


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("choices: '${job.input}'", "'choices' of an interrupt is a list"),
        ("choices: []", "'choices' of an interrupt is a list"),
        ("metadata: ['${job.input}']", "'metadata' of an interrupt is a mapping"),
        ("message: '${job.input as integer}'", "is not an integer"),
    ],
)
def test_what_cannot_be_asked_fails_the_job(host: LocalHost, what: str, message: str) -> None:
    run = submit(
        host, f"    - {{id: write, input: '${{input}}', interrupt: {{before: {{{what}}}}}}}"
    )
    with pytest.raises(InputError, match=message) as caught:
        ended(run)
    assert caught.value.where is not None
    assert not run.has_asked


def test_answers_that_nobody_waits_for_are_errors(host: LocalHost) -> None:
    run = submit(host, BEFORE)
    asked(run)
    with pytest.raises(InputError, match="no question 'wrote") as unknown:
        run.answer("b", "wrote.before")
    run.answer("b")
    with pytest.raises(InputError, match="not open any more") as answered:
        run.answer("c", "write.before")
    assert ended(run) == "<b>"
    with pytest.raises(InputError, match="waits for no answer") as none:
        run.answer("d")
    codes = [caught.value.code for caught in (unknown, answered, none)]
    assert codes == ["unknown_question", "already_answered", "no_question"]


def test_a_question_is_named_by_its_id(host: LocalHost) -> None:
    run = submit(host, BEFORE)
    asked(run)
    for named in (run.questions[0], 0):
        with pytest.raises(InputError, match="named by its id") as caught:
            run.answer("b", named)  # type: ignore[arg-type]
        assert caught.value.code == "unknown_question"
    run.answer("b")
    assert ended(run) == "<b>"


@pytest.mark.parametrize("value", [object(), {1}, float("nan"), [b"a"]])
def test_an_answer_is_plain_data(host: LocalHost, value: Any) -> None:
    run = submit(host, BEFORE)
    asked(run)
    with pytest.raises(InputError, match="the answer is no plain data"):
        run.answer(value)
    run.answer("b")
    assert ended(run) == "<b>"


TWO = """
    - {id: a, input: one, interrupt: {after: true}}
    - {id: b, input: two, interrupt: {after: true}}
    - {id: c, input: three}
"""


def test_several_questions_are_answered_by_their_ids(host: LocalHost) -> None:
    run = submit(host, TWO)
    questions = asked(run, 2)
    assert {each["id"] for each in questions} == {"a.after", "b.after"}
    with pytest.raises(InputError, match="several questions") as caught:
        run.answer("x")
    assert caught.value.code == "several_questions"
    run.answer("x", "b.after")
    assert run.state is State.INTERRUPTED
    run.answer("y", "a.after")
    assert ended(run) == {"a": "y", "b": "x", "c": "<three>"}


def test_others_go_on_while_one_waits(host: LocalHost) -> None:
    run = submit(host, TWO)
    asked(run, 2)
    assert run.wait_for(lambda: run.jobs["c"]["state"] == "completed", SECONDS)
    assert run.state is State.INTERRUPTED
    run.cancel()
    assert run.wait(SECONDS)


EACH = """
    - id: items
      type: for-each
      input: ${input.lines as list}
      do:
        interrupt: {after: {message: "${item} (${index})"}}
"""


def test_inner_jobs_ask_for_themselves(host: LocalHost) -> None:
    run = submit(host, EACH + "      batch_size: 3\n", lines=["x", "y", "z"])
    questions = sorted(asked(run, 3), key=lambda each: each["place"])
    assert [each["id"] for each in questions] == [f"items[{index}].after" for index in range(3)]
    assert [each["message"] for each in questions] == ["x (0)", "y (1)", "z (2)"]
    assert run.jobs["items"]["state"] == "interrupted"
    for each in questions[1:]:
        run.answer(f"new {each['value']}", each["id"])
    assert run.jobs["items"]["state"] == "interrupted"
    run.answer(None, questions[0]["id"])
    assert ended(run) == ["<x>", "new <y>", "new <z>"]


LOOP = """
    - id: write
      type: loop
      input: ${input.prompt as text}
      max_iteration_count: 5
      until: {input: "${output}", operator: eq, value: done}
      do: {interrupt: {after: {message: "Round ${iteration}"}}}
"""


def test_each_round_of_a_loop_asks(host: LocalHost) -> None:
    run = submit(host, LOOP)
    for number, answer in enumerate(["again", "done"]):
        assert run.wait_for(lambda: run.done or len(run.asked) > number, SECONDS)  # noqa: B023
        (question,) = run.questions
        assert (question["message"], question["place"]) == (f"Round {number}", [number])
        run.answer(answer)
    assert ended(run) == "done"


REPEATED = """
    - id: write
      input: ${input.prompt as text} ${index}
      repeat_count: 2
      interrupt: {before: true, after: true}
"""


@pytest.mark.parametrize(("answer", "output"), [(None, ["<a 0>", "<a 1>"]), ("b", ["<b>", "<b>"])])
def test_a_job_that_is_repeated_asks_once(host: LocalHost, answer: Any, output: Any) -> None:
    run = submit(host, REPEATED)
    (question,) = asked(run)
    assert question["value"] == "a 0"
    run.answer(answer)
    assert run.wait_for(lambda: [each["id"] for each in run.questions] == ["write.after"], SECONDS)
    assert run.questions[0]["value"] == output
    run.answer()
    assert ended(run) == output


ROUTED = """
    - id: review
      type: if
      input: ${input.prompt as text}
      operator: eq
      value: good
      if_true: keep
      if_false: again
      interrupt: {before: {choices: [good, bad]}}
    - {id: keep, input: kept}
    - {id: again, input: anew}
"""


@pytest.mark.parametrize(("answer", "output"), [("good", "<kept>"), ("bad", "<anew>")])
def test_an_answer_decides_where_a_router_leads(host: LocalHost, answer: str, output: str) -> None:
    run = submit(host, ROUTED)
    asked(run)
    run.answer(answer)
    assert ended(run) == output


RECOVERED = """
    - id: write
      input: ${input.prompt as text}
      retry: 3
      timeout: 20ms
      interrupt: {before: {timeout: 60ms}}
      on_error: {output: "${error.code}"}
"""


def test_a_question_is_open_for_so_long_and_is_not_asked_again(
    host: LocalHost, models: ScriptedModels
) -> None:
    run = submit(host, RECOVERED)
    assert ended(run) == "unanswered"  # and not for the job's own time, which is shorter
    assert [each["state"] for each in run.asked] == ["expired"]
    assert run.jobs["write"]["failed"] == 1
    assert models.prompts == []


def test_without_on_error_nobody_answering_fails_the_run(host: LocalHost) -> None:
    run = submit(host, RECOVERED.replace("on_error", "#"))
    with pytest.raises(ComposeError, match="nobody has answered within") as caught:
        ended(run)
    assert caught.value.code == "unanswered"
    assert caught.value.where is not None
    assert run.questions == []


def test_an_answer_is_kept_over_further_attempts(host: LocalHost, models: ScriptedModels) -> None:
    models.failure = ComposeError("none", code="load_failed")
    run = submit(
        host, "    - {id: w, input: '${input.prompt as text}', retry: 2, interrupt: {before: true}}"
    )
    asked(run)
    run.answer("b")
    with pytest.raises(ComposeError, match="none"):
        ended(run)
    assert len(run.asked) == 1
    assert len(models.specs) == 2


def test_waiting_does_not_count_to_a_runs_time_and_working_does(
    host: LocalHost, models: ScriptedModels
) -> None:
    """The clock of the run stands still while it only waits: it is over by far before the answer
    comes, which is of another job's doing."""
    host.limit(max_run_seconds=0.15)
    waits = submit(host, "    - {id: w, input: a, interrupt: {before: {timeout: 400ms}}}")
    with pytest.raises(ComposeError) as caught:
        ended(waits)
    assert caught.value.code == "unanswered"
    models.hold = ("held",)
    works = submit(
        host, "    - {id: w, input: a, interrupt: {before: true}}\n    - {id: x, input: held}"
    )
    with pytest.raises(ComposeError) as caught:
        ended(works)
    assert caught.value.code == "timeout"
    assert [each["state"] for each in works.asked] == ["withdrawn"]


def test_the_time_of_a_job_around_it_does_not_count_either(host: LocalHost) -> None:
    jobs = EACH.replace("after:", "before:").replace(
        '{message: "${item} (${index})"}', "{timeout: 400ms}"
    )
    run = submit(
        host,
        jobs + "      timeout: 100ms\n      on_error: {output: '${error.code}'}\n",
        lines=["x"],
    )
    assert ended(run) == "unanswered"


def test_a_run_that_is_stopped_withdraws_its_questions(host: LocalHost) -> None:
    run = submit(host, TWO)
    asked(run, 2)
    run.cancel()
    assert run.wait(SECONDS)
    assert run.state is State.CANCELLED
    assert run.questions == []
    assert {each["state"] for each in run.asked} == {"withdrawn"}
    assert {name: job["state"] for name, job in run.jobs.items() if name != "c"} == {
        "a": "cancelled", "b": "cancelled"
    }  # fmt: skip
    with pytest.raises(InputError, match="not open any more"):
        run.answer("x", "a.after")


def test_one_of_many_answers_counts(host: LocalHost) -> None:
    run = submit(host, AFTER)
    asked(run)
    taken: list[str] = []
    start = threading.Barrier(8)

    def answer(text: str) -> None:
        start.wait()
        try:
            run.answer(text, "write.after")
            taken.append(text)
        except InputError as error:
            assert error.code == "already_answered"

    threads = [threading.Thread(target=answer, args=(str(number),)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(taken) == 1
    assert ended(run) == {"text": taken[0]}


def test_who_watches_may_answer_at_once(host: LocalHost) -> None:
    """On the host's own thread, in the middle of being told of it."""
    run = submit(host, AFTER)

    def look() -> None:
        if run.questions:
            run.answer("quick")

    run.watch(look)
    look()
    assert ended(run) == {"text": "quick"}


def test_the_record_has_what_was_asked_and_answered(host: LocalHost) -> None:
    run = submit(host, AFTER)
    asked(run)
    run.answer("better")
    ended(run)
    assert run.record["questions"] == [
        {
            "id": "write.after",
            "job": "write",
            "phase": "after",
            "message": "a gave <a>",
            "state": "answered",
            "answer": "better",
        }
    ]
    again = host.rerun(run.id)
    assert asked(again)[0]["message"] == "a gave <a>"
    again.answer()
    assert ended(again) == {"text": "<a>"}


def test_events_tell_all_of_a_question_each_time(host: LocalHost) -> None:
    run = submit(host, AFTER)
    asked(run)
    (opened,) = (event for event in run.events_so_far() if event.type == "question")
    run.answer("better")
    ended(run)
    (answered,) = (event for event in run.events() if event.type == "question")  # merged
    assert {**opened.data, "state": "answered", "answer": "better"} == answered.data
    for event in (opened, answered):
        EVENT_DATA["question"].model_validate(event.data)
        assert event.data.keys() <= EVENT_DATA["question"].model_fields.keys()


def test_secrets_are_not_shown_and_still_used(host: LocalHost, models: ScriptedModels) -> None:
    component = COMPONENT.replace("scripted", "{repository: scripted, token: '${input.token}'}")
    text = component + (
        "workflow:\n  jobs:\n    - id: write\n      input: {token: '${input.token}', n: 1}\n"
        "      interrupt: {before: {message: 'With ${input.token}?'}}\n"
    )
    run = load(text, host=host).submit(token="abcdefghijkl")
    (question,) = asked(run)
    assert "abcdefghijkl" not in str(question)
    run.answer()
    ended(run)
    assert models.specs[0].token == "abcdefghijkl"
    assert "abcdefghijkl" not in str(run.record)


def test_a_score_asks_nobody(host: LocalHost) -> None:
    text = COMPONENT + "workflow: {input: '${input.prompt as text}', interrupt: {before: true}}"
    run = load(text, host=host).start({"prompt": "a"}, score="b")
    run.wait(SECONDS)
    assert not run.has_asked


def test_a_question_before_a_job_sees_no_output() -> None:
    with pytest.raises(DocumentError, match=r"\$\{job.output\} is not known before the job"):
        load(COMPONENT + "workflow: {interrupt: {before: {message: '${job.output}'}}}")
