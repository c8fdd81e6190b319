import math

import numpy as np
import pandas as pd
import pytest

from depthprobe.findings.drops import CALIBRATION
from depthprobe.findings.evidence import SMALL
from depthprobe.metrics.detection import detectable_drop, holm
from depthprobe.metrics.paired import paired_difference
from support.readings import sweep_findings


def answered(whole, variants, task="t", metric="acc", chance=0.25, block=1, detectable=True, **more):
    """The drops of one task whose items were answered like this, as a sweep would find them."""
    higher = metric != "loss"
    found = [paired_difference(whole, variant) for variant in variants]
    adjusted = holm([one.p_value for one in found])
    baseline = float(np.mean(whole))
    rows = [
        {
            **{"task": task, "metric": metric, "filter": "none", "layer": layer, "baseline": baseline},
            **{"pruned": baseline + one.difference, "drop": one.difference, "ci_low": one.ci_low},
            **{"ci_high": one.ci_high, "p_value": one.p_value, "p_adjusted": p, "docs": one.docs},
            "flips": int(np.sum(np.asarray(whole) != variant)) if one.flips is None else one.flips,
        }
        for layer, (one, p, variant) in enumerate(zip(found, adjusted, variants, strict=True))
    ]
    sizes = [max(detectable_drop(one, 0.05 / len(found)), (one.ci_high - one.ci_low) / 2) for one in found]
    unfound = [size for size, p in zip(sizes, adjusted, strict=True) if p >= 0.05]
    facts = {
        "tasks": [task],
        "block": block,
        "higher_is_better": {f"{task}/{metric}/none": higher},
        "chance": {f"{task}/{metric}/none": chance if higher else None},
        "detectable": {f"{task}/{metric}/none": max(unfound or sizes)} if detectable else {},
        **more,
    }
    return sweep_findings(pd.DataFrame(rows), facts).every[task]


def right(count, of):
    """0/1 scores: the first ``count`` items of ``of`` are right."""
    return (np.arange(of) < count).astype(float)


def flipped(scores, to_wrong, to_right=0):
    """The scores with so many right items turned wrong, and wrong ones right."""
    scores = scores.copy()
    scores[np.flatnonzero(scores == 1)[:to_wrong]] = 0
    scores[np.flatnonzero(scores == 0)[-to_right or len(scores) :]] = 1
    return scores


def test_few_items_lead_with_what_they_cannot_tell_and_how_many_would_do():
    whole = right(7, 16)
    said = answered(whole, [flipped(whole, 1), flipped(whole, 0, 1), whole]).reading
    assert said.startswith(
        "t (accuracy): these 16 items cannot tell whether any of the 3 layers matters: a drop of 0."
    )
    assert "could have been missed, and the whole model (0.438) is not clearly above chance (0.25)" in said
    assert "items would show a drop of 0.05." in said
    assert "can be removed" not in said and "shown to be below" not in said


def test_one_and_two_items_are_told_in_right_words_and_claim_nothing():
    one = answered(right(0, 1), [right(0, 1)] * 3)
    assert one.reading.startswith(
        "t (accuracy): this single item cannot tell whether any of the 3 layers matters: any drop could have "
        "been missed, and the whole model (0.000) is not above chance (0.25); about "
    )
    assert one.reading.endswith("There is no drop: no removal made the model worse.")
    two = answered(right(2, 2), [right(1, 2), right(2, 2)]).reading
    assert two.startswith("t (accuracy): these 2 items cannot tell")
    assert "relevance" not in two, "the share of what noise takes is none"


def test_items_that_were_missed_by_no_more_than_what_counts_as_small_are_enough():
    whole = right(700, 1000)
    drops = answered(whole, [flipped(whole, 200, 5), flipped(whole, 4, 3), flipped(whole, 5, 6)])
    assert not drops.evidence.short
    assert drops.reading.startswith(
        "t (accuracy): the drop is shown to be below 0.05 for 2 of 3 layers (1-2), each removed alone (95% "
        "intervals adjusted for 3 removals). Detectably worse without 1 of 3 layers (0); Holm-adjusted p "
        "< 0.05."
    )
    assert "The largest drop is that of layer 0: -0.195" in drops.reading
    assert "relevance (1: only guessing is left): 0.43 (layer 0)." in drops.reading


def test_a_drop_is_called_small_only_where_the_joint_interval_says_so():
    whole = right(700, 1000)
    # Its own interval ends at -0.0468, one that holds for 12 layers jointly beyond -0.05.
    close = flipped(whole, 40, 8)
    alone, of_twelve = answered(whole, [close]), answered(whole, [close, *[whole] * 11])
    assert alone.rows["ci_low"][0] > -SMALL
    assert alone.evidence.below[0] and not of_twelve.evidence.below[0]
    assert of_twelve.evidence.below[1:].all()


def test_what_is_small_is_measured_by_what_the_model_has_above_chance():
    whole = right(280, 1000)  # 0.03 above chance
    drops = answered(whole, [whole] * 4)
    assert drops.evidence.small == pytest.approx(0.015)
    assert drops.evidence.below.all()
    worse_than_chance = answered(right(240, 1000), [right(240, 1000)] * 4)
    assert worse_than_chance.evidence.small == 0 and not worse_than_chance.evidence.below.any()
    assert worse_than_chance.reading.startswith("t (accuracy): these 1,000 items cannot tell")
    assert "not above chance" in worse_than_chance.reading


def test_no_number_of_items_is_named_for_a_model_that_is_shown_to_guess():
    whole = right(3510, 14042)
    said = answered(whole, [flipped(whole, 40, 44)] * 4).reading
    assert "no number of items shows what a layer does for a model that guesses" in said
    assert "about" not in said


def test_the_calibration_loss_is_judged_in_nats_and_counts_samples():
    generator = np.random.default_rng(0)
    whole = 3 + generator.normal(0, 0.3, 64)
    variants = [whole + 0.01 + generator.normal(0, 0.01, 64), whole + 1 + generator.normal(0, 0.1, 64)]
    said = answered(whole, variants, task=CALIBRATION, metric="loss").reading
    assert said.startswith(
        "calibration (loss): the increase is shown to be below 0.05 nats a token for 1 of 2 layers (0)"
    )
    assert "Detectably worse without any one of the 2 layers" in said
    few = answered(whole[:3], [whole[:3] + [0, 0.4, -0.3], whole[:3]], task=CALIBRATION, metric="loss")
    assert few.reading.startswith(
        "calibration (loss): these 3 samples cannot tell whether any of the 2 layers matters: an increase"
    )
    assert "samples would show an increase of 0.05 nats a token" in few.reading


def test_perplexities_are_small_by_their_share():
    whole = np.full(400, 20.0) + np.random.default_rng(1).normal(0, 1, 400)
    drops = answered(whole, [whole + 0.1], metric="word_perplexity", chance=None, higher_is_better={})
    assert drops.evidence.small == pytest.approx(1.0, rel=0.01) and drops.evidence.below.all()


def test_a_sweep_of_blocks_names_where_they_begin():
    whole = right(700, 1000)
    said = answered(whole, [flipped(whole, 200), whole], block=4).reading
    assert "for 1 of 2 blocks of 4 layers (beginning at 1)" in said
    assert "The largest drop is that of layers 0-3" in said


def test_a_run_that_does_not_say_what_it_could_miss_is_judged_by_its_intervals():
    whole = right(9, 16)
    drops = answered(whole, [flipped(whole, 1), whole], detectable=False)
    assert drops.evidence.short and drops.evidence.missed > 0.05
    assert drops.reading.startswith("t (accuracy): these 16 items cannot tell")


def test_as_many_items_as_are_named_would_do():
    generator = np.random.default_rng(3)
    few = np.array(generator.random(40) < 0.6, dtype=float)
    needed = answered(few, [flipped(few, 2, 2)] * 12).evidence.needed
    assert 500 < needed < 3000
    whole = np.array(generator.random(needed) < 0.6, dtype=float)
    turned = round(0.05 * needed)
    found = paired_difference(whole, flipped(whole, turned, turned))
    assert detectable_drop(found, 0.05 / 12) == pytest.approx(SMALL, rel=0.25)


def test_better_without_a_layer_is_told_apart_from_harm():
    whole = right(500, 1000)
    said = answered(whole, [flipped(whole, 0, 60), whole]).reading
    assert "Detectably better without layer 0." in said and "no removal made the model worse" in said


def test_other_metrics_are_kept_beside_the_one_that_leads():
    rows = answered(right(7, 16), [right(6, 16)] * 2).rows
    norm = rows.assign(metric="acc_norm", baseline=0.5)
    found = sweep_findings(pd.concat([norm, rows]), {"tasks": ["t"]})
    assert found.every["t"].metric == "acc" and [other.metric for other in found.others["t"]] == ["acc_norm"]


def test_drops_by_layer_have_gaps_where_nothing_was_removed():
    drops = answered(right(7, 16), [right(6, 16)] * 2)
    values = drops.by_layer(4)
    assert values[:2] == pytest.approx([-1 / 16] * 2) and all(map(math.isnan, values[2:]))


def test_what_a_terminal_would_obey_in_a_tasks_name_is_in_no_sentence():
    drops = answered(right(7, 16), [right(6, 16)] * 2, task="a\x1b[2Jb\nc")
    assert drops.reading.startswith("a\N{REPLACEMENT CHARACTER}[2Jb c (accuracy): ")
