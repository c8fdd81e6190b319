"""GGUF files, adapters and revisions of the hub, over a hub of directories and a cache offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import RevisionNotFoundError

from depthprobe.errors import LoadError, MachineError
from depthprobe.models.loading import hub
from depthprobe.models.loading.hub_errors import explain_hub_error
from depthprobe.models.loading.loading import load_model
from depthprobe.models.loading.sources import resolve_adapter, resolve_model
from support.gguf_and_lora import save_lora, write_gguf
from support.tiny import build, save

IDS = torch.tensor([[0, 5, 9, 200, 33]])


@pytest.fixture
def repos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make directories REPO/COMMIT into a hub; the function returns a new repository's directory."""
    branches: dict[tuple[str, str], Path] = {}

    def new(repo: str, branch: str = "main") -> Path:
        folder = tmp_path / repo / f"commit-of-{branch}"
        branches[repo, branch] = branches[repo, folder.name] = folder
        folder.mkdir(parents=True)
        return folder

    def at(repo: str, revision: str | None) -> Path:
        if (repo, revision or "main") not in branches:
            error = RevisionNotFoundError.__new__(RevisionNotFoundError)
            raise explain_hub_error(error, repo, revision, downloading=False)
        return branches[repo, revision or "main"]

    def listed(repo: str, revision: str | None) -> list[str]:
        folder = at(repo, revision)
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def download(repo: str, revision: str, patterns: list[str], ignore: list[str] | None = None) -> Path:
        copied = tmp_path / "cache" / repo / revision
        copied.mkdir(parents=True, exist_ok=True)
        for file in listed(repo, revision):
            if any(fnmatch(file, wanted) for wanted in patterns):
                (copied / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(at(repo, revision) / file, copied / file)
        return copied

    def fetch(repo: str, filename: str, revision: str | None) -> Path | None:
        folder = at(repo, revision)
        found = (folder / filename).is_file()
        return download(repo, folder.name, [filename]) / filename if found else None

    monkeypatch.setattr(hub, "fetch_file", fetch)
    monkeypatch.setattr(hub, "is_cached", lambda *args: False)
    monkeypatch.setattr(hub, "list_files", listed)
    monkeypatch.setattr(hub, "download", download)
    return new


def logits(name: str, **wanted: str) -> torch.Tensor:
    with torch.no_grad():
        return load_model(name, device="cpu", **wanted).model(IDS).logits


def test_a_revision_may_stand_in_the_name(repos: Callable[..., Path]) -> None:
    save(repos("t/base"))
    save(repos("t/base", "v2"), seed=1)
    source = resolve_model("t/base@v2")
    assert (source.name, source.location, source.revision) == ("t/base", "t/base", "commit-of-v2")
    assert source == resolve_model("t/base", "v2") != resolve_model("t/base")
    reference = build("llama", seed=1)
    assert torch.equal(logits("t/base@v2"), reference(IDS).logits)
    with pytest.raises(LoadError, match="t/base has no revision 'v9'. Name a branch, tag or commit"):
        resolve_model("t/base@v9")


def test_the_only_gguf_file_of_a_repository_needs_no_name(repos: Callable[..., Path]) -> None:
    folder = repos("t/single")
    write_gguf(folder / "only.gguf")
    (folder / "mmproj-model-f16.gguf").write_bytes(b"a vision projector")
    source = resolve_model("t/single")
    assert (source.layout, source.gguf_file, source.identity) == ("gguf", "only.gguf", "t/single:only.gguf")
    assert torch.allclose(logits("t/single"), build("llama")(IDS).logits, atol=1e-5)


def test_a_gguf_repository_with_a_configuration_is_still_one(repos: Callable[..., Path]) -> None:
    folder = save(repos("t/both"))
    write_gguf(folder / "x.gguf")
    assert resolve_model("t/both").layout == "transformers"
    assert resolve_model("t/both:x.gguf").layout == "gguf"
    (folder / "model.safetensors").unlink()
    assert resolve_model("t/both").gguf_file == "x.gguf"


def test_of_several_gguf_files_one_is_named(repos: Callable[..., Path]) -> None:
    folder = repos("t/several")
    (folder / "q8").mkdir()
    write_gguf(folder / "q8" / "tiny-Q8_0.gguf", quantised=True)
    write_gguf(folder / "tiny-F32.gguf")
    (folder / "big-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(LoadError) as caught:
        resolve_model("t/several")
    assert str(caught.value) == (
        "t/several holds several GGUF files: big-00001-of-00002.gguf, q8/tiny-Q8_0.gguf, tiny-F32.gguf. "
        "Name one of them: t/several:q8/tiny-Q8_0.gguf."
    )
    described = load_model("t/several:q8/tiny-Q8_0.gguf@main", device="cpu").describe()
    assert (described["id"], described["commit"], described["quantisation"]) == (
        "t/several:q8/tiny-Q8_0.gguf",
        "commit-of-main",
        "gguf Q8_0",
    )
    with pytest.raises(LoadError, match="t/several has no file odd.gguf. There are: big-"):
        resolve_model("t/several:odd.gguf")
    for file in ("q8/tiny-Q8_0.gguf", "tiny-F32.gguf"):
        (folder / file).unlink()
    with pytest.raises(LoadError, match="big-00001-of-00002.gguf of t/several is one part of a GGUF model"):
        resolve_model("t/several")


def test_an_adapter_of_the_hub_has_a_commit_of_its_own(repos: Callable[..., Path]) -> None:
    save(repos("t/base"))
    save_lora(repos("t/lora"))
    save_lora(repos("t/lora", "v2"), targets=("o_proj",))
    loaded = load_model("t/base", device="cpu", adapter="t/lora@v2")
    assert loaded.describe()["adapter"] == {
        "id": "t/lora",
        "commit": "commit-of-v2",
        "fingerprint": None,
        "base": "org/base",
    }
    assert resolve_adapter("t/lora@v2").identity == "t/lora@commit-of-v2"
    assert not torch.allclose(loaded.model(IDS).logits, logits("t/base", adapter="t/lora"), atol=1e-2)
    with pytest.raises(LoadError, match="t/lora is an adapter of org/base, not a model. Type org/base"):
        resolve_model("t/lora")


def test_an_adapter_is_found_wanting_before_its_base_model_is_read(
    repos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("the base model was read")

    monkeypatch.setattr("depthprobe.models.loading.loading._build_model", never)
    save(repos("t/base"))
    (save_lora(repos("t/bare")) / "adapter_model.safetensors").unlink()
    (repos("t/damaged") / "adapter_config.json").write_text('{"peft_type": ')
    odd = save_lora(repos("t/odd")) / "adapter_config.json"
    odd.write_text(json.dumps(json.loads(odd.read_text()) | {"peft_type": "ODD"}))
    for adapter, message in (
        ("t/bare", "t/bare has an adapter_config.json but no weights. Put adapter_model.safetensors or"),
        ("t/damaged", "adapter_config.json of t/damaged is not valid JSON"),
        ("t/odd", "The adapter of t/odd does not load"),
        ("t/base", "t/base has no adapter_config.json, so it is not an adapter"),
    ):
        with pytest.raises(LoadError, match=message):
            load_model("t/base", device="cpu", adapter=adapter)


# --- without network, over the hub's own cache ----------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the cache keeps the one known commit of t/x, with the network forbidden."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789" * 4
    repo = tmp_path / "models--t--x"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    folder = repo / "snapshots" / commit
    folder.mkdir(parents=True)
    for file in ("config.json", "params.json", "original/params.json", "adapter_config.json"):
        path = repo / ".no_exist" / commit / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_a_gguf_repository_in_the_cache_needs_no_network(cached: Path) -> None:
    write_gguf(cached / "only.gguf")
    for name in ("t/x", "t/x:only.gguf", f"t/x@{cached.name}"):
        source = resolve_model(name)
        assert (source.revision, source.gguf_file) == (cached.name, "only.gguf")
    with pytest.raises(MachineError, match="t/x is not complete in the local cache, and HF_HUB_OFFLINE"):
        resolve_model("t/x:other.gguf")


def test_an_empty_cache_holds_no_files(cached: Path) -> None:
    assert hub.cached_files("t/x", None) == []
    assert hub.cached_files("t/unknown", None) == []
    with pytest.raises(LoadError, match="t/x has no config.json, so it is not a model"):
        resolve_model("t/x")
