"""Chat templates that come with a request: one loaded model serves several."""

from __future__ import annotations

from pathlib import Path

from standins import tiny_models
from transformers import AutoTokenizer

from modelcompose_jupyter.document import GenerationParameters
from modelcompose_jupyter.document.types import Message
from modelcompose_jupyter.models import ModelCache, ModelSpec

from .conftest import ask, done
from .tokenization.test_chat import says_only

SAID: list[Message] = [{"role": "user", "content": "Hello fox"}]
ROLES = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<s>{% endfor %}[assistant]"
PLAIN = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def test_one_model_serves_several_templates(cache: ModelCache, tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "llama", bos=True)  # which has none of its own
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with done(cache.acquire(ModelSpec(str(tmp_path)))) as lease:
        for template in (ROLES, PLAIN):
            text = tokenizer.apply_chat_template(SAID, chat_template=template, tokenize=False)
            count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            asked = GenerationParameters(max_output_length=5, do_sample=False)
            result = done(lease.generate(SAID, asked, chat_template=template).future)
            assert result.usage["prompt"] == count


def test_a_turn_ends_where_the_requests_template_ends_it(cache: ModelCache, tmp_path: Path) -> None:
    folder = says_only(tmp_path, 1, eos_token_id=2)  # it says <s>, which ends turns by ROLES alone
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = PLAIN
    tokenizer.save_pretrained(folder)
    asked = GenerationParameters(max_output_length=9, do_sample=False)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, SAID, max_output_length=9, do_sample=False).usage["generated"] == 9
        own = done(lease.generate(SAID, asked, chat_template=ROLES).future)
        assert own.usage["generated"] == 1
        assert ask(lease, SAID, max_output_length=9, do_sample=False).usage["generated"] == 9
