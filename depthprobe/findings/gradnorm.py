"""What a table of gradient norms says: how the gradient of the loss is shared out over the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from depthprobe.errors import RunError
from depthprobe.findings.checks import check_table
from depthprobe.findings.thirds import thirds
from depthprobe.findings.words import counted, layers_named, significant

STEM, WHAT = "gradnorm", "gradient norms"
WHOLE = "all"
# Parts of a block, and what stands outside the blocks, with their names in tables and keys.
PARTS = {"attention": "attention", "feedforward": "feed-forward", "norm": "norms", "other": "other"}
OUTSIDE = {"embedding": "embedding", "final_norm": "final norm", "head": "head"}

_COLUMNS = ("layer", "part", "grad_norm", "parameters", "grad_rms", "std")
_NUMBERS = ("grad_norm", "grad_rms", "std")


@dataclass(frozen=True)
class GradNorms:
    """The gradient norms of a model, by layer; NaN where a layer has nothing that could have a gradient.

    Args:
        norm: [layer] of the whole block.
        std: [layer] their deviation over batches; 0 where the gradient is that of one batch.
        parts: By part of a block [layer]; NaN where a layer has no such part.
        outside: Norm and std of the embedding, the final norm and the head, where they were measured.
        facts: What else the run says: objective, loss_nats, predicted_tokens, per_batch, gradient_batches.
    """

    norm: NDArray[np.float64]
    std: NDArray[np.float64]
    parts: dict[str, NDArray[np.float64]]
    outside: dict[str, tuple[float, float]]
    facts: Mapping[str, Any]

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self.norm)

    @property
    def varies(self) -> bool:
        """Whether the norms are means over batches that differ."""
        return bool(np.nansum(self.std))

    @property
    def share(self) -> NDArray[np.float64]:
        """[layer] a block's squared norm in the sum of squared norms over the blocks; 0 if all are 0."""
        # In units of the largest one: squares of small norms vanish.
        squares = (self.norm / (np.nanmax(self.norm) or 1.0)) ** 2
        return squares / (np.nansum(squares) or 1.0)

    @property
    def quantity(self) -> str:
        """What a gradient norm is the norm of, as a caption states it."""
        objective = str(self.facts.get("objective") or "").replace(" ", "-")
        loss = f"gradient of the mean {f'{objective} ' if objective else ''}loss (nats)"
        batch, batches = self.facts.get("per_batch"), self.facts.get("gradient_batches")
        if self.varies or (batch and batches != 1):
            number = f"{batches:,} " if batches else ""
            size = f" of {counted(batch, 'sample')}" if batch else ""
            return f"{loss}, mean and standard deviation over {number}batches{size}"
        tokens = self.facts.get("predicted_tokens")
        return f"{loss} over all {f'{tokens:,} ' if tokens else ''}predicted tokens taken as one batch"

    @property
    def sentences(self) -> list[str]:
        """The loss, the layers with the largest and the smallest norm, deep against shallow."""
        return [" ".join([*_loss(self.facts), *_extremes(self.norm), *_thirds(self.norm)])]


def read(
    tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any] | None = None, layers: int | None = None
) -> GradNorms:
    """Return what the table ``gradnorm`` says; arguments and errors as :func:`of_runs.findings_in`."""
    frame = tables[STEM]
    _check(frame)
    ends = frame[frame["part"].isin(OUTSIDE)].set_index("part")
    # The final norm and the head stand at L, behind the last layer.
    inside = frame.loc[frame["part"] == WHOLE, "layer"].max() + 1
    count = int(max([layers or 0, inside, *ends["layer"]]))

    def by_layer(part: str, column: str) -> NDArray[np.float64]:
        rows = frame[frame["part"] == part]
        values = np.full(count, np.nan)
        values[rows["layer"].to_numpy()] = rows[column]
        return values

    measured = set(frame["part"])
    return GradNorms(
        norm=by_layer(WHOLE, "grad_norm"),
        std=by_layer(WHOLE, "std"),
        parts={part: by_layer(part, "grad_norm") for part in PARTS if part in measured},
        outside={part: tuple(ends.loc[part, ["grad_norm", "std"]]) for part in OUTSIDE if part in measured},
        facts=facts or {},
    )


def _check(frame: pd.DataFrame) -> None:
    check_table(frame, WHAT, _COLUMNS, _NUMBERS, keys=("part", "layer"), signed=False)
    parts = frame.groupby("part", sort=False)["layer"].agg(set)
    unknown = [part for part in parts.index if part not in (WHOLE, *PARTS, *OUTSIDE)]
    if unknown:
        raise RunError(f"The table of {WHAT} has the part {unknown[0]!r}.")
    if WHOLE not in parts:
        raise RunError(f"The table of {WHAT} has no row for a whole block (part {WHOLE}).")
    if min(parts[WHOLE]) < 0:
        raise RunError(f"The table of {WHAT} has a layer below 0.")
    alone = set().union(*(parts.get(part, ()) for part in PARTS)) - parts[WHOLE]
    if alone:
        raise RunError(
            f"The table of {WHAT} has parts and no whole block (part {WHOLE}) of layer {min(alone)}."
        )


def _loss(facts: Mapping[str, Any]) -> list[str]:
    """The loss whose gradient it is, if the facts say it."""
    loss, tokens = facts.get("loss_nats"), facts.get("predicted_tokens")
    if loss is None:
        return []
    over = f", mean over {counted(tokens, 'predicted token')}" if tokens else ""
    return [f"Loss: {loss:.3f} nats{over}."]


def _extremes(norm: NDArray[np.float64]) -> list[str]:
    """The largest and the smallest norm, and how far they are apart."""
    bare, idle, reached = np.flatnonzero(np.isnan(norm)), np.flatnonzero(norm == 0), np.flatnonzero(norm > 0)
    said = [f"No parameter in {layers_named(bare)} can have a gradient."] if bare.size else []
    if not reached.size:
        return [*said, f"No gradient reaches {layers_named(idle)}: every norm is 0."]
    said += [f"No gradient reaches {layers_named(idle)}."] if idle.size else []
    if len(reached) == 1:
        return [*said, f"The gradient norm of layer {reached[0]} is {significant(norm[reached[0]])}."]
    least, most = (int(reached[pick(norm[reached])]) for pick in (np.argmin, np.argmax))
    ratio = norm[most] / norm[least]
    if ratio < 1 + 1e-9:
        return [*said, f"The gradient norm of {layers_named(reached)} is {significant(norm[most])} each."]
    decades = f", {math.log10(ratio):.1f} decades" if ratio >= 10 else ""
    return [
        *said,
        f"The gradient norm is largest in layer {most} ({significant(norm[most])}) and smallest in layer "
        f"{least} ({significant(norm[least])}): a factor of {significant(ratio, 2)}{decades}.",
    ]


def _thirds(norm: NDArray[np.float64]) -> list[str]:
    """How the deep third of the layers compares with the shallow third."""
    found = thirds(norm)
    if found is None or not found.shallow:
        return []
    ratio = significant(found.deep / found.shallow, 2)
    first, last = layers_named(found.shallow_layers), layers_named(found.deep_layers)
    return [f"The mean norm of the deep third ({last}) is {ratio} times that of the shallow third ({first})."]
