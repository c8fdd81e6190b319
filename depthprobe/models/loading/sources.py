"""What a model name refers to, and its files on the hub or on disk.

A name is resolved before anything large is fetched; files are fetched before anything is loaded. So the
hub's refusals and faults of files never mix in one error.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from depthprobe.builtin import PREFIX, embedded_models
from depthprobe.errors import DepthprobeError, LoadError, first_line
from depthprobe.machine.looks import Look, looks_of
from depthprobe.models.loading import gguf, hub, original_llama
from depthprobe.models.loading.local_files import check_files, may_not_be_read, names_in, read_json
from depthprobe.models.loading.options import split_adapter, split_name
from depthprobe.models.loading.weights import (
    WEIGHT_NAMES,
    check_whole,
    fingerprint_of,
    is_inside,
    named_weights,
    shard_names,
    unlisted_shards,
    weight_files,
    weight_names,
)
from depthprobe.redaction import is_text

FileLayout = Literal["transformers", "meta", "gguf"]

SMALL_FILES = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.vocab", "*.bpe"]
# What else in a directory may decide how a text becomes tokens and a prompt.
ALSO_DECISIVE = ["vocab*", "merges*", "*.codes", "*.spm", "*.tokenizer", "tokenizer.model.*"]
TEMPLATES = "additional_chat_templates/*.jinja"
CODE = ["*.py", "*/*.py", "*/*/*.py"]
# Where a model is that no file holds.
IN_MEMORY = "in memory"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ["adapter_model.safetensors", "adapter_model.bin"]
# An adapter may bring the tokenizer that it was trained with.
_OF_A_TOKENIZER = [
    "tokenizer*", "added_tokens.json", "special_tokens_map.json", "*.model", "*.tiktoken", "*.jinja",
    "vocab*", "merges*",
]  # fmt: skip
# What transformers' Trainer saves in the directory that it is given.
_CHECKPOINT = re.compile(r"checkpoint-\d+")


@dataclass(frozen=True)
class AdapterSource:
    """A PEFT adapter, known before its weights are read.

    ``location`` is a hub id or a directory; ``commit`` that of a hub id; ``fingerprint`` the SHA-256 over a
    directory's files; ``base`` the model that it names as the one it was trained on; ``looks`` how the files
    looked before they were hashed.
    """

    name: str
    location: str
    commit: str | None
    fingerprint: str | None
    base: str | None
    looks: Mapping[str, Look | None] = field(default_factory=dict, repr=False, compare=False)

    def describe(self) -> dict[str, str | None]:
        """Return what distinguishes this adapter from others, for a run's manifest."""
        return {
            "id": self.name,
            "commit": self.commit,
            "fingerprint": self.fingerprint,
            "base": self.base,
        }

    @property
    def identity(self) -> str:
        """Return what decides the numbers: a directory's contents rather than its path."""
        return (
            f"{Path(self.name).name if self.commit is None else self.name}@{self.commit or self.fingerprint}"
        )


@dataclass(frozen=True)
class ModelSource:
    """What a name refers to, known before any weight is read.

    ``location`` is what is loaded, a hub id or a directory; ``revision`` the resolved commit of a hub id;
    ``fingerprint`` the SHA-256 over names and contents of a directory's config and weight files;
    ``gguf_file`` the path of a GGUF file inside it; ``adapter`` what is merged into it; ``notes`` are
    sentences for the user; ``looks`` is how the files looked before they were hashed;
    ``tokenizer`` a hash of the tokenizer that came with a model in memory.
    """

    name: str
    location: str
    revision: str | None
    fingerprint: str | None
    layout: FileLayout
    notes: tuple[str, ...] = ()
    gguf_file: str | None = None
    adapter: AdapterSource | None = None
    tokenizer: str | None = None
    looks: Mapping[str, Look | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """Return what decides the numbers: a directory's contents, not its path, since it may move."""
        if self.fingerprint is not None:
            return self.gguf_file or Path(self.location).name
        return self.location if self.gguf_file is None else f"{self.location}:{self.gguf_file}"


def resolve_model(name: str, revision: str | None = None, adapter: str | None = None) -> ModelSource:
    """Return what a model name refers to: an embedded model, a directory, or a hub id at a commit.

    Args:
        name: ``builtin:NAME``, an existing directory or .gguf file, or NAMESPACE/NAME on the hub, also as
            ``NAMESPACE/NAME@REVISION`` and ``NAMESPACE/NAME:FILE.gguf``, each perhaps followed by
            ``+ADAPTER``; what exists on disk wins.
        revision: Branch, tag or commit of a hub id.
        adapter: Name of an adapter for it, as :func:`resolve_adapter` takes it.

    Raises:
        LoadError: If there is no such model, it may not be read, or it holds nothing that can be loaded.
        OptionError: If two different revisions or adapters are named.
        MachineError: If the hub cannot be reached and the cache does not help, or a file may not be read.
    """
    name, adapter = split_adapter(name, adapter)
    with told_of_names(name):
        source = _resolve(name, revision)
    return source if adapter is None else replace(source, adapter=resolve_adapter(adapter))


@contextlib.contextmanager
def told_of_names(name: str) -> Iterator[None]:
    """Explain, if a name cannot be that of a file, or leads where this user may not look, what is wrong.

    Raises:
        LoadError: If the name is longer than the system allows, or no text: transformers could not open it.
        MachineError: If a directory may not be looked into.
    """
    if not is_text(name):
        problem = f"{name!r} cannot be the name of a model: it is not valid UTF-8."
        raise LoadError(problem, "Rename the directory.")
    try:
        yield
    except PermissionError as error:
        raise may_not_be_read(name, Path(str(error.filename or name))) from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise
        problem = f"{name!r} cannot be the name of a model: {str(error.strerror).lower()}."
        raise LoadError(problem, "Give NAMESPACE/NAME as on the hub, or an existing directory.") from error
    except RuntimeError as error:  # from Path.expanduser
        if "home directory" not in str(error):
            raise
        raise LoadError(
            f"There is no directory {name!r}: {first_line(error, kind=False)}.", "Check the path."
        ) from error


def _resolve(name: str, revision: str | None) -> ModelSource:
    if name.startswith(PREFIX):
        return _resolve_directory(name, _embedded_directory(name), revision)
    path = Path(name).expanduser()
    if path.is_dir() and name:
        return _resolve_directory(name, path.resolve(), revision)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return _resolve_directory(name, path.resolve().parent, revision, path.name)
    if path.is_file():
        hint = "Name the directory that holds config.json and the weights."
        raise LoadError(f"{name} is a file, not a model.", hint)
    repo, file, revision = split_name(name, revision)
    path = Path(repo).expanduser()
    if path.is_dir():
        return _resolve_directory(repo if file is None else name, path.resolve(), revision, file)
    if _is_path(repo):
        hint = "Check the path, or give NAMESPACE/NAME for a model on the hub."
        raise LoadError(f"There is no directory {name!r}.", hint)
    return _resolve_hub(repo, file, revision)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~", "\\")) or name.endswith("/") or name.count("/") > 1


def resolve_adapter(name: str) -> AdapterSource:
    """Return the adapter that a name refers to: a directory, or a hub id, also as ``ID@REVISION``.

    Raises:
        LoadError: If there is no such adapter, or what is there is not an adapter.
        MachineError: If the hub cannot be reached and the cache does not help.
    """
    commit = None
    with told_of_names(name):
        path = Path(name).expanduser()
        is_directory = path.is_dir() and bool(name)
    if is_directory:
        config = path / ADAPTER_CONFIG if ADAPTER_CONFIG in names_in(name, path) else None
        location = str(path.resolve())
    elif _is_path(name):
        raise LoadError(f"There is no directory {name!r}.", "Check the path of --adapter.")
    else:
        location, _, revision = split_name(name, None)
        config = hub.fetch_file(location, ADAPTER_CONFIG, revision)
        commit = None if config is None else config.parent.name
    if config is None:
        problem = f"{name} has no {ADAPTER_CONFIG}, so it is not an adapter."
        raise LoadError(problem, "Give --adapter what peft's save_pretrained wrote.")
    base = _base_of(name, config)
    if commit is not None:
        return AdapterSource(location, location, commit, None, base)
    tokenizer = _files_there(path, _OF_A_TOKENIZER)
    check_files(name, tokenizer)
    files = [config, *check_adapter_weights(name, path), *tokenizer]
    looks = looks_of(files)
    return AdapterSource(name, location, None, fingerprint_of(files), base, looks)


def check_adapter_weights(name: str, folder: Path) -> list[Path]:
    """Return an adapter's weight files, each checked to be complete.

    Raises:
        LoadError: If there are none, or one is truncated or damaged.
    """
    files = [folder / file for file in ADAPTER_WEIGHTS if file in names_in(name, folder)]
    if not files:
        wanted = " or ".join(ADAPTER_WEIGHTS)
        raise LoadError(f"{name} has an {ADAPTER_CONFIG} but no weights.", f"Put {wanted} beside it.")
    for file in files:
        check_whole(name, file)
    return files


def fetch_adapter_files(adapter: AdapterSource) -> Path:
    """Return the directory with an adapter's configuration and, where it brings one, its tokenizer."""
    if adapter.commit is None:
        return Path(adapter.location)
    return hub.download(adapter.location, adapter.commit, [ADAPTER_CONFIG, *_OF_A_TOKENIZER])


def _base_of(name: str, config: Path) -> str | None:
    base = read_json(name, config).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


def _embedded_directory(name: str) -> Path:
    models = embedded_models()
    if name in models:
        return models[name]
    hint = f"There are: {', '.join(models)}." if models else "This installation has no embedded models."
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"Did you mean {near[0]}? {hint}" if near else hint
    raise LoadError(f"There is no embedded model {name}.", hint)


def _resolve_directory(
    name: str, folder: Path, revision: str | None, gguf_file: str | None = None
) -> ModelSource:
    if revision is not None:
        raise LoadError(f"{name} is a directory and has no revision {revision!r}.", "Leave out --revision.")
    names = names_in(name, folder)
    small = {*small_files(folder), *_files_there(folder, [*ALSO_DECISIVE, TEMPLATES])}
    check_files(name, small)  # before any of them is read
    has_weights = bool(named_weights(folder)) or any(file in names for pair in WEIGHT_NAMES for file in pair)
    if not has_weights:
        has_weights = bool(unlisted_shards(name, names))
    original = next((f for f in (folder, folder / "original") if original_llama.is_original_layout(f)), None)
    ggufs = gguf.model_files(names)
    if gguf_file is not None or (ggufs and not has_weights and original is None):
        file = gguf.choose_file(name, ggufs, gguf_file)
        files, note = [folder / file, *small], gguf.conversion_note(name)
        looks = looks_of(files)
        mark = fingerprint_of(files, folder)
        return ModelSource(name, str(folder), None, mark, "gguf", (note,), gguf_file=file, looks=looks)
    if ADAPTER_CONFIG in names and not has_weights:
        raise _adapter_named_as_model(name, folder / ADAPTER_CONFIG)
    layout: FileLayout = "transformers"
    notes: tuple[str, ...] = ()
    if "config.json" in names:
        weights = weight_files(name, folder)
        indexes = [folder / index for _, index in weight_names(folder) if (folder / index).is_file()]
        # Configuration and tokenizer files too: how a text is tokenised decides the numbers as well.
        code = _files_there(folder, CODE if _has_code(folder) else CODE[:1])
        check_files(name, code)
        small |= code
        files = [*weights, *indexes, *(small - set(indexes))]
    else:
        if original is None:
            raise _nothing_to_load(name, names, on_disk=True)
        folder, layout = original, "meta"
        files = [
            *original_llama.weight_files(folder),
            folder / "params.json",
            *folder.glob("tokenizer.model"),
        ]
        notes = (f"{name} is in Meta's original layout; converting it in memory.",)
    looks = looks_of(files)
    return ModelSource(name, str(folder), None, fingerprint_of(files, folder), layout, notes, looks=looks)


def _has_code(folder: Path) -> bool:
    """Whether a configuration in a directory names Python files that come with the model."""
    configs = (folder / name for name in ("config.json", "tokenizer_config.json"))
    return any(b'"auto_map"' in config.read_bytes() for config in configs if config.is_file())


def _resolve_hub(repo: str, file: str | None, revision: str | None) -> ModelSource:
    if file is not None:
        return _resolve_hub_gguf(f"{repo}:{file}", repo, file, revision)
    config = hub.fetch_file(repo, "config.json", revision)
    if config is not None:
        commit = config.parent.name
        if any(hub.is_cached(repo, name, commit) for pair in WEIGHT_NAMES for name in pair):
            return ModelSource(repo, repo, commit, None, "transformers")
        # Some repositories of GGUF files and of adapters hold the configuration of the model as well.
        files = hub.list_files(repo, commit) or hub.cached_files(repo, commit)
        if not any(name in files for pair in WEIGHT_NAMES for name in pair):
            if ADAPTER_CONFIG in files:
                raise _adapter_named_as_model(repo, hub.fetch_file(repo, ADAPTER_CONFIG, commit))
            if gguf.model_files(files):
                return _resolve_hub_gguf(repo, repo, None, commit, files)
        return ModelSource(repo, repo, commit, None, "transformers")
    for subfolder in ("", "original/"):
        params = hub.fetch_file(repo, f"{subfolder}params.json", revision)
        if params is None:
            continue
        # The twin's revisions are its own: whoever names a revision gets just this repository.
        twin = _resolve_twin(f"{repo}-hf") if revision is None and not subfolder else None
        if twin is not None:
            note = f"{repo} is in Meta's original layout; loading its twin {twin.location}."
            return replace(twin, name=repo, notes=(note,))
        commit = (params.parent.parent if subfolder else params.parent).name
        note = f"{repo} is in Meta's original layout; converting it in memory."
        return ModelSource(repo, repo, commit, None, "meta", (note,))
    adapter = hub.fetch_file(repo, ADAPTER_CONFIG, revision)
    if adapter is not None:
        raise _adapter_named_as_model(repo, adapter)
    files = hub.list_files(repo, revision) or hub.cached_files(repo, revision)
    if gguf.model_files(files):
        return _resolve_hub_gguf(repo, repo, None, revision, files)
    raise _nothing_to_load(repo, files)


def _resolve_hub_gguf(
    name: str, repo: str, file: str | None, revision: str | None, files: list[str] | None = None
) -> ModelSource:
    """Return the GGUF file of a repository that is meant; fetched at once, as it holds all there is."""
    files = files or hub.list_files(repo, revision)
    # Where the hub cannot give a list, a file that was named may still be in the cache.
    chosen = file if file and not files else gguf.choose_file(name, gguf.model_files(files), file)
    gguf.require_package(name)
    path = hub.fetch_file(repo, chosen, revision)
    if path is None:
        raise LoadError(f"{repo} has no file {chosen}.", "Name one of the GGUF files on its page.")
    commit = path.parents[chosen.count("/")].name
    notes = (gguf.conversion_note(name),)
    return ModelSource(name, repo, commit, None, "gguf", notes, gguf_file=chosen)


def _resolve_twin(name: str) -> ModelSource | None:
    """Return the repository in transformers' layout that goes with an original one, None if out of reach."""
    try:
        config = hub.fetch_file(name, "config.json", None)
    except DepthprobeError:  # absent, gated for this user, or not in the cache: the original will do
        return None
    return ModelSource(name, name, config.parent.name, None, "transformers") if config is not None else None


def _adapter_named_as_model(name: str, config: Path | None) -> LoadError:
    base = None if config is None else _base_of(name, config)
    if base is None:
        hint = f"Name the model it was trained on and add --adapter {name}."
        return LoadError(f"{name} is an adapter, not a model.", hint)
    return LoadError(
        f"{name} is an adapter of {base}, not a model.", f"Type {base} --adapter {name} instead."
    )


def _nothing_to_load(name: str, files: list[str], on_disk: bool = False) -> LoadError:
    if "params.json" in files:
        hint = "Complete the download of Meta's original files, or name a model in transformers' layout."
        return LoadError(f"{name} has params.json but no consolidated.*.pth beside it.", hint)
    problem = f"{name} has no config.json, so it is not a model that transformers can load."
    saved = sorted((each for each in files if _CHECKPOINT.fullmatch(each)), key=lambda each: int(each[11:]))
    if saved and on_disk:
        which = ", ".join(saved[:3] + (["..."] if len(saved) > 6 else saved[3:-3]) + saved[3:][-3:])
        return LoadError(
            f"{name} holds no model itself, but checkpoints of one: {which}.",
            f"Name one of them, such as {Path(name) / saved[-1]}.",
        )
    if any(fnmatch.fnmatch(each, pattern) for each in files for pattern in ("tokenizer.*", "*.tiktoken")):
        problem = f"{name} holds a tokenizer but no model: it has no config.json."
    return LoadError(
        problem, "Name a model with config.json and *.safetensors, or with Meta's original files."
    )


def small_files(folder: Path) -> list[Path]:
    """Return the files of a model's directory that hold its configuration and tokenizer."""
    return sorted({path for pattern in SMALL_FILES for path in folder.glob(pattern)})


def _files_there(folder: Path, patterns: list[str]) -> set[Path]:
    """Return what matches patterns in a directory; a directory may have such a name, and is left out."""
    return {path for pattern in patterns for path in folder.glob(pattern) if not path.is_dir()}


def original_folder(source: ModelSource, weights: bool = True) -> Path:
    """Return the local directory with Meta's original files, the tensors only with ``weights``."""
    if source.revision is None:
        return Path(source.location)
    wanted = ["params.json", "tokenizer.model", *(["consolidated.*.pth"] if weights else [])]
    folder = hub.download(
        source.location, source.revision, wanted + [f"original/{pattern}" for pattern in wanted]
    )
    original = next((f for f in (folder, folder / "original") if (f / "params.json").is_file()), None)
    if original is None or (weights and not original_llama.is_original_layout(original)):
        raise _nothing_to_load(source.location, ["params.json"])
    return original


def fetch_small_files(source: ModelSource, with_code: bool) -> Path:
    """Return the local directory with configuration and tokenizer, and the model's own code if wanted."""
    if source.revision is None:
        return Path(source.location)
    if source.gguf_file is not None:  # one file holds everything, and is in the cache
        return hub.download(source.location, source.revision, [source.gguf_file])
    # Subfolders hold other formats and training states; only code is wanted from there.
    wanted = [*SMALL_FILES, "*.py"] if with_code else SMALL_FILES
    # Of configurations and tokenizers there; the templates that a model names stand in a folder of their own.
    ignored = [f"*/{pattern}" for pattern in SMALL_FILES if pattern != "*.jinja"]
    return hub.download(source.location, source.revision, wanted, ignore=ignored)


def fetch_weights(source: ModelSource, folder: Path) -> None:
    """Fetch exactly the weight files that will be loaded, into the directory of the small files."""
    if source.revision is None:
        return
    for single, index in weight_names(folder):
        if index and not (folder / index).is_file() and "/" in index:
            hub.fetch_file(source.location, index, source.revision)
        if (folder / index).is_file():
            shards = shard_names(source.name, folder / index)
            outside = next((file for file in shards if not is_inside(file)), None)
            if outside is not None:  # where it would be a file of this machine
                problem = f"{index} of {source.name} names a file outside the repository: {outside!r}."
                raise LoadError(problem, "Ask its author for an index of the repository's own files.")
            hub.download(source.location, source.revision, shards)
            return
        if single and hub.fetch_file(source.location, single, source.revision) is not None:
            return
    shards = unlisted_shards(source.name, hub.list_files(source.location, source.revision))
    if shards:
        hub.download(source.location, source.revision, shards)
