"""What Python functions return: measurements and runs that show themselves, draw themselves and are saved."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthprobe.errors import OptionError
from depthprobe.findings.captions import measured_words
from depthprobe.measurement import Measurement
from depthprobe.results import runs
from depthprobe.results.runs import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from depthprobe.results.unsaved import Unsaved

_ROWS_SHOWN = 20


def figure(
    what: Measurement | Run, *, title: str | None = None, style: str = "auto", **options: Any
) -> Figure:
    """Return the figure of a measurement or run, which displays itself in a notebook.

    Args:
        what: What a probe or ``read_run`` returned.
        title: Above the figure, empty for none; by default the model's name, where it is known.
        style: What it is for: ``auto``, ``paper-single``, ``paper-double``, ``appendix`` or ``slides``.
        options: Options of the figure, such as ``normalize="row"`` for the map of angular distances.
    """
    from depthprobe.render.charts.figures import figure_of
    from depthprobe.render.charts.kit.encoding import DOTS_PER_INCH, render_bytes
    from depthprobe.render.charts.kit.page_sizes import drawn_for, magnification

    with drawn_for(style):
        drawn = figure_of(what.as_run() if isinstance(what, Found) else what, title=title, **options)
        # As dense, and on a slide as large, as the program writes it, whatever saves it.
        drawn.set_dpi(DOTS_PER_INCH * magnification(*map(float, drawn.get_size_inches())))
    # Figures made without pyplot do not display themselves; notebooks call this.
    drawn._repr_png_ = partial(render_bytes, drawn, "png")
    return drawn


class _Shown:
    """Shows its table and what was measured, in a terminal and in a notebook."""

    frame: pd.DataFrame

    def as_run(self) -> Run:
        """Return the run, or the run that this would be."""
        raise NotImplementedError

    def draw(self, *, title: str | None = None, style: str = "auto", **options: Any) -> Figure:
        """Return the figure; for the arguments see :func:`depthprobe.draw`."""
        return figure(self.as_run(), title=title, style=style, **options)

    def _told(self) -> str:
        run = self.as_run()
        return f"{run.manifest.get('probe')}. {measured_words([run])}"

    def __repr__(self) -> str:
        return f"{self._told()}\n{self.frame.to_string(max_rows=_ROWS_SHOWN)}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._told())}</p>\n{self.frame.to_html(max_rows=_ROWS_SHOWN, border=0)}"


@dataclass(frozen=True, repr=False)
class Found(_Shown, Measurement):
    """A measurement that knows what was measured: it shows and draws itself, and can be saved."""

    unsaved: Unsaved | None = None

    @classmethod
    def of(cls, unsaved: Unsaved) -> Found:
        """Return what was measured."""
        found = unsaved.measurement
        return cls(found.probe, found.tables, found.facts, found.files, unsaved)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest of its run would say."""
        return self.as_run().manifest

    @property
    def per_sample(self) -> dict[str, np.ndarray]:
        """What each sample alone shows, if it was measured with ``per_sample=True``; else an OptionError.

        By table: ``[sample, row]``, the table's quantity with a column for each of its rows. Of tasks, by
        ``TASK/METRIC/FILTER``: ``[item, variant]``, the item's score in the whole model, then without the
        layers in the order of the table.
        """
        found = None if self.unsaved is None else self.unsaved.per_sample
        if found is None:
            raise OptionError("Single samples were not asked for.", "Measure with per_sample=True.")
        return found

    def as_run(self) -> Run:
        """Return the run that this would be; there is no such directory."""
        assert self.unsaved is not None, "set by of()"
        return self.unsaved.as_run()

    def save(self, output: str | Path = "reports", name: str | None = None) -> SavedRun:
        """Return the run, saved as its command would; one that is there already stays as it is.

        Args:
            output: The directory of runs: it goes to OUTPUT/MODEL/PROBE/.
            name: The name of the run's directory; None for the usual one.

        Raises:
            OptionError: if the name cannot be used.
            RunError: if a run with other settings has that name.
            MachineError: if the disk is full or may not be written.
        """
        assert self.unsaved is not None, "set by of()"
        return SavedRun.of(self.unsaved.save(Path(output), name))


@dataclass(frozen=True, repr=False)
class SavedRun(_Shown, Run):
    """A saved run that shows and draws itself."""

    @classmethod
    def of(cls, run: Run) -> SavedRun:
        """Return the run."""
        return cls(run.directory, run.manifest, run.tables)

    def as_run(self) -> Run:
        """Return the run."""
        return self

    def _told(self) -> str:
        return f"{self.directory}: {super()._told()}"


def read_run(directory: str | Path) -> SavedRun:
    """Return the run saved in a directory.

    Raises:
        RunError: if the directory does not exist or is not a run, or a file in it is missing, damaged,
            changed since, or does not match the manifest.
        MachineError: if a file cannot be read.
    """
    return SavedRun.of(runs.read_run(Path(directory)))
