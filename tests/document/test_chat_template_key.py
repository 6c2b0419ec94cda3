"""``chat_template`` of a component: text or a file, read with the document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from modelcompose_jupyter.document import json_schema, load_document
from modelcompose_jupyter.errors import DocumentError

HEAD = """\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: ${input.messages}
"""
JINJA = "{% for m in messages %}{{ m.content }} ${{ 5 }}{% endfor %}{# ${input.x} #}"


def loaded(value: str, folder: Path, **options: Any) -> Any:
    return load_document(HEAD + f"  chat_template: {value}\n", folder=folder, environ={}, **options)


def template_of(document: Any) -> Any:
    return document.components[0].chat_template


def test_a_template_is_a_text_that_inputs_do_not_change(tmp_path: Path) -> None:
    document = loaded(f"'{JINJA}'", tmp_path)
    assert template_of(document) == JINJA
    jsonschema.validate(document.source.data, json_schema())
    block = "|\n    {% for m in messages %}\n    {{ m.content }}\n    {% endfor %}"
    assert template_of(loaded(block, tmp_path)).startswith("{% for m in messages %}\n{{ m.content")
    assert template_of(load_document(HEAD, environ={})) is None


@pytest.mark.parametrize("name", ["./own.jinja", "own.jinja", "sub/own.txt"])
def test_a_template_may_stand_in_a_file_beside_the_document(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_text(JINJA, encoding="utf-8-sig")
    document = loaded(name, tmp_path)
    assert template_of(document) == JINJA
    assert document.files == {name: JINJA}
    assert document.file_paths == [tmp_path / name]
    assert template_of(loaded(str((tmp_path / name).resolve()), Path.cwd())) == JINJA


def test_a_document_is_another_one_when_its_template_is(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(JINJA)
    first, same = loaded("own.jinja", tmp_path), loaded("own.jinja", tmp_path)
    file.write_text(JINJA + "!")
    other = loaded("own.jinja", tmp_path)
    assert first.key == same.key != other.key
    assert first.hash == same.hash != other.hash
    brought = loaded("own.jinja", tmp_path / "elsewhere", files=dict(first.files))
    assert (brought.key, template_of(brought)) == (first.key, JINJA)


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("./other.txt", "there is no file './other.txt'",
         "It is looked for in the folder of the document."),
        ("./onw.jinja", "there is no file './onw.jinja'", "Did you mean 'own.jinja'?"),
        (".", "there is no file '.'", "It is looked for in the folder of the document."),
        ("${input.template}",
         "a chat template is read with the document, so inputs do not decide it",
         "Write Jinja, or name a file such as ./chat.jinja."),
        ("'{% for m in messages %}'",
         "the chat template cannot be read: Unexpected end of template. Jinja was looking for the"
         " following tags: 'endfor' or 'else'. The innermost block that needs to be closed is"
         " 'for'. (line 1)",
         "It is a template in Jinja, as models have it in chat_template.jinja."),
        ("broken.jinja",
         "the chat template cannot be read: unexpected '}' (line 2)",
         "It is a template in Jinja, as models have it in chat_template.jinja."),
        ("large.jinja", "the file 'large.jinja' has more than 131,072 bytes, which are the limit",
         None),
        ("bytes.jinja", "the file 'bytes.jinja': it is not UTF-8 text (byte 0)",
         "Save it as UTF-8."),
        ("''", "'chat_template': an empty text is not allowed here", None),
        ("5", "'chat_template': 5 is not text; put it in quotes", None),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_place(
    value: str, message: str, hint: str | None, tmp_path: Path
) -> None:
    (tmp_path / "own.jinja").write_text(JINJA)
    (tmp_path / "broken.jinja").write_text("{{ 1 }}\n{{ } }}")
    (tmp_path / "large.jinja").write_text("{{ 1 }}" + " " * (128 << 10))
    (tmp_path / "bytes.jinja").write_bytes(b"\xff{{ 1 }}")
    with pytest.raises(DocumentError) as caught:
        loaded(value, tmp_path)
    (problem,) = caught.value.problems
    assert (problem.message, problem.hint, problem.where.line) == (message, hint, 6)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_what_may_have_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jinja")
    with pytest.raises(DocumentError, match=r"there is no file 'pipe\.jinja'"):
        loaded("pipe.jinja", tmp_path)


def test_only_chats_have_a_template(tmp_path: Path) -> None:
    text = HEAD.replace("chat-completion", "text-generation").replace("messages:", "text:")
    document = load_document(text + f"  chat_template: '{JINJA}'\n", environ={})
    (warning,) = document.warnings
    assert warning.message == "'chat_template' has no effect: only chats have a template"
