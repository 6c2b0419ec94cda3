"""How tokens travel to the browser: changes that make what it has what there is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from standins.tokens import a_run, say, tell, token

from modelcompose_jupyter.widgets import token_changes
from modelcompose_jupyter.widgets.run_view import Beside, RunView
from modelcompose_jupyter.widgets.token_changes import TokenChanges, whole
from modelcompose_jupyter.workflow import Run, State

from .conftest import updated

STEP = st.tuples(
    st.integers(0, 1), st.integers(0, 4), st.lists(st.sampled_from(["", "a", "한"])), st.booleans()
)


def test_a_group_says_what_it_adds_where_it_begins_and_what_was_likely() -> None:
    run = a_run("It was", [token("", 0.5, name="\\xed", id=7), token("한", 0.25)])
    ((index, start, offset, groups),) = whole(run)
    assert (index, start, offset) == (0, 6, 0)
    ((text, first, tokens),) = groups
    assert (text, first) == ("한", 0)
    assert tokens[0][:5] == [7, "\\xed", 0.5, 0.5, 1]
    assert tokens[1][5] == [
        [1, "한", 0.25, 0.25],
        [2, " other", 0.25, 0.25],
        [3, " <odd>", 0.0005, None],
    ]


@given(st.lists(STEP, max_size=20), st.integers(0, 10))
def test_the_changes_add_up_whatever_is_corrected(
    steps: list[tuple[int, int, list[str], bool]], stop: int
) -> None:
    run, browser = Run("flow", {}, lambda: None), dict[int, list[Any]]()
    changes = TokenChanges(run)
    known: list[list[str]] = [[], []]

    def update() -> None:
        for index, _, offset, groups in changes.advance():
            had = browser.setdefault(index, [])
            assert offset <= len(had)
            had[offset:] = groups

    for number in range(2):
        say(run, 0, "", number=number)
    for number, back, texts, updates in steps:
        offset = max(0, len(known[number]) - back)
        known[number][offset:] = texts
        tell(run, offset, [token(each) for each in texts], text=number)
        if updates:
            update()
    for number, texts in enumerate(known):  # some of the last tokens may be no part of the text
        text = "".join(texts)
        say(run, 0, text[: max(0, len(text) - stop)], number=number)
    run.add("state", {"state": State.COMPLETED})
    update()
    for number, texts in enumerate(known):
        shown = browser.get(number, [])
        assert "".join(text for text, _, _ in shown) == list(run.streams.values())[number]
        assert sum(len(tokens) for _, _, tokens in shown) == len(texts)
    assert [each for each in whole(run) if each[3]] == [
        [number, 0, 0, groups] for number, groups in sorted(browser.items()) if groups
    ]
    assert changes.advance() == []


def test_of_a_very_long_text_the_first_are_drawn(monkeypatch: Any) -> None:
    monkeypatch.setattr(token_changes, "MOST_SHOWN", 3)
    run = Run("flow", {}, lambda: None)
    changes = TokenChanges(run)
    say(run, 0, "")
    tell(run, 0, [token("a"), token("b")])
    assert [len(groups) for *_, groups in changes.advance()] == [2]
    tell(run, 2, [token("c"), token("d")])
    assert [len(groups) for *_, groups in changes.advance()] == [1]
    tell(run, 4, [token("e")])
    assert changes.advance() == []


class Sent(RunView):
    """A view that keeps what it sends to the browser."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.shows_tokens = False
        super().__init__(
            (),
            for_guests=False,
            snippets=lambda _: [],
            beside=lambda: Beside(probabilities=self.shows_tokens),
            on_message=lambda _: None,
            on_updated=lambda _: None,
        )

    def _send(self, msg: dict[str, Any], buffers: Any = None) -> None:
        self.sent.append(msg)

    @property
    def told(self) -> list[Any]:
        """The tokens in what was sent."""
        messages = [msg["content"] for msg in self.sent if msg["method"] == "custom"]
        states = [msg["state"] for msg in self.sent if "state" in msg]
        return [each["tokens"] for each in (*messages, *states) if each.get("tokens")]


def test_nothing_of_tokens_is_sent_until_they_are_to_be_seen_and_then_all() -> None:
    view, run = Sent(), Run("flow", {}, lambda: None)
    view.show(run)
    say(run, 0, "")
    tell(run, 0, [token("a"), token("b")])
    say(run, 0, "ab")
    updated()
    assert view.told == []
    assert view.get_state()["tokens"] == []
    view.shows_tokens = True
    view.renew()
    updated()
    (told,) = view.told
    assert [text for text, *_ in told[0][3]] == ["a", "b"]
    assert view.get_state()["tokens"] == told
    view.sent.clear()
    view.renew()
    updated()
    assert view.told == []
    tell(run, 2, [token("c")])
    updated()
    assert [(offset, len(groups)) for ((_, _, offset, groups),) in view.told] == [(2, 1)]
    view.shows_tokens = False
    view.sent.clear()
    tell(run, 3, [token("d")])
    updated()
    assert view.told == []


def test_a_page_that_has_lost_something_gets_all() -> None:
    view, run = Sent(), a_run("", [token("a")])
    view.shows_tokens = True
    view.show(run)
    updated()
    view.sent.clear()
    view._handle_custom_msg({"type": "resync"}, [])
    updated()
    assert view.told == [whole(run)]
