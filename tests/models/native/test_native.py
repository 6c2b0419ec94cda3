"""The kernels in C: they give what the model gives, to each token the same in any company."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import tiny_models

from modelcompose_jupyter.models import ModelSpec, disk_cache
from modelcompose_jupyter.models.engine import layers
from modelcompose_jupyter.models.engine.kv_cache import Slot
from modelcompose_jupyter.models.engine.native_layers import NativeProduct, unsupported_layers
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.engine.runner import Runner
from modelcompose_jupyter.models.engine.torch_runner import TorchRunner, torch_runner
from modelcompose_jupyter.models.native import build, structures, threads
from modelcompose_jupyter.models.native.variants import FLAGS, VARIANTS, Variant, suitable
from modelcompose_jupyter.models.weights import loader, native_loader, source

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

KINDS = (torch.float32, torch.bfloat16, torch.float16)
NAMES = [
    "x86-64-v4-bf16", "x86-64-v4-vnni", "x86-64-v4", "x86-64-v3-vnni", "x86-64-v3", "x86-64-v2",
]  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "codegen": ("codegen", {"n_head": 8, "n_embd": 64}),
    "exaone4": ("exaone4", {}),
    "gemma2": ("gemma2", {}),
    "gemma3": ("gemma3_text", {}),
    "gpt2": ("gpt2", {}),
    "gpt_neo": ("gpt_neo", {}),
    "gpt_neox": ("gpt_neox", {}),
    "hyperclovax": ("hyperclovax", {}),
    "llama": ("llama", {}),
    "llama of many queries": (
        "llama",
        {"num_attention_heads": 6, "num_key_value_heads": 1, "hidden_size": 48},
    ),
    "llama of odd heads": ("llama", {"head_dim": 20}),
    "llama of wide heads": ("llama", {"head_dim": 80}),
    "mistral": ("mistral", {}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "qwen3_5": ("qwen3_5_text", {"linear_value_head_dim": 40}),
    "smollm3": ("smollm3", {}),
}
PROMPTS = [[5 + number * step % 80 for number in range(length)] for step, length in
           ((1, 3), (3, 40), (7, 70), (11, 1), (13, 100), (17, 240))]  # fmt: skip


def runner_of(model: Any) -> Runner:
    """The runner of a model of transformers."""
    loaded: Any = SimpleNamespace(model=model, device="cpu", cache_budget=None)
    return torch_runner(loaded)


def made(name: str, kind: torch.dtype = torch.float32) -> NativeRunner:
    """A model whose steps run in C."""
    architecture, options = MODELS[name]
    options = {**tiny_models.with_context(architecture, 300), **options}
    model = tiny_models.make(architecture, **options).to(kind)
    if layers.are_known(model):
        runner = runner_of(model)
        assert isinstance(runner, NativeRunner)
        return runner
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tiny_models.tokenizer().save_pretrained(folder)
        spec = ModelSpec(folder)
        plan = native_loader.plan(spec, source.resolve(spec, lambda _: None))
        decoder = native_loader.load(plan, lambda _: None).decoder
    assert decoder is not None
    return NativeRunner(decoder, None)


def read(model: Runner, prompt: list[int]) -> Slot:
    """A slot with a prompt."""
    slot = model.cache.open(len(prompt) + 50)
    model.forward(prompt, [len(prompt) - 1], (), [(slot, len(prompt))])
    slot.length = len(prompt)
    return slot


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("stored", ["bundled:storyteller", "float16", "float32"])
def test_steps_run_in_c_where_no_precision_is_asked_for(stored: str, tmp_path: Path) -> None:
    asked = stored
    if stored != "bundled:storyteller":
        asked = str(tiny_models.save(tmp_path))
        tiny_models.make().to(getattr(torch, stored)).save_pretrained(asked)
    spec = ModelSpec(asked, device="cpu")
    plan = loader.plan(spec, source.resolve(spec, lambda _: None), lambda _: None)
    loaded = loader.load(plan, lambda _: None)
    assert loaded.decoder is not None
    assert loaded.precision == ("bfloat16" if stored == "bundled:storyteller" else stored)


@pytest.mark.parametrize("name", MODELS)
def test_steps_give_the_scores_of_the_model(name: str) -> None:
    model = made(name)
    architecture, options = MODELS[name]
    options = {**tiny_models.with_context(architecture, 300), **options}
    pristine = tiny_models.make(architecture, **options)
    tokens = PROMPTS[4]
    slot = model.cache.open(len(tokens))
    found = []
    for start, end in ((0, 60), (60, 61), (61, 62), (62, 95), (95, 100)):
        count = end - start
        found.append(model.forward(tokens[start:end], range(count), (), [(slot, count)]))
        slot.length = end
    wanted = pristine(torch.tensor([tokens])).logits[0]
    assert np.abs(np.concatenate(found) - wanted.numpy()).max() < 1e-4 * wanted.std()


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3"])
def test_float16_gives_what_the_model_itself_gives_in_it(name: str) -> None:
    model, tokens = made(name, torch.float16), PROMPTS[3]
    architecture, options = MODELS[name]
    options = {**tiny_models.with_context(architecture, 300), **options}
    pristine = tiny_models.make(architecture, **options).to(torch.float16)
    slot = model.cache.open(len(tokens))
    found = model.forward(tokens, range(len(tokens)), (), [(slot, len(tokens))])
    wanted = pristine(torch.tensor([tokens])).logits[0].float()
    assert np.abs(found - wanted.numpy()).max() < 1e-2 * wanted.std()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its processors are others")
@pytest.mark.parametrize(
    "level",
    [
        "x86-64",
        pytest.param("x86-64-v3", marks=pytest.mark.slow),
        pytest.param("x86-64-v4", marks=pytest.mark.slow),
    ],
)
def test_smaller_processors_compute_the_same(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those without instructions for bfloat16, or with shorter vectors."""
    if level == "x86-64-v4" and "avx512bw" not in build._processor().split():
        pytest.skip("this processor is a smaller one itself")
    usual = {kind: made("llama", kind) for kind in KINDS}
    monkeypatch.setattr(build, "_FLAGS", [*build._FLAGS, f"-march={level}"])
    build._compile("cc", tmp_path / "kernels.so")
    library = build._checked(ctypes.CDLL(str(tmp_path / "kernels.so")))
    monkeypatch.setattr(build, "_load", lambda: library)
    for kind, precision in ((torch.float32, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.03)):
        scores = []
        for model in (usual[kind], made("llama", kind)):
            slots = [read(model, prompt) for prompt in PROMPTS]
            spans = [(slot, 1 + place) for place, slot in enumerate(slots)]
            tokens = list(range(5, 5 + sum(count for _, count in spans)))
            scores.append(model.forward(tokens, range(len(tokens)), (), spans))
        assert np.abs(scores[0] - scores[1]).max() < precision * scores[0].std()


@pytest.mark.parametrize(
    ("name", "kind"),
    [  # each model in one of them, and in the others where there is time
        pytest.param(name, kind, marks=() if place % 3 == number else pytest.mark.slow)
        for place, name in enumerate(MODELS)
        for number, kind in enumerate(KINDS)
    ],
    ids=str,
)
def test_a_token_gets_the_same_bits_in_any_company(name: str, kind: torch.dtype) -> None:
    """Alone, among others, with as many threads as you like, read in one part or in several."""
    model = made(name, kind)
    together = [read(model, prompt) for prompt in PROMPTS]
    alone = []
    for number, prompt in enumerate(PROMPTS):
        model.threads = 1 + number % 3
        slot = model.cache.open(len(prompt) + 50)
        for token in prompt:
            model.forward([token], [0], (), [(slot, 1)])
            slot.length += 1
        alone.append(slot)
    for step in range(5):
        model.threads = 1 + step % 2
        tokens = [7 * step + number + 3 for number in range(len(PROMPTS))]
        scores = model.forward(tokens, range(len(tokens)), (), [(s, 1) for s in together])
        for place, slot in enumerate(alone):
            model.threads = 1 + (step + place) % 2
            own = model.forward([tokens[place]], [0], (), [(slot, 1)])
            assert np.array_equal(own[0], scores[place])
        for slot in (*together, *alone):
            slot.length += 1


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 130), outputs=st.integers(1, 70), inputs=st.integers(1, 60),
    kind=st.sampled_from(KINDS), bias=st.booleans(), add=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_products_are_those_of_torch(
    rows: int, outputs: int, inputs: int, kind: torch.dtype, bias: bool, add: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(outputs, 2 * inputs).to(kind)
    shift = torch.randn(outputs).to(kind) if bias else None
    product = NativeProduct(weight, shift)
    input, to = torch.randn(rows, 2 * inputs).to(kind), torch.randn(rows, outputs).to(kind)
    before = input.clone(), to.clone()
    found = product.added(input, to) if add else product(input)
    wanted = torch.nn.functional.linear(
        input.double(), weight.double(), None if shift is None else shift.double()
    ) + (to.double() if add else 0)
    assert torch.equal(input, before[0])
    assert torch.equal(to, before[1])
    assert found.dtype is kind
    precision = 1e-5 if kind is torch.float32 else 1e-2
    torch.testing.assert_close(found.double(), wanted, rtol=precision, atol=precision * inputs)


def test_what_is_no_number_is_passed_on() -> None:
    """So that whoever draws a token from the scores can say so."""
    for value in (float("nan"), float("inf")):
        weight = torch.full((4, 2), value).bfloat16()
        assert not NativeProduct(weight, None)(torch.ones(1, 2).bfloat16()).isfinite().any()


def test_a_token_that_there_is_not_is_refused() -> None:
    model = made("llama")
    slot = model.cache.open(4)
    for token in (-1, model.vocabulary):
        with pytest.raises(IndexError, match="not among the"):
            model.forward([token], [0], (), [(slot, 1)])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hidden_act": "quick_gelu"}, "its activation is another one"),
        ({"intermediate_size": 63}, "its sizes are odd"),
    ],
)
def test_other_models_run_on_torch(options: dict[str, Any], reason: str) -> None:
    model = tiny_models.make("llama", **options)
    assert unsupported_layers(model) == reason
    runner = runner_of(model)
    assert isinstance(runner, TorchRunner)
    slot = runner.cache.open(3)
    assert runner.forward([3, 4], [1], (), [(slot, 2)]).isfinite().all()


# For other processors

CHECK = Path(__file__).parent / "check.c"
NATIVE = Path(build.__file__).parent


def compiled(compiler: str, flags: Sequence[str], to: Path, *more: str) -> Path:
    command = [compiler, *(each for each in FLAGS if each != "-shared"), *flags, f"-I{NATIVE}"]
    done = subprocess.run(
        [*command, str(CHECK), "-o", str(to), "-lm", *more], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return to


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["cc", "clang"])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each.name)
def test_kernels_of_all_variants_compute_right(
    variant: Variant, compiler: str, tmp_path: Path
) -> None:
    """By themselves, so that other machines' can be run under an emulator."""
    command: list[str] = []
    static: list[str] = []
    if variant.machine != platform.machine():
        compiler, static = f"{variant.machine}-linux-gnu-gcc", ["-static"]
        command = [f"qemu-{variant.machine}"]
    elif variant not in suitable(build._processor().split()):
        pytest.skip("this processor is a smaller one")
    for needed in (compiler, *command):
        if shutil.which(needed) is None:
            pytest.skip(f"there is no {needed}")
    made = compiled(compiler, variant.flags, tmp_path / "check", *static)
    done = subprocess.run([*command, str(made)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1425 products, 0 differences\n")


def test_the_best_variant_that_a_processor_has_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [each.name for each in suitable(build._processor().split())]
    if platform.machine() == "x86_64":
        assert there == [name for name in NAMES if name in there]
        old = ["sse4_2", "ssse3", "popcnt", "cx16"]
        assert [each.name for each in suitable(old, "x86_64")] == ["x86-64-v2"]
        assert suitable(["sse2"], "x86_64") == []
    assert suitable(["avx2"], "riscv64") == []
    monkeypatch.setattr(build, "_PREBUILT", tmp_path)
    assert build._prebuilt() is None
    for each in suitable(build._processor().split()):
        (tmp_path / each.file).write_bytes(b"no library")
        assert build._prebuilt() is None  # and what is none is passed over
    last = suitable(build._processor().split())[-1]
    command = ["cc", *FLAGS, "-O1", *last.flags, str(NATIVE / "kernels.c")]
    subprocess.run([*command, "-o", str(tmp_path / last.file), "-lm"], check=True)
    library = build._prebuilt()
    assert library is not None
    assert library._name == str(tmp_path / last.file)


# Compiling

LOAD = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from modelcompose_jupyter.models.native.build import kernels
print("there" if kernels() else "none")
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which processes keep their kernels: an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "modelcompose"


def load() -> str:
    command = [sys.executable, "-c", LOAD]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_kernels_are_compiled_once(environment: Path, quick_compiler: None) -> None:
    assert load() == "there\n"
    (built,) = environment.iterdir()
    made = built.stat()
    assert load() == "there\n"
    assert [each.name for each in environment.iterdir()] == [built.name]
    assert built.stat().st_mtime_ns == made.st_mtime_ns


def test_those_who_compile_at_once_do_not_meet(environment: Path, quick_compiler: None) -> None:
    command = [sys.executable, "-c", LOAD]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [each.communicate(timeout=200)[0] for each in running] == ["there\n"] * 3
    assert len(list(environment.iterdir())) == 1


@pytest.mark.parametrize(
    ("compiler", "said"), [("/nowhere/cc", "no C compiler"), ("false", "cannot be compiled")]
)
def test_without_kernels_steps_run_on_torch(
    compiler: str, said: str, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    output = load()
    assert said in output
    assert output.endswith("none\n")


PLANTED = """
#include <stdio.h>
__attribute__((constructor)) static void run(void) { puts("planted"); }
"""
OTHER = 12345  # the number of another user


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A library that says so when it is loaded."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "p.c").write_text(PLANTED)
    command = ["cc", "-shared", "-fPIC", str(folder / "p.c"), "-o", str(folder / "p.so")]
    subprocess.run(command, check=True)
    return (folder / "p.so").read_bytes()


def _anothers_folder(folder: Path, file: Path) -> None:
    os.chown(folder, OTHER, OTHER)


def _anothers_file(folder: Path, file: Path) -> None:
    os.chown(file, OTHER, OTHER)


def _file_for_all(folder: Path, file: Path) -> None:
    file.chmod(0o777)


def _file_for_a_group(folder: Path, file: Path) -> None:
    file.chmod(0o720)


def _link_to_a_folder(folder: Path, file: Path) -> None:
    other = folder.with_name("other")
    folder.rename(other)
    folder.symlink_to(other)


def _link_to_a_file(folder: Path, file: Path) -> None:
    other = folder.parent / "other.so"
    file.rename(other)
    file.symlink_to(other)


def _cache_for_all(folder: Path, file: Path) -> None:
    folder.parent.chmod(0o777)


def _anothers_cache(folder: Path, file: Path) -> None:
    os.chown(folder.parent, OTHER, OTHER)


def _a_folder_as_file(folder: Path, file: Path) -> None:
    file.unlink()
    folder.rmdir()
    folder.write_text("a file")


AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="giving files to others takes root"
)
SPOILS = [
    _anothers_folder,
    _anothers_file,
    _file_for_all,
    _file_for_a_group,
    _link_to_a_folder,
    _link_to_a_file,
    _cache_for_all,
    _anothers_cache,
    _a_folder_as_file,
]


def kept(environment: Path, content: bytes) -> Path:
    """Kernels as they are kept, but with another content."""
    environment.mkdir(mode=0o700)
    name = build._key(sorted(Path(build.__file__).parent.glob("*.[ch]")))
    file = environment / f"kernels-{name}.so"
    file.write_bytes(content)
    file.chmod(0o700)
    return file


def is_trusted(file: Path) -> bool:
    folder = disk_cache.folder()
    return folder is not None and disk_cache.is_private(folder / file.name)


@AS_ROOT
@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__[1:])
def test_what_another_user_may_have_put_there_is_not_trusted(
    spoil: Callable[[Path, Path], None], environment: Path
) -> None:
    file = kept(environment, b"")
    assert is_trusted(file)
    spoil(environment, file)
    assert not is_trusted(file)


@AS_ROOT
@pytest.mark.parametrize("spoil", [_anothers_folder, _file_for_all])
def test_what_is_not_trusted_is_not_loaded(
    spoil: Callable[[Path, Path], None],
    planted: bytes,
    environment: Path,
    quick_compiler: None,
) -> None:
    file = kept(environment, planted)
    assert "planted" in load()  # and what is trusted is
    spoil(environment, file)
    output = load()
    assert "planted" not in output
    assert output.endswith("there\n")


@pytest.fixture
def quick_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler, without its time for making what it makes quicker."""
    script = tmp_path / "quick-cc"
    script.write_text('#!/bin/sh\nexec cc "$@" -O0\n')
    script.chmod(0o700)
    monkeypatch.setenv("CC", str(script))


def test_what_is_kept_is_this_users_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compiler: None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    command = f"umask 000; {shlex.quote(sys.executable)} -c {shlex.quote(LOAD)}"
    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert output.stdout == "there\n"
    (file,) = (tmp_path / "a" / "b" / "modelcompose").iterdir()
    made = [file, *file.parents[:3]]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 4


def test_without_a_place_of_its_own_steps_run_on_torch(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the cache nor the folder for what is temporary is this user's alone."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    output = load()
    assert "others may write" in output
    assert output.endswith("none\n")
    assert list(shared.iterdir()) == [shared / "modelcompose"]


def test_the_sources_are_clean(tmp_path: Path) -> None:
    source = Path(build.__file__).parent / "kernels.c"
    for options in (["-march=native"], ["-march=x86-64-v3"], []):
        command = ["cc", "-Wall", "-Wextra", "-Werror", *build._FLAGS, "-O1", *options, str(source)]
        found = subprocess.run([*command, "-o", str(tmp_path / "k.so"), "-lm"], capture_output=True)
        assert not found.stderr


def test_other_sources_are_compiled_anew(tmp_path: Path) -> None:
    source = tmp_path / "kernels.c"
    source.write_text("int one;")
    first = build._key([source])
    source.write_text("int two;")
    assert build._key([source]) != first


def test_structures_are_as_large_as_in_c(tmp_path: Path) -> None:
    """native.h and structures.py say the same."""
    header = Path(build.__file__).parent / "native.h"
    program = tmp_path / "sizes.c"
    names = ("product", "norm", "heads", "layer", "model", "token")
    sizes = ", ".join(f"(int)sizeof(struct {name})" for name in names)
    program.write_text(
        f'#include <stdio.h>\n#include "{header}"\n'
        f'int main(void) {{ printf("%d %d %d %d %d %d", {sizes}); return 0; }}'
    )
    subprocess.run(["cc", str(program), "-o", str(tmp_path / "sizes")], check=True)
    found = subprocess.run([str(tmp_path / "sizes")], capture_output=True, text=True, check=True)
    mine = (
        structures.ProductStruct, structures.NormStruct, structures.HeadsStruct,
        structures.LayerStruct, structures.ModelStruct,
    )  # fmt: skip
    wanted = [ctypes.sizeof(each) for each in mine]
    assert [int(each) for each in found.stdout.split()] == [*wanted, structures.TOKEN.itemsize]


@pytest.mark.parametrize("size", [0, 4096, 100_000])
def test_kernels_that_were_cut_off_are_compiled_anew(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system ends a process that loads such a library."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build._compiled() is not None
    (made,) = tmp_path.rglob("kernels-*.so")
    whole = made.stat().st_size
    other = made.with_name("copy")  # the library itself is in use
    other.write_bytes(made.read_bytes()[:size])
    other.chmod(0o700)
    other.replace(made)
    assert not build._is_whole(made)
    assert build._compiled() is not None
    assert made.stat().st_size == whole


def test_a_forked_process_does_not_wait_for_a_lock_that_nobody_holds() -> None:
    with threads.common_pool():
        child = os.fork()
        if not child:
            with threads.common_pool():
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
