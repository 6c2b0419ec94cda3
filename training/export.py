"""Write a checkpoint as a Hugging Face model folder.

python export.py --checkpoint build/run/model.pt --tokenizer build/tokenizer.json --out build/model
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from corpus.markup import ASSISTANT, END_OF_TEXT, USER
from model import ModelConfig

# The model has seen no system messages; what they say stands before the user's next words. Nor has
# it seen tools: they are described in as few words as can be, and what they gave is the user's.
CHAT_TEMPLATE = (
    "{%- set system = namespace(text='') %}"
    "{%- for tool in tools or [] %}"
    "{%- set system.text = system.text + tool.function.name"
    " + '(' + tool.function.parameters.properties | join(', ') + ')\\n' %}"
    "{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{ '<call>' + call.function.name + ' ' + call.function.arguments | tojson + '</call>' }}"
    "{%- endfor %}"
    "{%- elif message['role'] in ['user', 'tool'] %}"
    "{{ '<|user|>' + system.text + message['content'] }}{%- set system.text = '' %}"
    "{%- else %}{%- set system.text = system.text + message['content'] + '\\n' %}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"
)


def llama_weights(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Split the fused matrices and give them the names of ``LlamaForCausalLM``."""
    split = [config.heads * config.head_width] + 2 * [config.kv_heads * config.head_width]
    result = {
        "model.embed_tokens.weight": weights["embedding.weight"],
        "lm_head.weight": weights["embedding.weight"],
        "model.norm.weight": weights["norm.weight"],
    }
    for layer in range(config.layers):
        ours, theirs = f"layers.{layer}.", f"model.layers.{layer}."
        query, key, value = weights[ours + "qkv.weight"].split(split)
        gate, up = weights[ours + "gate_up.weight"].chunk(2)
        result |= {
            theirs + "self_attn.q_proj.weight": query,
            theirs + "self_attn.k_proj.weight": key,
            theirs + "self_attn.v_proj.weight": value,
            theirs + "self_attn.o_proj.weight": weights[ours + "out.weight"],
            theirs + "mlp.gate_proj.weight": gate,
            theirs + "mlp.up_proj.weight": up,
            theirs + "mlp.down_proj.weight": weights[ours + "down.weight"],
            theirs + "input_layernorm.weight": weights[ours + "attention_norm.weight"],
            theirs + "post_attention_layernorm.weight": weights[ours + "feed_forward_norm.weight"],
        }
    return {name: tensor.clone().float() for name, tensor in result.items()}


def export_model(checkpoint: Path, out: Path, dtype: torch.dtype) -> None:
    """Write ``config.json``, ``generation_config.json`` and ``model.safetensors``."""
    saved = torch.load(checkpoint)
    config = ModelConfig(**saved["config"])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    model.load_state_dict(llama_weights(saved["weights"], config))
    model.generation_config.update(
        do_sample=True, temperature=0.7, top_k=50, top_p=0.9, max_new_tokens=300
    )
    model.to(dtype).save_pretrained(out)


def export_tokenizer(path: Path, out: Path, context: int) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[USER, ASSISTANT],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(out)
    config_path = out / "tokenizer_config.json"
    config = json.loads(config_path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config.pop("backend", None)
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/run/model.pt"))
    parser.add_argument("--tokenizer", type=Path, default=Path("build/tokenizer.json"))
    parser.add_argument("--out", type=Path, default=Path("build/model"))
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="bfloat16")
    args = parser.parse_args()
    export_model(args.checkpoint, args.out, getattr(torch, args.dtype))
    export_tokenizer(args.tokenizer, args.out, ModelConfig().context)


if __name__ == "__main__":
    main()
