"""Messages in the reader's language: found again among their templates, whatever they hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcompose_jupyter.errors import ComposeError, InputError, Where
from modelcompose_jupyter.korean_particles import with_particles
from modelcompose_jupyter.translation import (
    Catalog,
    Template,
    catalog_of,
    environment_language,
    in_all_languages,
    preferred,
    told,
    translated,
)
from modelcompose_jupyter.widgets.esm import joined, messages

TRANSLATIONS = Path(__file__).parent.parent / "translations"
WIDGETS = Path(sys.modules[joined.__module__].__file__ or "").parent


@cache
def korean() -> Catalog:
    catalog = catalog_of("ko")
    assert catalog is not None
    return catalog


def test_everything_is_translated_and_up_to_date() -> None:
    """What is left is listed: labels, statuses, errors, placeholders, terms of the glossary."""
    command = [sys.executable, str(TRANSLATIONS / "messages.py"), "check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# What may stand at a placeholder: names of files, numbers, other scripts, braces, marks.
ODD = st.sampled_from(
    ["ä.yml", "12", "1,234", "{0}", "${input.x}", "日本", "a/b", "%s", "x-7_z", "🙂"]
)


def _filled(template: Template, values: list[str]) -> str:
    text = template.literals[0]
    for value, literal in zip(values, template.literals[1:], strict=True):
        text += value + literal
    return text


@given(st.lists(ODD, min_size=8, max_size=8))
@settings(max_examples=10, deadline=None)
def test_each_message_is_found_again(values: list[str]) -> None:
    for template in korean().templates():
        count = len(template.literals) - 1
        given_ = values[:count]
        if not template.takes(
            {str(key): value for key, value in enumerate(given_)}, korean().messages.__contains__
        ):
            given_ = ["12", *given_[1:]]  # an amount, and no word
        text = _filled(template, given_)
        found = korean().template(text)
        assert found is not None, text
        assert found.weight >= template.weight, (text, found.literals)
        assert _filled(found, [*(found.values(text) or {}).values()]) == text


@given(st.lists(ODD, min_size=8, max_size=8))
@settings(max_examples=10, deadline=None)
def test_what_it_held_is_in_the_translation(values: list[str]) -> None:
    for template in korean().templates():
        if "" in template.literals[1:-1]:
            continue  # nothing tells where one placeholder ends, and the next one begins
        text = _filled(template, values[: len(template.literals) - 1])
        shown = translated(text, "ko")
        found = korean().template(text)
        if found is None:  # a word stands where an amount does
            continue
        used = {field for _, field, _, _ in Formatter().parse(found.forms[0]) if field}
        for field, value in (found.values(text) or {}).items():
            if field in used and not value[:1].isdigit():  # amounts are written anew
                assert value in shown, (text, shown)


def test_a_message_of_another_process_is_translated() -> None:
    there = InputError("input 'prompt' has no values", hint="Fill this in.", where=Where("a.yml"))
    sent = json.dumps(there.to_dict())
    here = ComposeError.from_dict(json.loads(sent))
    assert str(here) == "a.yml: input 'prompt' has no values\n  Fill this in."
    assert here.lines("ko") == ["a.yml: 입력 'prompt'에 값이 없습니다", "  값을 입력하세요."]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Stopped by you · 1,234 tokens · 112 tokens/s · seed 7",
         "사용자가 중지함 · 토큰 1,234개 · 초당 토큰 112개 · 시드 7"),
        ("Cut at 20 tokens, the host's limit · 1.9 s (1.7 s loading, 3 min 2 s in the queue)",
         "토큰 20개, 호스트의 한도에서 잘림 · 1.9초 (불러오기 1.7초, 대기열 3분 2초)"),
        ("2nd attempt of 3 · Failed", "3회 중 2번째 시도 · Failed"),
        ("'Stop' is missing", "'Stop'가 없습니다"),
        ("warning: num_beams has no effect without sampling",
         "경고: num_beams는 효과가 없습니다: 샘플링하지 않기 때문입니다"),
        ("unknown type 'txt' in ${input.prompt as txt}",
         "알 수 없는 타입 'txt', 위치: ${input.prompt as txt}"),
        ("'n' must be at least 0, and it is -1", "'n'은 0 이상이어야 하는데 -1입니다"),
        ("'a' is given twice, first on line 3", "'a'를 두 번 썼고, 처음은 3번째 줄에 있습니다"),
        ("KeyboardInterrupt: run a1 was stopped after 30 tokens",
         "KeyboardInterrupt: 실행 a1 중지됨 (토큰 30개 뒤)"),
        ("the end of the story", "the end of the story"),
        ("one of us said so", "one of us said so"),
        ("", ""),
    ],
)  # fmt: skip
def test_pieces_are_translated_and_what_is_unknown_stays(message: str, shown: str) -> None:
    assert translated(message, "ko-KR") == shown
    assert translated(message, "en") == message
    assert translated(message, "xx") == message


def test_of_plain_data_the_named_keys_are_messages() -> None:
    data = [{"message": "Stop", "code": "Stop", "items": [{"message": "Failed", "n": 1}]}]
    shown = [{"message": "중지", "code": "Stop", "items": [{"message": "실패", "n": 1}]}]
    assert told(data, "ko", "message") == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'모델'(은/는)", "'모델'은"), ("문서(은/는)", "문서는"), ("a.yml(이/가)", "a.yml이"),
        ("7(을/를)", "7을"), ("2(을/를)", "2를"), ("서울(으로/로)", "서울로"),
        ("집(으로/로)", "집으로"),
        ("`x`(과/와)", "`x`와"), ("(은/는)", "는"), ("(a/b)", "(a/b)"),
    ],
)  # fmt: skip
def test_particles_follow_the_sound_before_them(text: str, shown: str) -> None:
    assert with_particles(text) == shown


def test_plural_forms_are_the_language_s() -> None:
    head = {"plural_forms": "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 ? 1 : 2);"}
    forms = ["{0} żeton", "{0} żetony", "{0} żetonów"]
    polish = Catalog("pl", {"": head, "{0} token": forms, "{0} tokens": forms})
    shown = [polish.told(text) for text in ("1 token", "3 tokens", "1,005 tokens")]
    assert shown == ["1 żeton", "3 żetony", "1,005 żetonów"]


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"), ({"LANG": "en_US.UTF-8", "LC_ALL": "ko_KR"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"), ({"LANG": "C", "LANGUAGE": "ko"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "de:ko:en"}, "ko"), ({"LANG": "de_DE"}, "en"),
        ({"LANG": "ko_KR", "LANGUAGE": "en:ko"}, "en"), ({}, "en"),
        ({"HTTP_ACCEPT_LANGUAGE": "fr, ko-KR;q=0.9, en;q=0.8"}, "ko"),
    ],
)  # fmt: skip
def test_the_environment_says_which_language(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], language: str
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE", "HTTP_ACCEPT_LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_language() == language


def test_a_browser_names_several_languages() -> None:
    assert preferred("de-DE,de;q=0.9,ko;q=0.8,en;q=0.7") == "ko"
    assert preferred("en-US,ko;q=0.5") == "en"
    assert preferred("*") == "en"


def test_scripts_bring_their_words() -> None:
    script = joined(WIDGETS / "run_view.js")
    said = {one for one, _ in messages(script)}
    assert "Copy text" in said
    words = in_all_languages(*sorted(said))["ko"]
    assert words.keys() == said
    assert json.dumps(words, ensure_ascii=False) in script


def _terminal(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelcompose_jupyter.cli", *arguments]
    unset = {"LC_ALL", "LC_MESSAGES", "LANGUAGE"}
    env = {key: value for key, value in os.environ.items() if key not in unset}
    return subprocess.run(
        command, env={**env, **environment}, cwd=cwd, capture_output=True, text=True
    )


def test_a_terminal_speaks_its_language(tmp_path: Path) -> None:
    shown = _terminal("run", "--help", cwd=tmp_path, LANG="ko_KR.UTF-8")
    assert shown.stdout.startswith("사용법: ")
    assert "옵션:" in shown.stdout
    assert "워크플로를 실행하고 결과를 출력합니다" in shown.stdout
    assert "결과 대신 텍스트를 나오는 대로 출력합니다." in " ".join(shown.stdout.split())
    done = _terminal("validate", "a.yml", cwd=tmp_path, LANG="ko_KR.UTF-8")
    assert done.stderr == "a.yml: 읽을 수 없습니다: 그런 파일이나 폴더가 없습니다\n"
    assert done.returncode == 2
    assert _terminal("validate", "a.yml", cwd=tmp_path, LANG="en_US.UTF-8").stderr == (
        "a.yml: cannot read it: no such file or directory\n"
    )


def test_who_reads_english_loads_no_catalog() -> None:
    code = (
        "import sys, modelcompose_jupyter.errors as e, modelcompose_jupyter.translation as t;"
        "str(e.InputError('x').lines()); e.InputError('x')._render_traceback_();"
        "assert t._catalog.cache_info().currsize == 0 and 'gettext' not in sys.modules"
    )
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
