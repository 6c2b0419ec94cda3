"""``python -m modelcompose_jupyter.dashboard DOCUMENT``: serve a document's page."""

from __future__ import annotations

from .app import main

main()
