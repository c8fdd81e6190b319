"""A run that is already there, recognised by cheap evidence: without torch, pandas, lm-eval or the hub.

Content decides which run it is, and comparing content is the expensive way (``results.places.reserve``),
which has the last word. A finished command leaves in the run what was asked, how the files behind it looked
(size, times and inode of each; those that the request names, and all that the expensive way has read),
versions, devices and environment. The same request, with all of that unchanged, can only end in the same run,
so what was printed then is printed again. Whatever is not certain goes the expensive way.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import depthprobe
from depthprobe.builtin import PREFIX, embedded_models
from depthprobe.errors import DepthprobeError
from depthprobe.evaluation.harness.options import DECISIVE_LIBRARIES
from depthprobe.machine.here import exists_here
from depthprobe.machine.launcher import launched
from depthprobe.machine.looks import (
    Look,
    files_below,
    hub_cache,
    is_offline,
    looks_of,
    still_look_so,
)
from depthprobe.models.loading.options import split_name
from depthprobe.pipeline.request import Request
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import MANIFEST_NAME, canonical
from depthprobe.results.naming import checked_name, run_directory_name

FILE = ".again.json"

# A directory with more files is neither a model nor a text, and looking at all of them would take long.
MOST_FILES = 5000

_DEVICES = ("nvidia[0-9]*", "kfd", "dri/renderD*")
# Variables that choose devices, caches, hubs, modules or kernels; which of them matter, the expensive way
# knows.
_DECISIVE_VARIABLES = re.compile(
    "(CUDA|CUBLAS|NVIDIA|HIP|ROCR|ROCM|HSA|TORCH|PYTORCH|ATEN|OMP|MKL|ONEDNN|DNNL|OPENBLAS|HF|HUGGINGFACE|"
    "TRANSFORMERS|DATASETS|LMEVAL|LM_EVAL|TIKTOKEN|USE)_[A-Z0-9_]*|PYTHON[A-Z]*|XDG_CACHE_HOME|HOME"
)


@dataclass(frozen=True)
class Shown:
    """A run as it was shown: its directory, what was printed, the files listed, and a sentence of caution."""

    directory: Path
    printed: str
    files: tuple[Path, ...]
    note: str = ""


class _UnknownError(Exception):
    """Something behind a request that only the expensive way can find out."""


def mark_of(
    request: Request, drawing: Any = None, environment: Mapping[str, str] | None = None
) -> str | None:
    """Return a hash of a request and of all that decides it; None if that cannot be known cheaply.

    Args:
        request: What is asked for.
        drawing: Options of the figure other than its formats, as JSON values.
        environment: The variables that may decide it; None for those of now.
    """
    if launched().count > 1:
        return None
    options = [request.asked.settings(), list(request.asked.wanted_files())]
    asked = asdict(request) | {"options": options}
    # The run's place is looked at anyway, and what leaves the numbers alone does not tell runs apart.
    for name in ("output", "name", "batch_size"):
        del asked[name]
    try:
        known = {
            "asked": asked,
            "drawing": drawing,
            "model": _of_model(request.model, request.load.revision),
            "adapter": None if request.load.adapter is None else _of_model(request.load.adapter, None),
            "text": _of_text(request),
            "code": _of_code(request),
            "files": [_files(Path(name)) for name in request.asked.files()],
            "versions": {name: importlib.metadata.version(name) for name in DECISIVE_LIBRARIES},
            "program": [depthprobe.__version__, platform.python_version()],
            "machine": [*_machine(), decisive_environment() if environment is None else environment],
            "directory": os.getcwd(),  # what tasks and cards name may be seen from it
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
    except (
        _UnknownError,
        OSError,
        RuntimeError,
        ValueError,
        DepthprobeError,
        importlib.metadata.PackageNotFoundError,
    ):
        return None


def _of_model(name: str, revision: str | None) -> Any:
    """Return how the files of a model or adapter look; for the hub, the commit if it cannot have moved."""
    if name.startswith(PREFIX):
        return _files(embedded_models()[name]) if name in embedded_models() else _unknown()
    path = Path(name).expanduser()
    if path.is_file():  # a GGUF file; small files beside it count too
        return _looks(file for file in path.resolve().parent.iterdir() if file.is_file())
    if path.is_dir():
        return _files(path)
    repo, _, revision = split_name(name, revision)
    if exists_here(repo):
        return _unknown()
    if re.fullmatch("[0-9a-f]{40}", revision or ""):
        return revision
    if not is_offline():
        return _unknown()  # the hub may have moved on
    return (hub_cache() / f"models--{repo.replace('/', '--')}" / "refs" / (revision or "main")).read_text()


def _of_code(request: Request) -> Any:
    """Return that a model's own code comes with it; code from another repository may have moved on."""
    if not request.load.trust_remote_code:
        return None
    folder = Path(request.model).expanduser()
    configs = [folder / name for name in ("config.json", "tokenizer_config.json")]
    apart = any(b"--" in config.read_bytes() for config in configs if config.is_file())
    return "its own" if configs[0].is_file() and not apart else _unknown()


def _of_text(request: Request) -> Any:
    """Return how the files of a local text look; what the hub has is looked at when all else is equal."""
    return _looks(request.text.files()) if request.text is not None and request.text.is_local else None


def _machine() -> list[Any]:
    """Return what ``--device auto`` and the names of devices depend on, as far as it shows without torch."""
    devices = sorted(str(path) for pattern in _DEVICES for path in Path("/dev").glob(pattern))
    return [platform.system(), platform.machine(), platform.release(), devices]


def decisive_environment() -> dict[str, str]:
    """Return the variables of the environment that may decide a number."""
    return {name: value for name, value in os.environ.items() if _DECISIVE_VARIABLES.fullmatch(name)}


def _files(path: Path) -> Any:
    return _looks(files_below(path))


def _looks(files: Iterable[Path]) -> Any:
    some = list(islice(files, MOST_FILES + 1))
    return _unknown() if len(some) > MOST_FILES else looks_of(some)


def _unknown() -> Any:
    raise _UnknownError


@dataclass(frozen=True)
class Again:
    """A request with the figures wanted of it, and its mark, taken before anything was measured.

    ``environment`` is as it was then, since libraries change it when they are imported. ``rests_on`` is
    filled by the expensive way with the files that it reads, as they looked.
    """

    request: Request
    formats: tuple[str, ...]
    drawing: Any
    mark: str | None
    environment: Mapping[str, str]
    rests_on: dict[str, Look | None] = field(default_factory=dict)

    @classmethod
    def of(cls, request: Request, formats: Sequence[str], drawing: Any = None) -> Again:
        """Return the request with its mark."""
        now = decisive_environment()
        return cls(request, tuple(formats), drawing, mark_of(request, drawing, now), now)

    def find(self) -> Shown | None:
        """Return the finished run that was shown for an equal mark, if whole and drawn in these formats."""
        if self.mark is None:
            return None
        wanted, usual = self.request, self.request.usual_name
        parent = wanted.output / run_directory_name(wanted.model)
        names = [usual, f"{usual}-*"] if wanted.name is None else [checked_name(wanted.name)]
        for directory in (path for name in names for path in sorted(parent.glob(name))):
            # The file may be missing, damaged, or written by another version.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                shown = _shown(directory, self.mark, self.formats)
                if shown is not None:
                    return shown
        return None

    def remember(self, directory: Path, printed: str, figures: Sequence[Path]) -> None:
        """Leave in a run what :meth:`find` needs; a run that cannot be written stays as it is.

        Args:
            directory: The run's directory.
            printed: What was printed about it.
            figures: The files that were drawn.
        """
        if self.mark is None or mark_of(self.request, self.drawing, self.environment) != self.mark:
            return  # something changed while it was measured
        if still_look_so(self.rests_on) != (True, []):
            return
        with contextlib.suppress(OSError, DepthprobeError):
            known = {
                "mark": self.mark,
                "manifest": _hash(directory / MANIFEST_NAME),
                "figures": {figure.name: _hash(figure) for figure in figures},
                "printed": printed,
                "rests_on": self.rests_on,
            }
            replace_file(directory / FILE, (canonical(known) + "\n").encode("utf-8"))


def _shown(directory: Path, mark: str, formats: Sequence[str]) -> Shown | None:
    """Return the run in a directory if it was shown for this mark and its files are unchanged."""
    known = json.loads((directory / FILE).read_text(encoding="utf-8"))
    if known["mark"] != mark or known["manifest"] != _hash(directory / MANIFEST_NAME):
        return None
    unchanged, silent = still_look_so(known["rests_on"])
    if not unchanged:
        return None
    manifest = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
    tables = [directory / f"{stem}.csv" for stem in manifest["columns"]]
    if any(_hash(table) != manifest["files"][table.stem]["sha256"] for table in tables):
        return None
    # If a figure is missing, or was drawn over, all are drawn anew.
    drawn = known["figures"]
    figures = [directory / name for kind in formats for name in drawn if name.endswith(f".{kind}")]
    if {figure.suffix[1:] for figure in figures} != set(formats):
        return None
    if any(_hash(figure) != drawn[figure.name] for figure in figures):
        return None
    files = (*tables, *figures, directory / MANIFEST_NAME)
    names = ", ".join(silent)
    note = f"The hub does not answer, so it is not known whether {names} has changed since." if silent else ""
    return Shown(directory, known["printed"], files, note)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
