"""``depthprobe angular``: the angular-distance map of a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from depthprobe.commands import options as shared
from depthprobe.commands.choice import choose_model
from depthprobe.commands.show import Watch, guarded, importing, result_console


class Tokens(StrEnum):
    """Which tokens' vectors are compared."""

    last = "last"
    all = "all"


class Normalize(StrEnum):
    """How the figure is coloured."""

    none = "none"
    row = "row"


@guarded
def command(
    model: shared.Model = None,
    model_option: shared.ModelOption = None,
    revision: shared.Revision = None,
    dtype: shared.Dtype = "auto",
    device: shared.Device = "auto",
    trust_remote_code: shared.TrustRemoteCode = False,
    adapter: shared.Adapter = None,
    device_map: shared.DeviceMap = None,
    tower: shared.TowerOption = None,
    dataset: shared.Dataset = None,
    dataset_config: shared.DatasetConfig = None,
    split: shared.Split = None,
    column: shared.Column = None,
    samples: shared.SampleCount = None,
    seq_len: shared.SeqLen = None,
    seed: shared.Seed = 0,
    batch_size: shared.BatchSize = "auto",
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
    output: shared.Output = Path("reports"),
    name: shared.Name = None,
    format: shared.Format = "png,pdf",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Angular distance between the residual stream at any two layers; the best block of each size to remove.

    For every layer l and block size n: the angle between x^l and x^{l+n} at the last token, divided by
    pi, averaged over samples of text. Small means that the n blocks from l on barely turn the stream.
    Writes angular.csv, the figure and manifest.json to OUTPUT/MODEL/angular/ and prints the best blocks.
    """
    formats = shared.formats_of(format)
    chosen, why = choose_model(model, model_option)
    watch = Watch(quiet, verbose)
    watch.say(f"Model: {chosen} ({why}).")

    with importing():
        from depthprobe.batches import parse_batch_size
        from depthprobe.models.options import LoadOptions
        from depthprobe.pipeline import Request, run
        from depthprobe.texts import default_options

    load = LoadOptions(
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        adapter=adapter,
        tower=tower,
    )
    text = default_options(
        embedded=chosen.startswith("builtin:"),
        dataset=dataset,
        config=dataset_config,
        split=split,
        column=column,
        samples=samples,
        seq_len=seq_len,
        seed=seed,
    )
    request = Request(
        probe="angular",
        model=chosen,
        load=load,
        text=text,
        options={"tokens": tokens.value},
        batch_size=parse_batch_size(batch_size),
        output=output,
        name=name,
    )
    finished = run(request, watch)

    from depthprobe.render.figures import draw_run
    from depthprobe.render.reading import reading
    from depthprobe.render.tables import angular_table

    console = result_console()
    frame = finished.tables["angular"]
    console.print(angular_table(frame, title=f"{chosen}: best block of each size to remove"))
    console.print(reading(frame), soft_wrap=not console.is_terminal)
    # Saved and shown before anything is drawn: a full disk then costs the picture only.
    figures = draw_run(finished, formats=formats, normalize=normalize.value)
    for path in (finished.directory / "angular.csv", *figures, finished.directory / "manifest.json"):
        console.print(str(path), soft_wrap=True)
