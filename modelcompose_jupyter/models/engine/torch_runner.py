"""Steps in torch, or in C for a model that torch has loaded; and which models can have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch

from .. import memory
from ..weights.loaded_model import LoadedModel
from . import attention, layers, native_layers
from .attention import Step, StepCache
from .decode_graphs import DecodeGraphs, recorder_for
from .kv_cache import KVCache, Layout, Slab, Slot
from .native_runner import NativeRunner
from .runner import Runner, Unsupported
from .sampler import Sampler
from .self_check import SelfCheck
from .torch_slab import Rows, TorchSlab

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

_TESTED = {"cpu"}  # kinds of devices; on others each model is checked when it is loaded
_OWN_ATTENTION = {"gpt_neo", "codegen"}
_ROTARY = {"default", "linear", "llama3", "yarn"}  # others depend on the longest text of a batch


def unsupported_model(model: Any) -> str | None:
    """Why a model cannot run in the scheduler, or None."""
    config = model.config
    if native_layers.unsupported_family(model) is None:
        return None
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


def torch_runner(loaded: LoadedModel) -> Runner:
    """A runner for a model of transformers.

    Its modules are replaced by faster ones that give the same; it still works with generate().

    Raises:
        Unsupported: the scheduler cannot run it; after a check has failed, its modules are
            replaced none the less.
    """
    model: Any = loaded.model
    reason = unsupported_model(model)
    if reason is not None:
        raise Unsupported(reason)
    runner: Runner
    check = None
    if layers.are_known(model) and native_layers.unsupported_layers(model) is None:
        _adapt(model)
        runner = NativeRunner(native_layers.parts(model), loaded.cache_budget, owner=model)
    elif native_layers.unsupported_family(model) is None:
        runner = NativeRunner(native_layers.family_parts(model), loaded.cache_budget, owner=model)
    else:
        device = torch.device(loaded.device)
        check = None if device.type in _TESTED else SelfCheck(model)
        runner = TorchRunner(model, device, loaded.cache_budget)
    memory.give_back()  # what the weights took before they were packed
    if check is not None:
        check.run(runner)
    return runner


class TorchRunner:
    """A `Runner` on torch."""

    def __init__(self, model: Any, device: torch.device, budget: int | None) -> None:
        self.model = model.requires_grad_(False)
        self.device = device
        self._past = StepCache()
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        layout = _layout(model, device)
        self.cache = KVCache(
            layout,
            lambda capacity, rows: TorchSlab(layout, capacity, rows, model.dtype),
            budget,
        )
        self.most_threads = torch.get_num_threads() if device.type == "cpu" else 1
        _adapt(model)
        layers.optimise(model)
        recorder = recorder_for(model, device)
        self._graphs = None if recorder is None else DecodeGraphs(self._pass, recorder)

    @property
    def threads(self) -> int:
        """How many compute."""
        return int(torch.get_num_threads())

    @threads.setter
    def threads(self, count: int) -> None:
        torch.set_num_threads(count)

    def sampler(self) -> Sampler:
        """See `Runner.sampler`."""
        return Sampler(self.vocabulary, self.device)

    def kept(self, data: Any) -> torch.Tensor:
        """See `Runner.kept`: a copy, since the rows of a slab are used again."""
        copy: torch.Tensor = data.clone()
        return copy

    def inference(self) -> AbstractContextManager[Any]:
        """See `Runner.inference`."""
        context: AbstractContextManager[Any] = torch.inference_mode()
        return context

    def forward(
        self,
        tokens: Sequence[int],
        wanted: Sequence[int],
        slabs: Sequence[Slab] = (),
        spans: Sequence[tuple[Slot, int]] = (),
    ) -> torch.Tensor:
        """See `Runner.forward`."""
        theirs = cast("Sequence[TorchSlab]", slabs)
        if self._graphs is not None and not spans:
            logits = self._graphs.forward(tokens, theirs)
            if logits is not None:
                return logits
        step = Step.of(theirs, spans)
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
        itemsize=model.dtype.itemsize,
        device=str(device),
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
