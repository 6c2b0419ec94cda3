"""The models that are on this computer already."""

from __future__ import annotations

from standins.hub import HubStandIn

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights.installed import installed

from ..conftest import done
from .conftest import REPO, WEIGHTS, cache_root


def test_damaged_models_in_the_cache_are_not_listed(repo: HubStandIn, cache: ModelCache) -> None:
    done(cache.acquire(ModelSpec(REPO))).release()
    (config,) = cache_root().glob("models--*/snapshots/*/config.json")
    index = config.with_name(f"{WEIGHTS}.index.json")
    index.write_text("{")
    config.with_name(WEIGHTS).unlink()
    assert [each.source for each in installed() if each.revision] == []
