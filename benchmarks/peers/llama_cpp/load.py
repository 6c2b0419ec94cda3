"""How long llama.cpp takes from the start of a process to its fourth token.

    python load.py MODEL_FOLDER PRECISION GGUF_FILE THREADS

The file is made first if it is not there, which is not counted: then the process begins anew.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path

_LINES = {"VmRSS": "resident, MB", "RssAnon": "not in files, MB", "VmHWM": "resident at most, MB"}


def main(folder: Path, precision: str, file: Path, threads: int) -> None:
    started = time.perf_counter()
    if not file.exists():
        from peers.llama_cpp.convert import convert

        file.parent.mkdir(parents=True, exist_ok=True)
        convert(folder, precision, file)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    import llama_cpp
    import numpy as np

    silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), options)
    context_options = llama_cpp.llama_context_default_params()
    context_options.n_ctx = 512
    context_options.n_threads = context_options.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, context_options)
    if not context:
        raise SystemExit("llama.cpp cannot load the model")
    loaded = time.perf_counter()
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    tokens = [300, 301]
    for _ in range(4):
        given = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(given, len(tokens))
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama.cpp cannot compute")
        scores = llama_cpp.llama_get_logits_ith(context, -1)
        tokens = [int(np.ctypeslib.as_array(scores, (vocabulary,)).argmax())]
    ended = time.perf_counter()
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    memory = dict(line.split(":", 1) for line in status)
    figures = {"load, s": loaded - started, "load to the 4th token, s": ended - started}
    figures |= {name: int(memory[line].split()[0]) * 1024 / 1e6 for line, name in _LINES.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
