"""GGUF files: which one is meant, and what its header says.

transformers reads them and unpacks their blocks into floating-point weights; their header is read with the
gguf package, which transformers needs as well.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

from depthprobe.errors import LoadError
from depthprobe.models.loading.gguf_reader import UNREADABLE, damaged

if TYPE_CHECKING:
    from gguf import GGUFReader

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself.

    ``architecture`` and ``file_type`` (the quantisation, such as ``Q4_0``) are llama.cpp's names,
    ``elements`` is the number of weights.
    """

    architecture: str
    file_type: str
    elements: int

    @property
    def stored_dtype(self) -> torch.dtype:
        """The file's own float type. Blocks have none: bfloat16, in which nearly all models were trained."""
        return FLOATS.get(self.file_type, torch.bfloat16)


def model_files(files: list[str]) -> list[str]:
    """Return which of some files are GGUF models; vision projectors and importance matrices are not."""
    other = re.compile(r"mmproj|imatrix", re.IGNORECASE)
    return sorted(
        file for file in files if file.lower().endswith(".gguf") and not other.search(file.rpartition("/")[2])
    )


def choose_file(name: str, files: list[str], wanted: str | None) -> str:
    """Return the one GGUF file that is meant.

    Args:
        name: What the user typed, for messages.
        files: The GGUF models there are, as :func:`model_files` gives them.
        wanted: The file the user named, if any.

    Raises:
        LoadError: If there is no such file, there are several to choose from, or it is only one part.
    """
    shown = ", ".join(files[:12]) + (f" and {len(files) - 12} more" if len(files) > 12 else "")
    repo = name if wanted is None else name.removesuffix(f":{wanted}")
    if wanted is not None and wanted not in files:
        there = f"There are: {shown}." if files else "It holds no GGUF files."
        raise LoadError(f"{repo} has no file {wanted}.", there)
    whole = [file for file in files if not re.search(r"-\d{5}-of-\d{5}\.gguf$", file, re.IGNORECASE)]
    if wanted is None and len(files) > 1 and whole:
        raise LoadError(f"{name} holds several GGUF files: {shown}.", f"Name one of them: {name}:{whole[0]}.")
    chosen = wanted or files[0]
    if chosen not in whole:
        raise LoadError(
            f"{chosen} of {repo} is one part of a GGUF model, but transformers reads only whole ones.",
            "Join the parts with `llama-gguf-split --merge`, or name a file that is in one piece.",
        )
    return chosen


def require_package(name: str) -> None:
    """Raise a LoadError if the gguf package is missing; asked before anything large is fetched."""
    if importlib.util.find_spec("gguf") is None:
        problem = f"{name} is a GGUF model, but the Python package gguf, which reads such files, is missing."
        raise LoadError(problem, "Install it: pip install gguf.")


def read_header(name: str, path: Path, reader: GGUFReader) -> Header:
    """Return what a GGUF file says about itself.

    Args:
        name: What the user typed, for messages.
        path: The file.
        reader: Its reader, from :mod:`depthprobe.models.loading.gguf_reader`.

    Raises:
        LoadError: If the file does not say what it contains.
    """
    import gguf

    try:
        architecture = bytes(_value(reader, "general.architecture")).decode("utf-8")
        weights: Counter[str] = Counter()
        for tensor in reader.tensors:
            weights[tensor.tensor_type.name] += int(tensor.n_elements)
        file_type = max(weights, key=weights.__getitem__)
        if "general.file_type" in reader.fields:
            known = {int(kind): kind.name for kind in gguf.LlamaFileType}
            stated = known.get(int(_value(reader, "general.file_type")[0]), "GUESSED")
            stated = re.sub("^(ALL|MOSTLY)_", "", stated)
            file_type = file_type if stated == "GUESSED" else stated
    except UNREADABLE as error:
        raise damaged(name, path) from error
    return Header(architecture, file_type, sum(weights.values()))


def _value(reader, key):  # type: ignore[no-untyped-def]
    field = reader.fields[key]
    return field.parts[field.data[0]]


def unknown_architecture(name: str, header: Header) -> LoadError:
    """Return the error for a GGUF file of an architecture that transformers' reader does not know."""
    return LoadError(
        f"{name} is a GGUF model of architecture {header.architecture!r}, which transformers "
        f"{transformers.__version__} does not read from GGUF.",
        "Name the model it was made from.",
    )


def unpacking_options() -> dict[str, object]:
    """Return the options that make transformers unpack the blocks; versions without them always do."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def conversion_note(name: str) -> str:
    """Return the sentence that says how to avoid unpacking every time."""
    return (
        f"Every command unpacks {name} anew: `depthprobe convert {shlex.quote(name)} DIR` does it once, and "
        "DIR then loads in a moment."
    )
