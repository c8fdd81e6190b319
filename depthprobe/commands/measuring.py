"""What ``angular``, ``gradnorm`` and ``variance`` share: options, and the way from them to a saved run."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from depthprobe import interruption
from depthprobe.commands import options as shared
from depthprobe.commands.choice import choose_model
from depthprobe.commands.show import (
    Watch,
    already_measured,
    guarded,
    importing,
    plain_text,
    print_lines,
    result_console,
)

if TYPE_CHECKING:
    from depthprobe.again import Again
    from depthprobe.models.options import LoadOptions
    from depthprobe.results.runs import Run
    from depthprobe.texts import TextOptions


@dataclass
class Asked:
    """What the shared options of a command ask for, as typer read them."""

    model: str
    watch: Watch
    formats: tuple[str, ...]
    given: dict[str, Any]
    again: Again | None = None

    def measure(
        self,
        probe: str,
        initial: bool = False,
        means: dict[str, Any] | None = None,
        drawing: dict[str, Any] | None = None,
        **options: Any,
    ) -> Run | None:
        """Return the saved run of a probe with these options of its own; None where nothing is left to show.

        That is where another process has it, or where it was there already and has been shown.

        Args:
            probe: Its name.
            initial: Whether the weights are freshly initialised, with ``--seed``.
            means: Options that leave the numbers as they are.
            drawing: Options of the figure.
            options: What decides its numbers beside model and text.
        """
        from depthprobe.again import Again
        from depthprobe.batches import parse_batch_size
        from depthprobe.request import Request, before_measuring

        given = self.given
        request = Request(
            probe=probe,
            model=self.model,
            load=load_asked(given, tower=given["tower"], initial_seed=given["seed"] if initial else None),
            text=text_asked(self.model, given),
            options=options,
            means=means or {},
            batch_size=parse_batch_size(given["batch_size"]),
            output=given["output"],
            name=given["name"],
        )
        self.again = Again.of(request, self.formats, drawing)
        if shown_again(self.again, self.watch):
            return None
        with interruption.told(lambda: before_measuring(request)), importing():
            from depthprobe.pipeline import run

        return run(request, self.watch)

    def show(self, run: Run, lines: list[Any], **drawing: Any) -> None:
        """Print results, then draw the figure, then say where everything is.

        Args:
            run: The saved run.
            lines: Tables and sentences.
            drawing: Options of the figure.
        """
        show(run, lines, self.formats, self.again, **drawing)


def show(
    run: Run, lines: list[Any], formats: tuple[str, ...], again: Again | None = None, **drawing: Any
) -> None:
    """Print results, draw the figure, say where everything is, and remember it for the next time.

    Args:
        run: The saved run.
        lines: Tables and sentences.
        formats: Of the figure.
        again: What was asked; None where it is not to be remembered.
        drawing: Options of the figure.
    """
    console = result_console()
    print_lines(console, lines)
    figures = drawn(run, formats, **drawing)
    tables = [run.directory / f"{stem}.csv" for stem in run.tables]
    for path in (*tables, *figures, run.directory / "manifest.json"):
        console.print(str(path), soft_wrap=True)
    if again is not None:
        again.remember(run.directory, plain_text(lines), figures)


def shown_again(again: Again, watch: Watch) -> bool:
    """Print a run that is already there as it was printed before; return whether there is one."""
    found = again.find()
    if found is None:
        return False
    watch.say(already_measured(found.directory))
    encoding = sys.stdout.encoding or "utf-8"
    for text in (found.printed, *(f"{path}\n" for path in found.files)):
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
    return True


def drawn(run: Run, formats: tuple[str, ...], **drawing: Any) -> list[Path]:
    """Return the files of a saved run's figure, drawn now: a full disk or Ctrl-C cost the picture only."""
    saved = f"the run is saved, and depthprobe plot {run.directory} draws it"
    with interruption.told(f"Interrupted while the figure was drawn: {saved}."):
        from depthprobe.render.charts.figures import draw_run

        return draw_run(run, formats=formats, **drawing)


def load_asked(given: Mapping[str, Any], **more: Any) -> LoadOptions:
    """Return how a model is to be loaded, by the options of a command; ``more`` are further fields."""
    from depthprobe.models.options import LoadOptions

    names = ("revision", "dtype", "device", "device_map", "trust_remote_code", "adapter")
    return LoadOptions(**{name: given[name] for name in names}, **more)


def text_asked(model: str, given: Mapping[str, Any]) -> TextOptions:
    """Return the text that a model is measured on, by the options of a command."""
    from depthprobe.texts import default_options

    names = ("dataset", "split", "column", "samples", "seq_len", "seed")
    return default_options(
        embedded=model.startswith("builtin:"),
        config=given["dataset_config"],
        **{name: given[name] for name in names},
    )


def _shared(
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
    output: shared.Output = Path("reports"),
    name: shared.Name = None,
    format: shared.Format = "png,pdf",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Only its signature is used: the options that all these commands have."""


# Of the shared options, those that stand behind a command's own in its help.
_BEHIND = ("output", "name", "format", "quiet", "verbose")


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """Return what typer takes for a command: the shared options, and those that ``command`` declares.

    Args:
        command: Called with an :class:`Asked` and its own options by name.
    """
    common = inspect.signature(_shared).parameters
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(_shared, include_extras=True) | get_type_hints(command, include_extras=True)

    @guarded
    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        formats = shared.formats_of(given["format"])
        chosen, why = choose_model(given["model"], given["model_option"])
        watch = Watch(given["quiet"], given["verbose"])
        watch.say(f"Model: {chosen} ({why}).")
        asked = Asked(chosen, watch, formats, {name: given[name] for name in common})
        command(asked, **{parameter.name: given[parameter.name] for parameter in own})

    before = [parameter for name, parameter in common.items() if name not in _BEHIND]
    behind = [common[name] for name in _BEHIND]
    parameters = [
        parameter.replace(annotation=hints[parameter.name]) for parameter in (*before, *own, *behind)
    ]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
