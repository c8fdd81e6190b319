"""Angular distance: how far does the residual stream turn between any two boundaries?

    d(x^l, x^{l+n}) = arccos( x_T^l . x_T^{l+n} / (|x_T^l| |x_T^{l+n}|) ) / pi

averaged over samples, T the last real token, for every l >= 0 and n >= 1 with l + n <= L. A small
distance over n blocks says that those blocks barely change the stream: l*(n) = argmin_l is the best
block of n layers to remove.

Source: The Curse of Depth (2502.05795) eq. 1; Gromov et al. (2403.17887) eq. 7 and 8. Like them, x^L is
taken before the final norm; unlike published scripts, which read it after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch

from depthprobe.catalogue import ANGULAR
from depthprobe.errors import OptionError
from depthprobe.machine.batches import pad_batch, plan_batches, run_batches, token_budget
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.measurement import Measurement
from depthprobe.metrics.angular import pairwise_angular_distance
from depthprobe.metrics.moments import Moments
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.stream import refuse_directionless, run_backbone
from depthprobe.models.capture import reading_stream
from depthprobe.models.sizing.footprint import bytes_per_token

if TYPE_CHECKING:
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.texts.samples import Samples

COLUMNS = ANGULAR.tables[0].columns

# Pairs of boundaries of this many vectors at once: (L+1)^2 distances each.
VECTORS_AT_ONCE = 256


def measure(
    model: LoadedModel,
    anatomy: Anatomy,
    samples: Samples,
    *,
    tokens: Literal["last", "all"] = "last",
    batch_size: int | None = None,
    processes: Processes = ALONE,
    advance: Callable[[int], None] = lambda count: None,
) -> Measurement:
    """Return the angular distance of every pair of boundaries, from one forward pass a batch.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        samples: Token samples.
        tokens: ``last`` takes the last token of each sample as the papers do, ``all`` every token.
        batch_size: Samples a batch; None fits batches to the device's memory.
        processes: Those among which the batches are shared out.
        advance: Called with the number of tokens just measured.

    Raises:
        MeasureError: if the stream holds NaN, infinity or a zero vector, which have no direction.
        MachineError: if one sample alone does not fit into memory.
    """
    if tokens not in ("last", "all"):
        raise OptionError(f"tokens is {tokens!r}.", "Use last or all.")
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise OptionError(f"batch_size is {batch_size!r}.", "Use a number of 1 or more, or None.")
    budget = token_budget(model.device, _bytes_per_token(model, anatomy, tokens), model.weight_bytes)
    plan = plan_batches(samples.lengths, budget, batch_size, same_length=anatomy.feels_padding)
    pad = model.pad_token_id

    def step(batch: list[int]) -> torch.Tensor:
        ids, mask = pad_batch([samples.tokens[index] for index in batch], pad)
        vectors = capture_vectors(anatomy, ids.to(model.device), mask.to(model.device), tokens)
        return torch.cat([_distances(part) for part in vectors.split(VECTORS_AT_ONCE)])

    moments = Moments()
    batches = 0
    for batch, distances in run_batches(processes.mine(plan), step):
        moments.add(distances)
        batches += 1
        advance(sum(samples.lengths[index] for index in batch))
    total = Moments()
    for part in processes.gather(moments):
        total.merge(part)
    facts = {"batches": sum(processes.gather(batches)), "vectors": total.count}
    return ANGULAR.measurement({"angular": _frame(total, anatomy.layers)}, facts)


def capture_vectors(
    anatomy: Anatomy,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    tokens: Literal["last", "all"] = "last",
) -> torch.Tensor:
    """Return the stream at every boundary, gathered as one pass goes by.

    Only the wanted tokens' vectors are kept; the whole hidden states never are, and the head never runs.

    Args:
        anatomy: Which blocks to listen to.
        input_ids: int64 ``[batch, token]``.
        attention_mask: int64 ``[batch, token]``, padded on the right.
        tokens: ``last`` for one vector a sample, ``all`` for one a real token.

    Returns:
        ``[vector, boundary, hidden]`` in the stream's dtype, L + 1 boundaries.
    """
    rows = torch.arange(len(input_ids), device=input_ids.device)
    where = (
        (rows, attention_mask.sum(dim=1) - 1)
        if tokens == "last"
        else attention_mask.bool().nonzero(as_tuple=True)
    )
    kept: list[torch.Tensor] = []

    def read(boundary: int, stream: torch.Tensor) -> None:
        row, position = (index.to(stream.device) for index in where)
        kept.append(stream[row, position].to(input_ids.device))

    with reading_stream(anatomy, read):
        run_backbone(anatomy.backbone, input_ids, attention_mask)
    return torch.stack(kept, dim=1)


def _distances(vectors: torch.Tensor) -> torch.Tensor:
    """Return ``[vector, boundary, boundary]`` float64 on the CPU, or raise where there is no direction."""
    if vectors.device.type == "mps":
        vectors = vectors.cpu()  # MPS has no float64
    for boundary in range(vectors.shape[1]):
        refuse_directionless(vectors[:, boundary], boundary)
    return pairwise_angular_distance(vectors).cpu()


def _frame(moments: Moments, layers: int) -> pd.DataFrame:
    layer, end = torch.triu_indices(layers + 1, layers + 1, offset=1)
    return pd.DataFrame(
        {
            "layer": layer.numpy(),
            "n": (end - layer).numpy(),
            "distance": moments.mean[layer, end].numpy(),
            "std": moments.std[layer, end].numpy(),
            "samples": moments.count,
        }
    )


def _bytes_per_token(model: LoadedModel, anatomy: Anatomy, tokens: str) -> int:
    """Return a generous guess of the bytes that one token in flight costs a block, and of what is kept."""
    kept = (anatomy.layers + 1) * anatomy.hidden if tokens == "all" else 0
    return bytes_per_token(model.model.config, anatomy.layers, anatomy.hidden) + 4 * kept
