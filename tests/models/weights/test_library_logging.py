"""Libraries say nothing of their own while a model is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from standins.hub import HubStandIn

from modelcompose_jupyter.models import ModelCache, ModelSpec

from ..conftest import done
from .conftest import REPO, FolderOf


def test_another_process_uses_the_stand_in_and_prints_nothing(
    repo: HubStandIn, tmp_path: Path
) -> None:
    code = f"""
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.document.parameters import GenerationParameters
cache = ModelCache()
lease = cache.acquire(ModelSpec({REPO!r})).result(60)
asked = GenerationParameters(num_beams=2, max_output_length=5, seed=1)
print(len(lease.generate("fox", asked).future.result(60).texts))
cache.close()
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=repo.environment(tmp_path / "home") | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (output.stdout, output.stderr) == ("1\n", "")


def test_the_users_own_bars_and_logs_stay(cache: ModelCache, folder_of: FolderOf) -> None:
    import logging

    from transformers.utils.logging import tqdm

    from modelcompose_jupyter.models.weights.library_logging import SilentBar

    done(cache.acquire(ModelSpec(str(folder_of("llama"))))).release()
    assert not isinstance(tqdm([1], disable=True), SilentBar)
    record = logging.LogRecord("transformers", logging.WARNING, "", 0, "hello", None, None)
    assert all(handler.filter(record) for handler in logging.getLogger("transformers").handlers)
