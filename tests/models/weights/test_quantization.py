"""Linear layers of models on torch in few bits: close to what they stand for, and small."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import tiny_models
from torch import nn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import LoadProgress, ModelCache, ModelSpec
from modelcompose_jupyter.models.native import codes
from modelcompose_jupyter.models.weights import (
    quantization,
    source,
    torch_loader,
)
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel
from modelcompose_jupyter.models.weights.quantization import CodedLinear, Int8Linear, quantize
from modelcompose_jupyter.models.weights.torch_loader import TorchPlan

from ..conftest import done

FolderOf = Callable[[str], Path]
TOKENS = torch.arange(5, 35)[None]
# The worst of the tiny models, whose weights are normally distributed, is at 0.062.
CLOSE = 0.1


def load(folder: Path, **options: Any) -> tuple[TorchPlan, LoadedModel]:
    spec = ModelSpec(str(folder), **options)
    plan = torch_loader.plan(spec, source.resolve(spec, _ignore), _ignore)
    return plan, torch_loader.load(plan, _ignore)


def _ignore(_: LoadProgress) -> None:
    pass


def logits(model: Any, length: int = TOKENS.shape[1]) -> torch.Tensor:
    tokens = TOKENS[:, :length]
    target = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        return model(tokens, **target).logits.float()


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of two results, by Euclid, beside the length of the second."""
    return float((one.float() - other.float()).norm() / other.float().norm())


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
@pytest.mark.parametrize(
    ("how", "most"),
    [({"quantization": "int8"}, CLOSE), ({"quantization": "int4"}, 0.6),
     ({"quantization": "int8", "precision": "bfloat16"}, CLOSE)],
)  # fmt: skip
def test_logits_are_close(
    folder_of: FolderOf, architecture: str, how: dict[str, str], most: float
) -> None:
    folder = folder_of(architecture)
    _, whole = load(folder, precision="float32")
    _, small = load(folder, **{"precision": "float32", **how})
    for length in (1, 7, 30):
        found, expected = logits(small.model, length), logits(whole.model, length)
        assert 0.0001 < difference(found, expected) < most
    assert whole.parameters == small.parameters
    assert small.precision == how["quantization"]


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5", "mamba"])
def test_logits_are_close_without_kernels(
    folder_of: FolderOf, architecture: str, precision: str
) -> None:
    folder = folder_of(architecture)
    _, whole = load(folder, precision="float32")
    _, small = load(folder, precision=precision, quantization="int8")
    for length in (1, 7, 30):
        found, expected = logits(small.model, length), logits(whole.model, length)
        assert 0.0005 < difference(found, expected) < CLOSE


@pytest.mark.usefixtures("without_kernels")
def test_four_bits_need_kernels(folder_of: FolderOf) -> None:
    with pytest.raises(ModelError, match="'quantization: int4' is for processors") as caught:
        load(folder_of("llama"), quantization="int4")
    assert caught.value.code == "unsupported_quantization"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 48), (33, 96), (7, 31), (1, 1)])
@pytest.mark.parametrize("rows", [(), (1,), (3, 5), (17,), (0,)])
@pytest.mark.parametrize("form", [codes.INT8, codes.INT4])
def test_codes_are_multiplied_by(
    rows: tuple[int, ...], shape: tuple[int, int], dtype: torch.dtype, form: codes.Form
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    bias = torch.randn(shape[0], generator=torch.Generator().manual_seed(2)).to(dtype)
    layer = CodedLinear(weight, bias, form)
    x = torch.randn(*rows, shape[1], generator=torch.Generator().manual_seed(3)).to(dtype)
    with torch.inference_mode():
        found = layer(x)
    product = x.float() @ layer.weight.float().T
    assert (found.shape, found.dtype, layer.weight.dtype) == (product.shape, dtype, dtype)
    size = product.norm() + bias.float().norm()
    assert (found.float() - product - bias.float()).abs().le(0.01 * size).all()
    assert difference(layer.weight, weight) < (0.02 if form == codes.INT8 else 0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 48), (33, 96), (7, 31), (1, 1)])
def test_weights_are_within_half_a_step(shape: tuple[int, int], dtype: torch.dtype) -> None:
    layer, weight = made(shape, dtype)
    steps = layer.scale.float()[:, None]
    assert layer.quantized.dtype == torch.int8
    assert ((layer.quantized * steps - weight.float()).abs() <= 0.5001 * steps).all()
    assert torch.allclose(steps[:, 0], weight.float().abs().amax(1) / 127, rtol=0.005)
    assert layer.weight.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 48), (33, 96), (7, 31), (1, 1), (50, 64)])
@pytest.mark.parametrize("rows", [(), (1,), (3, 5), (16,), (17,), (2, 40), (0,)])
def test_it_multiplies_by_them(
    rows: tuple[int, ...], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """All shapes that the kernel cannot read are in here: it would read past their end."""
    layer, _ = made(shape, dtype, bias=True)
    x = torch.randn(*rows, shape[1], generator=torch.Generator().manual_seed(3)).to(dtype)
    with torch.inference_mode():
        found = layer(x)
        bias = layer.bias.float()
        product = x.float() @ (layer.quantized * layer.scale.float()[:, None]).T
    assert (found.shape, found.dtype) == (product.shape, dtype)
    assert (found.float() - product - bias).abs().le(0.01 * (product.norm() + bias.norm())).all()


def test_inputs_that_are_parts_of_others() -> None:
    layer, _ = made((64, 64), torch.bfloat16)
    x = torch.randn(64, 2, 40, generator=torch.Generator().manual_seed(3)).bfloat16()
    for part in (x.permute(1, 2, 0)[:, -3:], x.permute(1, 2, 0)[:, :, :][1:, ::9]):
        assert torch.equal(layer(part), layer(part.clone(memory_format=torch.contiguous_format)))


def made(
    shape: tuple[int, int], dtype: torch.dtype, bias: bool = False
) -> tuple[Int8Linear, torch.Tensor]:
    """A layer in 8 bits, and the weights that it was made from."""
    linear = nn.Linear(shape[1], shape[0], bias=bias, dtype=dtype)
    return quantization._int8(linear, "cpu"), linear.weight.detach().clone()


@pytest.mark.parametrize(
    ("architecture", "norm"), [("llama", "LlamaRMSNorm"), ("gpt2", "LayerNorm")]
)
def test_all_linear_layers_and_no_others(folder_of: FolderOf, architecture: str, norm: str) -> None:
    model = load(folder_of(architecture), quantization="int8")[1].model
    kinds = {type(each).__name__ for each in model.modules()}
    assert {"Embedding", norm, "CodedLinear"} <= kinds
    assert kinds.isdisjoint({"Linear", "Conv1D"})


def test_each_layer_goes_before_the_next_is_made(
    folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(folder_of("llama"))[1].model
    weights = [weakref.ref(each.weight) for each in model.modules() if type(each) is nn.Linear]
    left = []

    class Counted(CodedLinear):
        def __init__(self, weight: torch.Tensor, bias: Any, form: codes.Form) -> None:
            left.append(sum(each() is not None for each in weights))
            super().__init__(weight, bias, form)

    monkeypatch.setattr(quantization, "CodedLinear", Counted)
    quantize(model, "cpu", "int8")
    assert left == list(range(len(weights), 0, -1))


def test_a_tied_head_leaves_the_embedding_as_it_is(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "tied", tie_word_embeddings=True)
    _, whole = load(folder)
    plan, small = load(folder, quantization="int8")
    embedding = small.model.get_input_embeddings().weight
    assert torch.equal(embedding, whole.model.get_input_embeddings().weight)
    assert isinstance(small.model.lm_head, CodedLinear)
    assert difference(logits(small.model), logits(whole.model)) < CLOSE
    assert plan.size.kept == small.memory_bytes


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "smollm3", "gpt2", "t5", "mamba"])
def test_what_it_takes_is_known_before(
    folder_of: FolderOf, architecture: str, precision: str
) -> None:
    plan, loaded = load(folder_of(architecture), precision=precision, quantization="int8")
    # All but tables that a model makes for itself.
    assert 0 <= loaded.memory_bytes - plan.size.kept < 200
    assert plan.size.peak > plan.size.kept


def test_other_precisions_are_other_models(cache: ModelCache, folder_of: FolderOf) -> None:
    folder = str(folder_of("llama"))
    leases = [done(cache.acquire(ModelSpec(folder, quantization=each))) for each in (None, "int8")]
    assert [lease.info.precision for lease in leases] == ["float32", "int8"]
    sizes = [lease.info.memory_bytes or 0 for lease in leases]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_load_says_nothing_of_its_own() -> None:
    """The library has things to say on its import, which is that of any model's."""
    code = (
        "from modelcompose_jupyter.models import ModelCache, ModelSpec\n"
        "cache = ModelCache()\n"
        "for quantization in (None, 'int8'):\n"
        "    cache.acquire(ModelSpec('bundled:storyteller', quantization=quantization)).result()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
