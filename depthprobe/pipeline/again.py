"""A run that is already there, recognised by cheap evidence: without torch, pandas, lm-eval or the hub.

Content decides which run it is, and comparing content is the expensive way (``results.places.reserve``),
which has the last word. A finished command leaves in the run what was asked, how the files behind it looked
(size, times and inode of each), versions and devices. The same request, with all of that unchanged, can only
end in the same run, so what was printed then is printed again. Whatever is not certain goes the expensive
way.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import depthprobe
from depthprobe.builtin import PREFIX, embedded_models
from depthprobe.errors import DepthprobeError
from depthprobe.evaluation.harness.options import DECISIVE_LIBRARIES
from depthprobe.machine.launcher import launched
from depthprobe.models.loading.options import split_name
from depthprobe.pipeline.request import Request
from depthprobe.results.files import replace_file
from depthprobe.results.manifest import MANIFEST_NAME, canonical
from depthprobe.results.naming import checked_name, run_directory_name

FILE = ".again.json"

# A directory with more files is neither a model nor a text, and looking at all of them would take long.
MOST_FILES = 5000

_DEVICES = ("nvidia[0-9]*", "kfd", "dri/renderD*")
_CHOOSES_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Shown:
    """A run as it was shown: its directory, what was printed, and the files that were listed."""

    directory: Path
    printed: str
    files: tuple[Path, ...]


class _UnknownError(Exception):
    """Something behind a request that only the expensive way can find out."""


def mark_of(request: Request, drawing: Any = None) -> str | None:
    """Return a hash of a request and of all that decides it; None if that cannot be known cheaply.

    Args:
        request: What is asked for.
        drawing: Options of the figure other than its formats, as JSON values.
    """
    if launched().count > 1:
        return None
    asked = asdict(request) | {"options": request.asked.settings()}
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
            "files": [_files(Path(name)) for name in request.asked.files()],
            "versions": {name: importlib.metadata.version(name) for name in DECISIVE_LIBRARIES},
            "program": [depthprobe.__version__, platform.python_version()],
            "machine": _machine(),
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
    except (_UnknownError, OSError, DepthprobeError, importlib.metadata.PackageNotFoundError):
        return None


def _of_model(name: str, revision: str | None) -> Any:
    """Return how the files of a model or adapter look; for the hub, the commit if it cannot have moved."""
    if name.startswith(PREFIX):
        return _files(embedded_models()[name]) if name in embedded_models() else _unknown()
    path = Path(name).expanduser()
    if path.is_file():  # a GGUF file; small files beside it count too
        return _looks(sorted(file for file in path.resolve().parent.iterdir() if file.is_file()))
    if path.is_dir():
        return _files(path)
    repo, _, revision = split_name(name, revision)
    if Path(repo).expanduser().exists():
        return _unknown()
    if re.fullmatch("[0-9a-f]{40}", revision or ""):
        return revision
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return _unknown()  # the hub may have moved on
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    return (cache / f"models--{repo.replace('/', '--')}" / "refs" / (revision or "main")).read_text()


def _of_text(request: Request) -> Any:
    """Return how the files of a local text look; data sets of the hub are known by their names alone."""
    return _files(Path(request.text.dataset)) if request.text is not None and request.text.is_local else None


def _machine() -> list[Any]:
    """Return what ``--device auto`` and the names of devices depend on, as far as it shows without torch."""
    devices = sorted(str(path) for pattern in _DEVICES for path in Path("/dev").glob(pattern))
    chosen = [os.environ.get(name) for name in _CHOOSES_DEVICES]
    return [platform.system(), platform.machine(), platform.release(), devices, chosen]


def _files(path: Path) -> Any:
    return _looks(sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path])


def _looks(files: Sequence[Path]) -> Any:
    if len(files) > MOST_FILES:
        return _unknown()
    looks = [(file.resolve(), file.stat()) for file in files]
    # The inode's change time cannot be set, so it gives away a file rewritten in place.
    return [[str(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for file, s in looks]


def _unknown() -> Any:
    raise _UnknownError


@dataclass(frozen=True)
class Again:
    """A request with the figures wanted of it, and its mark, taken before anything was measured."""

    request: Request
    formats: tuple[str, ...]
    drawing: Any
    mark: str | None

    @classmethod
    def of(cls, request: Request, formats: Sequence[str], drawing: Any = None) -> Again:
        """Return the request with its mark."""
        return cls(request, tuple(formats), drawing, mark_of(request, drawing))

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
        if self.mark is None or mark_of(self.request, self.drawing) != self.mark:
            return  # something changed while it was measured
        with contextlib.suppress(OSError, DepthprobeError):
            known = {
                "mark": self.mark,
                "manifest": _hash(directory / MANIFEST_NAME),
                "figures": {figure.name: _hash(figure) for figure in figures},
                "printed": printed,
            }
            replace_file(directory / FILE, (canonical(known) + "\n").encode("utf-8"))


def _shown(directory: Path, mark: str, formats: Sequence[str]) -> Shown | None:
    """Return the run in a directory if it was shown for this mark and its files are unchanged."""
    known = json.loads((directory / FILE).read_text(encoding="utf-8"))
    if known["mark"] != mark or known["manifest"] != _hash(directory / MANIFEST_NAME):
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
    return Shown(directory, known["printed"], (*tables, *figures, directory / MANIFEST_NAME))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
