"""How transformers finds a checkpoint's weights where their files are not as it expects them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthprobe.models.loading.checkpoint import errors_told
from depthprobe.models.loading.weights import names_of_weights, weight_names, wrappers_in, write_index


@dataclass(frozen=True)
class Stored:
    """Where the weights are for transformers, the options it needs to read them, and notes for the user."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def stored_weights(name: str, folder: Path, files: list[Path], spare: Path) -> Stored:
    """Return how transformers reads some weights.

    Shards without their index are read through a directory of links with an index of our own. What wrapping
    a model for training put into the names of its weights is taken out of them.

    Args:
        name: The model's name.
        folder: The directory that holds them.
        files: Its weight files, as :func:`~depthprobe.models.loading.weights.weight_files` gives them.
        spare: An empty directory that lives as long as the model.

    Raises:
        LoadError: If a file cannot be read.
    """
    notes: list[str] = []
    with errors_told(name, "weights"):
        wrappers = wrappers_in(names_of_weights(files[0]))
        # Under a name that transformers looks for, or that config.json gives.
        if not any((folder / file).is_file() for pair in weight_names(folder) for file in pair):
            place = spare / "with-index"
            place.mkdir()
            for path in folder.iterdir():
                (place / path.name).symlink_to(path.resolve())
            write_index(files, place)
            folder = place
            notes.append(f"The {len(files)} weight files of {name} have no index; all of them are read.")
    options: dict[str, Any] = {}
    if wrappers:
        notes.append(
            f"The names of the weights of {name} hold {' and '.join(wrappers)} from the training, which is "
            "taken out of them."
        )
        # Only at the beginning is it a wrapper: models have parts called module, too.
        inside = [re.escape(each) for each in wrappers if each != "module."]
        options["key_mapping"] = {f"^(?:{'|'.join(map(re.escape, wrappers))})+": ""} | dict.fromkeys(
            inside, ""
        )
    return Stored(folder, options, tuple(notes))
