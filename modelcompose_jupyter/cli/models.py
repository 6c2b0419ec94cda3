"""``models``: the models on this computer."""

from __future__ import annotations

import sys

import click

from ..translation import localized
from .group import main


@main.command()
@click.option(
    "--free", is_flag=True,
    help="Remove weights that are kept in 8 and 4 bits. The next load makes them again.",
)  # fmt: skip
def models(free: bool) -> None:
    """List the models on this computer: those of the package, and those downloaded.

    JSON where standard output is no terminal, with the bytes that are kept in 8 and 4 bits.
    """
    from ..formatting import size
    from ..models import installed
    from ..models.weights import packed_weights
    from ..progress import as_text

    if free:
        click.echo(
            localized(f"{size(packed_weights.discard())} of weights in 8 and 4 bits removed")
        )
        return
    found = installed()
    if not sys.stdout.isatty():
        kept = packed_weights.kept_bytes()
        click.echo(as_text({"models": [vars(model) for model in found], "kept_bytes": kept}))
        return
    width = max((len(model.source) for model in found), default=0)
    for model in found:
        click.echo(f"{model.source.ljust(width)}  {size(model.size_bytes)}")
    if kept := packed_weights.kept_bytes():
        told = f"kept in 8 and 4 bits: {size(kept)}; 'model-compose models --free' removes it"
        click.echo(f"\n{localized(told)}")
