"""Variance of the residual stream: how large does it grow with depth, and what does each branch add to it?

    variance at x^l = mean over tokens of Var_hidden(x^l),    l = 0 .. L, x^L before the final norm

and the same for what attention and feed-forward add, wherever x^{l+1} = x^l + branches holds on the very
tokens measured. In many models the first token of a text carries a variance hundreds of times that of the
others, so that the mean hangs on how many tokens follow it: beside it stand the mean without the first token
of each sample, and the median over all tokens. From the same pass, layer by layer:

    Block Influence = 1 - mean over tokens of cos(x^l, x^{l+1})
    contribution ratio = mean over tokens of |x^{l+1} - x^l| / |x^l|

Every token of every sample counts once.

Source: layer output variance, The Curse of Depth (2502.05795) Fig. 4, unbiased as in 2603.15389; Block
Influence, ShortGPT (2403.03853) eq. 1. Unlike in published scripts, x^L is read before the final norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from depthprobe.catalogue import VARIANCE
from depthprobe.errors import MeasureError
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.measurement import Measurement, Table
from depthprobe.metrics.moments import Moments
from depthprobe.metrics.variance import (
    block_influence,
    contribution_ratio,
    hidden_variance,
    root_mean_square,
)
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.branches import identity_holds
from depthprobe.models.anatomy.stream import refuse_directionless, run_backbone
from depthprobe.models.capture import reading_branches, reading_stream
from depthprobe.probes.forward import forward_batches

if TYPE_CHECKING:
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.texts.samples import Samples

STREAM, ATTENTION, FEEDFORWARD = "stream", "attention", "feedforward"

COLUMNS = VARIANCE.tables[0].columns
INFLUENCE_COLUMNS = VARIANCE.columns("influence")

POST_LN = "the norms are on the stream itself (Post-LN), so the block does more than add to it"
NOT_FOUND = "no sum of module outputs was found to equal what the block adds"
BROKEN = "on this text the branches did not add up to what the block adds"

# Elements of float64 at once: as many as stay in a processor's cache, and enough to keep a GPU busy.
ELEMENTS_AT_ONCE = {"cpu": 1 << 17}
ELEMENTS_ELSEWHERE = 1 << 24

Key = tuple[str, int]  # point and layer


def measure(
    model: LoadedModel,
    anatomy: Anatomy,
    samples: Samples,
    *,
    batch_size: int | None = None,
    processes: Processes = ALONE,
    advance: Callable[[int], None] = lambda count: None,
) -> Measurement:
    """Return the variance of stream and branches, and every block's influence, from one pass for each batch.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        samples: Token samples.
        batch_size: Samples in a batch; None fits batches to the device's memory.
        processes: Those among which the batches are shared out.
        advance: Called with the number of tokens just measured.

    Raises:
        MeasureError: if the stream holds NaN, infinity or a zero vector, or a branch NaN or infinity.
        MachineError: if one sample alone does not fit into memory.
    """
    points = len(_points(anatomy))
    moments, later, broken, batches = Moments(), Moments(), set[int](), 0
    # Of each token, for the median: 4 bytes for each row of the table.
    each: list[np.ndarray] = []
    # The stream before and after the block and what is added, in float32 at most; the numbers of every layer.
    beside = 4 * 6 * anatomy.hidden + 8 * 2 * 4 * (anatomy.layers + 1)
    found = forward_batches(
        model,
        anatomy,
        samples,
        lambda ids, mask: (*observe(anatomy, ids, mask), _is_first(mask)),
        bytes_beside=beside,
        batch_size=batch_size,
        processes=processes,
        advance=advance,
    )
    for values, failed, first in found:
        moments.add(values)
        later.add(values[~first, :points, 0])
        each.append(values[:, :points, 0].float().numpy())
        broken |= failed
        batches += 1
    total, without_first, everywhere, count = Moments(), Moments(), set[int](), 0
    tokens: list[np.ndarray] = []
    for part, rest, single, failed, done in processes.gather((moments, later, each, broken, batches)):
        total.merge(part)
        without_first.merge(rest)
        tokens += single
        everywhere |= failed
        count += done
    if not without_first.count:
        raise MeasureError("Every sample is a single token, so none is left without the first.")
    facts: dict[str, Any] = {
        "batches": count,
        "tokens": total.count,
        "first_tokens": total.count - without_first.count,
        "without_branches": _without_branches(anatomy, everywhere),
        **({"notes": found.notes} if found.notes else {}),
    }
    return Measurement(
        "variance", _tables(anatomy, total, without_first, _medians(tokens), everywhere), facts
    )


def _is_first(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return which real tokens are the first of their sample, bool ``[token]`` on the CPU."""
    mask = attention_mask.bool()
    return (mask.cumsum(dim=1)[mask] == 1).cpu()


def _medians(parts: list[np.ndarray]) -> list[float]:
    """Return the median of each column of ``[token, point]`` parts, a column at a time for the memory."""
    columns = (np.concatenate([part[:, point] for part in parts]) for point in range(parts[0].shape[1]))
    return [float(np.median(column.astype(np.float64))) for column in columns]


def observe(
    anatomy: Anatomy, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, set[int]]:
    """Return what one forward pass shows of every real token, keeping the vectors of one block at a time.

    Args:
        anatomy: Which blocks and branches to listen to.
        input_ids: int64 ``[batch, token]``.
        attention_mask: int64 ``[batch, token]``, padded on the right.

    Returns:
        float64 ``[token, row, 2]`` on the CPU: variance and rms in the order of the table's rows, then Block
        Influence and contribution ratio of every layer. Also the layers whose branches do not add up to what
        the block added: the numbers of those branches mean nothing.

    Raises:
        MeasureError: as :func:`measure`.
    """
    watch = _Watch(anatomy, attention_mask)
    with reading_stream(anatomy, watch.stream), reading_branches(anatomy, watch.branch):
        run_backbone(anatomy.backbone, input_ids, attention_mask)
    return watch.found()


class _Watch:
    """One forward pass, watched: the numbers of blocks that have run, the vectors of the one running."""

    def __init__(self, anatomy: Anatomy, attention_mask: torch.Tensor) -> None:
        self.anatomy = anatomy
        self.where = attention_mask.bool().nonzero(as_tuple=True)
        self.sizes: dict[Key, torch.Tensor] = {}
        self.changes: list[torch.Tensor] = []
        self.holds: dict[int, bool] = {}
        self.received: torch.Tensor | None = None
        self.added: dict[str, list[torch.Tensor]] = {}

    def stream(self, boundary: int, stream: torch.Tensor) -> None:
        """Take the stream at one boundary, the output of one block and the input of the next."""
        now = self._real(stream)
        refuse_directionless(now, boundary)
        self.sizes[STREAM, boundary] = _by_parts(_size, now)
        if self.received is not None:
            received = self.received.to(now.device)
            self.changes.append(_by_parts(_change, received, now))
            self._branches(boundary - 1, received, now)
        self.received, self.added = now, {}

    def branch(self, layer: int, kind: str, added: torch.Tensor) -> None:
        """Take what one branch adds."""
        self.added.setdefault(kind, []).append(self._real(added))

    def _branches(self, layer: int, received: torch.Tensor, returned: torch.Tensor) -> None:
        """Take the size of what each kind of branch adds, and whether they add up."""
        everything: list[torch.Tensor] = []
        for kind, vectors in self.added.items():
            vectors = [part.to(received.device) for part in vectors]
            self.sizes[kind, layer] = _by_parts(_size, *vectors)
            _refuse_no_numbers(self.sizes[kind, layer], kind, layer)
            everything += vectors
        if everything:
            self.holds[layer] = identity_holds(received, returned, everything, _tokens_at_once(received))

    def _real(self, stream: torch.Tensor) -> torch.Tensor:
        """Return a copy ``[token, hidden]`` of the real tokens' vectors, on a device that has float64."""
        row, position = (index.to(stream.device) for index in self.where)
        vectors = stream[row, position]
        return vectors.cpu() if vectors.device.type == "mps" else vectors

    def found(self) -> tuple[torch.Tensor, set[int]]:
        """Return what :func:`observe` returns, once the pass is over."""
        nothing = torch.zeros_like(self.changes[0])
        rows = [self.sizes.get(point, nothing).cpu() for point in _points(self.anatomy)]
        values = torch.stack([*rows, *(change.cpu() for change in self.changes)], dim=1)
        expected = [layer for layer, inside in enumerate(self.anatomy.insides) if inside.branches is not None]
        return values, {layer for layer in expected if not self.holds.get(layer, False)}


def _size(*added: torch.Tensor) -> torch.Tensor:
    """Return variance and rms of a sum of vectors, float64 ``[token, 2]``."""
    x: Any = sum(part.double() for part in added)
    return torch.stack([hidden_variance(x), root_mean_square(x)], dim=-1)


def _change(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return Block Influence and contribution ratio of a block's tokens, float64 ``[token, 2]``."""
    x, y = x.double(), y.double()
    return torch.stack([block_influence(x, y), contribution_ratio(x, y)], dim=-1)


def _refuse_no_numbers(sizes: torch.Tensor, kind: str, layer: int) -> None:
    """Raise where the ``[token, 2]`` variance and rms of a branch show that it is NaN or infinite."""
    bad = ~sizes.isfinite().all(dim=-1)
    if bad.any():
        raise MeasureError(
            f"What the {kind} of layer {layer} adds is NaN or infinite in {int(bad.sum())} of the {len(bad)} "
            "vectors of a batch.",
            "Try --dtype float32 or bfloat16; if that does not help, the weights are broken.",
        )


def _by_parts(measured: Callable[..., torch.Tensor], *vectors: torch.Tensor) -> torch.Tensor:
    """Return ``measured(*vectors)`` for ``[token, hidden]`` tensors, some tokens at a time for the memory."""
    parts = zip(*(tensor.split(_tokens_at_once(tensor)) for tensor in vectors), strict=True)
    return torch.cat([measured(*part) for part in parts])


def _tokens_at_once(vectors: torch.Tensor) -> int:
    elements = ELEMENTS_AT_ONCE.get(vectors.device.type, ELEMENTS_ELSEWHERE)
    return max(elements // vectors.shape[-1], 1)


def _points(anatomy: Anatomy) -> list[Key]:
    """Return the rows of the table in order: the stream, then what each kind of branch adds."""
    points = [(STREAM, boundary) for boundary in range(anatomy.layers + 1)]
    for kind in (ATTENTION, FEEDFORWARD):
        for layer, inside in enumerate(anatomy.insides):
            if any(branch.kind == kind for branch in inside.branches or ()):
                points.append((kind, layer))
    return points


def _tables(
    anatomy: Anatomy, moments: Moments, without_first: Moments, medians: list[float], broken: set[int]
) -> tuple[Table, Table]:
    points = _points(anatomy)
    sizes, changes = moments.mean.split([len(points), anatomy.layers])
    numbers = zip(points, sizes.tolist(), without_first.mean.tolist(), medians, strict=True)
    rows = [
        (layer, point, variance, later, median, rms, moments.count)
        for (point, layer), (variance, rms), later, median in numbers
        if point == STREAM or layer not in broken
    ]
    variance = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    influence = pd.DataFrame(
        {
            "layer": range(anatomy.layers),
            "block_influence": changes[:, 0].numpy(),
            "contribution_ratio": changes[:, 1].numpy(),
        }
    )
    return Table("variance", variance, COLUMNS), Table("influence", influence, INFLUENCE_COLUMNS)


def _without_branches(anatomy: Anatomy, broken: set[int]) -> dict[str, list[int]]:
    """Return the layers whose branches are not in the table, by reason."""
    reasons: dict[str, list[int]] = {}
    for layer, inside in enumerate(anatomy.insides):
        if inside.branches is None:
            reason = POST_LN if inside.norm_placement == "post" else NOT_FOUND
            reasons.setdefault(reason, []).append(layer)
        elif layer in broken:
            reasons.setdefault(BROKEN, []).append(layer)
    return reasons
