"""The run API, route by route. Paths, fields and statuses are model-compose's where it has them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from ..document import signature
from ..errors import ComposeError
from ..path_redaction import HIDDEN, public
from ..redaction import texts_of
from ..workflow import Run, State
from .access import Caller
from .catalog import Served
from .events import resume_point, run_events, run_text
from .handler import ApiRequest, ApiResponse, Route, Stream, status_of
from .schemas import (
    DocumentKey,
    DocumentText,
    Failure,
    Health,
    ModelsAnswer,
    RunRequest,
    TaskState,
    Unload,
    WorkflowSchema,
    WorkflowSummary,
    failure,
    public_model,
    public_state,
    task_state,
)
from .tasks import Task, Terms

_CANCEL_SECONDS = 10.0


async def health(call: ApiRequest) -> ApiResponse:
    if call.server.closing:
        return ApiResponse({"status": "shutting_down"}, 503)
    return ApiResponse({"status": "ok"})


async def list_workflows(call: ApiRequest) -> ApiResponse:
    catalog = call.server.documents.catalog
    full = _flag(call, "include_schema")
    return ApiResponse(
        [_described(call, id, each, full=full) for id, each in catalog.workflows.items()]
    )


async def workflow_schema(call: ApiRequest) -> ApiResponse:
    catalog = call.server.documents.catalog
    id = call.path["workflow_id"]
    served = catalog.find(id)
    name = next(each for each, known in catalog.workflows.items() if known is served)
    return ApiResponse(_described(call, name, served, full=True))


def _described(call: ApiRequest, id: str, served: Served, *, full: bool) -> dict[str, Any]:
    """What is said of a workflow, to who asks; in full with its inputs and outputs."""
    workflow, is_guest = served.workflow, call.caller is not Caller.OWNER
    keys = ("title", "description") if full else ("title",)
    words = {key: text for key in keys if (text := getattr(workflow, key))}
    default = {"default": True} if id == call.server.documents.catalog.default else {}
    said = {"workflow_id": id, **(public(words) if is_guest else words), **default}
    if not full:
        return said
    types = signature(served.document, workflow)
    return {**said, **(types.for_guests() if is_guest else types).to_dict()}


async def run_workflow(call: ApiRequest) -> ApiResponse | Stream:
    request: RunRequest = call.body
    server = call.server
    streams = request.stream or "text/event-stream" in call.headers.get("Accept", "")
    waits = request.wait_for_completion and not streams
    linger = 0.0 if request.linger is None and (waits or streams) else request.linger
    terms = Terms(server.tasks, call.caller, linger, request.session_id)
    run = await _submitted(call, request, terms)
    call.run = run.id
    task = Task(run, terms)
    if streams:
        return Stream(_watched(call, task, _events_of(task, call, request)), result=run)
    with server.tasks.watching(task):
        if waits and not await call.until_gone(run.until_done()):
            return ApiResponse()
    if not waits:
        return _later(_state(call, task))
    if request.output_only:
        return _output_only(call, task)
    return _state(call, task, status=_status_of(run))


def _later(reply: ApiResponse) -> ApiResponse:
    """An answer to who does not wait, and comes for the result though it may be in here already."""
    return dataclasses.replace(reply, result=None)


async def _submitted(call: ApiRequest, request: RunRequest, terms: Terms) -> Run:
    host, metadata = call.server.host, request.metadata
    if request.rerun_of is not None:
        first = await call.server.tasks.find(request.rerun_of, call.caller)
        return host.rerun(first.run.id, owed_to=terms, metadata=metadata, is_guest=terms.is_guest)
    document, workflow = served = _chosen(call, request)
    return host.submit(
        document,
        workflow.id,
        _input(call, served, request.input),
        seed=request.seed,
        owed_to=terms,
        metadata=metadata,
        is_guest=terms.is_guest,
    )


def _input(call: ApiRequest, served: Served, given: Any) -> Any:
    """The inputs of a run; guests give values of the document as these are shown to them."""
    if call.caller is Caller.OWNER or not any(HIDDEN in text for text in texts_of(given)):
        return given
    return signature(served.document, served.workflow).from_guests(given)


def _chosen(call: ApiRequest, request: RunRequest) -> Served:
    documents = call.server.documents
    if request.document is None:
        return documents.catalog.find(request.workflow_id)
    if call.caller is not Caller.OWNER:
        return documents.offered(request.document).find(request.workflow_id)
    document = documents.find(request.document)
    return Served(document, document.workflow(request.workflow_id))


def _events_of(task: Task, call: ApiRequest, request: RunRequest) -> AsyncIterator[str]:
    if request.output_only:
        return run_text(task, call.caller)
    return run_events(task, call.caller, -1)


def _watched(call: ApiRequest, task: Task, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Events, with their reader counted among those who watch from now on."""
    watch = contextlib.ExitStack()
    watch.enter_context(call.server.tasks.watching(task))

    async def watched() -> AsyncIterator[str]:
        with watch:
            async for each in events:
                yield each

    return watched()


def _status_of(run: Run) -> int:
    return status_of(run.error) if run.state is State.FAILED and run.error else 200


def _state(call: ApiRequest, task: Task, status: int = 200) -> ApiResponse:
    run = task.run
    result = task.result_for(call.caller)  # first: what is read after the end is complete
    state = task_state(run, task.terms.session_id)
    if call.caller is Caller.OWNER:
        told = {**state, "input": run.input, "record": run.record}
        return ApiResponse(told, status, result=result)
    return ApiResponse(public_state(state), status, result=result)


def _output_only(call: ApiRequest, task: Task) -> ApiResponse:
    run, result = task.run, task.result_for(call.caller)
    if run.state is State.COMPLETED:
        return ApiResponse(run.output, result=result)
    if run.state is State.FAILED and run.error is not None:
        error = failure(run.error, public=call.caller is not Caller.OWNER)
        return ApiResponse(error, _status_of(run), result=result)
    return _state(call, task, 409 if run.done else 202)


async def list_tasks(call: ApiRequest) -> ApiResponse:
    states = []
    async for task in call.server.tasks.visible(call.caller, call.query.get("session_id")):
        state = _state(call, task).data
        state.pop("text", None)
        states.append(state if _flag(call, "include_output") else _without_output(state))
    return ApiResponse(states)


def _without_output(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "output"}


async def get_task(call: ApiRequest) -> ApiResponse:
    task = await _task(call)
    return _output_only(call, task) if _flag(call, "output_only") else _state(call, task)


async def cancel_task(call: ApiRequest) -> ApiResponse:
    task = await _task(call)
    if task.run.done:
        verb = "was" if task.run.state is State.CANCELLED else "has"
        raise ComposeError(f"the task {verb} {task.run.state} already", code="already_ended")
    task.run.cancel()
    if call.query.get("wait_for_completion", "true") in ("false", "0"):
        return _later(_state(call, task))
    # A load may not let go so soon; it goes on to stop.
    await call.until_gone(task.run.until_done(_CANCEL_SECONDS))
    return _state(call, task)


async def task_events(call: ApiRequest) -> ApiResponse | Stream:
    task = await _task(call)
    after = resume_point(task.run, call.headers.get("Last-Event-ID"), call.query.get("after"))
    if task.run.done and after == task.run.last_event:
        # What tells a browser's EventSource not to come again.
        return ApiResponse(status=204, result=task.result_for(call.caller))
    result = task.run if task.terms.caller is call.caller else None
    return Stream(_watched(call, task, run_events(task, call.caller, after)), result=result)


async def _task(call: ApiRequest) -> Task:
    task = await call.server.tasks.find(call.path["task_id"], call.caller)
    call.run = task.run.id
    return task


async def list_models(call: ApiRequest) -> ApiResponse:
    host = call.server.host
    models = [dataclasses.asdict(each) for each in host.models()]
    if call.caller is not Caller.OWNER:
        models = [public_model(each) for each in models]
    memory = await asyncio.to_thread(host.memory)
    return ApiResponse({"models": models, "memory": dataclasses.asdict(memory)})


async def unload_models(call: ApiRequest) -> ApiResponse:
    unloaded = await asyncio.to_thread(call.server.host.unload, call.body.name)
    return ApiResponse([dataclasses.asdict(each) for each in unloaded])


async def bring_document(call: ApiRequest) -> ApiResponse:
    documents = call.server.documents
    document = await asyncio.to_thread(documents.bring, call.body)
    return ApiResponse({"key": document.key, "served": documents.serves(document.key)})


async def get_document(call: ApiRequest) -> ApiResponse:
    documents = call.server.documents
    document = documents.find(call.path["key"])
    return ApiResponse({"key": document.key, "served": documents.serves(document.key)})


async def shut_down(call: ApiRequest) -> ApiResponse:
    call.server.ask_to_end()
    return ApiResponse({"status": "shutting_down"}, 202)


async def openapi(call: ApiRequest) -> ApiResponse:
    from .openapi import openapi_document

    return ApiResponse(openapi_document(call.server.routes, call.server.settings.base_path))


def _flag(call: ApiRequest, name: str) -> bool:
    return call.query.get(name, "").lower() in ("true", "1", "yes")


_UNKNOWN = {404: Failure}
_NO_TASK = {404: Failure, 410: Failure}
_RUNS = {
    200: TaskState,
    202: TaskState,
    400: Failure,
    **_NO_TASK,
    409: TaskState,
    413: Failure,
    415: Failure,
    422: Failure,
    429: Failure,
    500: Failure,
    503: Failure,
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
                 "session_id": "those of a session; a guest's tasks that named one need it"},
          answers={200: list[TaskState]}),
    Route("GET", "/tasks/{task_id}", get_task, "A run as it is now",
          query={"output_only": "true answers with the output alone"}, answers=_RUNS),
    Route("GET", "/tasks/{task_id}/events", task_events, "A run as server-sent events",
          query={"after": "go on after this event, as with Last-Event-ID"},
          answers={200: None, 204: None, 400: Failure, **_NO_TASK}),
    Route("POST", "/tasks/{task_id}/cancel", cancel_task, "Stop a run",
          query={"wait_for_completion": "false answers before it has stopped"},
          answers={200: TaskState, **_NO_TASK, 409: Failure}),
    Route("GET", "/models", list_models, "The models in memory", answers={200: ModelsAnswer}),
    Route("POST", "/models/unload", unload_models, "Give models' memory back", owner=True,
          body=Unload, answers={200: list[dict[str, Any]], 400: Failure, 500: Failure}),
    Route("POST", "/documents", bring_document, "Make a document known", owner=True,
          body=DocumentText, answers={200: DocumentKey, 400: Failure, 422: Failure}),
    Route("GET", "/documents/{key}", get_document, "Whether a document is known", owner=True,
          answers={200: DocumentKey, **_UNKNOWN}),
    Route("POST", "/shutdown", shut_down, "End the server", owner=True, answers={202: Health}),
    Route("GET", "/openapi.json", openapi, "This API as OpenAPI", answers={200: dict[str, Any]}),
]  # fmt: skip
