"""Angular distance: how far does the residual stream turn between any two boundaries?

    d(x^l, x^{l+n}) = arccos( x_T^l . x_T^{l+n} / (|x_T^l| |x_T^{l+n}|) ) / pi

averaged over samples, T the last real token, for every l >= 0 and n >= 1 with l + n <= L. A small
distance over n blocks says that those blocks barely change the stream: l*(n) = argmin_l is the best
block of n layers to remove.

Source: The Curse of Depth (2502.05795) eq. 1; Gromov et al. (2403.17887) eq. 7 and 8. As there, x^L is
read before the final norm; published scripts read it after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from depthprobe.catalogue import ANGULAR
from depthprobe.errors import OptionError
from depthprobe.machine.processes import ALONE, Processes
from depthprobe.measurement import Measurement
from depthprobe.metrics.angular import pairwise_angular_distance
from depthprobe.metrics.moments import Moments
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.stream import refuse_directionless, run_backbone
from depthprobe.models.capture import reading_stream
from depthprobe.probes.forward import forward_batches

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
    """Return the angular distance of every pair of boundaries, from one forward pass for each batch.

    Args:
        model: The loaded model.
        anatomy: Its anatomy.
        samples: Token samples.
        tokens: ``last`` takes the last token of each sample as the papers do, ``all`` every token.
        batch_size: Samples in a batch; None fits batches to the device's memory.
        processes: Those among which the batches are shared out.
        advance: Called with the number of tokens just measured.

    Raises:
        MeasureError: if the stream holds NaN, infinity or a zero vector, which have no direction.
        MachineError: if one sample alone does not fit into memory.
    """
    if tokens not in ("last", "all"):
        raise OptionError(f"tokens must be last or all, got {tokens!r}.")

    def look(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = capture_vectors(anatomy, ids, mask, tokens)
        return torch.cat([_distances(part) for part in vectors.split(VECTORS_AT_ONCE)])

    moments = Moments()
    batches = 0
    found = forward_batches(
        model,
        anatomy,
        samples,
        look,
        bytes_beside=4 * (anatomy.layers + 1) * anatomy.hidden if tokens == "all" else 0,
        batch_size=batch_size,
        processes=processes,
        advance=advance,
    )
    for distances in found:
        moments.add(distances)
        batches += 1
    total = Moments()
    for part in processes.gather(moments):
        total.merge(part)
    facts: dict[str, Any] = {"batches": sum(processes.gather(batches)), "vectors": total.count}
    facts |= {"notes": found.notes} if found.notes else {}
    return ANGULAR.measurement({"angular": _frame(total, anatomy.layers)}, facts)


def capture_vectors(
    anatomy: Anatomy,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    tokens: Literal["last", "all"] = "last",
) -> torch.Tensor:
    """Return the stream at every boundary, gathered during one forward pass.

    Only the wanted tokens' vectors are kept; the whole hidden states never are, and the head never runs.

    Args:
        anatomy: Which blocks to listen to.
        input_ids: int64 ``[batch, token]``.
        attention_mask: int64 ``[batch, token]``, padded on the right.
        tokens: ``last`` for one vector for each sample, ``all`` for one for each real token.

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
