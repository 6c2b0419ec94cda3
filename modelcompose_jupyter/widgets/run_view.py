"""The widget that shows a run: progress, its texts as they grow, its output, how it ended.

Written by the update thread alone (see `update_thread`); `show`, `clear`, `fail` and `renew` may
be called from any thread. The browser's side is ``run_view.js``, which says how texts travel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import traitlets

from ..diagram import Diagram
from ..document import Output
from ..path_redaction import public
from ..progress import WAITING_PHASES, ProgressMeter, change_words, status_line
from ..translation import speaking
from ..workflow import Event, Run, State
from .conversation import reply_index
from .esm import joined, joined_styles
from .outputs import parts
from .questions import questions_of
from .speaking import SpeakingWidget, words
from .steps import StepChanges, row_of, steps_of
from .token_changes import Change, TokenChanges, in_common, whole
from .tool_calls import calls_of
from .update_thread import UPDATE_THREAD_NAME, update_thread

_FOLDER = Path(__file__).parent
_IDLE = "idle"
_GROWING = ["steps", "texts", "thoughts"]
"""What travels as changes: whole at the beginning and at the end."""


@dataclass(frozen=True)
class Beside:
    """What is shown beside a run, as plain data that ``run_view.js`` draws.

    Attributes:
        model: ``name``, ``state`` in a word or two, where it is known, and if it is ``loaded``.
        turns: the messages of a conversation: ``role``, ``content``, and of replies ``html``; of
            one that a run goes on from also ``begun``.
        conversations: the conversations: ``id`` and ``name``.
        conversation: the id of the one in view.
        undoable: whether what was forgotten last can be brought back.
        cards: the runs to go back to: see `RunHistory.cards`.
        compared: the runs that are side by side: see `RunHistory.compared`.
        kept: what the browser keeps of a page.
        probabilities: whether texts are shown as tokens, with what the model weighed.
        parting: which text parts from another run's, and at which of its tokens, if one does.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    turns: Sequence[Mapping[str, Any]] = ()
    conversations: Sequence[Mapping[str, str]] = ()
    conversation: str = ""
    undoable: bool = False
    cards: Sequence[Mapping[str, Any]] = ()
    compared: Sequence[Mapping[str, Any]] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)
    probabilities: bool = False
    parting: Sequence[int] = ()


class RunView(SpeakingWidget):
    """Shows one run at a time, live.

    Args:
        outputs: the outputs of the workflow's signature: how values are to be shown.
        for_guests: whether messages are shown without this computer's folders.
        snippets: what can be done with a run that has ended: ``label``, and the ``text`` to copy or
            the ``message`` to send.
        beside: called on the update thread for what is shown beside the run.
        on_message: called on a kernel's thread with what the browser says: ``run``, ``show``,
            ``gone`` (nobody looks any more), and what its buttons do.
        on_updated: called on the update thread before every change, with the run in view.
        is_chat: whether the run is a reply in a conversation.
        diagram: of the workflow's jobs, where there is something to see of them.
        keep_as: the name by which a page's browser keeps conversations, and the run that asks
            something; empty where it does not.

    Attributes:
        run: the run in view.
    """

    _esm = joined(_FOLDER / "run_view.js")
    _css = joined_styles(
        _FOLDER, "panel.css", "run_view.css", "steps.css", "questions.css", "markdown.css"
    )

    is_chat = traitlets.Bool(False).tag(sync=True)
    is_markdown = traitlets.Bool(False).tag(sync=True)
    keep_as = traitlets.Unicode("").tag(sync=True)
    state = traitlets.Unicode(_IDLE).tag(sync=True)
    ended = traitlets.Bool(False).tag(sync=True)
    progress = words(traitlets.Dict(), "text")
    labels = words(traitlets.List(traitlets.Unicode()))
    # The value is the run's own: it is looked up when somebody asks for it, the browser at the
    # end of a run or a page that is loaded in the middle of one.
    texts = traitlets.List().tag(sync=True, to_json=lambda _, view: view._texts())
    # Of tokens nobody keeps a second copy in the browser's state: changes alone tell of them.
    tokens = traitlets.List().tag(sync=True, to_json=lambda _, view: view._all_tokens())
    # As the texts: ``[text, tokens, is_over]`` of what was thought before each.
    thoughts = traitlets.List().tag(sync=True, to_json=lambda _, view: view._all_thoughts())
    probabilities = traitlets.Bool(False).tag(sync=True)
    parting = traitlets.List().tag(sync=True)
    # The diagram is drawn once in a language; how its jobs are comes as the texts do.
    picture = traitlets.Unicode("").tag(
        sync=True, to_json=lambda picture, view: view._drawn(picture), is_words=True
    )
    steps = traitlets.Dict().tag(
        sync=True, to_json=lambda _, view: view._all_steps(), is_words=True
    )
    reply = traitlets.Int(-1).tag(sync=True)
    outputs = traitlets.List().tag(sync=True)
    error = words(traitlets.Unicode(""))
    status = words(traitlets.Unicode(""))
    rates = traitlets.List(traitlets.Float()).tag(sync=True)
    is_extendable = traitlets.Bool(False).tag(sync=True)
    warnings = words(traitlets.List(traitlets.Unicode()))
    calls = words(traitlets.List(), "error", "word")
    questions = traitlets.List().tag(sync=True)
    kept_run = traitlets.Unicode("").tag(sync=True)
    snippets = words(traitlets.List(), "label")
    run_id = traitlets.Unicode("").tag(sync=True)
    model = words(traitlets.Dict(), "state")
    turns = traitlets.List().tag(sync=True)
    conversations = words(traitlets.List(), "name")
    conversation = traitlets.Unicode("").tag(sync=True)
    undoable = traitlets.Bool(False).tag(sync=True)
    cards = words(traitlets.List(), "details", "status")
    compared = words(traitlets.List(), "label")
    kept = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        outputs: Sequence[Output],
        *,
        for_guests: bool,
        snippets: Callable[[Run], list[dict[str, Any]]],
        beside: Callable[[], Beside],
        on_message: Callable[[Mapping[str, Any]], None],
        on_updated: Callable[[Run | None], None],
        is_chat: bool = False,
        keep_as: str = "",
        diagram: Diagram | None = None,
    ) -> None:
        self._diagram = diagram
        self._for_guests = for_guests
        self._lock = threading.Lock()
        self._output_types = outputs
        self._beside = beside
        self._on_message = on_message
        self._on_updated = on_updated
        self.run: Run | None = None
        self._failure = ""
        self._told: dict[str, str] | None = None
        self._snippets = snippets
        self._unwatch: Callable[[], None] = lambda: None
        self._changes = _Changes(None)
        self._token_changes = TokenChanges(None)
        is_markdown = bool(outputs) and all(each.type.name == "markdown" for each in outputs)
        picture = "" if diagram is None else diagram.of_run({})
        super().__init__(is_chat=is_chat, is_markdown=is_markdown, keep_as=keep_as, picture=picture)
        self.on_msg(self._received)

    def show(self, run: Run) -> None:
        """Show a run from now on."""
        with self._lock:
            self._unwatch()
            self.run, self._failure = run, ""
            self._unwatch = run.watch(self.renew)
        self.renew()

    def clear(self) -> None:
        """Show no run, as at first."""
        with self._lock:
            self._unwatch()
            self.run, self._failure = None, ""
        self.renew()

    def fail(self, message: str) -> None:
        """Show what went wrong, beside the run in view; the next `show` takes it away."""
        self._failure = message
        self.renew()

    def copy(self, text: str, said: str) -> None:
        """Have the browser copy a text, and say so; the buttons are renewed with it."""
        self._told = {"type": "copy", "text": text, "said": said}
        self.renew()

    def renew(self) -> None:
        """Show things as they are now, soon."""
        update_thread.soon(self._update_view)

    def close(self) -> None:
        self._unwatch()
        super().close()

    def _shown(self, data: Any) -> Any:
        """What is said of a run, for those who look at it."""
        return public(data) if self._for_guests else data

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """A call of a tool; what went wrong with it is a message."""
        error = {"error": self._shown(call["error"])} if "error" in call else {}
        return {**call, **error}

    def _texts(self) -> list[str]:
        return list(self.run.streams.values()) if self.run is not None else []

    def _drawn(self, picture: str) -> str:
        """The picture of the jobs in the browser's language."""
        diagram = self._diagram and self._diagram.in_language(self.language)
        return picture if diagram is None or diagram is self._diagram else diagram.of_run({})

    def _all_thoughts(self) -> list[list[Any]]:
        if self.run is None:
            return []
        thoughts, tokens = self.run.reasoning_streams, self.run.reasoning_tokens
        ended = self.run.finish_reasons
        return [
            [thoughts[stream], tokens[stream], bool(text or ended[stream])]
            for stream, text in self.run.streams.items()
            if stream in thoughts
        ]

    def _all_tokens(self) -> list[Change]:
        return whole(self.run) if self.probabilities else []

    def _all_steps(self) -> dict[str, Any]:
        run = self.run
        return {} if run is None else self._step_words(steps_of(run, self._diagram))

    def _step_words(self, steps: Any) -> dict[str, Any]:
        """How jobs are, as those who look may see it."""
        return dict(self.in_words(self._shown(steps), "words", "word", "details", "error"))

    def _received(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        if content.get("type") == "resync":
            update_thread.soon(self._send_all)
        else:
            self._on_message(content)

    # On the update thread

    def _update_view(self) -> None:
        assert threading.current_thread().name == UPDATE_THREAD_NAME
        if self.comm is None:  # closed meanwhile
            return
        try:
            with speaking(self.language):
                self._update_traits()
        except Exception as error:
            # A defect of ours is seen where it happens, too.
            told = f"the run could not be shown: {type(error).__name__}: {error}"
            self.error = self._shown(told)
            raise

    def _update_traits(self) -> None:
        with self._lock:
            run = self.run
        begins = run is not self._changes.run
        if begins:
            self._changes = _Changes(run, self._diagram)
        had_ended = self._changes.ended
        changes, thoughts = self._changes.advance(), self._changes.thoughts()
        steps = self._changes.steps.advance()
        ends = self._changes.ended and not had_ended
        self._on_updated(run)
        with self.hold_sync():
            if run is None:
                self._show_nothing()
            elif ends or not self._changes.ended:
                self._show_state(run)
            self.error = self._shown(self._failure or self._changes.error)
            for name, value in vars(self._beside()).items():
                setattr(self, name, list(value) if isinstance(value, tuple) else value)
        tokens = self._token_changes_of(run)
        if (told := self._told) is not None:
            self._told = None
            told["said"] = self.in_words(told["said"])
            if run is not None:
                self.snippets = self._snippets(run)
            self.send(told)
        if begins:
            self.send_state(_GROWING)
            changes, thoughts, steps = [], [], None
        if steps:  # before the texts, which may stand in a table of theirs
            self.send({"type": "steps", **self._step_words(steps)})
        if changes or thoughts or tokens:
            more = {"thoughts": thoughts, "tokens": tokens}
            given = {key: value for key, value in more.items() if value}
            self.send({"type": "text", "changes": changes, **given})
        if ends:
            if not begins:  # the whole is what the browser has by now, so it is not drawn again
                self.send_state(_GROWING)
            with self._lock:
                if self.run is run:  # another one may have taken its place meanwhile
                    self._unwatch()

    def _token_changes_of(self, run: Run | None) -> list[Change]:
        """The changes of tokens since the last time, if they are shown."""
        if not self.probabilities:
            run = None
        if run is not self._token_changes.run:
            self._token_changes = TokenChanges(run)
        return self._token_changes.advance()

    def _send_all(self) -> None:
        """Send what the browser has lost some of."""
        if self.comm is not None:
            self.send_state([*_GROWING, "tokens"])

    def _show_nothing(self) -> None:
        self.run_id, self.ended, self.labels, self.state = "", False, [], _IDLE
        self.outputs, self.status, self.rates, self.warnings = [], "", [], []
        self.is_extendable, self.progress, self.reply, self.calls = False, {}, -1, []
        self.questions, self.kept_run = [], ""

    def _show_state(self, run: Run) -> None:
        changes = self._changes
        self.ended, self.run_id, self.labels = changes.ended, run.id, changes.labels
        self.reply = changes.reply
        self.calls = [self._call(each) for each in calls_of(run)]
        self.kept_run = "" if changes.ended or not run.has_asked else run.id
        self.questions = [] if changes.ended else questions_of(run, self._shown)
        if not changes.ended:
            waits = {"text": "Waiting for an answer"} if self.questions else {}
            self.progress = self._shown(_timed(changes.progress)) or waits
            asks = State.INTERRUPTED if self.questions else State.RUNNING
            self.state = str(asks if changes.started else State.QUEUED)
            self.outputs, self.status, self.rates, self.warnings = [], "", [], []
            self.is_extendable = False
            return
        self.progress, self.state = {}, str(run.state)
        self.status = self._shown(status_line(run))
        self.rates = changes.rates(run.usage.get("generated", 0))
        self.is_extendable = run.extendable_by > 0
        self.warnings = self._shown(run.warnings)
        self.outputs = [vars(part) for part in parts(run, self._output_types)]
        self.snippets = self._snippets(run)
        if run.state is State.FAILED:
            assert run.error is not None
            changes.error = run.error.shown(for_guests=self._for_guests)


def _timed(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Progress with the seconds that have passed: the browser's clock may be another."""
    since = progress.get("since")
    rest = {key: value for key, value in progress.items() if key != "since"}
    return rest if since is None else {**rest, "elapsed": max(0.0, time.time() - since)}


_RATES = 24  # points of the line that shows them


class _Changes:
    """How much of a run has been shown."""

    def __init__(self, run: Run | None, diagram: Diagram | None = None) -> None:
        self.run = run
        self.steps = StepChanges(run, diagram)
        self._waiting: dict[str, Any] = {}
        self._retrying: dict[str, dict[str, Any]] = {}  # by job
        self._counting: dict[str, Any] = {}
        self._counted: str | None = None  # the job that this is about
        self.labels: list[str] = []
        self.error = ""
        self.started = False
        self.ended = False
        self._meter = ProgressMeter()
        self._seen = -1
        self._times: list[float] = []
        self._streams: dict[tuple[Any, ...], _Shown] = {}
        self._thoughts: dict[tuple[Any, ...], _ShownThoughts] = {}
        self._calls = False  # of tools

    @property
    def progress(self) -> dict[str, Any]:
        """What it waits for: a model or its turn, another attempt, else jobs, repeats or prompts;
        empty for none."""
        return self._waiting or next(iter(self._retrying.values()), self._counting)

    @property
    def reply(self) -> int:
        """Which text is a chat's reply; -1 while there is none."""
        index = reply_index({key: each.finish_reason for key, each in self._streams.items()})
        return -1 if index is None else index

    def rates(self, tokens: int) -> list[float]:
        """Tokens a second in equal parts of the time in which text came, if it was some time.

        Text comes about token by token, so its pieces are counted, and scaled to the tokens.
        """
        if len(self._times) < 2 * _RATES:
            return []
        first, last = self._times[0], self._times[-1]
        width = (last - first) / _RATES
        if width <= 0:
            return []
        counts = [0] * _RATES
        for moment in self._times:
            counts[min(_RATES - 1, int((moment - first) / width))] += 1
        return [round(count / len(self._times) * tokens / width, 1) for count in counts]

    def advance(self) -> list[list[Any]]:
        """The changes of texts since the last time, as ``[index, offset, text]``."""
        if self.run is None or self.ended:
            return []
        events = self.run.events_so_far(self._seen)
        known = len(self._streams)
        for event in events:
            self._take(event)
        if len(self._streams) != known or self._calls:
            self.labels = self._labels()
        shown = enumerate(self._streams.values())
        return [[index, *change] for index, each in shown if (change := each.change()) is not None]

    def thoughts(self) -> list[list[Any]]:
        """The changes of thoughts since the last time, as ``[index, offset, text, tokens,
        is_over]``; after `advance`."""
        places = {stream: index for index, stream in enumerate(self._streams)}
        return [
            [places[stream], *change, each.tokens, each.is_over]
            for stream, each in self._thoughts.items()
            if (change := each.change()) is not None
        ]

    def _labels(self) -> list[str]:
        """A heading for each text; none for a reply that is nothing but calls of tools."""
        empty = {key for key, each in self._streams.items() if each.is_only_calls}
        shown = [key for key in self._streams if key not in empty]
        third = "reply {}" if self._calls else "prompt {}"
        of = dict(zip(shown, headings(shown, self.steps.types, third), strict=True))
        return [of.get(key, "") for key in self._streams]

    def _take(self, event: Event) -> None:
        self._seen = event.number
        data = event.data
        self.steps.take(event)
        if event.type == "text":
            key = tuple(data["stream"])
            if key not in self._streams:
                self.steps.announced(len(self._streams), key)
            stream = self._streams.setdefault(key, _Shown())
            stream.put(data["offset"], data["text"])
            stream.finish_reason = data.get("finish_reason", stream.finish_reason)
            if data["text"]:
                self._times.append(event.time)
            thoughts = self._thoughts.get(tuple(data["stream"]))
            if thoughts is not None and (data["text"] or "finish_reason" in data):
                thoughts.is_over = True
        elif event.type == "reasoning":
            thoughts = self._thoughts.setdefault(tuple(data["stream"]), _ShownThoughts())
            thoughts.put(data["offset"], data["text"])
            thoughts.tokens = data.get("tokens", 0)
            if data["text"]:
                self._times.append(event.time)
        elif event.type == "tool":
            self._calls = True
        elif event.type == "job":
            self._take_job(event)
        elif event.type == "progress":
            self.started = True
            self._take_progress(event)
        elif event.type == "state":
            self.started = True
            self.ended = State(data["state"]).is_final

    def _take_job(self, event: Event) -> None:
        id, state = event.data["job"], event.data["state"]
        if state == "waiting":
            words = change_words(event.data)
            self._retrying[id] = {"text": words, "share": None, "since": event.time}
        else:
            self._retrying.pop(id, None)
        if state in ("completed", "failed") and self._counted == id:
            self._counting = {}

    def _take_progress(self, event: Event) -> None:
        data, found = event.data, self._meter.see(event)
        ends = data["done"] == data["total"]
        shown = {} if ends else vars(found)
        if data["phase"] in WAITING_PHASES:
            self._waiting = shown
        elif (data["phase"], data["total"]) != ("job", 1):  # one job is nothing to count
            self._counting, self._counted = shown, data.get("job")


class _Shown:
    """One text: how much of it has been told to the browser, and what has come since."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._told = ""
        self._start = self._end = 0
        self._pieces: list[str] = []

    @property
    def is_only_calls(self) -> bool:
        """Whether it ended, with calls of tools and no text before them."""
        return self.finish_reason == "tool_calls" and self._end == 0

    def put(self, offset: int, text: str) -> None:
        """Take a text event: ``text`` is what stands at ``offset``, and nothing is behind it."""
        if offset < self._end:
            kept = max(0, offset - self._start)
            self._pieces = ["".join(self._pieces)[:kept]]
            self._start = min(self._start, offset)
        self._pieces.append(text)
        self._end = offset + len(text)

    def change(self) -> tuple[int, str] | None:
        """The offset, in UTF-16 units, and the text that make what was told what there is now."""
        text = "".join(self._pieces)
        if not text and self._end == len(self._told):
            return None
        # At the end of a run its events are merged, and tell again what was told.
        same = in_common(self._told[self._start :], text)
        kept, text = self._told[: self._start + same], text[same:]
        before, self._told = self._told, kept + text
        self._start, self._pieces = self._end, []
        if self._told == before:
            return None
        return _units(kept), text


class _ShownThoughts(_Shown):
    """The same of what was thought before it.

    Attributes:
        tokens: how many tokens that has by now.
        is_over: whether the text has begun, or ended without.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0
        self.is_over = False
        self._state_told = (0, False)

    def change(self) -> tuple[int, str] | None:
        state = (self.tokens, self.is_over)
        changed, self._state_told = state != self._state_told, state
        change = super().change()
        return (_units(self._told), "") if change is None and changed else change


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def headings(
    streams: Sequence[tuple[Any, ...]], types: Mapping[str, str], third: str = "prompt {}"
) -> list[str]:
    """A heading for each text, of jobs of these types: what tells it from others, in a table from
    those of its row."""
    groups: dict[Any, dict[int, tuple[Any, ...]]] = {}
    for number, stream in enumerate(streams):
        place = row_of(stream, types)
        row = None if place is None else place[:2]
        groups.setdefault(row, {})[number] = stream if place is None else (*place[2:], *stream[2:])
    found = [""] * len(streams)
    for group in groups.values():
        for number, label in zip(group, labels([*group.values()], third, types), strict=True):
            found[number] = label
    return found


_COUNTED_AS = {"loop": "round {}", "accumulate": "round {}", "for-each": "item {}"}


def labels(
    streams: Sequence[tuple[Any, ...]],
    third: str = "prompt {}",
    types: Mapping[str, str] | None = None,
) -> list[str]:
    """A heading for each text: what of job, repeat, prompt (or what is counted ``third``) and
    sequence tells it from others."""
    of_job: dict[Any, list[tuple[Any, ...]]] = {}
    for stream in streams:
        of_job.setdefault(stream[0], []).append(stream)
    varies = {
        job: [len(set(column)) > 1 for column in zip(*of, strict=True)]
        for job, of in of_job.items()
    }
    found = []
    for job, *numbers in streams:
        words = (_COUNTED_AS.get((types or {}).get(job, ""), "repeat {}"), third, "text {}")
        told = zip(words, numbers, varies[job][1:], strict=True)
        parts = [job] if len(of_job) > 1 and job else []
        parts += [word.format(number + 1) for word, number, is_told in told if is_told]
        found.append(" · ".join(parts))
    return found
