"""What a training is refused for before it begins: its size, and what its directory already holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers.integrations import get_reporting_integration_callbacks

from depthprobe.errors import OptionError, RunError
from depthprobe.results.manifest import read_manifest
from depthprobe.training.data import TrainingData
from depthprobe.training.recipe import Recipe

RECIPE = "recipe.json"
DATA_HASH = "data_sha256"


def refuse_unknown_reporter(report_to: str) -> None:
    """Raise if the Trainer cannot report there: by itself it would say so only after reading all data."""
    if report_to == "none":
        return
    try:
        for callback in get_reporting_integration_callbacks([report_to]):
            callback()
    except (RuntimeError, ImportError, ValueError) as error:
        raise OptionError(f"--report-to {report_to} is not available: {error}") from error


def refuse_too_large(recipe: Recipe, device: torch.device) -> None:
    """Raise if weights, gradients and Adam's two means cannot fit, all of them in float32."""
    if device.type == "cuda":
        room, where = torch.cuda.get_device_properties(device).total_memory, "the GPU"
    else:
        room, where = psutil.virtual_memory().total, "this machine"
    needed = 16 * recipe.parameters()
    if needed > room:
        raise OptionError(
            f"A model of --hidden {recipe.hidden}, --layers {recipe.layers} and --vocab {recipe.vocab_size} "
            f"has {recipe.parameters():.3g} parameters: training takes {needed / 2**30:,.0f} GiB at least, "
            f"and {where} has {room / 2**30:,.0f}.",
            "Make it smaller.",
        )


def refuse_other_run(recipe: Recipe, output: Path) -> None:
    """Raise if a directory holds another run, or a model that was not trained here."""
    known = read_json(output / RECIPE)
    if known:
        wanted = asdict(recipe)
        other = [name for name in wanted if known.get(name) != wanted[name]]
        if other:
            shown = ", ".join(f"{name} {known.get(name)} instead of {wanted[name]}" for name in other)
            raise RunError(f"{output} holds a run with {shown}.", "Choose another --output.")
    elif (output / "config.json").is_file():
        raise RunError(
            f"{output} holds a model that was not trained by this command.", "Choose another --output."
        )


def refuse_other_text(data: TrainingData, known: dict[str, Any], recipe: Recipe, output: Path) -> None:
    """Raise if a directory holds a run on another text: a file can change and keep its name."""
    if known.get(DATA_HASH, data.facts[DATA_HASH]) != data.facts[DATA_HASH]:
        raise RunError(
            f"{output} holds a run on another text: {recipe.dataset} has changed since it began.",
            "Choose another --output.",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run says; empty if there is none."""
    return read_manifest(path) if path.is_file() else {}
