"""Chat templates: rendered as transformers renders them, and within bounds."""

from __future__ import annotations

import time
from typing import Any

import jinja2
import pytest
from standins import chat_templates, tiny_models

from modelcompose_jupyter.models.generation import Cancelled
from modelcompose_jupyter.models.tokenization import chat, chat_template
from modelcompose_jupyter.models.tokenization.chat_template import TemplateLimit, render

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
    "{{ 'a\nb' | indent }}{{ 'x' * 3 }}",
    "{{ [3, 1, 3] | unique | list }}{{ 'aa' | list }}{{ messages | groupby('role') | length }}",
    "{{ none | select | list }}{{ 'ab' | map('upper') | list }}{{ 5 | select | list }}",
    "{{ 'abab'.rsplit('b', 1) }}{{ 'aba'.strip('a') }}{{ 'ab'.rfind('b') }}{{ 2.345 | round(2) }}",
    "{{ 'a b'.title() }}{{ 'a' is in('abc') }}{{ [1, 2].index(2) }}{{ range(3) | max }}",
    "{{ 'a b  c'.split() }}{{ 'a\nb'.splitlines() }}{{ 'a,b,c'.split(',', 1) }}",
    "{{ '-'.join(['a', 'b']) }}{{ ''.join('ab') }}{{ '-'.join([1]) }}", "{{ '%d' % 'x' }}",
    "{{ '{a}{b}'.format(a=1, b='x') }}{{ '{:>4}'.format('x') }}",
    "{% autoescape true %}{{ '<' }}{{ '<' ~ '>' }}{{ ['<'] | join }}{% endautoescape %}",
    "{{ messages == messages }}{{ cycler(*'ab').next() }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ caller() if caller }}{% endmacro %}"
    "{{ f(1, 3, 4) }}{% call f(1) %}c{% endcall %}",
    "{{ cycler('a', 'b').next() }}{{ joiner(',')() }}", "{{ dict([['a', 1]]) }}{{ dict(a=1) }}",
    "{{ messages[0].items() | list }}{{ messages[0] | items | list }}",
    "{% for g in messages | groupby('role') %}{{ g.grouper }}{{ g.list }}{% endfor %}",
    "{{ 5 is odd }}{{ 'a' in 'abc' }}{{ 1 < 2 < 3 }}{{ not nothing }}{{ 'x' if false }}",
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
    "{{ 'a'.center(1000000000) }}", "{{ 'a'.ljust(1000000000) }}", "{{ '1'.zfill(1000000000) }}",
    "{{ 'a'.encode() }}", "{{ (1).to_bytes(1000000000, 'big') }}", "{{ (1.5).hex() }}",
    "{{ '%1000000000d' % 1 }}", "{{ '%*d' % (1000000000, 1) }}", "{{ '%.999999999f' % 1 }}",
    "{{ '%1000000000s' | format('a') }}", "{{ ('%(a)s' * 100000) % {'a': c} }}",
    "{{ '{:1000000000}'.format(1) }}", "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ ('{0}' * 10000).format(c) }}", "{{ '{a}'.format_map({'a': c}) }}",
    "{{ 10 ** 1000000000 }}", "{{ (10 ** 20000) * (10 ** 20000) }}",
    "{{ c.replace('a', c) }}", "{{ c | replace('a', c) }}", "{{ c.replace('', c) }}",
    "{{ c.join(['a'] * 100000) }}", "{{ (['a'] * 100000) | join(c) }}",
    "{{ range(99999) | join(c) }}",
    "{{ messages | join(c, attribute='role') ~ ([c] * 9) | join }}",
    "{{ 'a'.expandtabs(100000) }}", "{{ c.translate({97: 'b'}) }}", "{{ c.maketrans(c, c) }}",
    "{{ ('\n' * 1000000) | indent(100000) }}", "{{ messages | tojson(indent=1000000000) }}",
    "{{ messages | tojson(separators=(c, c)) }}",
    grows("'ab'", "ns.a + ns.a"), grows("'ab'", "ns.a ~ ns.a"), grows("'ab'", "ns.a * 2"),
    grows("[1]", "[ns.a, ns.a]", "{{ ns.a }}"), grows("[1]", "ns.a + ns.a"),
    grows("{'a': 1}", "{'a': ns.a, 'b': ns.a}", "{{ ns.a | tojson }}"),
    grows("()", "(ns.a,)", "{{ {ns.a: 1} }}").replace("100", "1000"),
    grows("[]", "ns.a + [range(100000) | list]"),
    "{{ ('&' * 8000000) | e }}",
    "{% for a in range(99) %}{{ c }}{% endfor %}",
    "{% for a in range(999) %}{% set b = c ~ a %}{% endfor %}",
    "{{ ([range(100000) | list] * 1000) | sum(start=[]) | length }}",
    "{{ strftime_now(c) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ c }}{{ c }}{% endmacro %}{% macro g() %}{{ f() ~ f() }}{{ f() ~ f() }}"
    "{% endmacro %}{{ g() ~ g() }}",
    "{% autoescape 'a'.center(1000000000) %}{% endautoescape %}{{ 'a'.center(1000000000) }}",
    "{% filter indent(1000000000, true) %}a{% endfilter %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{{ " + "+".join(["a"] * 20000) + " }}",
    "{% if a %}" * 3000 + "{% endif %}" * 3000, "{% for a in b %}" * 100 + "{% endfor %}" * 100,
    *(
        "{% set a = 'a' * 200000 %}{{ a." + name + "('ab' ~ 'a' * 100000) }}"
        for name in ("rfind", "rindex", "rsplit", "rpartition", "strip", "count", "split")
    ),
    "{{ ('a' * 8000000).rfind('b' ~ 'a' * 999) }}", "{{ c | trim('b' * 400000 ~ 'a') }}",
    "{{ c | replace('b' * 400000, '') }}",
    "{{ 1 | round(-3000000) }}", "{{ 1 | round(3000000, 'ceil') }}",
    "{{ dict(['ab'] * 30000) }}", "{{ messages[0].fromkeys([1]) }}",
    "{{ range(100000) | map('string') | unique | list | length }}",
    "{{ [1] | sort(attribute=',' * 1000) }}", "{{ [1] | map(attribute='.' * 1000) | list }}",
    "{{ messages | groupby('.' * 1000) }}", "{{ messages | selectattr('.' * 1000) | list }}",
    "{{ messages | join('', '.' * 1000) }}", "{{ messages | attr('a' * 1000) }}",
    *(
        "{% for i in range(1000) %}{{ " + each + " }}{% endfor %}"
        for each in (
            "range(1, 100000) | selectattr('x') | list", "range(100000) | reject | list",
            "range(100000) | max", "'a' in range(100000)", "range(100000) is in([1])",
            "range(100000).count('a')",
        )
    ),
    "{% set d = {'a': (((0,) * 1000,) * 900,)} %}{% for i in range(1000) %}{{ d.get(d.a) }}"
    "{{ d[d.a] }}{{ d.a in d }}{% endfor %}",
    "{% for i in range(9999) %}{{ 'a' in d.values() }}{{ d.items() | max | length }}{% endfor %}"
    .replace("d.", "messages[0].") * 9,
    "{% set d = c.split('a') %}{% for i in range(999) %}{{ 'b' in d }}{% endfor %}",
    "{{ ''.join('%c' % 128512 * 4900000) }}", "{{ ('%c' % 128512 * 4900000) | join }}",
    "{{ ('%c' % 128512 * 4900000) | list }}", "{{ ('%c ' % 128512 * 4000000).split() }}",
    "{{ dict(*('%c' % 128512 * 4900000)) }}", "{{ (c ~ ' a') | title }}",
    "{% set a = '%c' % 917505 * 1000000 %}{{ [a, a, a] | string }}",
    "{{ [namespace(a=c)] }}", "{{ [range] }}", "{{ messages[0].keys() - ['a'] }}",
    "{{ '%r' % ('%c' % 917505 * 1000000) }}", "{{ ('%c' % 1 * 8000000) | tojson }}",
    "{% set a = [c] * 30 %}{{ a | sort }}{{ a | sort }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}",
    "{% block a %}x{% endblock %}",
    "".join(f"{{%if a%}}{{%set a{i}=1%}}{{%endif%}}" for i in range(501)),
    "".join(f"{{%macro a{i}(b)%}}{{%endmacro%}}" for i in range(501)),
    "{{a~a}}" * 18000,
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


@pytest.mark.parametrize(
    "name",
    [
        "batch", "center", "filesizeformat", "forceescape", "pprint", "random", "slice",
        "striptags", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
    ],
)  # fmt: skip
def test_filters_that_no_chat_needs_are_not_there(name: str) -> None:
    with pytest.raises(jinja2.TemplateSyntaxError, match=f"No filter named '{name}'"):
        render("{{ 'a' | " + name + " }}", ONE, {})


@pytest.mark.parametrize("piece", ["lipsum()", "dict.fromkeys([1])"])
def test_globals_that_no_chat_needs_are_not_there(piece: str) -> None:
    with pytest.raises((jinja2.UndefinedError, jinja2.exceptions.SecurityError)):
        render("{{ " + piece + " }}", ONE, {})


def test_a_rendering_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MOST_SECONDS", 0.0)
    with pytest.raises(TemplateLimit, match="seconds"):
        render(BEYOND[0], ONE, {})


def test_items_of_a_mapping_that_are_asked_for_again_are_not_kept() -> None:
    source = "{% for i in range(60) %}{% set x = d.items() %}{{ x | length }} {% endfor %}"
    text = render(source, ONE, {"d": dict.fromkeys(map(str, range(10_000)), 0)})
    assert text == "10000 " * 60


def test_all_renderings_that_find_the_end_of_a_turn_have_the_time_of_one(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def once() -> Any:
        made.append(len(made))
        first = len(made) == 1

        def check() -> None:
            if first:
                raise TemplateLimit("takes too long")

        return check

    monkeypatch.setattr(chat_template, "in_time", once)
    tokenizer.chat_template = "{% for i in range(1000) %}{% endfor %}" + chat_templates.CHATML
    assert chat.turn_end(tokenizer) == set()
    assert len(made) > 1
