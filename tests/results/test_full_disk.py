"""What libraries raise on a full disk, told from what else they raise: each is asked itself."""

import errno
import resource

import pytest
import torch
from safetensors.torch import save_file

from depthprobe.results.files import failed_writing
from support import tiny


def write_text(path):
    with open(path, "w") as file:
        file.write("x" * 100_000)


@pytest.fixture
def full(tmp_path):
    """A file that takes only so many bytes. Not /dev/full: some libraries put a new file in its place."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # Python ignores the signal
    yield tmp_path / "file"
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("write", "number"),
    [
        (lambda path: save_file({"weight": torch.zeros(50_000)}, path), errno.EFBIG),
        (lambda path: torch.save({"weight": torch.zeros(50_000)}, path), errno.EIO),
        (lambda path: tiny.tokenizer().backend_tokenizer.save(str(path)), errno.EFBIG),
        (write_text, errno.EFBIG),
    ],
    ids=["safetensors", "torch", "tokenizers", "python"],
)
def test_every_library_that_writes_models_is_understood_where_it_cannot_write_on(full, write, number):
    with pytest.raises(Exception) as caught:  # noqa: B017  tokenizers raises a bare one
        write(full)
    found = failed_writing(caught.value)
    assert found is not None and found.errno == number


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), OSError(errno.ENOENT, "gone"), Exception("(os error 2)")]
)
def test_other_failures_are_not_taken_for_a_full_disk(error):
    assert failed_writing(error) is None
