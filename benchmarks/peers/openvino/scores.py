"""What OpenVINO's formats make of a model: the scores of all tokens of some texts.

    python scores.py MODEL_FOLDER PRECISION FORMATS TEXTS_JSON OUT_FOLDER

PRECISION is that of the model's files. FORMATS are names as in float32,int8-bfloat16: what weights
are compressed to, if they are, and the precision of activations. TEXTS_JSON holds lists of tokens.
OUT_FOLDER gets the converted models, and the scores of each format as NAME.npy, float32 [tokens of
all texts, vocabulary].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import openvino

from peers.openvino.model import converted, properties

_THREADS = 2


def scores(folder: Path, precision: str, texts: list[list[int]]) -> np.ndarray:
    model = openvino.Core().compile_model(
        folder / "openvino_model.xml", "CPU", properties(precision, _THREADS)
    )
    request = model.create_infer_request()
    found = []
    for text in texts:
        request.reset_state()
        places = np.arange(len(text), dtype=np.int64)[None]
        given = {
            "input_ids": np.array([text], np.int64),
            "attention_mask": np.ones_like(places),
            "position_ids": places,
            "beam_idx": np.zeros(1, np.int32),
        }
        found.append(np.array(request.infer(given)["logits"][0], np.float32))
    return np.concatenate(found)


def main(source: Path, precision: str, formats: list[str], texts: Path, out: Path) -> None:
    told = json.loads(texts.read_text("utf-8"))
    for name in formats:
        quantization, _, computed_in = name.rpartition("-")
        folder = converted(source, precision, quantization or None, out)
        np.save(out / f"{name}.npy", scores(folder, computed_in, told))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), Path(sys.argv[4]), Path(sys.argv[5])
    )
