"""Which gradients are taken together, by what is free."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthprobe.errors import OptionError
from depthprobe.models.anatomy.anatomy import describe_anatomy
from depthprobe.models.gradients.parameters import holdings_of
from depthprobe.models.gradients.plan import gradient_bytes, plan_gradients
from support import tiny

MODEL = tiny.build("llama")
HOLDINGS = holdings_of(MODEL, describe_anatomy(MODEL))
EVERYTHING = sum(map(gradient_bytes, HOLDINGS))
BLOCK = gradient_bytes(HOLDINGS[0])


def plan(memory="auto", free=None, dtype=torch.float32):
    return plan_gradients(HOLDINGS, MODEL.config, 32, dtype, torch.device("cpu"), memory, free)


def test_gradients_are_counted_in_float32_also_of_half_precision():
    assert EVERYTHING == 4 * sum(parameter.numel() for parameter in MODEL.parameters())
    half = tiny.build("llama").bfloat16()
    assert sum(map(gradient_bytes, holdings_of(half, describe_anatomy(half)))) == EVERYTHING


def test_with_room_all_are_taken_at_once_and_nothing_is_run_again():
    found = plan(free=1 << 40)
    assert found.groups == (tuple(range(len(HOLDINGS))),) and not found.checkpoint


def test_where_gradients_fit_and_activations_do_not_blocks_are_run_again():
    plans = [plan(free=free) for free in range(1 << 22, 1 << 27, 1 << 20)]
    alone = [found for found in plans if len(found.groups) == 1]
    assert alone[0].checkpoint and not alone[-1].checkpoint
    assert [found.checkpoint for found in alone] == sorted((f.checkpoint for f in alone), reverse=True)


@given(st.integers(14, 40))
def test_every_holding_is_in_one_group_and_groups_shrink_with_the_memory(power):
    found = plan(free=1 << power)
    assert sorted(place for group in found.groups for place in group) == list(range(len(HOLDINGS)))
    assert len(found.groups) >= len(plan(free=1 << (power + 1)).groups)
    assert found.tokens & (found.tokens - 1) == 0 and 1 <= found.tokens <= 2048
    ends = [[HOLDINGS[place].layer for place in group] for group in found.groups]
    assert all(min(deep) >= max(shallow) for deep, shallow in pairwise(ends))


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_number_of_blocks_bounds_what_is_held(blocks):
    found = plan(memory=blocks, free=1 << 40)
    for group in found.groups:
        most = max(blocks * BLOCK, *map(gradient_bytes, HOLDINGS))
        assert sum(gradient_bytes(HOLDINGS[place]) for place in group) <= 1.01 * most
        assert sum(HOLDINGS[place].is_block for place in group) <= blocks
    assert found.checkpoint


@pytest.mark.parametrize("memory", ["some", 0, -1, 1.5])
def test_what_says_nothing_is_refused(memory):
    with pytest.raises(OptionError, match="--memory must be auto, whole or a number of blocks"):
        plan(memory=memory)
