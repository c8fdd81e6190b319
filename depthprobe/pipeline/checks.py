"""What can be checked in milliseconds, before tasks, text, tokenizer or weights are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depthprobe.errors import DepthprobeError, MachineError, OptionError, RunError, TextError
from depthprobe.machine.processes import Processes
from depthprobe.models.loading import hub
from depthprobe.models.loading.local_files import read_json
from depthprobe.models.loading.options import LoadOptions
from depthprobe.models.loading.placement import choose_device, parse_dtype
from depthprobe.models.loading.sources import ModelSource
from depthprobe.results.naming import checked_name
from depthprobe.texts.options import TextOptions

# What config.json calls the number of blocks; other names are understood when transformers has read it.
_BLOCKS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def check_request(load: LoadOptions, output: Path, name: str | None) -> None:
    """Raise if device, dtype, output or name cannot be used, as far as it shows at once.

    Raises:
        OptionError: if a name is not valid.
        LoadError: if the device is not available, or cannot compute in that dtype.
        RunError: if the output is not a directory.
        MachineError: if it cannot be written.
    """
    parse_dtype(load.dtype, choose_device(load.device))
    if name is not None:
        checked_name(name)
    there = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    if not there.is_dir():
        problem = f"Results cannot be saved in {output}: {there} is not a directory."
        raise RunError(problem, "Choose a directory with --output.")
    # An existing output may hold finished runs, which are found even if nothing can be written there.
    if there != output.absolute() and not os.access(there, os.W_OK):
        raise MachineError(f"Cannot write in {there}: permission denied.", "Choose another --output.")


def declared_layers(source: ModelSource) -> int | None:
    """Return how many layers a model's configuration declares; None if that does not show at once."""
    if source.layout != "transformers":
        return None
    path = Path(source.location) / "config.json"
    if source.revision is not None:
        path = hub.fetch_file(source.location, "config.json", source.revision) or path
    try:
        config = read_json(source.name, path)
    except DepthprobeError:
        return None  # reported when the model is really read
    parts = [config, config.get("text_config")]
    found = [part[key] for part in parts if isinstance(part, dict) for key in _BLOCKS if key in part]
    if not found or not all(isinstance(each, int) and each == found[0] for each in found):
        return None
    return None if config.get("is_encoder_decoder") else found[0]


@contextmanager
def text_told(text: TextOptions, role: str, otherwise: str = "") -> Iterator[None]:
    """Explain, if a text that nobody named is not available, what it is for and what to do instead.

    Args:
        text: The text that the body opens or reads.
        role: What it is, as in ``the text that prune-sweep ...``.
        otherwise: What may be done instead of naming another one.
    """
    try:
        yield
    except (MachineError, TextError) as error:
        if text.named:
            raise
        raise type(error)(
            f"{error.problem} You did not name that text: it is {role} by default.",
            "Name another with --dataset: builtin, which every Python has on disk, or a file of your own"
            + (f"; {otherwise}." if otherwise else "."),
        ) from error


def refuse_splitting(load: LoadOptions, processes: Processes) -> None:
    """Raise an OptionError if several processes would each split a model over all GPUs."""
    if load.device_map is not None and processes.count > 1:
        raise OptionError(
            "--device-map auto gives all GPUs to one model, but several processes each load a model.",
            "Start a single process, or leave out --device-map.",
        )
