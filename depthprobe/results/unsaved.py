"""A measurement that is not on disk, with all that it takes to save it later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthprobe.measurement import Measurement
from depthprobe.results.naming import run_directory_name
from depthprobe.results.runs import Run
from depthprobe.results.store import reserve, save


@dataclass(frozen=True)
class Unsaved:
    """What was measured, and what its manifest would say.

    Args:
        measurement: The measurement.
        model: The model's name.
        usual_name: The default name of the run's directory.
        settings: What decides the numbers.
        manifest: What else there is to record.
        per_sample: What each sample alone shows, if that was asked for.
    """

    measurement: Measurement
    model: str
    usual_name: str
    settings: dict[str, Any]
    manifest: dict[str, Any]
    per_sample: dict[str, Any] | None = None

    def as_run(self) -> Run:
        """Return the run as it would be read back; there is no such directory."""
        tables = {table.stem: table.frame for table in self.measurement.tables}
        known = {"probe": self.measurement.probe, "settings": self.settings}
        return Run(Path(run_directory_name(self.model), self.usual_name), {**self.manifest, **known}, tables)

    def save(self, output: Path, name: str | None = None) -> Run:
        """Return the saved run; one that is there already with the same settings stays as it is.

        Args:
            output: The directory of runs.
            name: The name of the run's directory; None for the usual one.

        Raises:
            RunError: if a run with other settings has that name.
            MachineError: if the disk is full or may not be written.
        """
        place = reserve(output, self.model, self.usual_name, self.settings, name)
        if place.finished is not None:
            return place.finished
        return save(place, self.measurement, self.manifest, self.measurement.files)
