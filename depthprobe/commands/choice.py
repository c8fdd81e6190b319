"""Which model is meant when the command line leaves it open."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from depthprobe.builtin import DEFAULT
from depthprobe.errors import OptionError

VARIABLE = "DEPTHPROBE_MODEL"
SETTINGS = Path("depthprobe.toml")


def choose_model(model: str | None = None, named: str | None = None) -> tuple[str, str]:
    """Return the model's name and why it was chosen.

    The argument, then ``--model``, then the variable DEPTHPROBE_MODEL, then ``model`` in
    ``depthprobe.toml`` in the working directory, then the embedded model.

    Raises:
        OptionError: if a name is empty, argument and option name two models, or depthprobe.toml cannot be
            used.
    """
    for name in (model, named):
        if name is not None and not name.strip():
            raise OptionError("The name of the model is empty.", "Give one, or leave it out.")
    if model and named and model != named:
        raise OptionError(f"Two models are given: {model} and --model {named}.", "Give one.")
    if model:
        return model, "as named"
    if named:
        return named, "from --model"
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE], f"from {VARIABLE}"
    if SETTINGS.is_file():
        try:
            set_there = tomllib.loads(SETTINGS.read_text(encoding="utf-8")).get("model")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise OptionError(
                f"{SETTINGS} cannot be read: {error}.", "Correct it, or name a MODEL."
            ) from error
        if set_there is not None and not (isinstance(set_there, str) and set_there):
            raise OptionError(
                f"model in {SETTINGS} must be a name, got {set_there!r}.", 'Write model = "ID".'
            )
        if set_there:
            return set_there, f"from {SETTINGS}"
    return DEFAULT, f"embedded; no MODEL, --model, {VARIABLE} or {SETTINGS} names another"
