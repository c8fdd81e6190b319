"""What a sweep's table of drops says: which numbers lead, which layers can be spared, how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.errors import RunError
from depthprobe.findings import drop_sentences
from depthprobe.findings.checks import check_table
from depthprobe.findings.evidence import ALPHA, Evidence, evidence_of
from depthprobe.findings.words import counted, plain, spans
from depthprobe.metrics.relevance import chance_corrected_relevance

STEM, WHAT = "prune_sweep", "drops"
CALIBRATION = "calibration"

_NUMBERS = ("baseline", "drop", "ci_low", "ci_high", "p_adjusted")
_KEYS = ("task", "metric", "filter", "layer")
_HEADLINES = ("acc", "acc_norm", "exact_match", "word_perplexity", "loss")
# Only for runs whose manifest does not say; perplexities are known by their name.
_LESS_IS_BETTER = ("loss", "bits_per_byte", "brier_score", "mse", "mae", "rmse", "wer", "cer", "ter")
_WORDS = {
    "acc": "accuracy",
    "acc_norm": "length-normalised accuracy",
    "exact_match": "exact match",
    "f1": "F1",
    "loss": "loss",
    "perplexity": "perplexity",
    "word_perplexity": "word perplexity",
    "byte_perplexity": "byte perplexity",
    "bits_per_byte": "bits per byte",
}


@dataclass(frozen=True)
class Drops:
    """The drops of one task by its headline metric: one row a layer, and what the sweep knows about them.

    Args:
        rows: The run's rows for this task, metric and filter, sorted by layer.
        baseline: The metric of the whole model.
        higher_is_better: False for losses and perplexities, whose harm is a positive drop.
        chance: The metric of guessing, if it is known.
        missed: How large a drop the sample could have missed, in the metric's unit, if known.
        block: How many layers each row's removal takes out, from ``layer`` on.
        layers: How many layers the model has, if that is known.
    """

    task: str
    metric: str
    filter: str
    rows: pd.DataFrame
    baseline: float
    higher_is_better: bool
    chance: float | None
    missed: float | None
    block: int
    layers: int | None = None

    @property
    def detected(self) -> NDArray[np.bool_]:
        """[layer] whether the removal makes a detectable difference, for worse or for better."""
        return (self.rows["p_adjusted"] < ALPHA).to_numpy()

    @property
    def harm(self) -> NDArray[np.float64]:
        """[layer] how much worse the model is without it, in the metric's unit; negative is better."""
        drop = self.rows["drop"].to_numpy(dtype="float64")
        return -drop if self.higher_is_better else drop

    @property
    def flips(self) -> NDArray[np.int64] | None:
        """[layer] items whose correctness changed; None where the scores are not right or wrong."""
        flips = pd.to_numeric(self.rows["flips"], errors="coerce").fillna(-1).to_numpy(dtype="int64")
        # A score of rights and wrongs grows with them, and cannot move without a flip.
        counted = (flips >= 0).all() and (flips[self.rows["drop"] != 0] > 0).all()
        return flips if self.higher_is_better and counted else None

    @property
    def relevance(self) -> NDArray[np.float64] | None:
        """[layer] the share of what the model knows above chance that goes with the layer; None if undefined.

        1 where its removal leaves guessing, 0 where it changes nothing. Undefined where the task has no
        chance level or the whole model is not above it.

        Source: RETHINK, 2605.14075.
        """
        if self.chance is None or not self.higher_is_better:
            return None
        return chance_corrected_relevance(self.baseline, self.baseline - self.harm, self.chance)

    @property
    def words(self) -> str:
        """What the metric is called in a sentence, such as ``accuracy``."""
        return _WORDS.get(self.metric, self.metric)

    @property
    def change(self) -> str:
        """What a worse metric does: ``drop`` or ``increase``."""
        return "drop" if self.higher_is_better else "increase"

    @property
    def decimals(self) -> int:
        """How many decimals show two digits of a typical interval."""
        width = float((self.rows["ci_high"] - self.rows["ci_low"]).median())
        least = 3 if abs(self.baseline) < 10 else 2
        return least if width <= 0 else int(np.clip(1 - math.floor(math.log10(width)), least, 6))

    @cached_property
    def evidence(self) -> Evidence:
        """What the items show of every removal, and what they could have missed."""
        return evidence_of(
            self.rows,
            metric=self.metric,
            baseline=self.baseline,
            higher_is_better=self.higher_is_better,
            chance=self.chance,
            missed=self.missed,
        )

    @property
    def name(self) -> str:
        """The task as a sentence names it: on one line, without what a terminal would obey."""
        return plain(self.task)

    @property
    def noun(self) -> str:
        """What was compared: ``item`` of a task, ``sample`` of the calibration text."""
        return "sample" if self.task == CALIBRATION else "item"

    @property
    def covered(self) -> str:
        """Which of the model's layers were removed, where not all were: ``layers 3, 5, 7 of 12``."""
        if self.layers is None or len(self.rows) >= self.possible:
            return ""
        of = f"{self.layers:,}{'' if self.block == 1 else ' layers'}"
        return f"{drop_sentences.removals_named(self, slice(None))} of {of}"

    @property
    def possible(self) -> int:
        """How many removals of this size the model has, as far as its depth is known."""
        return len(self.rows) if self.layers is None else self.layers - self.block + 1

    @property
    def items(self) -> str:
        """How many items or samples were compared: ``600 items``."""
        return counted(int(self.rows["docs"].max()), self.noun)

    @property
    def reading(self) -> str:
        """What the items can tell, which drops are small, and the worst layers, in a few sentences."""
        return drop_sentences.reading(self)

    def by_layer(self, layers: int) -> NDArray[np.float64]:
        """[layer] the drop without each of a model's layers; NaN where none begins there that was removed."""
        places = self.rows["layer"].to_numpy()
        values = np.full(max(layers, int(places.max()) + 1), np.nan)
        values[places] = self.rows["drop"]
        return values

    def removed(self, layer: int) -> str:
        """The layers that go with a row, as text: ``25``, or ``25-27`` in a sweep of blocks."""
        return spans(range(layer, layer + self.block))


@dataclass(frozen=True)
class SweepFindings:
    """What a sweep's table of drops says.

    Args:
        tasks: The drops of each task to show, by its headline metric: those that were asked for, then the
            calibration loss; no subjects of a group.
        every: The same of every task in the table.
        others: By task the drops by the metrics that do not lead, in the table's order.
        block: How many consecutive layers each removal takes out.
        layers: How many layers the model has, if that is known; a sweep may cover a few of them.
        facts: What else the run says: num_fewshot, limit and the like.
    """

    tasks: tuple[Drops, ...]
    every: Mapping[str, Drops]
    others: Mapping[str, tuple[Drops, ...]]
    block: int
    layers: int | None
    facts: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The tasks to show by name."""
        return [drops.task for drops in self.tasks]

    @property
    def sentences(self) -> list[str]:
        """A few sentences on each task."""
        return [drops.reading for drops in self.tasks]


def read(
    tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any] | None = None, layers: int | None = None
) -> SweepFindings:
    """Return what the table ``prune_sweep`` says; arguments and errors as :func:`of_runs.findings_in`.

    Of the facts tasks, headline, higher_is_better, chance, detectable and block count.
    """
    frame, facts = tables[STEM], facts or {}
    check_table(frame, WHAT, (*_KEYS, *_NUMBERS, "flips", "docs"), _NUMBERS, keys=_KEYS)
    if frame["layer"].min() < 0:
        raise RunError(f"The table of {WHAT} has a layer below 0.")
    block = int(facts.get("block") or 1)
    if layers is not None and frame["layer"].max() + block > layers:
        last = frame["layer"].max() + block - 1
        raise RunError(f"The table of {WHAT} removes layer {last} of a model of {layers} layers.")
    metrics = {
        task: _metrics_of(rows, task, facts, layers) for task, rows in frame.groupby("task", sort=False)
    }
    every = {task: found[0] for task, found in metrics.items()}
    others = {task: tuple(found[1:]) for task, found in metrics.items()}
    shown = _headline_tasks(list(every), list(dict.fromkeys(facts.get("tasks") or [])))
    return SweepFindings(tuple(every[task] for task in shown), every, others, block, layers, facts)


def _headline_tasks(there: list[str], asked: list[str]) -> list[str]:
    """Those of the tasks that were asked for, then the calibration loss; no subjects of a group.

    Where none was asked for, or a tag or pattern that is not itself a task: every task whose name does not
    begin with that of another one and ``_``, as the subjects of mmlu do.
    """
    shown = [task for task in asked if task in there]
    if not shown or len(shown) < len(asked):
        heads = [task for task in there if not any(task.startswith(f"{other}_") for other in there)]
        shown += [task for task in heads if task not in shown]
    shown = [task for task in shown if task != CALIBRATION]
    return shown + [CALIBRATION] * (CALIBRATION in there)


def _metrics_of(rows: pd.DataFrame, task: str, facts: Mapping[str, Any], layers: int | None) -> list[Drops]:
    """The drops of one task by each of its metrics and filters, the headline metric first."""
    pairs = list(dict.fromkeys(zip(rows["metric"], rows["filter"], strict=True)))
    leading = next(
        (pair for pair in pairs if "/".join(pair) == (facts.get("headline") or {}).get(task)),
        # min keeps the first of equals: an unknown task's first metric, a metric's first filter.
        min(pairs, key=lambda pair: _HEADLINES.index(pair[0]) if pair[0] in _HEADLINES else len(_HEADLINES)),
    )
    pairs.sort(key=lambda pair: pair != leading)
    return [replace(_drops_of(rows, task, *pair, facts), layers=layers) for pair in pairs]


def _drops_of(rows: pd.DataFrame, task: str, metric: str, name: str, facts: Mapping[str, Any]) -> Drops:
    """The drops of one task by one metric and filter, of all rows of the task."""
    rows = rows[(rows["metric"] == metric) & (rows["filter"] == name)]
    rows = rows.sort_values("layer", kind="stable").reset_index(drop=True)

    def known(fact: str) -> Any:
        return (facts.get(fact) or {}).get(f"{task}/{metric}/{name}")

    better = known("higher_is_better")
    if better is None:
        better = metric not in _LESS_IS_BETTER and "perplexity" not in metric
    return Drops(
        task=task,
        metric=metric,
        filter=name,
        rows=rows,
        baseline=float(rows["baseline"].iloc[0]),
        higher_is_better=bool(better),
        chance=known("chance"),
        missed=known("detectable"),
        block=int(facts.get("block") or 1),
    )


def p_text(p: float) -> str:
    """Return a p-value with three decimals, or as many as keep it on its side of the threshold."""
    if p < 0.001:
        return "<0.001"
    decimals = 3
    while (float(f"{p:.{decimals}f}") < ALPHA) != (p < ALPHA):
        decimals += 1
    return f"{p:.{decimals}f}"
