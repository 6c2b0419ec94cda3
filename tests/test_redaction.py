"""No text that leaves the process holds a credential."""

from __future__ import annotations

import io
import json
import logging
import secrets
from concurrent.futures import Future
from pathlib import Path

import pytest

import modelcompose_jupyter
from modelcompose_jupyter import ComposeError, load, redaction
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.document.reader import read
from modelcompose_jupyter.errors import DocumentError, ModelError, Problem, UsageError, Where
from modelcompose_jupyter.host import LocalHost
from modelcompose_jupyter.language_service import diagnostics
from modelcompose_jupyter.models import Lease, ModelSpec
from modelcompose_jupyter.redaction import (
    MASK,
    get_logger,
    redact,
    redact_line,
    redacted,
    remember,
    without_secrets,
)
from modelcompose_jupyter.server.logs import configure
from modelcompose_jupyter.workflow import Run

DOCUMENT = """
component:
  type: model
  task: text-generation
  model: owner/private
  token: {token}
  text: ${{input.prompt}}
"""


@pytest.fixture
def token() -> str:
    """One that no other test knows, and that no pattern tells."""
    return f"zz-{secrets.token_hex(6)}"


def test_a_secret_is_masked_in_every_form_in_which_libraries_quote_it() -> None:
    secret = "p@ss wörd/%+1"
    remember(f"  {secret}\n")
    for quoted in (
        secret,
        repr(secret),
        ascii(secret),
        json.dumps(secret),
        f"b'Bearer {secret}\\n'",
        "p%40ss%20w%C3%B6rd%2F%25%2B1",
        "p%40ss+w%C3%B6rd%2F%25%2B1",
    ):
        shown = redact(f"cannot send {quoted}!")
        assert MASK in shown and "rd" not in shown, quoted


def test_a_secret_of_several_lines_is_masked_by_its_lines() -> None:
    remember("line-one-4711\nline-two-4712")
    assert redact("got line-two-4712 there") == f"got {MASK} there"


@pytest.mark.parametrize("word", ["the", "main", "test", "story", "", "   ", None, 5])
def test_what_may_be_a_word_is_no_secret(word: object) -> None:
    remember(word)
    assert redact("the main test of the story 5") == "the main test of the story 5"


def test_a_secret_inside_a_longer_word_is_another_word(token: str) -> None:
    remember(token)
    assert redact(f"x{token}y") == f"x{token}y"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("http://user:pa55@proxy:3128 refuses", "http://proxy:3128 refuses"),
        ("https://hf_abc@hub.example/x is gone", "https://hub.example/x is gone"),
        ("http://u:p/w@host/path", "http://host/path"),
        ("proxy user:pa55@proxy.example:3128 refuses", "proxy proxy.example:3128 refuses"),
        ("http://127.0.0.1:8080/a@b", f"http://127.0.0.1:8080/{MASK}@b"),
        ("http://u:12/pw@host/path", f"http://u:12/{MASK}@host/path"),
        ("http://u:a@b@host/path", "http://host/path"),
        ("u:pa55@host/a/b is no model", "host/a/b is no model"),
        ("ssh://git@github.com/x", "ssh://git@github.com/x"),
        ("at /x?X-Amz-Signature=ab12&b=1", f"at /x?X-Amz-Signature={MASK}&b=1"),
        ("at /x?a=1&token=ab12'", f"at /x?a=1&token={MASK}'"),
        ("at /x?Expires=99&Key-Pair-Id=K1", f"at /x?Expires=99&Key-Pair-Id={MASK}"),
        ("at /x?key=ab12c", f"at /x?key={MASK}"),
        ("at /x?policy=strict&code=none", "at /x?policy=strict&code=none"),
        ("Cookie: a=b; session=ab12", f"Cookie: {MASK}"),
        ("token=ab12cd", f"token={MASK}"),
        ("{'token': 'ab12cd'}", f"{{'token': '{MASK}'}}"),
        ("run --token ab12cd", f"run --token {MASK}"),
        ("OPENAI_API_KEY=ab12cd", f"OPENAI_API_KEY={MASK}"),
        ("client_secret=ab12cd", f"client_secret={MASK}"),
        (f"hf_oauth_{'a1' * 12} is", f"{MASK} is"),
        ("sk-community-models/x-y-z", "sk-community-models/x-y-z"),
        ("hf_hub_download_of_a_file", "hf_hub_download_of_a_file"),
        ("password: is required", "password: is required"),
        ("api_key: 'str'", "api_key: 'str'"),
        ("secret=false, password=None", "secret=false, password=None"),
        ("Authorization: required header is missing", "Authorization: required header is missing"),
        ("bearer tokens are needed", "bearer tokens are needed"),
        ("Authorization: Bearer <token>", "Authorization: Bearer <token>"),
        ("Cookie, biscuit and cake", "Cookie, biscuit and cake"),
        ("eos_token: x123 and pad_token_id=50256", "eos_token: x123 and pad_token_id=50256"),
        ("value b'Bearer abcdef12\\n'", f"value b'Bearer {MASK}\\n'"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", f"{{'authorization': 'Basic {MASK}'}}"),
        ("Send 'Authorization: Bearer TOKEN'.", "Send 'Authorization: Bearer TOKEN'."),
        ("Authorization: Bearer $MODELCOMPOSE_TOKEN", "Authorization: Bearer $MODELCOMPOSE_TOKEN"),
        (f"hf_{'a1' * 17} is wrong", f"{MASK} is wrong"),
        (f"sk-{'a1' * 12} is wrong", f"{MASK} is wrong"),
        ("Run: pip install hf_transfer", "Run: pip install hf_transfer"),
        ("password=hunter2 in it", f"password={MASK} in it"),
        ("api_key: 'k-123'", f"api_key: '{MASK}'"),
        ("max_tokens: 16 is too few, eos_token_id=0", "max_tokens: 16 is too few, eos_token_id=0"),
        ("the token: a word", "the token: a word"),
    ],
)
def test_what_looks_like_a_credential_is_masked(message: str, shown: str) -> None:
    assert redact(message) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  token: abc123", f"  token: {MASK}"),
        ('{"token": "abc123", "a": 1}', f'{{"token": {MASK}'),
        ("token: ${env.HF_TOKEN}", "token: ${env.HF_TOKEN}"),
        ('  token: "${env.HF_TOKEN}"  # mine', '  token: "${env.HF_TOKEN}"  # mine'),
        ("token: ${env.X | abc123}", f"token: {MASK}"),
        ("hf_token: abc123", f"hf_token: {MASK}"),
        ("max_output_length: 20", "max_output_length: 20"),
        ("tokn: abc123", f"tokn: {MASK}"),
        ("HF_HUB_KEY: abc123", f"HF_HUB_KEY: {MASK}"),
        ("token abc123", f"token {MASK}"),
        ("token=abc123", f"token={MASK}"),
        ("eos_token: </s>", "eos_token: </s>"),
        ("bos_token: '<s>'", "bos_token: '<s>'"),
        ("text: Explain what a token: is", "text: Explain what a token: is"),
        ("- {role: user, content: 'token: x'}", "- {role: user, content: 'token: x'}"),
    ],
)
def test_a_line_of_a_document_is_shown_without_its_token(line: str, shown: str) -> None:
    assert redact_line(line) == shown


@pytest.mark.timeout(60)  # where it grows with the square it takes hours
@pytest.mark.parametrize("unit", ["a.", "x://u:", "&a", "?token", "eyJ-", "~", "bearer ", "_"])
def test_a_long_text_of_a_guest_is_soon_read(unit: str) -> None:
    assert redact(unit * (2_000_000 // len(unit)))


def test_errors_are_made_without_secrets(token: str) -> None:
    remember(token)
    error = ComposeError(f"refused: {token}", hint=f"Not {token}.")
    again = ComposeError.from_dict({"message": token, "hint": token})
    for each in (error, again):
        shown = [str(each), repr(each), each.message, str(each.hint), json.dumps(each.to_dict())]
        assert not [text for text in shown if token in text]
    problems = DocumentError([Problem(f"no {token}", Where("f"), f"hint {token}")])
    assert token not in str(problems)


def test_each_word_of_a_line_is_looked_at_once() -> None:
    line = "a: {x, token: f1rst, token: ${env.A}, token: sec0nd}"
    assert list(redaction._in_text(line)) == ["f1rst", "sec0nd"]
    many = "a: {" + "x, token: s3cret, " * 10_000  # took the square of its length
    assert len(list(redaction._in_text(many))) == 10_000


def test_a_document_of_many_tokens_makes_no_other_secret_forgotten() -> None:
    remember("the-owners-own-8f3a")
    read("component: {type: model, token: of-an-earlier-document-77}")
    for number in range(5):
        tokens = "\n".join(f"token_{each}: made-up-{number}-{each}" for each in range(100))
        read(tokens)
    said = str(UsageError("the-owners-own-8f3a and of-an-earlier-document-77"))
    assert said == f"{MASK} and {MASK}"


def test_a_document_names_its_secrets(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [f"{token}-{number}" for number in range(4)]
    load_document(DOCUMENT.format(token=parts[0]))
    load_document(DOCUMENT.format(token=f"${{input.t | {parts[1]}}}"))
    monkeypatch.setenv("MYTOK", f" {parts[2]}\n")
    load_document(DOCUMENT.format(token="${env.MYTOK}"))
    monkeypatch.setenv("A_PASSWORD", parts[3])
    load_document(DOCUMENT.format(token="${env.MYTOK}") + "  cache_dir: ${env.A_PASSWORD}\n")
    assert redact(" ".join(parts)) == " ".join([MASK] * 4)


def test_tokens_of_adapters_are_secrets(token: str) -> None:
    adapters = f"  peft_adapters: [{{model: {{repository: a/b, token: {token}}}}}]\n"
    load_document(DOCUMENT.format(token="${env.X | '' }") + adapters)
    assert redact(token) == MASK


@pytest.mark.parametrize(
    "written",
    [
        "[{}]", "\n    - {}", "\n    value: {}", "!T {}", "${{env.X | {}", "${{env.X as foo | {}}}",
        "{}\n  tokn: {}", "{}\n  hub_credentials: {}", "{}\n  cache_dir: [{}]",
        "{}\n  token {}\n  x: [", "{}\n  peft_adapters: [{{token: {}, x: 1}}]",
        "{}\n  model_name: {}  # my token is {}", "*{}", "{}\n  token: {}",
    ],
)  # fmt: skip
def test_no_error_of_a_document_shows_a_token(token: str, written: str) -> None:
    written = written.replace("{}", token).replace("{{", "{").replace("}}", "}")
    with pytest.raises(DocumentError) as caught:
        load_document(DOCUMENT.format(token=written))
    assert token not in repr(caught.value.__context__)
    assert token not in str(caught.value)
    assert token not in json.dumps([vars(each.where) for each in caught.value.problems])


def test_an_input_that_is_a_token_is_shown_nowhere(token: str) -> None:
    text = DOCUMENT.format(token=f"${{input.access | {token}-default}}")
    story = load(text.replace("owner/private", "./nowhere"))
    assert f"{token}-default" not in json.dumps(story.signature.to_dict())
    assert f"{token}-default" not in f"{story!r} {story.__doc__} {story._repr_mimebundle_()}"
    run = story.run(prompt="A", access=token)
    record, events = json.dumps(run.record), json.dumps([dict(e.data) for e in run.events()])
    assert run.state == "failed"
    assert token not in record and token not in events
    assert run.record["input"]["access"] == MASK
    with pytest.raises(ComposeError, match="does not hold the token"):
        story.rerun(run.record)


def test_a_token_that_is_no_text_is_shown_nowhere() -> None:
    story = load(DOCUMENT.format(token="${input.access as select/abc1,def2 | abc1}"))
    assert "abc1" not in json.dumps(story.signature.to_dict())
    for access in (98765432123, ["se-cret-1"], True):
        with pytest.raises(ComposeError, match="is a token") as caught:
            story.run(prompt="A", access=access)
        assert str(access) not in str(caught.value) and "cret" not in str(caught.value)


def test_what_one_run_brings_masks_nothing_of_others(token: str) -> None:
    """Whoever may run a workflow decides what its token is."""
    remember(token)
    story = load(DOCUMENT.format(token="${input.access}").replace("owner/private", "./nowhere"))
    for number in range(600):
        assert story.run(prompt="A", access=f"gpt-{number}").state == "failed"
    other = story.run(prompt="Compare gpt-4 with gpt-5", access="another-1")
    assert other.record["input"]["prompt"] == "Compare gpt-4 with gpt-5"
    assert redact(f"gpt-4 {token}") == f"gpt-4 {MASK}"


def test_a_run_with_a_token_can_be_run_again_on_its_host(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = LocalHost()
    story = load(DOCUMENT.format(token="${input.access}"), host=host)
    seen: list[str | None] = []

    def acquire(spec: ModelSpec, *_: object) -> Future[Lease]:
        seen.append(spec.token)
        raise ModelError("not now")

    monkeypatch.setattr(host._cache, "acquire", acquire)
    run = story.run(prompt="A", access=token)
    assert run.input == {"prompt": "A", "access": MASK}
    assert host.rerun(run.id).wait(30)
    assert seen == [token, token]
    host.close()


def test_panels_hide_a_token_and_copy_none(token: str) -> None:
    import ipywidgets

    from modelcompose_jupyter.widgets.snippets import as_curl, as_python

    story = load(DOCUMENT.format(token="${input.access}"))
    panel = story.panel()
    assert isinstance(panel.inputs.access, ipywidgets.Password)
    remember(token)
    values = {"access": token, "prompt": "A"}
    assert token not in as_python("story", values)
    assert token not in as_curl(story.document, story.id, values)


def test_prompts_stay_as_they_are() -> None:
    prompt = f"Explain 'Authorization: Bearer abcdef12' and hf_{'a1' * 17}"
    run = Run("w", {"prompt": prompt}, lambda: None)
    run.add("text", {"stream": ("j", 0, 0, 0), "offset": 0, "text": prompt})
    run.add("result", {"output": prompt})
    run.add("state", {"state": "completed", "summary": {"record": {"input": run.input}}})
    assert (run.text, run.output, run.record["input"]["prompt"]) == (prompt, prompt, prompt)


def test_plain_data_keeps_its_shape(token: str) -> None:
    remember(token)
    data = {"a": [token, 1, None, {"b": token}], "c": ("x",)}
    masked = {"a": [MASK, 1, None, {"b": MASK}], "c": ("x",)}
    assert redacted(data) == masked and without_secrets(data) == masked
    assert data["a"][0] == token


def test_logs_hold_no_secret_not_even_in_tracebacks(token: str) -> None:
    remember(token)
    stream = io.StringIO()
    undo = configure(stream, level=logging.DEBUG)
    try:
        logger = get_logger("modelcompose_jupyter.test")
        try:
            raise ValueError(f"Illegal header value b'Bearer {token}\\n'")
        except ValueError:
            logger.exception("failed with %s", token, extra={"facts": {"header": [token]}})
    finally:
        undo()
    told = json.loads(stream.getvalue())
    assert token not in stream.getvalue()
    assert "ValueError" in told["traceback"] and told["header"] == [MASK]


def test_every_logger_of_the_package_redacts() -> None:
    root = Path(modelcompose_jupyter.__file__).parent
    texts = {path: path.read_text("utf-8") for path in root.rglob("*.py")}
    assert sum("get_logger(" in text for text in texts.values()) > 5
    own = [path.name for path, text in texts.items() if "logging.getLogger(__name__" in text]
    assert own == []


def test_an_internal_error_is_told_without_the_secret_in_it(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(token)
    host = LocalHost()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"unexpected {token}")

    monkeypatch.setattr(host._cache, "acquire", fail)
    run = host.submit(load_document(DOCUMENT.format(token="x")), None, {"prompt": "A"})
    run.wait(30)
    assert run.error is not None and MASK in run.error.message
    assert token not in json.dumps(run.error.to_dict())
    host.close()


TOKENS_OF_KINDS = (
    "hf_AbCdEfGhIjKl1234567890",
    "hf_abcdefghijklmnopqrstuvwxyzabcdefgh",
    "sk-proj-AbCdEfGh1234567890abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123_-x",
    "ghp_abcdefghijklmnop1234",
    "AKIAIOSFODNN7EXAMPLE",
)
MISPLACED = {
    "a key": "{}: x",
    "a key of a component": "component: {{{}: x}}",
    "a key twice": "component: {{{0}: x, {0}: y}}",
    "a port": "controller: {{port: {}}}",
    "a number": "component: {{temperature: {}}}",
    "a reference": "workflow: {{component: {}}}",
    "a job": "workflow: {{jobs: [{{id: {}, component: nope}}]}}",
    "an expression": "component: {{text: '${{jobs.{}.output}}'}}",
    "a type": "component: {{text: '${{input.a as {}}}'}}",
    "a default": "component: {{text: '${{input.a as integer | {}}}'}}",
    "no YAML": "component: [{}",
}


@pytest.mark.parametrize("token", TOKENS_OF_KINDS)
@pytest.mark.parametrize("written", MISPLACED.values(), ids=MISPLACED)
def test_a_token_of_a_known_kind_is_shown_nowhere_wherever_it_is_written(
    written: str, token: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        load_document(written.format(token))
    error = caught.value
    assert error.problems
    places = [f"{each.where} {each.where.keys} {each.where.to_dict()}" for each in error.problems]
    assert token not in f"{error} {error.to_dict()} {places}"
    assert token not in str(diagnostics(written.format(token)))
