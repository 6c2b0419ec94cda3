"""Chat templates: rendered as transformers renders them, and within bounds."""

from __future__ import annotations

import time
from typing import Any

import jinja2
import pytest
from standins import chat_templates, tiny_models

from modelcompose_jupyter.models import chat_template
from modelcompose_jupyter.models.chat_template import TemplateLimit, render
from modelcompose_jupyter.models.generation import Cancelled

Messages = list[dict[str, Any]]


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


ONE = [turn("user", "Hello fox")]
CHATS: list[Messages] = [
    ONE,
    [turn("system", " Be brief \n"), turn("user", "  1 < 2 & 'a'\n\tb  ")],
    [
        turn("user", "Hi"),
        turn("assistant", "<think>\nHm\n</think>\n\nHello 옛날 🦊"),
        turn("user", "More"),
        turn("assistant", "a <|im_end|> b"),
        turn("user", "{{ messages }} {% if %}"),
    ],
    [turn("user", "a"), turn("user", "b")],  # which some refuse
    [turn("system", "x"), turn("assistant", "y")],
    [turn("user", [{"type": "text", "text": "in parts"}])],
    [turn("user", None), turn("user", "")],
    [turn("user", 5)],
]
VARIABLES: list[dict[str, Any]] = [
    {"date_string": "1 May 2026"},
    {
        "date_string": "x", "enable_thinking": False, "builtin_tools": ["code", "search"],
        "custom_tools": [{"name": "rain", "parameters": {"city": "Zürich <&>"}}], "bos_token": "B",
    },
]  # fmt: skip
PIECES = [
    "{{ 'Level ' + 3 }}", "{{ tools | length }}", "{{ 1 // 0 }}", "{{ messages[9].content }}",
    "{{ raise_exception('no') }}", "{{ raise_exception(5) }}", "{{ nothing.at_all }}",
    "{{ nothing() }}", "{% for x in 5 %}{% endfor %}", "{{ messages | nofilter }}",
    "{% if %}", "{{ 'x'.__class__ }}", "{{ messages.append(1) }}", "{{ namespace(_a=1) }}",
    "{{ 'a' ~ 1 ~ none ~ nothing }}", "{{ messages | tojson }}", "{{ nothing | tojson }}",
    "{{ '<b>' | e }}{{ '<b>' | safe }}", "{{ 10 ** 20 }}", "{{ -5 % 3 }}{{ 5.0 / 2 }}",
    "{{ '%s and %d' % ('a', 3) }}", "{{ 'ab'[::-1] }}{{ [1, 2, 3][-2:] }}",
    "{% for a in [1, 2, 3, 4] if a % 2 %}{{ loop.index }}{{ loop.length }}{{ a }}{% endfor %}",
    "{% for a in messages if a.role == 'user' and loop.index %}{% endfor %}",
    "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}",
    "{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}", "{{ range(200000) }}",
    "{{ ['a', 'b'] | join('-') }}{{ messages | join(',', attribute='role') }}",
    "{{ 'abc' | join('.') }}",
    "{{ messages | map(attribute='role') | list }}{{ [[1], [2]] | sum(start=[]) }}",
    "{{ 'a\nb' | indent }}{{ 'a' | center(5) }}{{ 'a b c' | wordwrap(3) }}{{ 'x' * 3 }}",
    "{{ [1, 2, 3] | batch(2, 'x') | list }}{{ [1, 2, 3] | slice(2) | list }}",
    "{{ 'a b  c'.split() }}{{ 'a\nb'.splitlines() }}{{ 'a,b,c'.split(',', 1) }}",
    "{{ '-'.join(['a', 'b']) }}{{ ''.join('ab') }}{{ '-'.join([1]) }}", "{{ '%d' % 'x' }}",
    "{{ '{a}{b}'.format(a=1, b='x') }}{{ '{:>4}'.format('x') }}{{ '{a}'.format_map({'a': 2}) }}",
    "{% autoescape true %}{{ '<' }}{{ '<' ~ '>' }}{{ ['<'] | join }}{% endautoescape %}",
    "{% include 'x' %}", "{% block a %}x{% endblock %}{{ self.a() }}", "{{ messages == messages }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ caller() if caller }}{% endmacro %}"
    "{{ f(1, 3, 4) }}{% call f(1) %}c{% endcall %}",
    "{{ cycler('a', 'b').next() }}{{ joiner(',')() }}", "{{ dict([['a', 1]]) }}{{ dict(a=1) }}",
    "{{ messages[0].items() | list }}{{ messages[0] | items | list }}", "{{ 'é' | urlencode }}",
    "{{ 5 is odd }}{{ 'a' in 'abc' }}{{ 1 < 2 < 3 }}{{ not nothing }}{{ 'x' if false }}",
    "{{ (5).to_bytes(2, 'big') }}{{ 'a'.encode() }}{{ 'a\tb'.expandtabs(4) }}",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.tokenizer(bos=True)


def outcome(make: Any) -> Any:
    """A text, or what kind of error with which words."""
    try:
        return str(make())
    except Exception as error:
        return type(error), str(error)


def ours_and_theirs(tokenizer: Any, template: str, messages: Messages, **variables: Any) -> Any:
    def theirs() -> Any:
        return tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            **variables,
        )

    known = {**tokenizer.special_tokens_map, **variables}
    return outcome(lambda: render(template, messages, known)), outcome(theirs)


@pytest.mark.parametrize("name", chat_templates.ALL)
def test_templates_render_as_in_transformers(name: str, tokenizer: Any) -> None:
    texts = 0
    for messages in CHATS:
        for variables in VARIABLES:
            ours, theirs = ours_and_theirs(
                tokenizer, chat_templates.ALL[name], messages, **variables
            )
            assert ours == theirs
            texts += isinstance(ours, str)
    assert texts >= 4


@pytest.mark.parametrize("piece", PIECES)
def test_pieces_of_templates_render_or_fail_as_in_transformers(piece: str, tokenizer: Any) -> None:
    for messages in CHATS[:3]:
        ours, theirs = ours_and_theirs(tokenizer, piece, messages)
        if isinstance(ours, tuple) and "underscore" in theirs[1]:
            ours = theirs  # refused in words of its own
        assert ours == theirs


def test_the_date_is_that_of_now(tokenizer: Any) -> None:
    assert render("{{ strftime_now('%Y') }}", ONE, {}) in (
        str(time.localtime().tm_year - 1),
        str(time.localtime().tm_year),
    )


# Bounds

GROWS = (
    "{% set ns = namespace(a=START) %}{% for i in range(100) %}{% set ns.a = NEXT %}{% endfor %}"
)
TWICE = "{% for a in range(100000) %}{% for b in range(100000) WHERE %}BODY{% endfor %}{% endfor %}"


def grows(start: str, following: str, then: str = "") -> str:
    return GROWS.replace("START", start).replace("NEXT", following) + then


BEYOND = [
    TWICE.replace("WHERE", "").replace("BODY", ""),
    TWICE.replace("WHERE", "if false").replace("BODY", ""),
    "{% set x %}" + TWICE.replace("WHERE", "").replace("BODY", "x" * 1000) + "{% endset %}",
    "{% for a in range(100000) %}{{ range(100000) | select('odd') | list | length }}{% endfor %}",
    "{% for a in range(100000) %}{% if 'y' in c %}{% endif %}{% endfor %}",
    "{% for a in range(100000) %}{% set d = c[1:] %}{% endfor %}",
    "{% for a in range(100000) %}{{ c.count('y') }}{% endfor %}",
    "{{ 'a' * 1000000000 }}", "{{ 1000000000 * 'a' }}", "{{ [1] * 1000000000 }}",
    "{{ 'a' | center(1000000000) }}", "{{ 'a'.ljust(1000000000) }}", "{{ '1'.zfill(1000000000) }}",
    "{{ 'a'.encode().center(1000000000) }}", "{{ (1).to_bytes(1000000000, 'big') }}",
    "{{ '%1000000000d' % 1 }}", "{{ '%*d' % (1000000000, 1) }}", "{{ '%.999999999f' % 1 }}",
    "{{ '%1000000000s' | format('a') }}", "{{ ('%(a)s' * 100000) % {'a': c} }}",
    "{{ '{:1000000000}'.format(1) }}", "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ ('{0}' * 10000).format(c) }}", "{{ ('{a}' * 10000).format_map({'a': c}) }}",
    "{{ 10 ** 1000000000 }}", "{{ (10 ** 20000) * (10 ** 20000) }}",
    "{{ c.replace('a', c) }}", "{{ c | replace('a', c) }}", "{{ c.replace('', c) }}",
    "{{ c.join(['a'] * 100000) }}", "{{ (['a'] * 100000) | join(c) }}",
    "{{ range(99999) | join(c) }}",
    "{{ messages | join(c, attribute='role') ~ ([c] * 9) | join }}",
    "{{ ('\t' * 100000).expandtabs(100000) }}", "{{ c.translate({97: 'b' * 100000}) }}",
    "{{ ('\n' * 1000000) | indent(100000) }}", "{{ [1] | batch(1000000000, 'x') | list }}",
    "{{ lipsum(1000000) }}", "{{ messages | tojson(indent=1000000000) }}",
    "{{ messages | tojson(separators=(c, c)) }}", "{{ c | wordwrap(1, true, c) }}",
    "{{ (c ~ '<!---->') | striptags }}", "{{ c | urlize }}", "{{ c | pprint }}",
    grows("'ab'", "ns.a + ns.a"), grows("'ab'", "ns.a ~ ns.a"), grows("'ab'", "ns.a * 2"),
    grows("[1]", "[ns.a, ns.a]", "{{ ns.a }}"), grows("[1]", "ns.a + ns.a"),
    grows("{'a': 1}", "{'a': ns.a, 'b': ns.a}", "{{ ns.a | tojson }}"),
    grows("()", "(ns.a,)", "{{ {ns.a: 1} }}").replace("100", "1000"),
    grows("[]", "ns.a + [range(100000) | list]"),
    grows("''", "ns.a | forceescape ~ '&&&&&&' * 99999"),
    "{% for a in range(99) %}{{ c }}{% endfor %}",
    "{% for a in range(999) %}{% set b = c ~ a %}{% endfor %}",
    "{{ ([range(100000) | list] * 1000) | sum(start=[]) | length }}",
    "{{ dict.fromkeys(range(100000), c) | string }}", "{{ strftime_now(c) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ c }}{{ c }}{% endmacro %}{% macro g() %}{{ f() ~ f() }}{{ f() ~ f() }}"
    "{% endmacro %}{{ g() ~ g() }}",
    "{% autoescape 'a' | center(1000000000) %}{% endautoescape %}{{ 'a' | center(1000000000) }}",
    "{% filter center(1000000000) %}a{% endfilter %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{{ " + "+".join(["a"] * 20000) + " }}",
    "{% if a %}" * 3000 + "{% endif %}" * 3000, "{% for a in b %}" * 100 + "{% endfor %}" * 100,
    "{% if a %}" + "{% elif b %}" * 8000 + "{% endif %}", "a" * (chat_template.MOST_SOURCE + 1),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(BEYOND)))
def test_a_template_beyond_its_bounds_is_an_error(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "MOST_STEPS", 300_000)  # as many would do, only later
    with pytest.raises(TemplateLimit) as caught:
        render(BEYOND[place], ONE, {"c": "a" * 2_000_000})
    assert caught.value.code == "chat_template"
    assert caught.value.hint


def test_a_rendering_may_be_given_up_at_every_step() -> None:
    looked = 0

    def check() -> None:
        nonlocal looked
        looked += 1
        if looked == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        render(BEYOND[0], ONE, {}, check)
    assert looked == 3
    assert render("{{ messages | length }}", ONE, {}, check) == "1"  # the next one goes on


@pytest.mark.parametrize("name", ["qwen-3", "llama-3", "deepseek"])
def test_ten_thousand_messages_are_far_from_the_bounds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "MOST_STEPS", chat_template.MOST_STEPS // 10)
    monkeypatch.setattr(chat_template, "MOST_BYTES", chat_template.MOST_BYTES // 10)
    messages = [turn("assistant" if i % 2 else "user", "word " * 20) for i in range(10_000)]
    text = render(chat_templates.ALL[name], messages, {"bos_token": "<s>"})
    assert text.count("word") == 200_000


def test_a_template_is_compiled_once(tokenizer: Any) -> None:
    chat_template.compiled.cache_clear()
    for _ in range(3):
        render(chat_templates.CHATML, ONE, {})
    assert chat_template.compiled.cache_info().misses == 1


def test_what_a_template_says_of_itself_is_its_own_error() -> None:
    with pytest.raises(jinja2.TemplateError, match="alternate") as caught:
        render(chat_templates.MISTRAL, [*ONE, *ONE], {})
    assert type(caught.value) is jinja2.TemplateError
