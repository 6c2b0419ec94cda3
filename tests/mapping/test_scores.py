"""Scores of many texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from standins import tiny_models

from modelcompose_jupyter import ComposeError, InputError, LocalHost, Workflow, load

STORY = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt}
"""


@pytest.fixture(scope="module")
def story() -> Iterator[Workflow]:
    host = LocalHost()
    yield load(STORY, host=host)
    host.close()


def test_a_text_has_a_score(story: Workflow) -> None:
    score = story.score(" a time", prompt="Once upon")
    assert score.text == " a time"
    assert [each.text for each in score.tokens] == [" a", " time"]
    logprobs = [each.logprob for each in score.tokens]
    assert score.logprob == math.fsum(logprobs)
    assert score.perplexity == pytest.approx(math.exp(-score.logprob / 2))


@pytest.mark.parametrize(("bias", "error"), [(-math.inf, None), (math.nan, "are not finite")])
@pytest.mark.parametrize("native", ["1", "0"])
def test_scores_that_are_not_finite(
    bias: float, error: str | None, native: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vocabularies are padded by tokens that cannot be; what is no number is said."""
    monkeypatch.setenv("MODELCOMPOSE_NATIVE", native)
    path = tiny_models.save(tmp_path, "gptj") / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.bias"][100:] = bias
    save_file(weights, path, metadata={"format": "pt"})
    host = LocalHost()
    model = STORY.replace("bundled:storyteller", str(tmp_path))
    try:
        if error is not None:
            with pytest.raises(ComposeError, match=error):
                load(model, host=host).score(" fox was", prompt="Once")
        else:
            score = load(model, host=host).score(" fox was", prompt="Once")
            assert score.logprob == -9999 * len(score.tokens)
            assert score.perplexity is not None and math.isfinite(score.perplexity)
    finally:
        host.close()


def test_an_encoder_decoder_reads_the_prompt_elsewhere(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "blenderbot")
    host = LocalHost()
    flow = load(STORY.replace("bundled:storyteller", str(tmp_path)), host=host)
    try:
        long = " dog" * tiny_models.CONTEXT
        assert len(flow.score(long, prompt=" fox" * 100).tokens) == tiny_models.CONTEXT
        with pytest.raises(InputError, match="context is 128"):
            flow.score(long + " dog", prompt="x")
    finally:
        host.close()


def test_nothing_branches_from_a_score(story: Workflow) -> None:
    run = story.start({"prompt": "Once"}, score=" upon a time", logprobs=2)
    assert run.wait(30)
    with pytest.raises(InputError, match="is a score"):
        story.branch(run, 1, 5)


def test_many_texts_have_scores_in_their_order(story: Workflow) -> None:
    texts = [" a time", " the table", "", " a hill"]
    scores = story.score(texts, prompt="Once upon", alternatives=2, progress=False)
    assert [each.text for each in scores] == texts
    assert [each.logprob for each in scores] == [
        story.score(text, prompt="Once upon").logprob for text in texts
    ]
    assert scores[2].perplexity is None
    assert all(len(token.alternatives) == 2 for each in scores for token in each.tokens)
    html = scores._repr_html_()
    assert " a time".strip() in html and f"{scores[0].logprob:.3f}" in html
    assert "title=" not in html
    assert scores[0]._repr_html_().count("title=") == len(scores[0].tokens)  # coloured
    frame = scores.to_frame()
    assert list(frame.columns) == ["text", "logprob", "tokens", "perplexity", "error"]
    assert list(frame.tokens) == [2, 4, 0, 2]


def test_rows_may_have_prompts_of_their_own(story: Workflow) -> None:
    import pandas

    rows = [{"prompt": "Once upon", "text": " a time"}, {"prompt": "The dog", "text": " ran"}]
    scores = story.score(rows, progress=False)
    assert scores[1].logprob == story.score(" ran", prompt="The dog").logprob
    table = pandas.DataFrame(rows, index=[7, 9])
    frame = story.score(table, progress=False)
    assert list(frame.index) == [7, 9]
    assert list(frame.logprob) == [each.logprob for each in scores]
    series = pandas.Series([" a time", " a hill"], index=[3, 4])
    frame = story.score(series, prompt="Once upon", progress=False)
    assert (list(frame.index), list(frame.text)) == ([3, 4], list(series))
    called = story.score(table.rename(columns={"text": "answer"}), column="answer", progress=False)
    assert list(called.logprob) == [each.logprob for each in scores]


def test_a_table_of_polars_gives_one(story: Workflow) -> None:
    polars = pytest.importorskip("polars")
    frame = story.score(polars.Series([" a time", " ran"]), prompt="Once upon", progress=False)
    assert isinstance(frame, polars.DataFrame)
    assert frame["text"].to_list() == [" a time", " ran"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_keeps_scores_and_goes_on(suffix: str, story: Workflow, tmp_path: Path) -> None:
    path = tmp_path / f"scores.{suffix}"
    texts = [" a time", " the table", " a hill"]
    wanted = story.score(texts, prompt="Once upon", progress=False)
    story.score(texts[:2], prompt="Once upon", progress=False, save_to=path)
    before = story.last_run
    again = story.score(texts, prompt="Once upon", progress=False, save_to=path)
    assert again == wanted
    assert story.last_run is not before
    last = story.last_run
    assert story.score(texts, prompt="Once upon", progress=False, save_to=path) == wanted
    assert story.last_run is last  # nothing was left to do
    with pytest.raises(InputError, match="another input"):
        story.score([" another"], prompt="Once upon", progress=False, save_to=path)
    if suffix == "jsonl":
        line: dict[str, Any] = json.loads(path.read_text("utf-8").splitlines()[0])
        assert line["input"] == {"prompt": "Once upon", "text": " a time"}


def test_a_text_that_fails_has_its_error(story: Workflow) -> None:
    scores = story.score([" a", " x" * 5000], prompt="Once upon", progress=False)
    assert scores[0].logprob < 0
    assert isinstance(scores[1], ComposeError)
    assert "context" in scores[1].message
    assert "context" in scores._repr_html_()
    with pytest.raises(ComposeError, match="context"):
        story.score(" x" * 5000, prompt="Once upon")


def test_what_is_no_text_is_refused(story: Workflow) -> None:
    with pytest.raises(InputError, match="many"):
        story.score(5, prompt="Once upon")
    with pytest.raises(InputError, match="no one input"):
        story.score([" a"], progress=False)
    host_texts = load(STORY.replace("input.prompt", "input.text"))
    with pytest.raises(InputError, match="is an input of the workflow"):
        host_texts.score([" a"], progress=False)
