"""Calls of tools as panels show them: of a run while it goes, and of a conversation's messages.

A call is plain data that ``tool_calls.js`` draws: ``id``, ``name``, ``arguments`` as text and as a
``summary`` in a line, ``state`` (see `workflow.events.ToolData`), what is ``told`` of that, and
where there is one ``result``, ``error``, ``seconds``, and ``said``, the text that the model said
before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..document.types import Message
from ..translation import localized
from ..workflow import Run

NOT_CALLED = "(this call was returned, and not made)"
"""What a conversation says in place of a result, where calls are left to who asked."""
_STATES = {
    "called": "called",
    "running": "running",
    "completed": "",
    "failed": "failed",
    "cancelled": "stopped",
    "returned": "returned, not run here",
}
"""What is said of a call in each state."""
_LONGEST_LINE = 120
_ERROR_COLOR = "var(--jp-error-color1,#b3261e)"


def calls_of(run: Run) -> list[dict[str, Any]]:
    """The calls of a run so far."""
    texts, told = run.streams, set()
    found = []
    for call in run.tool_calls:
        stream = tuple(call["stream"])
        said = texts.get(stream, "") if stream not in told else ""
        told.add(stream)
        more = {key: call[key] for key in ("result", "error", "seconds") if key in call}
        own = (call["id"], call["name"], call["arguments"], call["state"])
        found.append(_call(*own, said, **more))
    return found


def shown_turns(messages: Sequence[Message], run: Run | None = None) -> list[dict[str, Any]]:
    """A conversation as it is shown: a message of the assistant's has the ``calls`` before it, with
    what came of them; how long they took is known of those of the ``run``. ``index`` is the place
    in the conversation, where it is not that of what is shown."""
    took = {each["id"]: each for each in (run.tool_calls if run is not None else ())}
    shown: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for index, each in enumerate(messages):
        if each["role"] == "tool":
            _answer(calls, each)
            continue
        thoughts += filter(None, [each.get("reasoning_content")])
        asked = each.get("tool_calls", [])
        if asked:
            calls += _asked(each)
            for call in calls:
                call |= {"seconds": took[call["id"]].get("seconds")} if call["id"] in took else {}
            continue
        if calls and each["role"] != "assistant":
            shown.append(_turn("assistant", "", calls, thoughts, index - 1, len(shown)))
            calls, thoughts = [], []
        shown.append(_turn(each["role"], each["content"], calls, thoughts, index, len(shown)))
        calls, thoughts = [], []
    if calls:
        shown.append(_turn("assistant", "", calls, thoughts, len(messages) - 1, len(shown)))
    return shown


def _turn(
    role: str,
    content: str,
    calls: Sequence[Mapping[str, Any]],
    thoughts: Sequence[str],
    index: int,
    place: int,
) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": role, "content": content}
    turn |= {"calls": calls} if calls else {}
    turn |= {"reasoning_content": "\n\n".join(thoughts)} if thoughts else {}
    return turn | ({"index": index} if index != place else {})


def calls_html(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls as HTML that is safe to show without a script."""
    return "".join(_html(each) for each in calls)


def calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls as plain text, a line each."""
    return "\n".join(
        f"{each['name']}({summary(each)}) → {_outcome(each).splitlines()[0][:_LONGEST_LINE]}"
        if _outcome(each)
        else f"{each['name']}({summary(each)})"
        for each in calls
    )


def summary(call: Mapping[str, Any]) -> str:
    """The arguments of a call in a line, as Python would have them."""
    given = json.loads(call["arguments"])
    line = ", ".join(f"{key}={json.dumps(each, ensure_ascii=False)}" for key, each in given.items())
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def _call(
    id: str, name: str, arguments: Mapping[str, Any], state: str, said: str, **more: Any
) -> dict[str, Any]:
    text = json.dumps(arguments, ensure_ascii=False, indent=2)
    call = {"id": id, "name": name, "arguments": text, "state": state, **more}
    call = {**call, **({"said": said} if said.strip() else {})}
    return {**call, "summary": summary(call), "told": _STATES[state]}


def _asked(message: Message) -> Iterator[dict[str, Any]]:
    said = message["content"]
    for call in message["tool_calls"]:
        function = call["function"]
        yield _call(call["id"], function["name"], function["arguments"], "returned", said)
        said = ""


def _answer(calls: list[dict[str, Any]], message: Message) -> None:
    """Note what a tool's message says, with the call that it answers."""
    content = message["content"]
    call = next((each for each in calls if each["id"] == message["tool_call_id"]), None)
    if call is None or content == NOT_CALLED:
        return
    if content.startswith("error: "):
        call |= {"state": "failed", "error": content.removeprefix("error: ")}
    else:
        call |= {"state": "completed", "result": content}
    call["told"] = _STATES[call["state"]]


def _outcome(call: Mapping[str, Any]) -> str:
    error = call.get("error")
    told = f"error: {error}" if error else call["told"]
    return localized(told) if error else call.get("result") or localized(told)


def _html(call: Mapping[str, Any]) -> str:
    said = call.get("said")
    before = f'<div dir="auto">{escape(said)}</div>' if said else ""
    told = localized(" · ".join(filter(None, [call["told"], seconds(call)])))
    failed = call.get("error")
    error = ""
    if failed:
        error = f'<div style="color:{_ERROR_COLOR}">{escape(localized(failed))}</div>'
    result = f"<pre>{escape(call['result'])}</pre>" if call.get("result") else ""
    head = f"<code>{escape(call['name'])}({escape(call['summary'])})</code>"
    return (
        f"{before}<details><summary>{head} <small>{escape(told)}</small></summary>"
        f"<pre>{escape(call['arguments'])}</pre>{result}</details>{error}"
    )


def seconds(call: Mapping[str, Any]) -> str:
    """How long a call took, in words."""
    took = call.get("seconds")
    return "" if took is None else f"{took:.1f} s" if took >= 0.05 else f"{1000 * took:.0f} ms"
