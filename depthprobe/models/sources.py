"""What a model name stands for, and the files behind it on the hub or on the disk.

A name is settled before anything large is fetched; files are fetched before anything is loaded. So what the
hub refuses and what a file has wrong never mix in one error.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from depthprobe.builtin import PREFIX, embedded_models
from depthprobe.errors import DepthprobeError, LoadError
from depthprobe.models import meta_llama
from depthprobe.models.hub_errors import HUB_EXCEPTIONS, explain_hub_error

# (single file, index of shards) in the order transformers prefers them
WEIGHT_NAMES = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
]
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.vocab", "*.bpe"]


@dataclass(frozen=True)
class ModelSource:
    """What a name turned out to stand for, known before any weight is read.

    ``location`` is what is loaded, a hub id or a directory; ``revision`` the resolved commit of a hub id;
    ``fingerprint`` the SHA-256 over names and contents of a directory's config and weight files; ``notes``
    are sentences for the user.
    """

    name: str
    location: str
    revision: str | None
    fingerprint: str | None
    layout: Literal["transformers", "meta"]
    notes: tuple[str, ...] = ()


def resolve_model(name: str, revision: str | None = None) -> ModelSource:
    """Return what a model name stands for: an embedded model, a directory, or a hub id at a commit.

    Args:
        name: ``builtin:NAME``, an existing directory, or NAMESPACE/NAME on the hub; a directory wins.
        revision: Branch, tag or commit of a hub id.

    Raises:
        LoadError: If there is no such model, it may not be read, or it holds nothing that can be loaded.
        MachineError: If the hub cannot be reached and the cache does not help.
    """
    if name.startswith(PREFIX):
        return _resolve_directory(name, _embedded_directory(name), revision)
    path = Path(name).expanduser()
    if path.is_dir() and name:
        return _resolve_directory(name, path.resolve(), revision)
    if path.is_file():
        hint = "Name the directory that holds config.json and the weights."
        raise LoadError(f"{name} is a file, not a model.", hint)
    if name.startswith(("/", "./", "../", "~", "\\")) or name.endswith("/") or name.count("/") > 1:
        hint = "Check the path, or give NAMESPACE/NAME for a model on the hub."
        raise LoadError(f"There is no directory {name!r}.", hint)
    return _resolve_hub(name, revision)


def _embedded_directory(name: str) -> Path:
    models = embedded_models()
    if name in models:
        return models[name]
    hint = f"There are: {', '.join(models)}." if models else "This installation carries no embedded model."
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"Did you mean {near[0]}? {hint}" if near else hint
    raise LoadError(f"There is no embedded model {name}.", hint)


def _resolve_directory(name: str, folder: Path, revision: str | None) -> ModelSource:
    if revision is not None:
        raise LoadError(f"{name} is a directory and has no revision {revision!r}.", "Leave out --revision.")
    layout: Literal["transformers", "meta"] = "transformers"
    notes: tuple[str, ...] = ()
    if (folder / "config.json").is_file():
        indexes = [folder / index for _, index in WEIGHT_NAMES if (folder / index).is_file()]
        # Configuration and tokenizer files too: what a text turns into decides the numbers as well.
        small = {path for pattern in SMALL_FILES for path in folder.glob(pattern)} - set(indexes)
        files = [*weight_files(name, folder), *indexes, *small]
    else:
        original = next((f for f in (folder, folder / "original") if meta_llama.is_original_layout(f)), None)
        if original is None:
            raise _nothing_to_load(name, [path.name for path in folder.iterdir()])
        folder, layout = original, "meta"
        files = [*meta_llama.weight_files(folder), folder / "params.json", *folder.glob("tokenizer.model")]
        notes = (f"{name} is Meta's original layout; converting it in memory.",)
    return ModelSource(name, str(folder), None, _fingerprint(files), layout, notes)


def _resolve_hub(name: str, revision: str | None) -> ModelSource:
    config = _fetch_file(name, "config.json", revision)
    if config is not None:
        return ModelSource(name, name, config.parent.name, None, "transformers")
    for subfolder in ("", "original/"):
        params = _fetch_file(name, f"{subfolder}params.json", revision)
        if params is None:
            continue
        # Another repository's revisions are not the twin's: whoever names one gets just that.
        twin = _resolve_twin(f"{name}-hf") if revision is None and not subfolder else None
        if twin is not None:
            note = f"{name} is Meta's original layout; loading its twin {twin.location}."
            return replace(twin, name=name, notes=(note,))
        commit = (params.parent.parent if subfolder else params.parent).name
        note = f"{name} is Meta's original layout; converting it in memory."
        return ModelSource(name, name, commit, None, "meta", (note,))
    raise _nothing_to_load(name, [])


def _resolve_twin(name: str) -> ModelSource | None:
    """Return the repository in transformers' layout beside an original one, None if out of reach."""
    try:
        config = _fetch_file(name, "config.json", None)
    except DepthprobeError:  # absent, gated for this user, or not in the cache: the original will do
        return None
    return ModelSource(name, name, config.parent.name, None, "transformers") if config is not None else None


def _fetch_file(repo: str, filename: str, revision: str | None) -> Path | None:
    """Return the local copy of a hub file, None where the repository has no such file."""
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        # A commit never changes: what the cache knows about it needs no network.
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None
    try:
        # Asked once without retries: hf_hub_download itself tries an unreachable hub for 23 seconds.
        get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision))
    except EntryNotFoundError:
        pass  # hf_hub_download below notes the absence in the cache, for later runs without network
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise explain_hub_error(error, repo, revision, downloading=False) from error
    except HUB_EXCEPTIONS as error:
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if cached is None:
            raise explain_hub_error(error, repo, revision, downloading=False) from error
        return Path(cached) if isinstance(cached, str) else None
    try:
        return Path(hf_hub_download(repo, filename, revision=revision))
    except LocalEntryNotFoundError as error:
        raise explain_hub_error(error, repo, revision, downloading=True) from error
    except EntryNotFoundError:
        return None
    except HUB_EXCEPTIONS as error:
        raise explain_hub_error(error, repo, revision, downloading=True) from error


def _nothing_to_load(name: str, files: list[str]) -> LoadError:
    problem = f"{name} has no config.json, so it is no model that transformers can load."
    if "adapter_config.json" in files:
        return LoadError(f"{name} is an adapter, not a model.", "Merge it into its base model and save that.")
    if any(file.endswith(".gguf") for file in files):
        return LoadError(problem, "GGUF files are not supported; name the model they were made from.")
    if "params.json" in files:
        hint = "Complete the download of Meta's original files, or name a model in transformers' layout."
        return LoadError(f"{name} has params.json but no consolidated.*.pth beside it.", hint)
    return LoadError(
        problem, "Name a model with config.json and *.safetensors, or with Meta's original files."
    )


def _fingerprint(files: list[Path]) -> str:
    """Return the SHA-256 over names and whole contents of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        contents = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                contents.update(chunk)
        digest.update(f"{path.name}\0{contents.hexdigest()}\n".encode())
    return digest.hexdigest()


def _download(source: ModelSource, patterns: list[str], ignore: list[str] | None = None) -> Path:
    try:
        return Path(
            snapshot_download(
                source.location, revision=source.revision, allow_patterns=patterns, ignore_patterns=ignore
            )
        )
    except HUB_EXCEPTIONS as error:
        raise explain_hub_error(error, source.location, source.revision, downloading=True) from error


def original_folder(source: ModelSource, weights: bool = True) -> Path:
    """Return the local directory with Meta's original files, the tensors only with ``weights``."""
    if source.revision is None:
        return Path(source.location)
    wanted = ["params.json", "tokenizer.model", *(["consolidated.*.pth"] if weights else [])]
    folder = _download(source, wanted + [f"original/{pattern}" for pattern in wanted])
    original = next((f for f in (folder, folder / "original") if (f / "params.json").is_file()), None)
    if original is None or (weights and not meta_llama.is_original_layout(original)):
        raise _nothing_to_load(source.location, ["params.json"])
    return original


def fetch_small_files(source: ModelSource, with_code: bool) -> Path:
    """Return the local directory with configuration and tokenizer, and the model's own code if wanted."""
    if source.revision is None:
        return Path(source.location)
    # Subfolders hold other formats and training states; only code may lie there.
    wanted = [*SMALL_FILES, "*.py"] if with_code else SMALL_FILES
    return _download(source, wanted, ignore=[f"*/{pattern}" for pattern in SMALL_FILES])


def fetch_weights(source: ModelSource, folder: Path) -> None:
    """Fetch exactly the weight files that will be loaded, into the directory of the small files."""
    if source.revision is None:
        return
    for single, index in WEIGHT_NAMES:
        if (folder / index).is_file():
            _download(source, _shard_names(source.name, folder / index))
            return
        if _fetch_file(source.location, single, source.revision) is not None:
            return


def _shard_names(name: str, index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise LoadError(f"{index.name} of {name} is damaged.", "Download the file again.") from error


def weight_files(name: str, folder: Path) -> list[Path]:
    """Return the weight files transformers will read, each checked to be there and whole.

    Raises:
        LoadError: If there are none, a shard is missing, or a safetensors file is truncated or damaged.
    """
    for single, index in WEIGHT_NAMES:
        if (folder / single).is_file():
            files = [folder / single]
            break
        if (folder / index).is_file():
            files = [folder / shard for shard in _shard_names(name, folder / index)]
            break
    else:
        wanted = "model.safetensors or pytorch_model.bin, whole or in shards"
        raise LoadError(f"{name} has a config.json but no weights.", f"Put its weights beside it ({wanted}).")
    for path in files:
        if not path.is_file():
            problem = f"{name} lacks the weight file {path.name} that its index names."
            raise LoadError(problem, "Complete the download.")
        _check_whole(name, path)
    return files


def _check_whole(name: str, path: Path) -> None:
    """Raise if a weight file is a stand-in, truncated, or damaged; cheap, as only its ends are read."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise LoadError(
                f"{path.name} of {name} is a Git LFS pointer, not the weights.", "Run `git lfs pull`."
            )
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # holds the header against the file's length
                return
        if zipfile.is_zipfile(path) or start.startswith(
            b"\x80"
        ):  # torch.save; before torch 1.6 a bare pickle
            return
        cause = None
    except (SafetensorError, OSError) as error:
        cause = error
    raise LoadError(f"{path.name} of {name} is truncated or damaged.", "Download the file again.") from cause
