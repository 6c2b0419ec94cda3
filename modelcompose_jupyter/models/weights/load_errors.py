"""What goes wrong while a model is loaded, in words of our own."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import ComposeError, ModelError, one_line
from .. import memory
from ..spec import Abandoned, ModelSpec
from . import optional_libraries


@contextmanager
def explained(spec: ModelSpec, device: str, file: str = "config.json or weights") -> Iterator[None]:
    """Say of whatever goes wrong that a ``file`` of the model cannot be used."""
    try:
        yield
    except (ComposeError, Abandoned):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise _explanation(spec, device, error, file) from None


def not_of_its_weights(message: str) -> ModelError:
    """The error for a config.json and weights of which one is another model's."""
    return ModelError(
        message,
        hint="Both must come from the same save_pretrained(): copy or fetch them anew.",
        code="incomplete_model",
    )


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up: its PanicException is a BaseException alone."""
    return type(error).__name__ == "PanicException"


def _explanation(spec: ModelSpec, device: str, error: BaseException, file: str) -> ModelError:
    if memory.is_out_of_memory(error):
        return memory.out_of_memory(f"{spec.source} does not fit into the memory of {device}")
    if lacking := optional_libraries.missing(error):
        return optional_libraries.not_installed(spec.source, lacking)
    if isinstance(error, pickle.UnpicklingError | EOFError):
        return ModelError(
            f"the weights of {spec.source} are damaged, or hold more than numbers: a pickle may run"
            " code, so it is not read",
            hint="Take the repository that has model.safetensors.",
            code="load_failed",
        )
    # The texts of some kinds say nothing alone: a KeyError's is the key.
    speaks = isinstance(error, ValueError | OSError | RuntimeError | ImportError)
    kind = "" if speaks else f"{type(error).__name__}: "
    return ModelError(
        f"{spec.source} cannot be loaded, by its {file}: {kind}{one_line(error)}",
        hint="Its files may be damaged or made for another version of transformers.",
        code="load_failed",
    )
