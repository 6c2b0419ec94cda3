"""What a JupyterHub's service shows people in a browser: what it serves, how to use it, who runs
what. Never what was asked and answered. It is in the language that the browser asks for.

It is whole as it comes, of one file without scripts or styles of elsewhere; a script fetches it
again while somebody looks, and forms are what stops runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..document import ModelComponent, signature
from ..errors import ComposeError
from ..formatting import duration
from ..path_redaction import HIDDEN, public, public_source
from ..translation import filled, preferred, translated
from ..workflow.model_specs import written_spec
from .catalog import Served
from .http import ApiRequest, ApiResponse, Route
from .schemas import outline, task_state
from .tasks import Task

_ENDED = 20  # runs that have ended which are shown, the newest
_STOP_SECONDS = 2.0  # for which the page waits for a run to have stopped
_STYLE, _SCRIPT = (
    (Path(__file__).parent / f"hub_page.{kind}").read_text("utf-8") for kind in ("css", "js")
)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_digest(_STYLE)}",
        f"script-src {_digest(_SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""What a browser lets the page do: what stands in it, and forms and requests to this server."""


async def show(request: ApiRequest) -> ApiResponse:
    """The page, as it is for who asks."""
    state, caller, words = request.state, request.caller, Words.of(request.headers)
    served = state.documents.catalog.workflows
    titles = _public(", ".join(each.workflow.title or id for id, each in served.items()))
    user = f"<b>{_text(caller.user or '')}</b>"
    parts = [
        f"<h1>{_text(titles) or words.said('Workflows')}</h1>",
        f"<p>{words.filled('A service of this JupyterHub, where you are {0}.', user)}</p>",
        '<div id="now">',
        await _runs(request, words),
        _users(request, words) if caller.manages else "",
        "</div>",
        _served(served, words),
        _in_notebooks(request, words),
        _from_programs(request, words),
    ]
    return ApiResponse(words.document(titles, *parts), content_type="text/html")


async def stop(request: ApiRequest) -> ApiResponse:
    """End a run; the page is shown again."""
    task = await request.state.tasks.find(request.path["task_id"], request.caller, to_stop=True)
    request.run_id = task.run.id
    task.run.cancel()
    await request.unless_disconnected(task.run.until_done(_STOP_SECONDS))
    return redirection(f"{request.state.settings.root_path}/", 303)


PAGE_ROUTES = [
    Route("GET", "", show, "The page", root=True),
    Route("POST", "/runs/{task_id}/stop", stop, "End a run", root=True),
]


def redirection(to: str, status: int) -> ApiResponse:
    return ApiResponse("", status, {"Location": to}, "text/html")


def error_page(
    error: ComposeError, status: int, headers: Mapping[str, str], prefix: str, words: Words
) -> ApiResponse:
    """What went wrong, for people."""
    message = translated(error.message, words.language)
    parts = [
        f"<h1>{_text(message[:1].upper() + message[1:])}</h1>",
        f"<p>{words.said(_public(error.hint))}</p>" if error.hint else "",
        f'<p><a href="{_text(prefix)}/">{words.said("Back to the page")}</a></p>',
    ]
    page = words.document(translated("Error", words.language), *parts)
    return ApiResponse(page, status, headers, "text/html")


# Who runs what


async def _runs(request: ApiRequest, words: Words) -> str:
    caller = request.caller
    shown = [task async for task in _shown(request)]
    heading = "Runs of all users" if caller.manages else "Your runs"
    if not shown:
        return words.section(heading, f"<p>{words.said('There are none.')}</p>")
    names = ["Run", *(["User"] if caller.manages else []), "Workflow", "State", "Tokens", "Since"]
    rows = [_run(request, task, words) for task in shown]
    return words.section(heading, words.table(heading, [*names, ""], rows))


async def _shown(request: ApiRequest) -> AsyncIterator[Task]:
    """The runs that go on, and behind them the newest of those that have ended."""
    tasks, caller = request.state.tasks, request.caller
    going = [task for task in tasks.going() if caller.may_stop(task.terms.caller)]
    for task in reversed(going):
        yield task
    ended = 0
    async for task in tasks.visible(caller):
        if task.run.done:
            ended += 1
            yield task
        if ended == _ENDED:
            return


def _run(request: ApiRequest, task: Task, words: Words) -> list[str]:
    """A row of the table, as HTML."""
    run, user = task.run, task.terms.caller.user or ""
    told = outline(task_state(run, None, user))
    usage = told.get("usage") or run.usage
    tokens = usage["prompt"] + usage["generated"]
    began = run.began_at
    since = "" if began is None else f"{duration(max(0.0, time.time() - began))} ago"
    what = f"Stop run {run.id} of {user}" if request.caller.manages else f"Stop run {run.id}"
    button = ""
    if not run.done:
        action = f"{request.state.settings.root_path}/runs/{run.id}/stop"
        button = (
            f'<form method="post" action="{_text(action)}?_xsrf={_text(request.form_token)}">'
            f'<button id="stop-{_text(run.id)}" aria-label="{words.said(what)}">'
            f"{words.said('Stop')}</button></form>"
        )
    return [
        f"<code>{_text(run.id)}</code>",
        *([_text(user)] if request.caller.manages else []),
        _title(request, told["workflow_id"], run.document, words),
        f'<span data-state="{_text(told["status"])}">{words.said(told["status"])}</span>',
        f"{tokens:,}" if tokens or run.done else "",
        words.said(since),
        button,
    ]


def _title(request: ApiRequest, id: str, document: str | None, words: Words) -> str:
    """What a workflow is called, as HTML; one of a user's own document is that and no more."""
    for served in request.state.documents.catalog.workflows.values():
        if (served.workflow.id, served.document.hash) == (id, document):
            return _text(_public(served.workflow.title or id))
    own = "a document of their own" if request.caller.manages else "a document of yours"
    return words.said(own)


def _users(request: ApiRequest, words: Words) -> str:
    """What each user took since the service began, who took most first."""
    going: dict[str, int] = {}
    for task in request.state.tasks.going():
        if (user := task.terms.caller.user) is not None:
            going[user] = going.get(user, 0) + 1
    taken = request.state.metrics.of_users()
    of_all = {user: taken.get(user, Counter()) for user in (*taken, *going)}
    rows = [
        [
            _text(user),
            f"{going.get(user, 0):,}",
            *(f"{counts[kind]:,}" for kind in ("runs", "prompt", "generated")),
        ]
        for user, counts in sorted(of_all.items(), key=lambda each: -each[1]["generated"])
    ]
    names = ["User", "Runs that go on", "Runs that ended", "Tokens read", "Tokens generated"]
    return words.section("Users", words.table("Users", names, rows)) if rows else ""


# What there is, and how to use it


def _served(served: Mapping[str, Served], words: Words) -> str:
    rows = []
    for id, each in served.items():
        facts = signature(each.document, each.workflow).for_guests().to_dict()
        inputs, outputs = (
            ", ".join(f"<code>{_text(field['name'])}</code>" for field in facts[kind])
            for kind in ("input", "output")
        )
        title = _text(_public(each.workflow.title or id))
        rows.append([title, f"<code>{_text(id)}</code>", inputs, outputs, _text(_models(each))])
    names = ["Workflow", "Id", "Inputs", "Outputs", "Models"]
    return words.section("What is served", words.table("What is served", names, rows))


def _models(served: Served) -> str:
    """The models of a workflow's document."""
    document = served.document
    models = (each for each in document.callable_components if isinstance(each, ModelComponent))
    specs = (written_spec(document, each) for each in models)
    return ", ".join(dict.fromkeys(public_source(each.source) for each in specs if each))


def _in_notebooks(request: ApiRequest, words: Words) -> str:
    served = request.state.documents.catalog.workflows.values()
    cells = ["%load_ext modelcompose_jupyter"]
    if request.state.settings.user_documents:
        what = "Cells on the models above, as they are loaded here, run here by themselves."
        cells += [cell for each in served if (cell := _cell(each))][:1]
    else:
        what = "Cells with a document that is served run here by themselves."
    others = "Other models are loaded in your own server."
    return words.section(
        "In a notebook",
        f"<p>{words.said(what)} {words.said(others)}</p>",
        *(f'<pre tabindex="0"><code>{_text(cell)}</code></pre>' for cell in cells),
    )


def _cell(served: Served) -> str:
    """A cell on a model of a workflow's document; empty where guests do not see its name."""
    for component in served.document.callable_components:
        if isinstance(component, ModelComponent):
            spec = written_spec(served.document, component)
            if spec is None or HIDDEN in public_source(spec.source):
                continue
            is_chat = any(action.is_chat for action in component.actions)
            lines = [
                "%%compose ask",
                "component:",
                "  type: model",
                f"  task: {'chat-completion' if is_chat else 'text-generation'}",
                f"  model: {spec.source}",
                "  messages: [{role: user, content: '${input.question as text}'}]"
                if is_chat
                else "  text: ${input.prompt as text}",
            ]
            return "\n".join(lines)
    return ""


def _from_programs(request: ApiRequest, words: Words) -> str:
    settings = request.state.settings
    root = f"{_origin(request.headers)}{settings.root_path}"
    hub, _, service = settings.root_path.rpartition("/services/")
    catalog = request.state.documents.catalog
    input: dict[str, str] = {}
    if (default := catalog.workflows.get(catalog.default or "")) is not None:
        types = signature(default.document, default.workflow).for_guests().to_dict()
        input = {each["name"]: "…" for each in types["input"] if each["required"]}
    body = json.dumps({"input": input}, ensure_ascii=False)
    curl = (
        f"curl {root}{settings.base_path}/workflows/runs \\\n"
        '  -H "Authorization: Bearer $JUPYTERHUB_API_TOKEN" \\\n'
        f"  -H \"Content-Type: application/json\" \\\n  -d '{body}'"
    )
    at = words.filled(
        "The API is at {0}, OpenAI's at {1}.",
        _code(root + settings.base_path),
        _code(f"{root}/v1"),
    )
    key = words.filled(
        "In your own server the environment has the key, {0}; elsewhere it is one of the page {1},"
        " with the permission {2}.",
        _code("JUPYTERHUB_API_TOKEN"),
        f'<a href="{_text(hub)}/hub/token">Token</a>',
        _code(f"access:services!service={service}"),
    )
    return words.section(
        "From a program",
        f"<p>{at} {key}</p>",
        f'<pre tabindex="0"><code>{_text(curl)}</code></pre>',
    )


def _origin(headers: Mapping[str, str]) -> str:
    """Where a browser is, by what proxies say of it."""
    scheme = headers.get("X-Forwarded-Proto", "http").partition(",")[0].strip()
    return f"{'https' if scheme == 'https' else 'http'}://{headers.get('Host', '')}"


# HTML


@dataclass(frozen=True)
class Words:
    """Parts of a page as HTML, in a language."""

    language: str

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Words:
        """In the language that a browser asks for."""
        return cls(preferred(headers.get("Accept-Language", "")))

    def said(self, message: str) -> str:
        return _text(translated(message, self.language))

    def filled(self, template: str, *values: str) -> str:
        """A sentence with HTML at its placeholders."""
        return filled(template, *values, language=self.language)

    def section(self, heading: str, *parts: str) -> str:
        return f"<section><h2>{self.said(heading)}</h2>{''.join(parts)}</section>"

    def table(self, name: str, names: Iterable[str], rows: Iterable[list[str]]) -> str:
        """A table that a narrow screen scrolls; cells are HTML."""
        head = "".join(f"<th scope=col>{self.said(each)}</th>" for each in names)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return (
            f'<div class="table" tabindex="0" role="region" aria-label="{self.said(name)}"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def document(self, title: str, *parts: str) -> str:
        return (
            f'<!DOCTYPE html><html lang="{self.language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'<title>{_text(title)}</title><link rel="icon" href="data:,">'
            f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}</main>"
            f"<script>{_SCRIPT}</script></body></html>"
        )


def _text(text: str) -> str:
    return escape(text)


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _public(text: str) -> str:
    """A text of a document's for people other than its owner: without folders."""
    return str(public(text))
