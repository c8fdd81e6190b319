"""What the words behind a command mean: runs on the disk, or a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from depthprobe.catalogue import PROBES
from depthprobe.commands.arguments import Asked
from depthprobe.commands.options import BatchOptions
from depthprobe.errors import DepthprobeError, OptionError, RunError
from depthprobe.evaluation.harness.options import TaskOptions
from depthprobe.models.loading.options import LoadOptions
from depthprobe.texts.options import TextOptions

# What the directory of a model holds, in the layout of transformers, of an adapter, or of Meta.
_OF_A_MODEL = ("config.json", "params.json", "adapter_config.json")
_MANIFEST = "manifest.json"


def runs_named(targets: Sequence[str]) -> list[Path] | None:
    """The directories of runs that are named; None where one word names a model, or none is there.

    Raises:
        RunError: if words are mixed, or a directory holds neither runs nor a model.
    """
    if not targets:
        return None
    paths = [Path(target) for target in targets]
    if all(map(_holds_runs, paths)):
        return paths
    strange = next(path for path in paths if not _holds_runs(path))
    if len(paths) > 1:
        what = "holds no run" if strange.exists() else "does not exist"
        raise RunError(
            f"{strange} {what}.", "Name one model, or directories of finished runs such as reports/MODEL."
        )
    # What looks like a path into the reports is no model of the hub.
    if not strange.exists() and strange.parent != Path() and _holds_models(strange.parent):
        raise RunError(
            f"{strange} does not exist, and {strange.parent} holds runs.",
            "Check the name, or name a model.",
        )
    if strange.is_dir() and not _is_model(strange):
        raise RunError(
            f"{strange} holds neither a run nor a model.",
            "Name a model, or a directory of finished runs such as reports/MODEL.",
        )
    return None


def refuse_measuring(asked: Asked) -> None:
    """Raise an OptionError where finished runs come with an option that says how a model is measured.

    Raises:
        OptionError: if there is such an option.
    """
    for flag, group, _ in asked.given:
        if group in (LoadOptions, TaskOptions, TextOptions, BatchOptions):
            raise OptionError(
                f"{flag} says how a model is measured; finished runs are not measured.",
                "Leave it out, or name a model.",
            )


def _holds_models(path: Path) -> bool:
    """Whether runs lie in a directory, or in the directories of models in it."""
    return any(next(path.glob(f"{deep}[!.]*/{_MANIFEST}"), None) for deep in ("", "[!.]*/"))


def _is_model(path: Path) -> bool:
    return any((path / name).is_file() for name in _OF_A_MODEL) or any(path.glob("*.gguf"))


def _holds_runs(path: Path) -> bool:
    if (path / _MANIFEST).is_file():
        return True
    manifests = list(path.glob(f"[!.]*/{_MANIFEST}"))
    if not _is_model(path):
        return bool(manifests)
    # `pretrain` leaves the log of its training, which no report is made of, inside the model that it made.
    return any(map(_of_a_probe, manifests))


def _of_a_probe(manifest: Path) -> bool:
    from depthprobe.results.manifest import read_manifest

    try:
        return read_manifest(manifest).get("probe") in PROBES
    except DepthprobeError:
        return True  # damaged: reading the run says what is wrong with it
