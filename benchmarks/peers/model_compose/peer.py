"""model-compose, as its own command serves a document."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from peers.http_clients import HttpEngine
from peers.protocol import PeerSettings, serve


class ModelCompose(HttpEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        self.start(settings)
        versions = {name: metadata.version(name) for name in ("torch", "transformers")}
        return {"version": metadata.version("model-compose"), **versions}

    def document(self, settings: PeerSettings, port: int) -> dict[str, Any]:
        component = {
            "id": "generator",
            "type": "model",
            "task": "text-generation",
            "model": str(settings.folder),
            "precision": settings.precision,
            "device": settings.device,
            "action": {
                "prompt": "${input.prompt as text}",
                "max_output_length": "${input.tokens as integer}",
                "params": {"do_sample": False},
            },
        }
        return {
            "controller": {
                "adapter": {"type": "http-server", "port": port, "base_path": "/api"},
            },
            "workflow": {
                "id": "generate",
                "job": {"id": "generate", "component": "generator", "input": "${input}"},
            },
            "component": {**component, **settings.options},
        }

    def command(self, file: Path, port: int) -> Sequence[str]:
        return [str(Path(sys.executable).parent / "model-compose"), "-f", str(file), "up"]

    def environment(self, settings: PeerSettings) -> dict[str, str]:
        # It installs what is missing without asking; here nothing may be.
        return {**os.environ, "PIP_NO_INDEX": "1"}


serve(ModelCompose())
