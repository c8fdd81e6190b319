"""What the words after a command mean: runs on disk, or a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from depthprobe.catalogue import PROBES
from depthprobe.commands.arguments import Asked
from depthprobe.commands.options import BatchOptions, counts_of
from depthprobe.errors import DepthprobeError, OptionError, RunError
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.machine.here import exists_here
from depthprobe.models.loading.options import LoadOptions
from depthprobe.texts.options import TextOptions

# What a model's directory holds, in the layout of transformers, of Meta, or of an adapter.
_OF_A_MODEL = ("config.json", "params.json", "adapter_config.json")
_MANIFEST = "manifest.json"


def runs_named(targets: Sequence[str]) -> list[Path] | None:
    """Return the directories of runs that are named; None if one word names a model, or there is no word.

    Raises:
        RunError: if runs and models are mixed, or a directory holds neither.
    """
    if not targets:
        return None
    paths = [Path(target) for target in targets]
    if all(map(_holds_runs, paths)):
        return paths
    strange = next(path for path in paths if not _holds_runs(path))
    if len(paths) > 1:
        what = "holds no run" if exists_here(str(strange)) else "does not exist"
        raise RunError(
            f"{strange} {what}.", "Name one model, or directories of finished runs such as reports/MODEL."
        )
    # What looks like a path into the reports is not a model of the hub.
    if not exists_here(str(strange)) and strange.parent != Path() and _holds_models(strange.parent):
        raise RunError(
            f"{strange} does not exist, but {strange.parent} holds runs.",
            "Check the name, or name a model.",
        )
    if exists_here(str(strange)) and strange.is_dir() and not _is_model(strange):
        raise RunError(
            f"{strange} holds neither a run nor a model.",
            "Name a model, or a directory of finished runs such as reports/MODEL.",
        )
    return None


def refuse_measuring(asked: Asked) -> None:
    """Refuse options that say how a model is measured where finished runs are named.

    Raises:
        OptionError: if there is such an option.
    """
    measuring = (LoadOptions, SweepOptions, TextOptions, BatchOptions)
    counts = tuple(group.options for group in counts_of(PROBES.values()))
    for flag, group, _ in asked.given:
        if group in measuring + counts:
            raise OptionError(f"{flag} has no effect on finished runs.", "Leave it out, or name a model.")


def _holds_models(path: Path) -> bool:
    """Whether a directory, or a model's directory in it, holds runs."""
    return exists_here(str(path)) and any(
        next(path.glob(f"{deep}[!.]*/{_MANIFEST}"), None) for deep in ("", "[!.]*/")
    )


def _is_model(path: Path) -> bool:
    return any((path / name).is_file() for name in _OF_A_MODEL) or any(path.glob("*.gguf"))


def _holds_runs(path: Path) -> bool:
    if not exists_here(str(path)):
        return False
    if (path / _MANIFEST).is_file():
        return True
    manifests = list(path.glob(f"[!.]*/{_MANIFEST}"))
    if not _is_model(path):
        return bool(manifests)
    # `pretrain` leaves a training log, which no report is made from, in the directory of the model it made.
    return any(map(_of_a_probe, manifests))


def _of_a_probe(manifest: Path) -> bool:
    from depthprobe.results.manifest import read_manifest

    try:
        probe = read_manifest(manifest).get("probe")
    except DepthprobeError:
        return True  # damaged: reading the run says what is wrong with it
    return not isinstance(probe, str) or probe in PROBES
