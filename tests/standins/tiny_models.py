"""Tiny models with random weights, of real architectures, made on the spot.

Each has a byte-level BPE tokenizer of its own, float32 weights and enough spread in its output that
greedy text varies. `save` writes a folder as `save_pretrained` does.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import causal_models

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CONTEXT = 128
WINDOW = 16
"""Of the sliding attention of those that have one, in tokens."""
_TEXT = (
    "Once upon a time there was a small fox who lived in the wood and had a friend.",
    "The quick brown fox jumps over the lazy dog, and the dog does not care at all.",
    "옛날 옛적에 작은 여우가 숲에서 살았습니다. 여우에게는 친구가 있었습니다.",
    "Emoji come in pieces: 🦊 👩‍🔬 🎉, and so do accents: é ü ñ.",
)


def tokenizer(bos: bool = False, **options: Any) -> Any:
    """A byte-level tokenizer of about 400 tokens; with ``bos`` it begins each text with one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_TEXT * 4, trainer)
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, pad_token=PAD, **options
    )


def text_of(tokenizer: Any, tokens: list[int]) -> str:
    """What transformers makes of tokens, without a last character that is cut."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    names = tokenizer.convert_ids_to_tokens(tokens, skip_special_tokens=True)
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(byte_of[character] for name in names for character in name))
    text = str(tokenizer.decode(tokens, skip_special_tokens=True))
    return text.removesuffix("\ufffd") if decoder.getstate()[0] else text


def _config(kind: Any, options: dict[str, Any], **defaults: Any) -> Any:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return kind(**{**ids, **defaults, **options})


def _llama(vocabulary: int, **options: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        _config(
            LlamaConfig, options, vocab_size=vocabulary,
            hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _smollm3(vocabulary: int, **options: Any) -> Any:
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    return SmolLM3ForCausalLM(
        _config(
            SmolLM3Config, options, vocab_size=vocabulary,
            hidden_size=32, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _gpt2(vocabulary: int, **options: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        _config(
            GPT2Config, options, vocab_size=vocabulary,
            n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT,
        )
    )  # fmt: skip


def _gpt_neo(vocabulary: int, **options: Any) -> Any:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    return GPTNeoForCausalLM(
        _config(
            GPTNeoConfig, options, vocab_size=vocabulary,
            hidden_size=32, num_layers=2, num_heads=4, window_size=16,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _codegen(vocabulary: int, **options: Any) -> Any:
    from transformers import CodeGenConfig, CodeGenForCausalLM

    return CodeGenForCausalLM(
        _config(
            CodeGenConfig, options, vocab_size=vocabulary,
            n_embd=32, n_layer=2, n_head=4, rotary_dim=4,
            n_positions=CONTEXT, n_ctx=CONTEXT,
        )
    )  # fmt: skip


def _gptj(vocabulary: int, **options: Any) -> Any:
    from transformers import GPTJConfig, GPTJForCausalLM

    return GPTJForCausalLM(
        _config(
            GPTJConfig, options, vocab_size=vocabulary,
            n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=CONTEXT,
        )
    )  # fmt: skip


def _qwen2(vocabulary: int, **options: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        _config(
            Qwen2Config, options, vocab_size=vocabulary,
            hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _qwen3(vocabulary: int, **options: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        _config(
            Qwen3Config, options, vocab_size=vocabulary, head_dim=8,
            hidden_size=24, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _gemma3(vocabulary: int, **options: Any) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(
        _config(
            Gemma3TextConfig, options, vocab_size=vocabulary, head_dim=8,
            hidden_size=24, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=1, max_position_embeddings=CONTEXT,
            sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"] * 2,
            query_pre_attn_scalar=12, tie_word_embeddings=False,
        )
    )  # fmt: skip


def _mistral(vocabulary: int, **options: Any) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(
        _config(
            MistralConfig, options, vocab_size=vocabulary, sliding_window=WINDOW,
            hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _phi3(vocabulary: int, **options: Any) -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    return Phi3ForCausalLM(
        _config(
            Phi3Config, options, vocab_size=vocabulary, sliding_window=WINDOW,
            hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
            original_max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _gpt_neox(vocabulary: int, **options: Any) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        _config(
            GPTNeoXConfig, options, vocab_size=vocabulary,
            hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=CONTEXT,
        )
    )  # fmt: skip


def _of_llama_kind(name: str, **own: Any) -> Callable[..., Any]:
    """Makes models whose config has Llama's keys, and some of its ``own``."""

    def make(vocabulary: int, **options: Any) -> Any:
        import transformers

        config = _config(
            getattr(transformers, f"{name}Config"), options, **own, vocab_size=vocabulary,
            hidden_size=32, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        )  # fmt: skip
        return getattr(transformers, f"{name}ForCausalLM")(config)

    return make


def _blenderbot(vocabulary: int, **options: Any) -> Any:
    from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

    return BlenderbotForConditionalGeneration(
        _config(
            BlenderbotConfig, options, vocab_size=vocabulary,
            d_model=32, encoder_layers=1, decoder_layers=2,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
            decoder_ffn_dim=64, max_position_embeddings=CONTEXT, decoder_start_token_id=1,
            forced_eos_token_id=2,
        )
    )  # fmt: skip


def _t5(vocabulary: int, **options: Any) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        _config(
            T5Config, options, vocab_size=vocabulary,
            d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


def _mamba(vocabulary: int, **options: Any) -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(
        _config(
            MambaConfig, options, vocab_size=vocabulary,
            hidden_size=32, num_hidden_layers=2, state_size=4,
        )
    )  # fmt: skip


def _with_images(kind: str, text: Any, images: Any, **options: Any) -> Any:
    """A model of images and text: a decoder beside a small reader of images."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        text_config=text, vision_config=images, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        **options,
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config)


def _text(vocabulary: int, model_type: str, **options: Any) -> dict[str, Any]:
    return {
        "model_type": model_type, "vocab_size": vocabulary, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **options,
    }  # fmt: skip


_EYE = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip


def _qwen2_5_vl(vocabulary: int, **options: Any) -> Any:
    rotary = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    return _with_images(
        "Qwen2_5_VL",
        _text(vocabulary, "qwen2_5_vl_text", rope_parameters=rotary),
        {
            "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": 32, "patch_size": 4, "fullatt_block_indexes": [0],
            "window_size": 8,
        },
        image_token_id=3, video_token_id=4, vision_start_token_id=5, vision_end_token_id=6,
        **options,
    )  # fmt: skip


def _mistral3(vocabulary: int, **options: Any) -> Any:
    return _with_images(
        "Mistral3", _text(vocabulary, "mistral", head_dim=8),
        {**_EYE, "model_type": "pixtral"}, image_token_index=3, **options,
    )  # fmt: skip


def _llava(vocabulary: int, **options: Any) -> Any:
    return _with_images(
        "Llava", _text(vocabulary, "llama"),
        {**_EYE, "model_type": "clip_vision_model", "projection_dim": 16},
        image_token_index=3, **options,
    )  # fmt: skip


def _gemma3_images(vocabulary: int, **options: Any) -> Any:
    return _with_images(
        "Gemma3", _text(vocabulary, "gemma3_text", head_dim=8),
        {**_EYE, "model_type": "siglip_vision_model"}, mm_tokens_per_image=4,
        image_token_index=3, **options,
    )  # fmt: skip


def _qwen3_5(vocabulary: int, **options: Any) -> Any:
    return _with_images(
        "Qwen3_5",
        _text(
            vocabulary, "qwen3_5_text", head_dim=8, max_position_embeddings=512,
            linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
            linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
        ),
        {
            "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": 32, "patch_size": 4, "num_position_embeddings": 16,
        },
        image_token_id=3, video_token_id=4, vision_start_token_id=5, vision_end_token_id=6,
        **options,
    )  # fmt: skip


WITH_IMAGES: dict[str, Callable[..., Any]] = {
    "qwen3_5": _qwen3_5,
    "qwen2_5_vl": _qwen2_5_vl,
    "mistral3": _mistral3,
    "llava": _llava,
    "gemma3": _gemma3_images,
}
ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "smollm3": _smollm3,
    "llama": _llama,
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "codegen": _codegen,
    "gptj": _gptj,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma3_text": _gemma3,
    "mistral": _mistral,
    "phi3": _phi3,
    "gpt_neox": _gpt_neox,
    "gemma2": _of_llama_kind(
        "Gemma2",
        head_dim=8,
        query_pre_attn_scalar=12,
        sliding_window=WINDOW,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
    ),
    "granite": _of_llama_kind(
        "Granite",
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.7,
        logits_scaling=1.7,
    ),
    "granitemoehybrid": _of_llama_kind(
        "GraniteMoeHybrid",
        shared_intermediate_size=48,
        num_local_experts=0,
        layer_types=["attention"] * 4,
        position_embedding_type="rope",
        mamba_n_heads=4,
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.7,
        logits_scaling=1.7,
    ),
    "lfm2": _of_llama_kind(
        "Lfm2",
        layer_types=["conv", "full_attention"] * 2,
        block_multiple_of=8,
    ),
    "hyperclovax": _of_llama_kind(
        "HyperCLOVAX",
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.7,
        logits_scaling=0.6,
    ),
    "olmo2": _of_llama_kind("Olmo2"),
    "olmo3": _of_llama_kind("Olmo3", sliding_window=WINDOW),
    "exaone4": _of_llama_kind("Exaone4", sliding_window=WINDOW),
    "blenderbot": _blenderbot,
    "t5": _t5,
    "mamba": _mamba,
}
ENCODER_DECODERS = {"blenderbot", "t5"}
_CONTEXT_NAMES = {
    "gpt2": ("n_positions",), "gptj": ("n_positions",), "codegen": ("n_positions", "n_ctx"),
}  # fmt: skip


def with_context(architecture: str, tokens: int) -> dict[str, Any]:
    """Options for a context of another length; those of `causal_models` have enough."""
    if architecture not in ARCHITECTURES:
        return {}
    names = _CONTEXT_NAMES.get(architecture, ("max_position_embeddings",))
    return dict.fromkeys(names, tokens)


def make(
    architecture: str = "llama", seed: int = 0, *, vectors: bool = False, **options: Any
) -> Any:
    """A model with random weights; ``options`` go to its config. Leaves torch's seed as it was.

    What is not named above is made from transformers' defaults (`causal_models`).

    With ``vectors`` biases and the weights of norms, which are 0 and 1 at first, vary too.
    """
    import torch

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    build = {**ARCHITECTURES, **WITH_IMAGES}.get(architecture)
    vocabulary = len(tokenizer())
    if build is None:
        model = causal_models.make(architecture, vocabulary, **options)
    else:
        model = build(vocabulary, **options)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "conv" not in name:
                weight.normal_(0, 0.25)
        for weight in model.parameters() if vectors else ():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight), alpha=0.25)
        for name, scale in model.named_buffers() if vectors else ():
            if name.endswith("layer_scalar"):
                scale.add_(torch.randn_like(scale), alpha=0.25)
    torch.random.set_rng_state(state)
    return model.float().eval()


def save(
    folder: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    bos: bool = False,
    shards: str | None = None,
    generation: dict[str, Any] | None = None,
    vectors: bool = False,
    **options: Any,
) -> Path:
    """Write a tiny model into ``folder``; ``shards`` is a size like ``50KB`` to split it at."""
    model = make(architecture, seed, vectors=vectors, **options)
    for name, value in (generation or {}).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    tokenizer(bos).save_pretrained(folder)
    return folder
