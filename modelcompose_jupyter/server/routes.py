"""The run API, route by route. Paths, fields and statuses are model-compose's where it has them."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from typing import Any

from ..document import signature
from ..errors import ComposeError, InputError, listed, shortened
from ..path_redaction import HIDDEN, public
from ..redaction import texts_of
from ..workflow import Run, State
from ..workflow.options import checked
from .access import AccessError, owner_alone
from .catalog import Served
from .events import resume_point, run_events, run_text
from .http import ApiRequest, ApiResponse, EventStream, Route, status_of
from .metrics import CONTENT_TYPE
from .schemas import (
    DocumentKey,
    DocumentText,
    Failure,
    Health,
    ModelsAnswer,
    Resume,
    RunRequest,
    TaskState,
    Unload,
    WorkflowSchema,
    WorkflowSummary,
    failure,
    interrupt,
    outline,
    public_model,
    public_state,
    task_state,
)
from .tasks import Task, Terms

_CANCEL_SECONDS = 10.0


async def health(request: ApiRequest) -> ApiResponse:
    if request.state.is_closing:
        return ApiResponse({"status": "shutting_down"}, 503)
    return ApiResponse({"status": "ok"})


async def list_workflows(request: ApiRequest) -> ApiResponse:
    catalog = request.state.documents.catalog
    full = _flag(request, "include_schema")
    return ApiResponse(
        [_described(request, id, each, full=full) for id, each in catalog.workflows.items()]
    )


async def workflow_schema(request: ApiRequest) -> ApiResponse:
    catalog = request.state.documents.catalog
    served = catalog.find(request.path["workflow_id"])
    id = next(id for id, each in catalog.workflows.items() if each is served)
    return ApiResponse(_described(request, id, served, full=True))


def _described(request: ApiRequest, id: str, served: Served, *, full: bool) -> dict[str, Any]:
    """What is said of a workflow, to who asks; in full with its inputs and outputs."""
    workflow, is_guest = served.workflow, request.is_guest
    keys = ("title", "description") if full else ("title",)
    words = {key: text for key in keys if (text := getattr(workflow, key))}
    default = {"default": True} if id == request.state.documents.catalog.default else {}
    described = {"workflow_id": id, **(public(words) if is_guest else words), **default}
    if not full:
        return described
    types = signature(served.document, workflow)
    return {**described, **(types.for_guests() if is_guest else types).to_dict()}


async def run_workflow(request: ApiRequest) -> ApiResponse | EventStream:
    body: RunRequest = request.body
    streams = body.stream or "text/event-stream" in request.headers.get("Accept", "")
    waits = body.wait_for_completion and not streams
    linger = 0.0 if body.linger is None and (waits or streams) else body.linger
    terms = Terms(request.state.tasks, request.caller, linger, body.session_id)
    run = await _submit(request, body, terms)
    await request.state.host.accepted(run)
    request.run_id = run.id
    task = Task(run, terms)
    if streams:
        caller = request.caller
        events = run_text(task, caller) if body.output_only else run_events(task, caller, -1)
        return EventStream(task, events, result=run)
    with task.watching():
        if waits and not await request.unless_disconnected(_until_told(run)):
            return ApiResponse()
    if not waits:
        return _state(request, task, hands_over=False)
    if body.output_only:
        return _output_only(request, task)
    return _state(request, task, status=_status_of(run))


async def _submit(request: ApiRequest, body: RunRequest, terms: Terms) -> Run:
    host = request.state.host
    given: dict[str, Any] = {"requester": terms.requester, "metadata": body.metadata}
    if body.rerun_of is not None:
        first = await request.state.tasks.find(body.rerun_of, request.caller)
        return host.rerun(first.run.id, **given)
    if body.extension_of is not None:
        first = await request.state.tasks.find(body.extension_of, request.caller)
        return host.extend(first.run.id, body.extend_by, **given)
    if (point := body.branch) is not None:
        first = await request.state.tasks.find(point.of, request.caller)
        return host.branch(first.run.id, point.token, point.alternative, point.text, **given)
    served = _chosen(request, body)
    if body.format is not None:  # which may take a while, and is remembered
        await asyncio.to_thread(checked, {"format": body.format})
    # Modules may be imported for it, which takes a while.
    steps = await asyncio.to_thread(served.steps) if served.document.named_functions else {}
    return host.submit(
        served.document,
        served.workflow.id,
        _input(request, served, body.input),
        seed=body.seed,
        extended_by=body.extend_by,
        logprobs=body.logprobs,
        begins_with=[
            {"stream": each.stream, "tokens": each.tokens, "prompt": each.prompt}
            for each in body.begins_with or ()
        ],
        score=body.score,
        format=body.format,
        steps=steps,
        **given,
    )


def _chosen(request: ApiRequest, body: RunRequest) -> Served:
    """The workflow to run, of what the caller may run."""
    documents, caller = request.state.documents, request.caller
    if body.document is None:
        return documents.catalog.find(body.workflow_id)
    if request.is_guest and documents.brought(body.document, caller) is None:
        return documents.offered(body.document).find(body.workflow_id)
    return documents.find_served(body.document, body.workflow_id, caller)


def _input(request: ApiRequest, served: Served, given: Any) -> Any:
    """The inputs of a run; guests give values of the document as these are shown to them."""
    if not request.is_guest or not any(HIDDEN in text for text in texts_of(given)):
        return given
    return signature(served.document, served.workflow).from_guests(given)


async def _until_told(run: Run) -> bool:
    """Wait until there is something to tell of a run: it has ended, or asks something."""
    return await run.until(lambda: run.done or run.state is State.INTERRUPTED)


def _status_of(run: Run) -> int:
    return status_of(run.error) if run.state is State.FAILED and run.error else 200


def _state(
    request: ApiRequest, task: Task, status: int = 200, *, hands_over: bool = True
) -> ApiResponse:
    """A task as it is now. Who does not wait comes for the result, though it may be in here: it is
    not handed over."""
    run = task.run
    # First: what is read after the end is complete.
    result = task.result_for(request.caller) if hands_over else None
    state = task_state(run, task.terms.session_id, task.terms.caller.user)
    if not request.caller.may_read(task.terms.caller):
        return ApiResponse(outline(state), status)
    if request.is_guest:
        return ApiResponse(public_state(state), status, result=result)
    return ApiResponse({**state, "input": run.input, "record": run.record}, status, result=result)


def _output_only(request: ApiRequest, task: Task) -> ApiResponse:
    run, result = task.run, task.result_for(request.caller)
    if run.state is State.COMPLETED:
        return ApiResponse(run.output, result=result)
    if run.state is State.FAILED and run.error is not None:
        error = failure(run.error, request.is_guest)
        return ApiResponse(error, _status_of(run), result=result)
    return _state(request, task, 409 if run.done else 202)


async def list_tasks(request: ApiRequest) -> ApiResponse:
    left_out = {"text"}
    if not _flag(request, "include_output"):  # nor what is asked, which has values to review
        left_out |= {"output", "interrupt"}
    states = []
    async for task in request.state.tasks.visible(request.caller, request.query.get("session_id")):
        state = _state(request, task).data
        states.append({key: value for key, value in state.items() if key not in left_out})
    return ApiResponse(states)


async def get_task(request: ApiRequest) -> ApiResponse:
    task = await _task(request)
    if _flag(request, "output_only"):
        return _output_only(request, task)
    return _state(request, task)


async def cancel_task(request: ApiRequest) -> ApiResponse:
    task = await _task(request, to_stop=True)
    if task.run.done:
        message = {
            State.COMPLETED: "the task has completed already",
            State.FAILED: "the task has failed already",
            State.CANCELLED: "the task was cancelled already",
        }[task.run.state]
        raise ComposeError(message, code="already_ended")
    task.run.cancel()
    if request.query.get("wait_for_completion", "true") in ("false", "0"):
        return _state(request, task, hands_over=False)
    # A load may not let go so soon; it goes on to stop.
    await request.unless_disconnected(task.run.until_done(_CANCEL_SECONDS))
    return _state(request, task)


async def resume_task(request: ApiRequest) -> ApiResponse:
    """Answer what a task asks: all of it, or nothing where one of the answers cannot be."""
    task = await _task(request)
    body: Resume = request.body
    if body.job_id is not None:
        answers = {_question_of(task.run, body.job_id, body.run_id): body.answer}
    elif body.answer:
        answers = body.answer
    else:
        answers = dict.fromkeys(each["id"] for each in task.run.questions)
    for id in answers or [None]:
        task.run.check_answer(answers.get(id), id)
    for id, value in answers.items():
        await asyncio.to_thread(task.run.answer, value, id)
    return _state(request, task, hands_over=False)


def _question_of(run: Run, job: str, place: str | None) -> str | None:
    """The question of a job that is meant; None leaves it to the run to say what is wrong."""
    found = [
        asked["id"]
        for asked in map(interrupt, run.questions)
        if asked["job_id"] == job and place in (None, asked.get("run_id"))
    ]
    if len(found) > 1:
        raise InputError(
            f"job '{shortened(job)}' has several questions",
            hint='Answer them by their ids: {"answer": {"ID": …}}.',
            code="several_questions",
        )
    if not found and run.questions:
        raise InputError(
            f"job '{shortened(place or job)}' asks nothing",
            hint=f"There are questions of {listed(each['job'] for each in run.questions)}.",
            code="unknown_question",
        )
    return next(iter(found), None)


async def task_events(request: ApiRequest) -> ApiResponse | EventStream:
    task = await _task(request)
    after = resume_point(task.run, request.headers.get("Last-Event-ID"), request.query.get("after"))
    if task.run.done and after == task.run.last_event:
        # What tells a browser's EventSource not to come again.
        return ApiResponse(status=204, result=task.result_for(request.caller))
    result = task.run if task.terms.caller == request.caller else None
    return EventStream(task, run_events(task, request.caller, after), result=result)


async def _task(request: ApiRequest, *, to_stop: bool = False) -> Task:
    id, caller = request.path["task_id"], request.caller
    task = await request.state.tasks.find(id, caller, to_stop=to_stop)
    request.run_id = task.run.id
    return task


async def list_models(request: ApiRequest) -> ApiResponse:
    host = request.state.host
    models = [dataclasses.asdict(each) for each in await asyncio.to_thread(host.models)]
    if request.is_guest:
        models = [public_model(each) for each in models]
    memory = await asyncio.to_thread(host.memory)
    capacity = await asyncio.to_thread(host.capacity)
    return ApiResponse(
        {"models": models, "memory": dataclasses.asdict(memory), "capacity": capacity}
    )


async def unload_models(request: ApiRequest) -> ApiResponse:
    unloaded = await asyncio.to_thread(request.state.host.unload, request.body.name)
    return ApiResponse([dataclasses.asdict(each) for each in unloaded])


async def bring_document(request: ApiRequest) -> ApiResponse:
    _check_may_bring(request)
    documents = request.state.documents
    document = await documents.bring(request.body, request.caller)
    return ApiResponse({"key": document.key, "served": documents.serves(document.key)})


async def get_document(request: ApiRequest) -> ApiResponse:
    if request.caller.user is None:
        _check_may_bring(request)
    documents = request.state.documents
    document = documents.find(request.path["key"], request.caller)
    return ApiResponse({"key": document.key, "served": documents.serves(document.key)})


def _check_may_bring(request: ApiRequest) -> None:
    """Raise AccessError where the caller runs no documents of their own here."""
    caller = request.caller
    if caller.is_owner or (caller.user is not None and request.state.settings.user_documents):
        return
    if caller.user is None:
        raise owner_alone()
    raise AccessError(
        "users run here what is served, and no documents of their own",
        hint="Who serves it can allow them, on the models that are served: --user-documents.",
        code="forbidden",
    )


async def shut_down(request: ApiRequest) -> ApiResponse:
    request.state.end_requested.set()
    return ApiResponse({"status": "shutting_down"}, 202)


async def show_metrics(request: ApiRequest) -> ApiResponse:
    metrics, with_users = request.state.metrics, request.caller.manages
    text = await asyncio.to_thread(partial(metrics.text, with_users=with_users))
    return ApiResponse(text, content_type=CONTENT_TYPE)


def _flag(request: ApiRequest, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1", "yes")


_UNKNOWN = {404: Failure}
_NO_TASK = {404: Failure, 410: Failure}
_RUNS = {
    200: TaskState,
    202: TaskState,
    409: TaskState,
    **dict.fromkeys((400, 404, 410, 413, 415, 422, 429, 500, 503), Failure),
}

ROUTES = [
    Route("GET", "/health", health, "Whether requests are taken", open=True,
          answers={200: Health, 503: Health}),
    Route("GET", "/workflows", list_workflows, "The workflows that can be run",
          query={"include_schema": "true adds inputs and outputs"},
          answers={200: list[WorkflowSummary]}),
    Route("GET", "/workflows/{workflow_id}/schema", workflow_schema,
          "A workflow's inputs and outputs", answers={200: WorkflowSchema, **_UNKNOWN}),
    Route("POST", "/workflows/runs", run_workflow, "Run a workflow",
          body=RunRequest, forms=True, answers=_RUNS),
    Route("GET", "/tasks", list_tasks, "The newest of the runs that are known",
          query={"include_output": "true adds outputs",
                 "session_id": "those of a session; a guest's tasks that named one need it, and an"
                               " admin who names none gets all users'"},
          answers={200: list[TaskState]}),
    Route("GET", "/tasks/{task_id}", get_task, "A run as it is now",
          query={"output_only": "true answers with the output alone"}, answers=_RUNS),
    Route("GET", "/tasks/{task_id}/events", task_events, "A run as server-sent events",
          query={"after": "go on after this event, as with Last-Event-ID"},
          answers={200: None, 204: None, 400: Failure, **_NO_TASK}),
    Route("POST", "/tasks/{task_id}/cancel", cancel_task, "Stop a run",
          query={"wait_for_completion": "false answers before it has stopped"},
          answers={200: TaskState, **_NO_TASK, 409: Failure}),
    Route("POST", "/tasks/{task_id}/resume", resume_task, "Answer what a run asks", body=Resume,
          answers={200: TaskState, **dict.fromkeys((400, 409, 422), Failure), **_NO_TASK}),
    Route("GET", "/models", list_models, "The models in memory", answers={200: ModelsAnswer}),
    Route("POST", "/models/unload", unload_models, "Give models' memory back", owner=True,
          body=Unload, answers={200: list[dict[str, Any]], 400: Failure, 500: Failure}),
    Route("POST", "/documents", bring_document, "Make a document known",
          body=DocumentText, answers={200: DocumentKey, 400: Failure, 422: Failure}),
    Route("GET", "/documents/{key}", get_document, "Whether a document is known",
          answers={200: DocumentKey, **_UNKNOWN}),
    Route("POST", "/shutdown", shut_down, "End the server", owner=True, answers={202: Health}),
    Route("GET", "/metrics", show_metrics, "Metrics for Prometheus", answers={200: "text/plain"}),
]  # fmt: skip
