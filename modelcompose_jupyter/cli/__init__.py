"""``model-compose`` and ``jupyter compose``: everything from a terminal.

Standard output holds the result alone; everything else goes to standard error. The exit status is
0, 1 where a run failed, 2 for bad use, a bad document or a bad input, 130 after Ctrl-C.
"""

from . import map, models, run, schema, score, up, validate
from .group import main

__all__ = ["main", "map", "models", "run", "schema", "score", "up", "validate"]
