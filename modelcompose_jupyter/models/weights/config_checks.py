"""Numbers in config.json that the weights beside it cannot have.

transformers makes as many modules, and tensors as large, as config.json says before it looks at any
weights. So its numbers are compared with the weights first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import ModelError, shortened
from .files import Weights
from .load_errors import not_of_its_weights

_FEW_PARTS = 1024
"""Layers that are never too many: models have some hundreds at most."""
_SMALL_SIZE = 1 << 20
"""A length that is never too long; vocabularies have up to a million tokens."""
_MOST_POSITIONS = 1 << 30
"""A hundred times the longest context, of ten million tokens."""
_MOST_LABELS = 100_000
"""Of a classifier, whatever the weights: ImageNet has 21,841. They become dictionaries of texts."""
_FOR_A_BYTE = 8  # lengths may be this many for each byte of the weights: packed, some bits each

# What a number counts, by the words of its key: modules, lengths of tensors, positions in a text.
# Those with a word of the fourth set are of none of these.
_OF_PARTS = {"layer", "layers", "block", "blocks", "depth", "depths", "stage",
             "stages", "types", "type", "codebooks", "group", "groups"}  # fmt: skip
_OF_SIZES = {"size", "sizes", "dim", "dims", "hidden", "width", "head", "heads", "model", "embd",
             "embed", "inner", "intermediate", "ff", "ffn", "kv", "vocab", "rank", "channels",
             "features", "kernel", "conv", "state", "rnn", "projection", "r",
             # Rows of a tensor, perhaps; Doge has 16,384. `building` bounds modules.
             "expert", "experts"}  # fmt: skip
_OF_POSITIONS = {"position", "positions", "ctx", "context"}
_OTHER = {"id", "ids", "idx", "index", "theta", "freq", "interval", "step", "seed", "version",
          "window", "length", "len", "seq", "tokens"}  # fmt: skip
_NOT_BUILT = "quantization_config"  # it names layers, as many as it likes
_LABELS = {"num_labels", "id2label", "label2id"}
# Other names that look like numbers' are of switches, block_auto_adjust_ff_dim say.
_NO_SWITCHES = {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "hidden_size", "d_model",
                "n_embd", "intermediate_size", "vocab_size", "num_attention_heads", "n_head",
                "num_key_value_heads", "head_dim", "max_position_embeddings"}  # fmt: skip
_WORD = re.compile(r"[a-z]+")


def check_config(path: Path, config: Any, weights: Weights) -> None:
    """Look through a config, and those in it, for numbers that the weights beside it cannot have.

    Raises:
        ModelError: more layers than there are tensors, a size beyond all numbers in the weights,
            labels beyond any classifier's.
    """
    largest = max(_SMALL_SIZE, _FOR_A_BYTE * weights.size)
    parts = max(_FEW_PARTS, weights.tensors)
    labels: defaultdict[str, float] = defaultdict(float)
    for name, value in _numbers(config):
        # vocab_size_per_layer_input is a size, and num_experts_per_tok a number of experts.
        in_order = _WORD.findall(name.lower().partition("_per_")[0])
        words, last = set(in_order), in_order[-1] if in_order else ""
        if isinstance(value, bool):
            if name in _NO_SWITCHES:
                raise _impossible(path, name, value, "it is no number")
            continue
        if name in _LABELS:
            labels[name] += value
            if labels[name] > _MOST_LABELS:
                raise _impossible(path, name, value, f"no model has more than {_MOST_LABELS}")
            continue
        if words & _OTHER:
            continue
        if words & _OF_POSITIONS:
            if value > _MOST_POSITIONS:
                raise _impossible(path, name, value, f"no model has more than {_MOST_POSITIONS}")
        elif words & _OF_PARTS and last not in _OF_SIZES:  # num_hidden_layers, but not block_size
            if value > parts:
                raise _impossible(path, name, value, f"the weights have {weights.tensors} tensors")
        elif words & _OF_SIZES and value > largest:
            raise _impossible(path, name, value, f"the weights have {weights.size} bytes")


def _numbers(config: Any) -> Iterator[tuple[str, float]]:
    """Each number of a config, with its key; lists and tables of labels stand for their lengths."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            if name in _LABELS:
                yield name, len(value)
                continue
            waiting += (item for item in value.items() if item[0] != _NOT_BUILT)
        elif isinstance(value, list):
            yield name, len(value)
            waiting += ((name, each) for each in value)
        elif isinstance(value, int | float):
            yield name, value


def _impossible(path: Path, name: str, value: float, reason: str) -> ModelError:
    number = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    said = str(value).lower() if isinstance(value, bool) else number
    return not_of_its_weights(
        f"{path} cannot be that of the weights beside it: {shortened(name)} is {said}, and {reason}"
    )
