"""Steps in torch, or in C for a model that torch has loaded; and which models can have them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Any, cast

import torch

from .. import memory
from ..weights.architectures import context_length
from ..weights.loaded_model import LoadedModel
from . import attention, layers, native_layers
from .attention import CAUSAL, AnyStep, Mask, Step, StepCache
from .decode_graphs import DecodeGraphs, recorder_for
from .kv_cache import KVCache, Slab, Slot
from .native_runner import NativeRunner
from .padded_step import PaddedStep
from .runner import Runner, Unsupported
from .sampler import Sampler
from .self_check import SelfCheck, failures_unsupported
from .torch_slab import Rows, TensorLayout, TorchSlab

_ROTARY_OF_LENGTH = ("dynamic", "longrope")
"""Kinds of rotary positions that depend on the longest text of a batch. Texts of a check are too
short to show it."""
_WARNS = "warn_if_padding_and_no_attention_mask"
"""What models of transformers call that get no mask; steps have no padding of that kind."""


def unsupported_model(model: Any) -> str | None:
    """Why a model cannot run in the scheduler, where short texts would not show it; or None."""
    if native_layers.unsupported_family(model) is None:
        return None
    config = model.config.get_text_config(decoder=True)
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary, *(each for each in rotary.values() if isinstance(each, dict))]
    for each in kinds:
        kind = each.get("rope_type", "default")
        if any(name in kind for name in _ROTARY_OF_LENGTH):
            return f"its positions ({kind}) depend on the longest text of a batch"
    return None


def torch_runner(loaded: LoadedModel) -> Runner:
    """A runner for a model of transformers.

    Its modules are replaced by faster ones that give the same; it still works with generate().

    Raises:
        Unsupported: the scheduler cannot run it.
    """
    model: Any = loaded.model
    reason = unsupported_model(model)
    if reason is not None:
        raise Unsupported(reason)
    if layers.are_known(model) and native_layers.unsupported_layers(model) is None:
        runner: Runner = NativeRunner(native_layers.parts(model), loaded.cache_budget, owner=model)
    elif native_layers.unsupported_family(model) is None:
        runner = NativeRunner(native_layers.family_parts(model), loaded.cache_budget, owner=model)
    else:
        return _tried(model, loaded)
    memory.give_back()  # what the weights took before they were packed
    return runner


def _tried(model: Any, loaded: LoadedModel) -> TorchRunner:
    check = SelfCheck(model)
    steps = TorchRunner(model, torch.device(loaded.device), loaded.cache_budget)
    memory.give_back()
    try:
        _check(check, steps)
    except Unsupported as error:
        error.is_changed = True
        raise
    return steps


def _check(check: SelfCheck, steps: TorchRunner) -> None:
    """Try packed steps, unless the model cannot have them, and padded ones."""
    try:
        check.run(steps)
    except Unsupported as error:
        if steps.is_padded:
            raise
        try:
            steps.pad(True)
            check.run(steps)
        except Unsupported:
            raise error from None


class TorchRunner:
    """A `Runner` on torch.

    Raises:
        Unsupported: the model keeps something else than keys and values of each token; it is left
            as it was.
    """

    def __init__(self, model: Any, device: torch.device, budget: int | None) -> None:
        self.model = model.requires_grad_(False)
        self.device = device
        self._past = StepCache()
        self.least_columns = 0  # of keys and values that a padded step reads
        self._most_columns = context_length(model.config)
        self._takes = set(inspect.signature(model.forward).parameters)
        self._configs = _configs(model)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        attention.register()
        _ask_steps(model)
        self._probed = self._probe()
        self._budget = budget
        self.pad(self._probed.is_padded)
        self.most_threads = torch.get_num_threads() if device.type == "cpu" else 1
        layers.optimise(model)
        recorder = recorder_for(model, device)
        self._graphs = None if recorder is None else DecodeGraphs(self._pass, recorder)

    def pad(self, is_padded: bool) -> None:
        """Have steps be padded rows, or one packed row; no slot may be open.

        Raises:
            Unsupported: the model keeps no keys and values, or layers differ too much.
        """
        self.is_padded = is_padded
        itemsize, dtype = self.model.dtype.itemsize, self.model.dtype
        layout = self._layout = self._probed.layout(is_padded, itemsize, str(self.device))
        self.cache = KVCache(
            layout, lambda capacity, rows: TorchSlab(layout, capacity, rows, dtype), self._budget
        )

    def _probe(self) -> Probe:
        """What a step of one token asks of its cache and its attention."""
        probe = Probe()
        token = torch.zeros((1, 1), dtype=torch.long, device=self.device)
        with torch.inference_mode(), failures_unsupported():
            self._call(probe, probe, token, torch.zeros_like(token))
        return probe

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
        if self.is_padded:
            return self._padded(tokens, wanted, slabs, spans)
        theirs = cast("Sequence[TorchSlab]", slabs)
        if self._graphs is not None and not spans:
            logits = self._graphs.forward(tokens, theirs)
            if logits is not None:
                return logits
        step = Step.of(theirs, spans)
        given = torch.tensor([tokens], device=self.device)
        keep = None if len(wanted) == len(tokens) else list(wanted)
        return self._call(step, self._past, given, step.positions.unsqueeze(0), keep)[0]

    def _pass(self, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]) -> Any:
        """One token for each row, used or not; a function of tensors, to be recorded."""
        groups = [(each, each.rows) for each in rows]
        step = Step(groups, (), positions, self._layout)
        return self._call(step, self._past, tokens, positions.unsqueeze(0))[0]

    def _padded(
        self,
        tokens: Sequence[int],
        wanted: Sequence[int],
        slabs: Sequence[Slab],
        spans: Sequence[tuple[Slot, int]],
    ) -> torch.Tensor:
        """A pass for all texts that get as many tokens."""
        parts = [*((slot, 1) for slab in slabs for slot in slab.slots), *spans]
        starts = list(accumulate((count for _, count in parts), initial=0))
        scores: dict[int, torch.Tensor] = {}
        for count in dict.fromkeys(count for _, count in parts):
            own = [place for place, (_, each) in enumerate(parts) if each == count]
            given = [tokens[starts[place] : starts[place] + count] for place in own]
            slots = [parts[place][0] for place in own]
            step = PaddedStep(slots, count, self.least_columns, self._most_columns)
            asked = set(wanted)
            keep = [n for n in range(count) if any(starts[place] + n in asked for place in own)]
            logits = self._call(
                step, step, torch.tensor(given, device=self.device), step.positions, keep or [0]
            )
            for row, place in enumerate(own):
                scores.update({starts[place] + n: logits[row, at] for at, n in enumerate(keep)})
        return torch.stack([scores[each] for each in wanted])

    def _call(
        self,
        step: AnyStep,
        past: Any,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        keep: list[int] | None = None,
    ) -> torch.Tensor:
        """The model's forward of tokens [batch, tokens], of which ``keep`` are kept.

        Returns:
            Scores, [batch, kept, vocabulary].
        """
        # As a tensor also where all are kept: of a number a model may leave out other tokens.
        kept = (
            torch.arange(tokens.shape[1], device=self.device)  # no copy, which a CUDA graph forbids
            if keep is None
            else torch.tensor(keep, device=self.device)
        )
        options = {"position_ids": positions, "use_cache": True, "logits_to_keep": kept}
        given = {name: value for name, value in options.items() if name in self._takes}
        with attention.running(step, self._configs):
            output = self.model(input_ids=tokens, past_key_values=past, **given)
        logits: torch.Tensor = output.logits
        return logits if keep is None or "logits_to_keep" in given else logits[:, keep]


class Probe:
    """What a model asks of a step, of one token: is its attention, and its cache.

    Attributes:
        is_padded: whether it reads its cache, and attends by itself.
    """

    asks_own = False

    def __init__(self) -> None:
        self._cached: dict[int, tuple[int, int]] = {}
        self._attended: dict[int, tuple[int, int]] = {}
        self._cache = StepCache()

    def mask(self, rule: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros((1, 1, 1, 1), dtype=dtype)

    def attend_all(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any
    ) -> torch.Tensor:
        self._attended[layer] = key.shape[1], max(key.shape[-1], value.shape[-1])
        return query.new_zeros((query.shape[0], query.shape[2], query.shape[1], value.shape[-1]))

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._cached[layer] = key.shape[1], max(key.shape[-1], value.shape[-1])
        return key, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    @property
    def is_padded(self) -> bool:
        return not self._cached.keys() <= self._attended.keys()

    def layout(self, is_padded: bool, itemsize: int, device: str) -> TensorLayout:
        """Of the keys and values that are kept: those in the cache, or those of attention.

        Raises:
            Unsupported: it kept none.
        """
        found = self._cached if is_padded else self._attended
        if not found:
            raise Unsupported("it keeps something else than keys and values of each token")
        heads = max(heads for heads, _ in found.values())
        if any(heads % each for each, _ in found.values()):
            raise Unsupported("its layers have keys of different heads")
        sizes = [size for _, size in found.values()]
        return TensorLayout(max(found) + 1, heads, max(sizes), itemsize, device)


def _configs(model: Any) -> list[Any]:
    """The configs that a model's modules read, each once."""
    found = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    return [each for each in found.values() if hasattr(each, "_attn_implementation_internal")]


def _ask_steps(model: Any) -> None:
    """Have attention that is a method of its module ask the step, as GPT-Neo's and GPT-J's is."""
    for module in model.modules():
        layer = getattr(module, "layer_id", getattr(module, "layer_idx", None))
        if hasattr(module, "_attn") and layer is not None:
            module._attn = _own_attention(module, layer, model.config, module._attn)
        if hasattr(module, _WARNS):  # it reads tokens, which no recorded step may
            setattr(module, _WARNS, lambda *_: None)


def _own_attention(module: Any, layer: int, config: Any, original: Any) -> Any:
    is_neo = hasattr(module, "attention_type")
    is_local = is_neo and module.attention_type == "local"

    def near(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (key > query - config.window_size)

    mask = Mask(near) if is_local else CAUSAL

    def attend(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        step: AnyStep | None = attention.current()
        if step is None:
            return original(query, key, value, *rest, **options)
        query, key = query.to(value.dtype), key.to(value.dtype)
        scaling = 1.0 if is_neo else query.shape[-1] ** -0.5
        out = step.attend_all(layer, query, key, value, scaling, mask, None)
        return out.transpose(1, 2), None

    return attend
