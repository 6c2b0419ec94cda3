"""The model runner: one forward pass for the tokens of many sequences, and which models can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from . import attention, layers
from .attention import Step, StepCache, Unsupported
from .decode_graphs import DecodeGraphs, recorder_for
from .kv_cache import KVCache, Layout, Rows, Slab, Slot
from .native import model as native
from .native.linear import NativeProduct

if TYPE_CHECKING:
    from ..weights.loader import LoadedModel

ARCHITECTURES = frozenset(
    {
        "llama",
        "smollm3",
        "gpt2",
        "gpt_neo",
        "codegen",
        "qwen2",
        "qwen3",
        "gemma3_text",
        "mistral",
        "phi3",
        "gpt_neox",
    }
)
"""Model types of which tests have shown that a step gives what the model itself gives."""

_OWN_ATTENTION = {"gpt_neo", "codegen"}
_ROTARY = {"default", "linear", "llama3", "yarn"}  # others depend on the longest text of a batch


def unsupported_model(model: Any) -> str | None:
    """Why a model cannot run in the scheduler, or None."""
    config = model.config
    if config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if config.model_type not in ARCHITECTURES:
        return f"the architecture {config.model_type} is not among those that were tried"
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary, *(each for each in rotary.values() if isinstance(each, dict))]
    for each in kinds:
        kind = each.get("rope_type", "default")
        if kind not in _ROTARY:
            return f"its positions ({kind}) depend on the longest text of a batch"
    if getattr(config, "reorder_and_upcast_attn", False):
        return "its attention is reordered"
    return None


class ModelRunner:
    """Runs forward passes of a model with the tokens of many sequences.

    Only its engine's thread may use it. The model's modules are replaced by faster ones that give
    the same; it still works with generate().

    Raises:
        Unsupported: the model cannot.
    """

    def __init__(self, loaded: LoadedModel, budget: int | None = None) -> None:
        reason = unsupported_model(loaded.model)
        if reason is not None:
            raise Unsupported(reason)
        self.model: Any = loaded.model
        self.device = loaded.device
        self._past = StepCache()
        self.vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        self.model.requires_grad_(False)
        self._native = self._graphs = None
        in_c = layers.are_known(self.model) and native.unsupported_layers(self.model) is None
        self.cache = KVCache(_layout(self.model, loaded.device), budget, apart=in_c)
        _adapt(self.model)
        if in_c:
            layers.optimise(self.model, NativeProduct)
            self._native = native.NativeModel(self.model)
            return
        layers.optimise(self.model)
        recorder = recorder_for(self.model, self.device)
        if recorder is not None:
            self._graphs = DecodeGraphs(self._pass, recorder)

    def forward(
        self,
        tokens: Sequence[int],
        wanted: Sequence[int],
        slabs: Sequence[Slab] = (),
        spans: Sequence[tuple[Slot, int]] = (),
    ) -> torch.Tensor:
        """One step, in inference mode. The slots' lengths stay as they are.

        Args:
            tokens: first one for each row of each slab, then those of the spans.
            wanted: which of the tokens the next ones are asked of.
            slabs, spans: see `Step`.

        Returns:
            Scores of the next token, [wanted, vocabulary].
        """
        if self._native is not None:
            return self._native.forward(tokens, wanted, slabs, spans)
        if self._graphs is not None and not spans:
            logits = self._graphs.forward(tokens, slabs)
            if logits is not None:
                return logits
        step = Step.of(slabs, spans)
        given = torch.tensor([tokens], device=self.device)
        if len(wanted) == len(tokens):
            return self._run(given, step)
        return self._run(given, step, torch.tensor(list(wanted), device=self.device))

    def _pass(self, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]) -> Any:
        """One token for each row, used or not; a function of tensors, to be recorded."""
        groups = [(each, each.rows) for each in rows]
        return self._run(tokens, Step(groups, (), positions, self.cache.layout.heads))

    def _run(
        self, tokens: torch.Tensor, step: Step, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One pass: tokens [1, tokens] to scores [wanted, vocabulary]."""
        with attention.running(step):
            output = self.model(
                input_ids=tokens,
                # Masks of four dimensions are taken as they are, and none is looked at.
                attention_mask=torch.zeros((1, 1, 1, 1), dtype=torch.float32, device=self.device),
                position_ids=step.positions.unsqueeze(0),
                past_key_values=self._past,
                use_cache=True,
                **({} if wanted is None else {"logits_to_keep": wanted}),
            )
        logits: torch.Tensor = output.logits[0]
        return logits


def _layout(model: Any, device: torch.device) -> Layout:
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    return Layout(
        layers=config.num_hidden_layers,
        heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        dtype=model.dtype,
        device=device,
    )


def _adapt(model: Any) -> None:
    """Have the model's attention work on steps."""
    attention.register()
    if model.config.model_type not in _OWN_ATTENTION:
        model.set_attn_implementation(attention.NAME)
        return
    for module in model.modules():
        if hasattr(module, "_attn"):
            module._attn = _own_attention(module, model.config, module._attn)


def _own_attention(module: Any, config: Any, original: Any) -> Any:
    """For models that do not ask transformers for their attention: GPT-Neo and CodeGen."""
    layer = module.layer_id if hasattr(module, "layer_id") else module.layer_idx
    local = getattr(module, "attention_type", None) == "local"
    window = config.window_size if local else None
    scaling = 1.0 if hasattr(module, "layer_id") else 1 / math.sqrt(module.head_dim)

    def attend(query: Any, key: Any, value: Any, attention_mask: Any = None) -> Any:
        step = attention.current()
        if step is None:
            return original(query, key, value, attention_mask)
        out = step.attend(
            layer,
            query[0].transpose(0, 1).to(value.dtype),
            key[0].transpose(0, 1).to(value.dtype),
            value[0].transpose(0, 1),
            scaling,
            window,
        )
        return out.view(query.shape[2], query.shape[1], -1).transpose(0, 1).unsqueeze(0), None

    return attend
