"""Where a task comes from: its YAML files, the sources of its functions, the files of its documents."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.task import Task

from depthprobe.evaluation.harness.own_sources import is_own, sources_behind, variables_in
from depthprobe.machine.local_data import content_hash, local_files
from depthprobe.machine.looks import ELSEWHERE, HUB, VARIABLE

# The YAML file, as lm-eval notes it in the metadata of a task or group.
CONFIG_SOURCE = "config_source"

# What the datasets library takes for a format of files rather than for a data set of the hub.
LOADERS = set(
    "arrow audiofolder cache conll csv eval fasta fastq genbank generator harbor hdf5 iceberg imagefolder "
    "json lance meshfolder mmcif niftifolder pandas parquet pdb pdffolder spark sql text tsfile videofolder "
    "vortex webdataset xml".split()
)

_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")


@dataclass
class Sources:
    """The files that functions come from, each read once, and the variables that they may read."""

    files: set[Path] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    known: dict[Path, str] = field(default_factory=dict)

    def hash_of(self, file: Path) -> str:
        """Return what tells a Python file, with all of one's own that it uses, from others."""
        if file not in self.known:
            behind = sources_behind(file)
            named = {name for each in behind for name in variables_in(each)}
            self.files.update(behind)
            self.variables.update(f"{VARIABLE}{name}" for name in named)
            values = {name: os.environ[name] for name in sorted(named) if name in os.environ}
            self.known[file] = content_hash(file.resolve().parent, behind) + json.dumps(values)
        return self.known[file]

    def plain(self, value: Any) -> Any:
        """Return a value as JSON that is equal for equal content, functions by name and sources."""
        if value is None or isinstance(value, str | int | float | bool):
            return value
        if isinstance(value, partial):
            return {"partial": self.plain([value.func, value.args, value.keywords])}
        if callable(value):
            return self._function(value)
        if is_dataclass(value):  # before dictionaries: lm-eval's TaskConfig is both
            return {each.name: self.plain(getattr(value, each.name)) for each in fields(value)}
        if isinstance(value, Mapping):
            return {str(key): self.plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(each) for each in value]
        if hasattr(value, "tolist"):  # an array
            return self.plain(value.tolist())
        if isinstance(value, set | frozenset):
            return sorted(map(repr, value))
        return _ADDRESS.sub("", repr(value))

    def _function(self, function: Any) -> dict[str, str]:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        kind = function if hasattr(function, "__qualname__") else type(function)
        try:
            file = Path(inspect.getsourcefile(kind) or inspect.getfile(kind))
        except (TypeError, OSError):
            file = Path()
        if file.is_file():
            return {"function": name} | ({"sha256": self.hash_of(file)} if is_own(file) else {})
        try:  # typed into a session
            return {"function": name, "source": inspect.getsource(kind)}
        except (TypeError, OSError):
            return {"function": name}


def own_functions(config: Any) -> str:
    """Return a hash of the functions in a task's configuration; empty if they are all installed ones."""
    sources = Sources()
    content = json.dumps(sources.plain(config), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest() if sources.files else ""


def data_behind(config: Any) -> list[Path]:
    """Return the files on this machine that a task's configuration takes its documents from."""
    kwargs = getattr(config, "dataset_kwargs", None) or {}
    return local_files(
        getattr(config, "dataset_path", None), kwargs.get("data_files"), kwargs.get("data_dir")
    )


def where_from(task: Task) -> list[Path | str]:
    """Return what a task's documents come from, as :mod:`depthprobe.machine.looks` names it."""
    config = getattr(task, "config", None)
    made = getattr(config, "custom_dataset", None)
    if callable(made):
        file = inspect.getsourcefile(made)
        return [f"{ELSEWHERE}{task.task_name}"] if file is None or is_own(Path(file)) else []
    found: list[Path | str] = [*arrow_files(task)]
    here = data_behind(config)
    if here:  # with their directories: a pattern may take in another file there
        return [*found, *here, *{file.parent for file in here}]
    path = str(task.DATASET_PATH or "").removeprefix("hf://datasets/")
    # A loader reads from anywhere else; without a name the task makes its documents itself.
    return [*found, f"{ELSEWHERE}{path}" if not path or path in LOADERS else f"{HUB}{path}"]


def arrow_files(task: Task) -> list[Path]:
    """Return the files in the cache of data sets that a task's documents are read from."""
    dataset = getattr(task, "dataset", None)
    parts = dataset.values() if isinstance(dataset, Mapping) else []
    return [Path(each["filename"]) for part in parts for each in getattr(part, "cache_files", None) or ()]


class _Plain(yaml.SafeLoader):
    """Reads a task's YAML without running anything."""


_Plain.add_multi_constructor("!", lambda loader, suffix, node: None)


def yaml_files(metadata: Any) -> Iterator[Path]:
    """Yield the YAML file that a configuration comes from, and those that it includes."""
    source = (metadata if isinstance(metadata, Mapping) else {}).get(CONFIG_SOURCE)
    waiting = [Path(source)] if isinstance(source, str) and Path(source).is_file() else []
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        yield file
        said = yaml.load(file.read_text(encoding="utf-8"), Loader=_Plain)  # noqa: S506
        includes = said.get("include") if isinstance(said, Mapping) else None
        listed = includes if isinstance(includes, list) else [includes]
        waiting += [(file.parent / each).resolve() for each in listed if isinstance(each, str)]
