"""Grammars for the tokens of a model, and the state of a text."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from standins.tokenizers_of_kinds import KINDS, tokenizer_of

from modelcompose_jupyter.document.format import Format
from modelcompose_jupyter.errors import InputError, ModelError
from modelcompose_jupyter.models.constraints.compiler import GrammarCompiler
from modelcompose_jupyter.models.constraints.constraint import Constraint, GrammarConstraint
from modelcompose_jupyter.models.constraints.token_bytes import TokenBytes

from ..conftest import done


def of(kind: str = "byte-level", **format: Any) -> GrammarConstraint:
    tokenizer = tokenizer_of(kind)
    grammar = Format.model_validate(format).llguidance
    return done(GrammarCompiler(tokenizer).compile(grammar)).constraint({tokenizer.eos_token_id})


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_allowed_makes_a_text_of_the_grammar(kind: str) -> None:
    tokenizer, draw = tokenizer_of(kind), np.random.default_rng(0)
    decode, found = TokenBytes(tokenizer).decode, set()
    choices = ["once upon a time", "once", "a fox", "not a fox"]
    if kind != "wordpiece" and "cleaned" not in kind:
        choices += ['여우, "fox"', "한"]
    first = of(kind, choices=choices)
    for _ in range(200):
        constraint, ids = first.copy(), []
        while not constraint.is_complete:
            allowed = np.flatnonzero(constraint.allowed())
            ids.append(int(draw.choice(allowed)))
            if ids[-1] == tokenizer.eos_token_id:
                break
            constraint.take(ids[-1])
        found.add(decode(ids))
    assert found <= set(choices)
    assert len(found) >= 3


def test_states_are_apart() -> None:
    first = of(regex="[ab]{2}")
    tokenizer = tokenizer_of("byte-level")
    a, b = (tokenizer.convert_tokens_to_ids(each) for each in "ab")
    second = first.copy()
    first.take(a)
    first.take(b)
    assert first.is_complete and not second.is_complete
    assert second.allowed()[[a, b]].all()
    with pytest.raises(InputError, match="does not allow"):
        first.take(a)
    checked: Constraint = second
    with pytest.raises(InputError, match="does not allow"):
        checked.take(tokenizer.eos_token_id)
    second.take(a)  # what was refused has changed nothing
    assert second.allowed()[b]


def test_the_end_is_allowed_where_the_text_is_whole() -> None:
    tokenizer = tokenizer_of("byte-level")
    constraint, a = of(regex="a+"), tokenizer.convert_tokens_to_ids("a")
    assert not constraint.allowed()[tokenizer.eos_token_id]
    constraint.take(a)
    assert constraint.allowed()[tokenizer.eos_token_id]
    constraint.take(tokenizer.eos_token_id)


def test_what_the_tokens_cannot_write_is_told() -> None:
    constraint = of("wordpiece", choices=["["])
    assert not constraint.allowed().any()
    problem = constraint.problem()
    assert isinstance(problem, ModelError) and problem.code == "format_unreachable"


@pytest.mark.parametrize(
    "choices",
    [[str(n) for n in range(10_000)], ["1", "2"] * 2_000, ["\x7f", "\x00\n", "\x85\u2028"]],
    ids=["as many as there may be", "again and again", "no letters"],
)
def test_each_of_the_choices_can_be_written(choices: list[str]) -> None:
    tokenizer = tokenizer_of("byte-level")
    begun = of(choices=choices)
    for text in (choices[0], choices[1], choices[-1]):
        constraint = begun.copy()
        for token in tokenizer.encode(text, add_special_tokens=False):
            assert constraint.allowed()[token]
            constraint.take(token)
        constraint.take(tokenizer.eos_token_id)


@pytest.mark.parametrize(
    "format",
    [
        {"regex": "a?" * 5_000},
        {"grammar": 'start: "a" start'},
        {"grammar": "start: " + "|".join(f'"a{n}"' for n in range(3_000))},
    ],
    ids=["optional parts", "parts without an end", "alternatives"],
)
def test_what_takes_too_much_on_the_way_is_the_formats_fault(format: dict[str, str]) -> None:
    constraint = of(**format)
    a = tokenizer_of("byte-level").convert_tokens_to_ids("a")
    with pytest.raises(InputError) as refused:
        for _ in range(10):
            constraint.take(a)
    assert refused.value.code == "format_too_complex"


def test_a_grammar_is_compiled_once_and_off_the_callers_thread() -> None:
    compiler = GrammarCompiler(tokenizer_of("byte-level"))
    grammar = Format.model_validate({"regex": "a{3}"}).llguidance
    threads: list[str] = []
    first = compiler.compile(grammar)
    first.add_done_callback(lambda _: threads.append(threading.current_thread().name))
    compiled = done(first)
    assert compiler.compile(grammar) is first
    assert compiled.constraint(()) is not compiled.constraint(())


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_special_tokens_are_told_apart(kind: str) -> None:
    """Grammars of ours name them by their ids, and no other is allowed in the place of one."""
    tokenizer = tokenizer_of(kind)
    special = [id for id in TokenBytes(tokenizer).special if id != tokenizer.eos_token_id]
    assert special
    grammar = f"start: <[{special[-1]}]>\n"
    constraint = done(GrammarCompiler(tokenizer).compile(grammar)).constraint(())
    assert np.flatnonzero(constraint.allowed()).tolist() == [special[-1]]
