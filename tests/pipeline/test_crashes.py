"""A measurement that dies at any file operation: the same command again ends as if nothing had happened."""

import json

import pytest

from support import crashing, tiny

# Of the operations of a command, one in so many in the quick version.
EVERY = 12


def without_times(content):
    manifest = json.loads(content)
    for name in ("elapsed_s", "peak_memory_bytes", "command"):
        del manifest[name]
    return manifest


# The last one holds a hash of the manifest.
VOLATILE = {"manifest.json": without_times, ".again.json": lambda content: None}


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """A function that runs the command of a probe on a tiny model; all that it needs is imported."""
    from depthprobe.commands.app import run

    place = tmp_path_factory.mktemp("models")
    tiny.save(place / "model")
    (place / "text.txt").write_text("\n\n".join(tiny.sentences(40)))

    def made(probe, output):
        words = [probe, str(place / "model"), "--dataset", str(place / "text.txt"), "--samples", "3"]
        words += ["--seq-len", "16", "--format", "png", "-q"]
        more = ["--memory", "2"] if probe == "gradnorm" else []
        return lambda: run([*words, *more, "-o", str(output), "--device", "cpu"])

    for probe in ("gradnorm", "variance"):
        with pytest.raises(SystemExit):
            made(probe, place / "reports")()
    return made


def check(measure, tmp_path, probe, chosen):
    status, operations = crashing.run_until(measure(probe, tmp_path / "whole"), tmp_path / "whole")
    assert status == 0 and operations > 20
    wanted = crashing.files_in(tmp_path / "whole", VOLATILE)
    for number in chosen(operations):
        output = tmp_path / f"killed-{number}"
        died, _ = crashing.run_until(measure(probe, output), output, number)
        assert died == crashing.DIED
        again, _ = crashing.run_until(measure(probe, output), output)
        assert again == 0, number
        assert crashing.files_in(output, VOLATILE) == wanted, number


def test_a_kill_at_some_file_operations_changes_nothing_that_the_next_start_makes(measure, tmp_path):
    check(measure, tmp_path, "gradnorm", lambda operations: range(0, operations, EVERY))


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["gradnorm", "variance"])
def test_a_kill_at_any_file_operation_changes_nothing_that_the_next_start_makes(measure, tmp_path, probe):
    check(measure, tmp_path, probe, range)
