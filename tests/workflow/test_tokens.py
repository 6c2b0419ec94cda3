"""What a run says of its tokens, and what branches from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models
from standins.tokenizers_of_kinds import KINDS, tokenizer_of

from modelcompose_jupyter import InputError, LocalHost, Run, Workflow, load, run_store
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.workflow import EVENT_DATA, Token, component

HEAD = """
component:
  type: model
  model: bundled:storyteller
  max_output_length: ${input.length as integer | 16}
"""
PROMPT = HEAD + "  task: text-generation\n  text: ${input.prompt as text | Once upon a time}\n"
CHAT = HEAD + "  task: chat-completion\n  messages: ${input.messages as json}\n"


@pytest.fixture(scope="module")
def real() -> Iterator[LocalHost]:
    """A host with the bundled model."""
    host = LocalHost()
    yield host
    host.close()


def ended(run: Run) -> Run:
    assert run.wait(30)
    assert run.error is None
    return run


def other(token: Token) -> int:
    """The likeliest token in the place of one."""
    return next(each.id for each in token.alternatives if each.id != token.id)


def written(run: Run) -> list[str]:
    return ["".join(each.text for each in tokens) for tokens in run.tokens]


def test_a_run_has_its_tokens(real: LocalHost) -> None:
    run = ended(load(PROMPT + "  logprobs: 3\n", host=real).submit())
    (tokens,) = run.tokens
    assert len(tokens) == run.usage["generated"] == 16
    assert run.text == "Once upon a time" + written(run)[0]
    assert run.prompt_tokens == [[]]
    for each in tokens:
        assert len(each.alternatives) == 3
        assert each.logprob is not None and each.logprob <= 0
        if each.rank is not None and each.rank <= 3:
            assert each.alternatives[each.rank - 1].id == each.id
    events = [event for event in run.events() if event.type == "tokens"]
    assert len(events) == 1  # one for each text, when it has ended
    for event in events:
        assert event.data.keys() <= EVENT_DATA["tokens"].model_fields.keys()
        EVENT_DATA["tokens"].model_validate(event.data)
    assert Run.restored(run.saved()).tokens == run.tokens


def test_nobody_who_does_not_ask_is_told(real: LocalHost) -> None:
    run = ended(load(PROMPT, host=real).submit())
    assert run.tokens == [[]]
    assert all(event.type != "tokens" for event in run.events())
    assert "logprobs" not in run.record


def test_they_come_as_the_text_does(real: LocalHost) -> None:
    run = load(PROMPT, host=real).start({}, logprobs=1)
    known = 0
    for event in run.events():
        if event.type == "tokens":
            assert event.data["offset"] in (known, 0)  # the last one has them all
            known = event.data["offset"] + len(event.data["tokens"])
    assert known == 16


def test_who_starts_a_run_asks_where_the_document_does_not(real: LocalHost) -> None:
    flow = load(PROMPT + "  logprobs: 2\n", host=real)
    assert len(ended(flow.start({}, logprobs=5)).tokens[0][0].alternatives) == 2
    run = ended(load(PROMPT, host=real).start({}, logprobs=5, seed=3))
    assert len(run.tokens[0][0].alternatives) == 5
    assert run.record["logprobs"] == 5
    again = ended(load(PROMPT, host=real).rerun(run.record))
    assert (again.text, again.tokens) == (run.text, run.tokens)


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        (PROMPT, {}),
        (PROMPT + "  do_sample: false\n", {}),
        (PROMPT + "  repetition_penalty: 1.3\n  include_prompt: false\n", {}),
        (CHAT, {"messages": "Tell of a fox"}),
    ],
)
def test_a_branch_goes_on_from_another_token(
    lines: str, given: dict[str, Any], real: LocalHost
) -> None:
    flow = load(lines, host=real)
    run = ended(flow.start(given, seed=3, logprobs=3))
    (before,) = run.tokens
    branch = ended(flow.branch(run, 5, other(before[5])))
    (tokens,) = branch.tokens
    assert tokens[:5] == before[:5]
    assert tokens[5].id == other(before[5])
    assert tokens[5].alternatives == before[5].alternatives
    start = run.text[: len(run.text) - len(written(run)[0])]
    assert branch.text == start + written(branch)[0]
    assert branch.usage["given"] == 6
    assert branch.usage["reused"] >= branch.usage["prompt"] + 4  # none of it is read again
    assert len(tokens) == 16 or branch.finish_reason == "eos"
    # Whoever is given these tokens at first says the same.
    fresh = ended(flow.rerun(branch.record))
    assert (fresh.text, fresh.streams) == (branch.text, branch.streams)
    for each, same in zip(fresh.tokens[0], tokens, strict=True):
        assert each.id == same.id
        assert each.logprob == pytest.approx(same.logprob, abs=1e-6)
    assert ended(real.rerun(branch.id)).text == branch.text


def test_a_branch_from_its_own_token_is_the_same_text(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=9, logprobs=2))
    for place in (0, 7, 15):
        same = ended(flow.branch(run, place, run.tokens[0][place].id))
        assert (same.text, same.tokens) == (run.text, run.tokens)


def test_branches_branch_and_go_on(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=3))
    first = ended(flow.branch(run, 4, other(run.tokens[0][4])))
    second = ended(flow.branch(first, 9, other(first.tokens[0][9])))
    assert [each.id for each in second.tokens[0][:9]] == [each.id for each in first.tokens[0][:9]]
    longer = ended(flow.extend(second, 10))
    assert longer.text.startswith(second.text)
    assert len(longer.tokens[0]) == 26 or longer.finish_reason == "eos"
    assert longer.record["begins_with"] == second.record["begins_with"]


def test_several_texts_of_a_run_branch(real: LocalHost) -> None:
    flow = load(PROMPT + "  num_return_sequences: 2\n", host=real)
    run = ended(flow.start({}, seed=3, logprobs=3))
    for text, place in ((0, 4), (1, 2), (0, 6), (1, 7)):
        before = run.tokens
        run = ended(flow.branch(run, place, other(before[text][place]), text))
        assert run.tokens[1 - text] == before[1 - text]
        assert run.tokens[text][:place] == before[text][:place]
        whole = ["Once upon a time" + each for each in written(run)]
        assert list(run.streams.values()) == whole


def tiny(folder: Path, kind: str) -> Path:
    """A model with a tokenizer of a kind."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(kind)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["once upon a time", "<s>", "it '"])
def test_the_tokens_of_a_branch_write_its_text(
    kind: str, prompt: str, tmp_path: Path, real: LocalHost
) -> None:
    """However an alternative is joined to what stands before it."""
    lines = f"""
component:
  type: model
  task: text-generation
  model: {tiny(tmp_path, kind)}
  precision: float32
  text: ${{input.prompt}}
  include_prompt: false
  max_output_length: 8
  logprobs: 5
"""
    flow = load(lines, host=real)
    run = ended(flow.start({"prompt": prompt}, seed=5))
    assert written(run) == [run.text]
    for place, token in enumerate(run.tokens[0]):
        for each in token.alternatives:
            branch = ended(flow.branch(run, place, each.id))
            assert written(branch) == [branch.text]
    fresh = ended(flow.rerun(branch.record))
    assert [each.text for each in fresh.tokens[0]] == [each.text for each in branch.tokens[0]]


def test_a_branch_by_what_an_alternative_is_called(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=3))
    name = run.tokens[0][2].alternatives[2].token
    assert ended(flow.branch(run, 2, name)).tokens[0][2].token == name
    with pytest.raises(InputError, match="none of the alternatives"):
        flow.branch(run, 2, "zebra")


def test_any_token_may_be_branched_to(real: LocalHost) -> None:
    """One that was not told has its log-probability looked up."""
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=1))
    known = {each.id for token in run.tokens[0] for each in token.alternatives}
    id = next(each for each in range(300, 400) if each not in known)
    branch = ended(flow.branch(run, 3, id))
    assert branch.tokens[0][3].id == id
    assert branch.tokens[0][3].logprob is not None
    assert branch.tokens[0][:3] == run.tokens[0][:3]


def test_of_several_texts_one_branches(real: LocalHost) -> None:
    flow = load(PROMPT + "  num_return_sequences: 3\n", host=real)
    run = ended(flow.start({}, seed=5, logprobs=2))
    branch = ended(flow.branch(run, 3, other(run.tokens[1][3]), text=1))
    texts, before = list(branch.streams.values()), list(run.streams.values())
    assert (texts[0], texts[2]) == (before[0], before[2])
    assert texts[1] != before[1]
    assert [len(each) for each in branch.tokens] == [len(each) for each in run.tokens]


def test_a_stopped_run_branches(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    run = flow.start({"length": 400}, seed=3, logprobs=2)
    assert run.wait_for(lambda: len(run.tokens[0]) > 8 if run.tokens else False, 30)
    run.cancel()
    assert run.wait(30)
    assert ended(flow.branch(run, 4, other(run.tokens[0][4]))).text


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ((99, 5), "count from 0, and not 99"),
        ((-1, 5), "a number from 0 on"),
        ((2, 999_999), "no token with the id"),
        ((2, 5, 1), "count from 0, not 1"),
    ],
)
def test_where_it_cannot_branch_it_says_so(
    at: tuple[int, ...], message: str, real: LocalHost
) -> None:
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=1))
    with pytest.raises(InputError, match=message):
        flow.branch(run, *at).result(30)


def test_a_run_without_tokens_cannot_branch(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    with pytest.raises(InputError, match="are not known") as caught:
        flow.branch(ended(flow.submit()), 2, 5)
    assert "logprobs" in str(caught.value)


def test_options_that_cannot_be_are_refused(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    for options, message in (
        ({"logprobs": 21}, "from 0 to 20"),
        ({"logprobs": True}, "from 0 to 20"),
        ({"begins_with": [{"tokens": [1]}]}, "begins_with"),
        ({"begins_with": "abc"}, "begins_with"),
        ({"score": 5}, "a text is scored"),
    ):
        with pytest.raises(InputError, match=message):
            flow.start({}, **options)


def test_a_score_is_a_run(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=1))
    text = written(run)[0]
    score = ended(flow.start({}, score=text))
    assert score.output["text"] == text
    assert score.usage["generated"] == 0
    total = sum(each.logprob or 0 for each in run.tokens[0])
    assert score.output["logprob"] == pytest.approx(total, abs=0.05)  # in bfloat16
    assert ended(flow.rerun(score.record)).output == score.output


def test_a_reply_is_scored_in_a_chat(real: LocalHost) -> None:
    flow = load(CHAT, host=real)
    score = ended(flow.start({"messages": "Hello"}, score="Hello, I am a very small model"))
    assert score.output["text"] == "Hello, I am a very small model"
    assert score.output["perplexity"] > 1


def test_several_prompts_have_no_score(real: LocalHost) -> None:
    flow: Workflow = load(PROMPT + "workflow: {repeat_count: 2}\n", host=real)
    with pytest.raises(InputError, match="behind one prompt"):
        flow.start({}, score="a")
    flow = load(PROMPT.replace("as text | Once upon a time", "as list"), host=real)
    with pytest.raises(InputError, match="behind one prompt"):
        flow.start({"prompt": ["a", "b"]}, score="a").result(30)


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_a_beam_search_branches(architecture: str, tmp_path: Path, real: LocalHost) -> None:
    """In any place, the last one, too, and to a text's end."""
    flow = load(
        f"""
component:
  type: model
  task: text-generation
  model: {tiny_models.save(tmp_path, architecture)}
  precision: float32
  text: Once
  include_prompt: false
  num_beams: 3
  do_sample: false
  max_output_length: 6
  logprobs: 3
""",
        host=real,
    )
    run = ended(flow.submit())
    end = len(run.tokens[0]) - 1
    for place, id in ((0, 9), (2, 9), (end, 9), (2, 2)):
        branch = ended(flow.branch(run, place, id))
        (tokens,) = branch.tokens
        assert tokens[:place] == run.tokens[0][:place]
        assert tokens[place].id == id
        assert written(branch) == [branch.text]
        assert branch.finish_reason == ("eos" if tokens[-1].id == 2 else "length")
        assert len(tokens) == branch.usage["given"] + branch.usage["generated"]


@pytest.mark.parametrize("at", [(1.5, 5), ("1", 5), (None, 5), (True, 5), (1, -1), (1, 5, "0")])
def test_a_branch_is_at_numbers(at: tuple[Any, ...], real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=1))
    with pytest.raises(InputError, match="is a number from 0 on"):
        real.branch(run.id, *at)


def test_options_that_exclude_each_other_are_refused(real: LocalHost) -> None:
    flow = load(PROMPT, host=real)
    given: Any = [{"stream": ["__job__", 0, 0, 0], "tokens": [5]}]
    for options, message in (
        ({"score": "a", "extended_by": 5}, "without extended_by"),
        ({"score": "a", "begins_with": given}, "without begins_with"),
        ({"begins_with": given * 2}, "one for each text"),
        ({"score": "a\ud800"}, "half a character"),
    ):
        with pytest.raises(InputError, match=message):
            flow.start({}, **options)


TWO_JOBS = """
components:
  - {id: begin, %s, text: "${input.prompt | Once}"}
  - {id: second, %s, text: "${input.text}", include_prompt: false}
workflow:
  jobs:
    - {id: one, component: begin, input: "${input}"}
    - {id: two, component: second, input: {text: "${jobs.one.output}"}, depends_on: [one]}
""".replace(
    "%s", "type: model, task: text-generation, model: bundled:storyteller, max_output_length: 8"
)


def test_a_job_that_follows_a_branch_begins_anew(real: LocalHost) -> None:
    """What its text began with stood behind another prompt."""
    flow = load(TWO_JOBS, host=real)
    run = ended(flow.start({}, seed=3, logprobs=3))
    second = ended(flow.branch(run, 2, other(run.tokens[1][2]), text=1))
    assert second.tokens[1][:2] == run.tokens[1][:2]
    first = ended(flow.branch(second, 2, other(run.tokens[0][2])))
    fresh = ended(flow.branch(run, 2, other(run.tokens[0][2])))
    assert list(first.streams.values()) == list(fresh.streams.values())
    assert ended(flow.rerun(first.record)).output == first.output


def test_a_run_with_many_tokens_can_be_gone_on_from(
    real: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest run is kept, though it be larger than all that are kept together."""
    monkeypatch.setattr(run_store, "KEPT_BYTES", 1000)
    flow = load(PROMPT, host=real)
    run = ended(flow.start({}, seed=3, logprobs=20))
    assert run.size > 1000
    assert ended(flow.branch(run, 3, other(run.tokens[0][3]))).text


def test_guests_are_told_as_much_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "MOST_FOR_GUESTS", 40)
    host = LocalHost()
    flow = load(PROMPT, host=host)
    options: Any = {"requester": Requester(object(), is_guest=True)}
    guest = ended(host.submit(flow.document, None, {}, seed=3, logprobs=4, **options))
    assert 0 < len(guest.tokens[0]) <= 8 < len(guest.text)
    assert any("too many log-probabilities" in each for each in guest.warnings)
    again = ended(host.submit(flow.document, None, {}, seed=3, logprobs=4, **options))
    assert again.tokens == guest.tokens  # the room was given back
    score = host.submit(flow.document, None, {}, score=" a" * 100, **options)
    assert score.wait(30)
    assert (score.state, score.error and score.error.code) == ("failed", "busy")
    assert len(ended(flow.start({}, seed=3, logprobs=4)).tokens[0]) == 16
    host.close()
