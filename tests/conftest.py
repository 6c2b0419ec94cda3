"""Tests run on one thread each, with a Hugging Face cache of their own and no network.

Here is also what tests of several folders share.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from standins import ipykernels
from standins.kernel import KernelIn, kernels
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.host_selection import HOST_VARIABLE
from modelcompose_jupyter.models import disk_cache
from modelcompose_jupyter.server.access import TOKEN_VARIABLE

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="modelcompose-hf-")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Nothing that runs on this computer is found, and nothing of a test stays.
os.environ["JUPYTER_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="modelcompose-runtime-")
os.environ["JUPYTER_PATH"] = str(ipykernels.FOLDER)
for name in (HOST_VARIABLE, TOKEN_VARIABLE):
    os.environ.pop(name, None)
# What a shell starts in the background ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_SMALL = 100 << 20
_STARTED = time.time()


def pytest_sessionfinish() -> None:
    """Remove what tiny models in few bits have left where kernels are kept, too."""
    for path in disk_cache.kept("weights"):
        with suppress(FileNotFoundError):
            found = path.stat()
            if found.st_ctime >= _STARTED and found.st_size < _SMALL:
                path.unlink()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ipykernel",
        action="append",
        default=[],
        metavar="VERSION",
        help="run tests of kernels on this version of ipykernel (may be given several times; "
        f"default: the installed one, {ipykernels.INSTALLED})",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ipykernel" in metafunc.fixturenames:
        versions = metafunc.config.getoption("ipykernel") or [ipykernels.INSTALLED]
        metafunc.parametrize("ipykernel", versions, indirect=True, scope="module")


@pytest.fixture(scope="module")
def ipykernel(request: pytest.FixtureRequest) -> str:
    """The version of ipykernel for the kernels of a test: the installed one, or each asked for."""
    return str(request.param)


@pytest.fixture(scope="session")
def kernel_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelIn]:
    """``kernel_in(folder, ipykernel)``: a kernel without names, extension and hosts of before.

    There is one for each version; a test that uses it ends the use of those before. A fresh one,
    which has imported nothing, is `standins.kernel.kernel`.
    """
    with kernels(tmp_path_factory.mktemp("kernel")) as kernel_in:
        yield kernel_in


@pytest.fixture
def models() -> ScriptedModels:
    """Models that answer as a test scripts it."""
    return ScriptedModels()


@pytest.fixture
def host(models: ScriptedModels) -> Iterator[LocalHost]:
    """A host with scripted models."""
    host = LocalHost(models)  # type: ignore[arg-type]
    yield host
    host.close()
