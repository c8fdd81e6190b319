"""``depthprobe angular``: the angular-distance map of a model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from depthprobe.commands import options as shared
from depthprobe.commands.measuring import Asked, measuring


class Tokens(StrEnum):
    """Which tokens' vectors are compared."""

    last = "last"
    all = "all"


class Normalize(StrEnum):
    """How the figure is coloured."""

    none = "none"
    row = "row"


@measuring
def command(
    asked: Asked,
    tokens: Annotated[
        Tokens, typer.Option(help="Compare each sample's last token, as the papers do, or all real tokens.")
    ] = Tokens.last,
    normalize: Annotated[
        Normalize,
        typer.Option(
            help="Colours: none shows distances as measured, row rescales each row as the papers do. "
            "The CSV always holds what was measured.",
            rich_help_panel=shared.OUTPUT,
        ),
    ] = Normalize.none,
) -> None:
    """Angular distance between the residual stream at any two layers; the best block of each size to remove.

    For every layer l and block size n: the angle between x^l and x^{l+n} at the last token, divided by
    pi, averaged over samples of text. Small means that the n blocks from l on barely turn the stream.
    Writes angular.csv, the figure and manifest.json to OUTPUT/MODEL/angular/ and prints the best blocks.
    """
    run = asked.measure("angular", drawing={"normalize": normalize.value}, tokens=tokens.value)
    if run is None:
        return

    from depthprobe.render.terminal.listing import lines_of

    asked.show(run, lines_of(run), normalize=normalize.value)
