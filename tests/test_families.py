"""Every causal and masked model type of transformers, tiny: measured right, or refused with a sentence.

By default a tenth of the types runs, always the same one; ``DEPTHPROBE_FAMILIES=all pytest
tests/test_families.py`` runs them all, and ``DEPTHPROBE_FAMILIES_SEED=1`` draws another tenth.
"""

import os
import random

import pytest
import transformers

from support import documents
from support.families import KINDS, TRANSFORMERS, examine, recorded

PARTS = 10


def chosen(environment):
    """The types to run, as the environment asks for them."""
    if environment.get("DEPTHPROBE_FAMILIES") == "all":
        return KINDS
    seed = environment.get("DEPTHPROBE_FAMILIES_SEED")
    if seed:
        return sorted(random.Random(int(seed)).sample(KINDS, -(-len(KINDS) // PARTS)))
    return KINDS[::PARTS]


def test_the_sample_is_a_fixed_tenth_unless_a_seed_or_all_are_asked_for():
    assert chosen({}) == KINDS[::PARTS] and len({head for _, head in chosen({})}) == 2
    assert chosen({"DEPTHPROBE_FAMILIES": "all"}) == KINDS
    assert chosen({"DEPTHPROBE_FAMILIES": "all", "DEPTHPROBE_FAMILIES_SEED": "1"}) == KINDS
    drawn = [chosen({"DEPTHPROBE_FAMILIES_SEED": seed}) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {len(set(part)) for part in drawn} == {len(chosen({}))}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "head"), chosen(os.environ), ids=lambda value: str(value))
def test_a_family_is_measured_right_or_refused_with_the_recorded_sentence(kind, head):
    known = recorded()
    if (kind, head) not in known or transformers.__version__ != TRANSFORMERS:
        assert examine(kind, head)["outcome"] in ("works", "refused", "not buildable here")
    else:
        assert examine(kind, head) == known[kind, head]


def test_nearly_every_family_works_and_each_of_the_rest_has_a_reason():
    rows = list(recorded().values())
    if transformers.__version__ == TRANSFORMERS:
        assert {(row["model_type"], row["head"]) for row in rows} == set(KINDS)
    for head, share in (("causal", 0.95), ("masked", 0.90)):
        buildable = [row for row in rows if row["head"] == head and row["outcome"] != "not buildable here"]
        works = [row for row in buildable if row["outcome"] == "works"]
        assert len(works) >= share * len(buildable)
    assert all(len(row["reason"]) > 20 for row in rows if row["outcome"] != "works")


@pytest.mark.skipif(not documents.README.is_file(), reason="tests run apart from the repository")
def test_the_documentation_counts_what_the_table_holds():
    text = documents.whole_text()
    for head in ("causal", "masked"):
        outcomes = [row["outcome"] for row in recorded().values() if row["head"] == head]
        counts = [outcomes.count(outcome) for outcome in ("works", "refused", "not buildable here")]
        assert f"| {len(outcomes)} {head} | {' | '.join(map(str, counts))} |" in text
