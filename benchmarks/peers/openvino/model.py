"""A model in OpenVINO's form, with whole weights or compressed ones, and how it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
_HINTS = {"bfloat16": "bf16", "float32": "f32"}
_COMPRESSIONS: dict[str, dict[str, Any]] = {
    # optimum-intel's own defaults for so many bits, but for the size of a group: 128, which is
    # its own, does not divide a width of 576.
    "int8": {"bits": 8, "sym": False},
    "int4": {"bits": 4, "sym": False, "ratio": 1.0, "group_size": 64},
}


def converted(source: Path, precision: str, quantization: str | None, cache: Path) -> Path:
    """The folder of the converted model, which is made in ``cache`` if it is not there yet.

    Args:
        source: the model's folder, with weights in ``precision``: ``float32`` or ``bfloat16``.
        quantization: ``int8`` (asymmetric, a scale for each channel), ``int4`` (asymmetric, in
            groups of 64; embeddings and the head as in ``int8``), or None.
    """
    folder = cache / (quantization or "converted")
    if not (folder / "complete").exists():
        if quantization is None:
            _convert(source, precision, folder)
        else:
            _compress(converted(source, precision, None, cache), quantization, folder)
        (folder / "complete").touch()
    return folder


def _convert(source: Path, precision: str, folder: Path) -> None:
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    main_export(
        str(source),
        output=folder,
        task="text-generation-with-past",
        stateful=True,
        ov_config=OVConfig(dtype=_DTYPES[precision]),
    )


def _compress(whole: Path, quantization: str, folder: Path) -> None:
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    wanted = OVWeightQuantizationConfig(**_COMPRESSIONS[quantization])
    model = OVModelForCausalLM.from_pretrained(
        str(whole), export=False, compile=False, quantization_config=wanted
    )
    model.save_pretrained(folder)


def properties(precision: str, threads: int) -> dict[str, Any]:
    """What a compiled model is asked for: activations in ``precision``, so many threads."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
