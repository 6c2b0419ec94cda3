"""What llama.cpp's own formats make of a model: the scores of all tokens of some texts.

    python scores.py MODEL_FOLDER PRECISION TYPES TEXTS_JSON OUT_FOLDER

TYPES are names as in Q8_0,Q4_K_M, or F32 for a file that is not quantised; TEXTS_JSON holds lists
of tokens. For each type OUT_FOLDER gets its file, and the scores as NAME.npy, float32 [tokens of
all texts, vocabulary].
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

from peers.llama_cpp.convert import convert
from peers.llama_cpp.quantise import quantised


def scores(file: Path, texts: list[list[int]]) -> np.ndarray:
    model = llama_cpp.llama_model_load_from_file(
        str(file).encode(), llama_cpp.llama_model_default_params()
    )
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 512
    options.n_threads = options.n_threads_batch = 2
    context = llama_cpp.llama_init_from_model(model, options)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    found = []
    for text in texts:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = llama_cpp.llama_batch_init(len(text), 0, 1)
        batch.n_tokens = len(text)
        for place, token in enumerate(text):
            batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama.cpp cannot compute")
        given = llama_cpp.llama_get_logits(context)
        found.append(np.ctypeslib.as_array(given, (len(text), vocabulary)).copy())
        llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return np.concatenate(found)


def main(folder: Path, precision: str, types: list[str], texts: Path, out: Path) -> None:
    silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    whole = out / "whole.gguf"
    convert(folder, precision, whole)
    for name in types:
        np.save(out / f"{name}.npy", scores(quantised(whole, name), json.loads(texts.read_text())))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), Path(sys.argv[4]), Path(sys.argv[5])
    )
