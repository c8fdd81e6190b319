"""A cache that cannot be written is stood in for; what it holds stays readable."""

import errno
import os
from pathlib import Path

import pytest

from depthprobe.machine import caches


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in (*caches._BELOW_HOME, *caches._OLD_NAMES.values(), "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(caches.tempfile, "mkdtemp", lambda prefix: str(_made(tmp_path / "private")))
    return os.environ


def _made(path):
    path.mkdir()
    return path


@pytest.fixture
def denied(monkeypatch):
    """Let no file be made below a directory, with this error: permissions do not bind root."""
    real = caches.tempfile.TemporaryFile

    def deny(below, number=errno.EACCES):
        def make(dir):
            if Path(dir).is_relative_to(below):
                raise OSError(number, os.strerror(number))
            return real(dir=dir)

        monkeypatch.setattr(caches.tempfile, "TemporaryFile", make)

    return deny


def test_a_cache_that_can_be_written_stays(environment, tmp_path):
    environment["HF_HOME"] = str(tmp_path / "not" / "yet" / "there")
    before = dict(environment)
    assert caches.make_usable() == "" and environment == before
    assert not (tmp_path / "not").exists()


def test_a_read_only_cache_is_read_through_links_and_written_elsewhere(environment, denied, tmp_path):
    home = tmp_path / "home"
    for name in ("hub/models--a--b/blobs/1f", "datasets/a___b/default/data.arrow", "hub/.locks/x.lock"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    (home / "hub/models--a--b/refs").mkdir()
    (home / "hub/models--a--b/refs/main").write_text("1f")
    (home / "hub/models--a--b/snapshots/1f").mkdir(parents=True)
    (home / "hub/models--a--b/snapshots/1f/config.json").symlink_to("../../blobs/1f")
    environment["HF_HOME"] = str(home)
    denied(home)
    note = caches.make_usable()
    assert note.startswith(f"The cache in {home} cannot be written: what this run downloads is not kept.")
    hub, data = Path(environment["HF_HUB_CACHE"]), Path(environment["HF_DATASETS_CACHE"])
    assert hub == tmp_path / "private" / "hub" and environment["HF_HOME"] == str(home)
    model = hub / "models--a--b"
    assert (model / "snapshots/1f/config.json").read_text() == "hub/models--a--b/blobs/1f"
    assert (data / "a___b/default/data.arrow").read_text() == "datasets/a___b/default/data.arrow"
    (model / "refs/main").write_text("another")  # as a client does that finds a newer commit
    (data / "a___b/default/data.lock").touch()
    assert (home / "hub/models--a--b/refs/main").read_text() == "1f"
    assert not (hub / ".locks").exists() and not (home / "datasets/a___b/default/data.lock").exists()


def test_a_file_in_the_place_of_a_cache_is_stood_in_for(environment, tmp_path):
    (tmp_path / "file").write_text("")
    environment["HF_DATASETS_CACHE"] = str(tmp_path / "file" / "datasets")
    environment["HF_HOME"] = str(tmp_path / "home")
    assert f"The cache in {tmp_path / 'file' / 'datasets'} cannot be written" in caches.make_usable()
    assert environment["HF_DATASETS_CACHE"] == str(tmp_path / "private" / "datasets")
    assert "HF_HUB_CACHE" not in environment


def test_a_full_disk_is_not_stood_in_for(environment, denied, tmp_path):
    environment["HF_HOME"] = str(_made(tmp_path / "home"))
    denied(tmp_path / "home", errno.ENOSPC)
    assert caches.make_usable() == "" and "HF_HUB_CACHE" not in environment
