"""A training that dies at any file operation: the same command again ends in the same model."""

import pytest

from support import crashing, tiny

# Of the operations of a training, one in so many in the quick version.
EVERY = 60


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that runs a small training; all that it needs is imported."""
    from depthprobe.commands.app import run

    place = tmp_path_factory.mktemp("texts")
    (place / "text.txt").write_text("\n\n".join(tiny.sentences(60)))
    words = ["pretrain", "--dataset", str(place / "text.txt"), "--layers", "1", "--hidden", "16"]
    words += [
        "--vocab",
        "300",
        "--seq-len",
        "16",
        "--batch",
        "2",
        "--precision",
        "float32",
        "--device",
        "cpu",
    ]
    words += ["--steps", "4", "--save-every", "2", "--log-every", "2", "-q"]

    def made(output):
        return lambda: run([*words, "-o", str(output)])

    with pytest.raises(SystemExit):
        made(place / "first" / "model")()
    return made


def check(train, tmp_path, chosen):
    def output(name):
        return tmp_path / str(name) / "model"  # the same name everywhere: the log holds it

    status, operations = crashing.run_until(train(output("whole")), output("whole"))
    assert status == 0 and operations > 50
    wanted = crashing.files_in(output("whole"), {})
    for number in chosen(operations):
        died, _ = crashing.run_until(train(output(number)), output(number), number)
        assert died == crashing.DIED
        again, _ = crashing.run_until(train(output(number)), output(number))
        assert again == 0, number
        assert crashing.files_in(output(number), {}) == wanted, number


def test_a_kill_at_some_file_operations_changes_nothing_that_the_next_start_makes(train, tmp_path):
    check(train, tmp_path, lambda operations: range(0, operations, EVERY))


@pytest.mark.slow
def test_a_kill_at_any_file_operation_changes_nothing_that_the_next_start_makes(train, tmp_path):
    check(train, tmp_path, range)
