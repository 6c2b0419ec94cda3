"""What builds the site stands in a folder of its own, and is no package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "website"))
