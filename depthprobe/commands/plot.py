"""``depthprobe plot``: draw a saved run again, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.show import guarded, lacking_told, result_console

EXAMPLE = "depthprobe plot reports/builtin--pre-ln/angular --style paper-single"


@guarded
def command(
    run_directory: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A run, such as reports/builtin--pre-ln/angular.")
    ],
    normalize: Annotated[
        str,
        typer.Option(
            help="Colours: none as measured, row rescaled row by row as the papers do.", metavar="[none|row]"
        ),
    ] = "none",
    title: Annotated[
        Optional[str], typer.Option(help="Title of the figure; empty for none.", show_default="the model")
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="Directory for the figures.", show_default="the run's own"),
    ] = None,
    format: shared.Format = "png,pdf",
    style: shared.Style = "auto",
    no_subtitle: shared.NoSubtitle = False,
    verbose: shared.Verbose = False,
) -> None:
    """Draw the figure of a saved run again, from its CSV alone."""
    from depthprobe.render.charts.figures import draw_run
    from depthprobe.results.store import read_run

    formats = shared.formats_of(format)
    with (
        interruption.told("Interrupted: the run is unchanged, and no figure is half-written."),
        lacking_told(),
    ):
        figures = draw_run(
            read_run(run_directory),
            formats=formats,
            normalize=normalize,
            title=title,
            output=output,
            style=style,
            subtitle=not no_subtitle,
        )
    console = result_console()
    for path in figures:
        console.print(str(path), soft_wrap=True, markup=False)
