"""What guests see of the folders of this computer: the last names, in whatever text they stand."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelcompose_jupyter
from modelcompose_jupyter.path_redaction import last_name, public_source, remember, without_folders

SECRET = "zq"  # in every folder of the paths below, and in nothing else
SOURCES = Path(modelcompose_jupyter.__file__).parent


def messages() -> Iterator[str]:
    """The texts of the errors that the package raises, with a word in place of each value."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                texts = [*node.args, *(k.value for k in node.keywords if k.arg == "hint")]
                for text in texts:
                    for part in ast.walk(text):
                        if isinstance(part, ast.JoinedStr):
                            yield "".join(
                                str(each.value) if isinstance(each, ast.Constant) else "word"
                                for each in part.values
                            )
                        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                            yield part.value


def test_our_own_messages_stay_as_they_are() -> None:
    found = list(messages())
    assert len(found) > 300 and any("./ or / in front" in each for each in found)
    assert [each for each in found if without_folders(each) != each] == []


@pytest.mark.parametrize(
    "text",
    [
        "A name without ./ or / in front is looked for on the Hub.",
        "Poll /tasks/{id}, or follow /tasks/{id}/events below /api.",
        "POST /api/workflows/runs, or /v1/chat/completions of OpenAI",
        "n/a and/or 12/24 tokens/s, 24/11/2026, km / h, 1/2/3",
        "see https://huggingface.co/a/b?x=/c/d and http://[::1]:80/a/b, bundled:storyteller/x",
        "owner/name, ./model/x, ../other/model and .\\model\\x stay",
        "jobs[0]/input/text, ${env.FOLDER}/a/b, **/a/b/*.bin",
        r"a pattern such as ^/(\w+)/[^/]+/$ or \d+/\d+ or (?:a|b)\\s+\\d",
        "<b>a</b><br/>x</i></p>",
        "/, //, ~, ~/ and \\ alone; // a comment / with / slashes",
        "…/model is not there",
    ],
)
def test_a_text_without_a_path_stays_as_it_is(text: str) -> None:
    assert without_folders(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the folder /home/Jo zq/My zq/x is not there", "the folder …/x is not there"),
        ("no file in '/zq/b, zq/c.txt' or '/d'", "no file in '…/c.txt' or '…/d'"),
        ("cannot read /zq/zq/c.json: no such file", "cannot read …/c.json: no such file"),
        ("see /zq/it's zq/c or ./here and a/b", "see …/c or ./here and a/b"),
        ("(/zq/a.b/c, ~zq/x; ~/zq/y)", "(…/c, …/x; …/y)"),
        ("C:\\Users\\zq\\x is not there", "…/x is not there"),
        ("d:/zq a/zq/x: \\\\zq\\share\\y, \\\\?\\C:\\zq\\z", "…/x: …/y, …/z"),
        ("//zq/share/y and file:///zq/a%20zq/m", "…/y and …/m"),
        ("cache_dir=/zq/zq/hub, PATH=/a/zq/c:/zq/d/e", "cache_dir=…/hub, PATH=…/e"),
        ('File "/zq/site-packages/x.py", line 3', 'File "…/x.py", line 3'),
        ("${input.model | /zq/zq/m}", "${input.model | …/m}"),
        (repr("C:\\zq\\zq\\x"), "'…/x'"),
        ("/zq/a/tasks/{id}", "…/{id}"),
    ],
)
def test_of_a_path_the_last_name_stays(text: str, shown: str) -> None:
    assert without_folders(text) == shown


NAMES = st.text("ab .-_é한'()+&%$#@!=", min_size=1, max_size=8).map(
    lambda text: f"{SECRET}{text.strip() or 'x'}{SECRET}"
)
ROOTS = st.sampled_from(["/", "C:\\", "c:/", "\\\\", "//", "~/", "~zq/", "file:///"])
SENTENCES = st.sampled_from(
    ["{}", "{} is not there", "cannot read {}: no such file", "[Errno 2] no: '{}'", 'in "{}", 3']
)


@given(ROOTS, st.lists(NAMES, min_size=2, max_size=4), SENTENCES)
def test_no_folder_of_a_path_is_left(root: str, names: list[str], sentence: str) -> None:
    separator = "\\" if "\\" in root else "/"
    if "'{}'" in sentence:  # which nobody writes around a text with such quotes
        names = [name.replace("'", "") for name in names]
    shown = without_folders(sentence.format(root + separator.join([*names, "last"])))
    assert SECRET not in shown
    assert shown == sentence.format("…/last")


ANYTHING = st.text(st.characters(exclude_characters="/\\\0\r", codec="utf-8"), max_size=8).map(
    lambda text: f"{SECRET}{text}{SECRET}"
)
FORMS = st.sampled_from([str, repr, json.dumps, lambda path: f"file://{quote(path)}"])


@given(st.lists(ANYTHING, min_size=2, max_size=4), FORMS, SENTENCES)
def test_a_folder_that_is_known_is_found_whatever_is_in_its_names(
    names: list[str], form: object, sentence: str
) -> None:
    path = "/" + "/".join([*names, "model"])
    remember(path)
    for each in (path, f"{path}/config.json"):
        shown = without_folders(sentence.format(form(each)))  # type: ignore[operator]
        assert SECRET not in shown and last_name(each) in shown


def test_what_is_written_behind_a_known_folder_stays() -> None:
    remember("/zq one/zq two/model")
    text = "the folder {} has neither config.json nor adapter/config.json"
    assert without_folders(text.format("/zq one/zq two/model")) == text.format("…/model")
    assert without_folders("/zq one/zq two/models is") == "…/models is"


def test_long_words_with_hyphens_are_read_once() -> None:
    words = "a-" * 50_000 + " /"  # took the square of its length
    assert without_folders(words) == words
    assert without_folders("git+ssh://host/a/b and s3://x/y") == "git+ssh://host/a/b and s3://x/y"


def test_links_and_homes_are_known_by_where_they_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zq, a" / "home").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "zq, a")
    monkeypatch.setenv("HOME", str(tmp_path / "zq, a" / "home"))
    remember(tmp_path / "link" / "model")
    for path in (tmp_path / "zq, a" / "model", tmp_path / "zq, a" / "home" / "x"):
        assert without_folders(f"{path} is gone") == f"…/{path.name} is gone"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/zq/a, or b/model/", "…/model"),
        ("~/zq/model", "…/model"),
        ("\\\\zq\\share\\model", "…/model"),
        ("./zq/model", "./zq/model"),
        ("../model", "../model"),
        ("owner/name", "owner/name"),
        ("bundled:storyteller", "bundled:storyteller"),
        ("${input.model | /zq/a/model}", "${input.model | …/model}"),
    ],
)
def test_sources_of_models(source: str, shown: str) -> None:
    assert public_source(source) == shown
