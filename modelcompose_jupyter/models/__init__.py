"""Language models: where they come from, which are in memory, and generation with them.

The only part of the package that uses torch, transformers and huggingface_hub, and it imports them
when a model is first asked for. Everything outside speaks to `ModelCache`.
"""

from .cache import Lease, ModelCache
from .engine.engine import MOST_SEQUENCES
from .generation import Beginning, Extension, Generation, GenerationResult, Prompt
from .memory import MemoryUse
from .spec import LoadProgress, ModelInfo, ModelSpec
from .weights.installed import installed

__all__ = [
    "MOST_SEQUENCES",
    "Beginning",
    "Extension",
    "Generation",
    "GenerationResult",
    "Lease",
    "LoadProgress",
    "MemoryUse",
    "ModelCache",
    "ModelInfo",
    "ModelSpec",
    "Prompt",
    "installed",
]
