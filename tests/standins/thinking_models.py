"""Tiny models that think: markers of thoughts in their tokenizers, and templates as models have
them."""

# ruff: noqa: E501  (lines as templates have them)

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import tiny_models

TURN_ENDS = ("<|im_start|>", "<|im_end|>")

SMOLLM_3 = """\
{%- if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}
{%- set custom = '' %}
{%- set mode = '/think' if enable_thinking else '/no_think' %}
{%- if messages[0].role == 'system' %}
    {%- set said = messages[0].content %}
    {%- if '/no_think' in said %}{% set mode = '/no_think' %}{% elif '/think' in said %}{% set mode = '/think' %}{% endif %}
    {%- set custom = said.replace('/no_think', '').replace('/think', '').rstrip() %}
{%- endif %}
{{- '<|im_start|>system\\nReasoning: ' + mode + '\\n\\n' + custom + '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- if mode == '/think' %}
            {{- '<|im_start|>assistant\\n' + message.content.lstrip('\\n') + '<|im_end|>\\n' }}
        {%- else %}
            {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' + message.content.lstrip('\\n') + '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' + ('' if mode == '/think' else '<think>\\n\\n</think>\\n') }}
{%- endif %}
"""

QWEN_3 = """\
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""

OPENED = QWEN_3.split("    {%- if enable_thinking")[0] + "    {{- '<think>\\n' }}\n{%- endif %}\n"
"""Opens the thought itself, and has no switch, as DeepSeek R1's and QwQ's."""

GRANITE = QWEN_3.replace(
    "enable_thinking is defined and enable_thinking is false",
    "thinking is defined and not thinking",
)

MAGISTRAL = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' %}{{- message.content + eos_token }}
    {%- else %}{{- '[' + message.role + ']' + message.content + '[/' + message.role + ']' }}{% endif %}
{%- endfor %}
"""

GPT_OSS = """\
{{- '<|start|>system<|message|>Reasoning: ' + (reasoning_effort | default('medium')) + '<|end|>' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
    {%- else %}
        {{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{#- <|channel|>analysis<|message|> #}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}
"""

THINK = ("<think>", "</think>")
BRACKETS = ("[THINK]", "[/THINK]")
CHANNELS = ("<|start|>", "<|message|>", "<|channel|>", "<|end|>")


def tokenizer(template: str, markers: tuple[str, ...] = THINK, *, special: bool = False) -> Any:
    """A tiny tokenizer with a chat template, whose markers are tokens of their own; with none of
    them, they are written in pieces."""
    from tokenizers import AddedToken

    made = tiny_models.tokenizer()
    made.add_tokens([AddedToken(each, special=True, normalized=False) for each in TURN_ENDS])
    made.add_tokens([AddedToken(each, special=special, normalized=False) for each in markers])
    made.chat_template = template
    return made


def save(
    folder: Path,
    template: str = QWEN_3,
    markers: tuple[str, ...] = THINK,
    *,
    special: bool = False,
    architecture: str = "llama",
) -> Path:
    """Write a tiny model that thinks into ``folder``."""
    import torch

    made = tokenizer(template, markers, special=special)
    model = tiny_models.make(architecture)
    known = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(len(made), mean_resizing=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[known:].normal_(0, 0.25, generator=generator)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder
