"""Language models: where they come from, which are in memory, and generation with them.

The only part of the package that uses torch, transformers and huggingface_hub, and it imports them
when a model is first asked for. Everything outside speaks to `ModelCache`.
"""

from .cache import Lease, ModelCache
from .generation import Generation, GenerationResult, Prompt
from .memory import DeviceMemory, MemoryUse
from .request_queue import OnQueued, QueuePosition, QueueUpdates
from .spec import LoadProgress, ModelInfo, ModelSpec
from .weights.installed import InstalledModel, installed

__all__ = [
    "DeviceMemory",
    "Generation",
    "GenerationResult",
    "InstalledModel",
    "Lease",
    "LoadProgress",
    "MemoryUse",
    "ModelCache",
    "ModelInfo",
    "ModelSpec",
    "OnQueued",
    "Prompt",
    "QueuePosition",
    "QueueUpdates",
    "installed",
]
