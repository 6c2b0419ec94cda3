"""Tests run on one thread each, with a Hugging Face cache of their own and no network."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="modelcompose-hf-")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
