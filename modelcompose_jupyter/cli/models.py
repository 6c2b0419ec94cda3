"""``models``: the models on this computer."""

from __future__ import annotations

import sys

import click

from .group import main


@main.command()
def models() -> None:
    """List the models on this computer: those of the package, and those downloaded."""
    from ..formatting import size
    from ..models import installed
    from ..progress import as_text

    found = installed()
    if not sys.stdout.isatty():
        click.echo(as_text([vars(model) for model in found]))
        return
    width = max((len(model.source) for model in found), default=0)
    for model in found:
        click.echo(f"{model.source.ljust(width)}  {size(model.size_bytes)}")
