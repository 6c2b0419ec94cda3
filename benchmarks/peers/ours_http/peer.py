"""This package's run API, served by `model-compose up`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.http_clients import HttpEngine
from peers.protocol import PeerSettings, serve

from modelcompose_jupyter import __version__


class OursHttp(HttpEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        self.start(settings)
        return {"version": __version__}

    def document(self, settings: PeerSettings, port: int) -> dict[str, Any]:
        return {
            "component": {
                "type": "model",
                "task": "text-generation",
                "model": str(settings.folder),
                "precision": settings.precision,
                "device": settings.device,
                "text": "${input.prompt as text}",
                "params": {
                    "do_sample": False,
                    "min_output_length": "${input.tokens as integer}",
                    "max_output_length": "${input.tokens as integer}",
                },
            }
        }

    def command(self, file: Path, port: int) -> Sequence[str]:
        up = [sys.executable, "-m", "modelcompose_jupyter.cli", "up", "--no-webui"]
        return [*up, "--file", str(file), "--port", str(port)]

    def environment(self, settings: PeerSettings) -> dict[str, str]:
        return {**os.environ, "JUPYTER_RUNTIME_DIR": str(settings.cache / "runtime")}


serve(OursHttp())
