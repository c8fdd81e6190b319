import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import MachineError, OptionError
from depthprobe.machine.batches import pad_batch, parse_batch_size, plan_batches, run_batches, token_budget


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000), st.none() | st.integers(1, 9))
def test_every_sample_is_planned_once_within_the_budget(lengths, tokens, batch_size):
    batches = plan_batches(lengths, tokens, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) <= batch_size if batch_size else (len(batch) == 1 or padded <= tokens)
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 200), st.none() | st.integers(1, 9))
def test_samples_of_two_kinds_share_no_batch(lengths, tokens, batch_size):
    for kind in (lambda length: length > 20, lambda length: length):
        batches = plan_batches(lengths, tokens, batch_size, kind=kind)
        assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
        assert all(len({kind(lengths[index]) for index in batch}) == 1 for batch in batches)


def test_padding_stands_on_the_right_and_is_masked():
    import numpy as np

    ids, mask = pad_batch([np.array([5, 6, 7]), np.array([8])], pad=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_out_of_memory_halves_this_batch_and_the_later_ones_and_loses_none():
    tried = []

    def step(batch):
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return sum(batch)

    done = list(run_batches([[0, 1, 2, 3, 4], [5, 6, 7]], step))
    assert sorted(index for batch, _ in done for index in batch) == list(range(8))
    assert all(result == sum(batch) for batch, result in done)
    assert max(tried[2:]) <= 3


def test_a_single_sample_that_does_not_fit_is_the_machines_failure():
    def step(batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(MachineError, match="A single sample does not fit into memory"):
        list(run_batches([[0, 1]], step))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def step(batch):
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        list(run_batches([[0]], step))


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", ""])
def test_a_batch_size_that_is_none_is_refused(text):
    with pytest.raises(OptionError, match="--batch-size must be auto or at least 1, got"):
        parse_batch_size(text)


def test_batch_sizes_are_read():
    assert parse_batch_size("auto") is None and parse_batch_size("16") == 16
    assert token_budget(torch.device("cpu"), 10**9, 10**12) == 2048
