"""Questions that take time: one after another, beside whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from modelcompose_jupyter.background_worker import MOST_WAITING, THREAD_NAME, BackgroundWorker
from modelcompose_jupyter.errors import ComposeError


class Held:
    """Questions of which the first is held, and what was answered, in order."""

    def __init__(self) -> None:
        self.questions = BackgroundWorker()
        self.gate = threading.Event()
        self.answered: list[Any] = []
        began = threading.Event()

        def hold() -> str:
            began.set()
            assert self.gate.wait(60)
            return threading.current_thread().name

        self.first = self.questions.ask(hold)
        assert began.wait(60)

    def ask(self, what: Any, about: Any = None) -> Future[Any]:
        return self.questions.ask(lambda: self.answered.append(what), about=about)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.gate.set()


def test_questions_are_answered_in_order_on_a_thread_of_their_own(held: Held) -> None:
    waiting = [held.ask(number) for number in range(5)]
    assert held.answered == [] and not held.first.done()
    held.gate.set()
    assert held.first.result(60) == THREAD_NAME
    assert [each.result(60) for each in waiting] == [None] * 5
    assert held.answered == [0, 1, 2, 3, 4]
    assert held.ask("later").result(60) is None  # also when the thread has ended meanwhile


def test_a_newer_question_takes_the_place_of_one_that_waits(held: Held) -> None:
    old, other, new = held.ask("old", "a"), held.ask("other", "b"), held.ask("new", "a")
    assert old.cancelled()
    held.gate.set()
    assert (other.result(60), new.result(60)) == (None, None)
    assert held.answered == ["other", "new"]


def test_who_has_gone_gets_no_answer_and_takes_no_place(held: Held) -> None:
    for _ in range(3):
        gone = [held.ask("gone") for _ in range(MOST_WAITING)]
        assert all(each.cancel() for each in gone)
    last = held.ask("last")
    held.gate.set()
    last.result(60)
    assert held.answered == ["last"]


def test_no_more_wait_than_may(held: Held) -> None:
    waiting = [held.ask(number) for number in range(MOST_WAITING)]
    with pytest.raises(ComposeError) as caught:
        held.ask("too many")
    assert caught.value.code == "busy"
    held.gate.set()
    waiting[-1].result(60)
    assert held.answered == list(range(MOST_WAITING))


def test_what_goes_wrong_is_for_who_asked() -> None:
    questions = BackgroundWorker()
    with pytest.raises(ZeroDivisionError):
        questions.ask(lambda: 1 / 0).result(60)
    assert questions.ask(lambda: 2).result(60) == 2
