"""Rows of this process as a file in the folder of their results, for workers in other processes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..document import Signature
from ..document.to_plain import to_plain
from ..errors import InputError
from .row_files import RowFiles, scan_lines
from .rows import RowInputs, RowSource
from .storage import is_remote

ROWS_FILE = "_rows.jsonl"


def carried(
    source: RowSource, inputs: RowInputs, signature: Signature, folder: str | os.PathLike[str]
) -> tuple[RowFiles, bytes]:
    """Rows as files of which there is one, and its content, which is to be written there.

    Raises:
        InputError: a row cannot be carried there: it is no plain data, or has a secret.
    """
    lines = []
    for index, row in source.numbered():
        if index == 0:
            inputs.check_form(row)
        if isinstance(row, Mapping) and signature.masked(row)[1]:
            raise InputError(
                f"row {index} has a secret, which is not written to a file",
                hint="Give it to all rows, by name.",
            )
        try:
            lines.append(json.dumps(to_plain(row)).encode() + b"\n")
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"row {index} is no plain data: {error}") from None
    content = b"".join(lines)
    path = os.fspath(folder).rstrip("/")
    path = f"{path}/{ROWS_FILE}" if is_remote(path) else str(Path(path).expanduser() / ROWS_FILE)
    return RowFiles([scan_lines(path, io.BytesIO(content))]), content
