"""``python -m modelcompose_jupyter.cli``: the same as ``model-compose``."""

from . import main

main()
