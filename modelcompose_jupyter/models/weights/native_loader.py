"""Loading a decoder that runs in C: straight from its files, with neither torch nor transformers.

Its weights stay where they are: the files are mapped, so a load reads them once if at all, all
processes share them, and the system may evict them. Only numbers of another kind are converted, and
weights that a file has the other way round are transposed.
What is not known here, or damaged, is left to `torch_loader`, which knows more and says what is
wrong.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import memory
from ..native.build import kernels, why_none
from ..spec import LoadProgress, ModelSpec, Report
from . import (
    config_checks,
    decoder_files,
    files,
    generation_defaults,
    lora,
    optional_libraries,
    tokenizer_snapshot,
)
from .adapted_tensors import adapted
from .config_reader import Other
from .decoder_files import DecoderFiles
from .file_bounds import BrokenFile
from .generation_defaults import OwnDefaults
from .gguf import model as gguf_model
from .gguf import tokenizer as gguf_tokenizer
from .gguf.model import GgufModel
from .library_logging import quiet
from .load_errors import explained
from .loaded_model import LoadedModel
from .read_ahead import ReadAhead, whole
from .source import ResolvedSource
from .stored_tensors import state_of
from .tensor_reader import MappedFile, TensorReader
from .tokenizer import load_fast_tokenizer, load_tokenizer

_REPORT_SECONDS = 0.05
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class NativePlan:
    """A load that is decided and not done.

    Attributes:
        found: the decoder on the disk.
        device: ``cpu``.
        gguf: what a GGUF file says; None where the model is a folder.
    """

    spec: ModelSpec
    source: ResolvedSource
    found: DecoderFiles
    defaults: OwnDefaults
    device: str = "cpu"
    gguf: GgufModel | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two loads that would give the same weights."""
        found, kept = self.found, self.spec.cache_quantization
        return ("native", str(self.source.place), found.precision, found.variant, kept)

    @property
    def size(self) -> memory.LoadSize:
        """What the load takes."""
        kept = self.found.bytes
        return memory.LoadSize(kept + self.found.largest_converted, kept)


def plan(spec: ModelSpec, source: ResolvedSource, report: Report = lambda _: None) -> NativePlan:
    """Decide whether a model can be loaded so. Adapters that are not on this disk are fetched.

    Raises:
        Other: it cannot; says why.
        ModelError: a file is damaged, or holds what no model's does.
    """
    reason = unsupported_spec(spec, source)
    if (
        reason is None
        and kernels(lambda: report(LoadProgress.start(spec.source, "kernels"))) is None
    ):
        reason = why_none()
    if reason is not None:
        raise Other(reason)
    if source.parts:
        return _gguf_plan(spec, source)
    folder = source.folder
    files.check_documents(folder)
    path = folder / files.CONFIG
    content = files.read_json(path)
    found = decoder_files.find(spec, folder, content)
    if spec.adapters:
        found = adapted(found, [lora.resolve(each, report) for each in spec.adapters])
    config_checks.check_config(path, content, files.read_weights(files.folder_weights(folder)))
    defaults = generation_defaults.read_own(folder, content, found.config.vocabulary)
    if defaults is None:
        raise Other(f"its {generation_defaults.FILE} asks for more than sampling")
    return NativePlan(spec, source, found, defaults)


def _gguf_plan(spec: ModelSpec, source: ResolvedSource) -> NativePlan:
    states = {path: state_of(path.stat()) for path in source.parts}
    model = gguf_model.read(source.parts)
    config = model.config
    with files.checked(source.parts[0]):
        try:
            found = decoder_files.of(spec, config.model_type, config.decoder, model.tensors, states)
        except Other as other:
            raise BrokenFile(str(other)) from None
    return NativePlan(spec, source, found, model.defaults, gguf=model)


def load(plan: NativePlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: a tokenizer that is damaged.
        Abandoned: from ``report``.
    """
    spec, found = plan.spec, plan.found
    size = plan.size.kept

    def tell(share: float) -> None:
        report(LoadProgress("load", spec.source, int(share * size), size))

    tell(0.0)
    with explained(spec, plan.device, "config.json or weights" if plan.gguf is None else "file"):
        paths = {path for path, _ in found.tensors.values()}
        opened = {path: MappedFile(path, found.states[path]) for path in paths}
        count = itertools.count()
        packed = found.room()
        with ReadAhead(whole([packed.path]) if packed and packed.path else found.spans) as ahead:
            tokenizer, own_ends = _tokenizer(plan)
            decoder = TensorReader(
                found, opened, packed, lambda: tell(next(count) / len(found.wanted))
            ).parts(coded_cache=spec.cache_quantization is not None)
            for each in opened.values():
                each.check()
            if packed is not None:
                packed.keep()
            is_mapped = found.is_mapped if packed is None else packed.is_mapped
            while is_mapped and not ahead.wait(_REPORT_SECONDS):
                tell(ahead.share)
        tell(1.0)
    defaults, special = plan.defaults, found.config.special_tokens
    ends = special["eos_token_id"] if defaults.eos_token_id is None else defaults.eos_token_id
    begin = special["bos_token_id"] if defaults.bos_token_id is None else defaults.bos_token_id
    if plan.gguf is not None:
        ends, begin = own_ends, tokenizer.bos_token_id
    return LoadedModel(
        tokenizer=tokenizer,
        device=plan.device,
        precision=found.precision,
        class_name=found.config.class_name,
        context=found.config.context,
        parameters=found.parameters,
        memory_bytes=decoder.bytes,
        mapped_bytes=found.mapped_bytes if packed is None else decoder.bytes if is_mapped else 0,
        stop_sequences=defaults.stop_sequences,
        defaults=replace(
            defaults,
            bos_token_id=begin,
            eos_token_id=generation_defaults.end_tokens(spec.source, ends, tokenizer.eos_token_id),
        ),
        decoder=decoder,
        cache_budget=spec.cache_budget,
    )


def _tokenizer(plan: NativePlan) -> tuple[Any, list[int]]:
    """A tokenizer, and the tokens that end a text where the same file says it."""
    if plan.gguf is None:
        return _tokenizer_of_folder(plan), []
    rows = plan.found.config.vocabulary
    with files.checked(plan.source.parts[0]):
        return gguf_tokenizer.load(
            plan.gguf.metadata, plan.found.model_type, rows, plan.spec.source
        )


def _tokenizer_of_folder(plan: NativePlan) -> Any:
    """A `FastTokenizer`, or where there can be none the one of transformers."""
    spec, folder = plan.spec, plan.source.folder
    tokenizer = load_fast_tokenizer(spec.source, folder, plan.found.model_type)
    if tokenizer is None:
        tokenizer = tokenizer_snapshot.find(folder)
    if tokenizer is not None:
        return tokenizer
    optional_libraries.require(spec)
    with quiet("transformers", "huggingface_hub"):
        whole = load_tokenizer(spec, folder)
        tokenizer_snapshot.keep(folder, whole)
    return whole


def unsupported_spec(spec: ModelSpec, source: ResolvedSource) -> str | None:
    """What is asked for that only torch can do, or None.

    torch does not read GGUF, so a machine with an accelerator runs that on the processor, too.
    """
    if spec.adapters and source.parts:
        return "adapters are for safetensors"
    if spec.draft_model is not None:
        return "it has a draft model"
    if spec.device not in ("auto", "cpu"):
        return f"it is for {spec.device}"
    if spec.device == "auto" and not source.parts and any(map(_exists, _ACCELERATORS)):
        return "there is an accelerator"
    return None


def _exists(path: str) -> bool:
    return Path(path).exists()
