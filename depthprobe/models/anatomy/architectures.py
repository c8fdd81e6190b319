"""The exceptions table: THE place for an architecture that the structure rule gets wrong.

:mod:`depthprobe.models.anatomy.anatomy` finds blocks by structure and believes nothing that one forward pass
does not confirm. An entry here only says what to try; it is checked like any other.
"""

from __future__ import annotations

# model_type -> dotted path of the block list below the loaded model.
BLOCK_PATHS: dict[str, str] = {}

# model_type of those whose sub-layers take the stream as ``residual`` and return the sum.
ADD_THE_STREAM_THEMSELVES = {"bloom"}

# model_type of those whose blocks hand on a second tensor that may have the stream's shape but is not one:
# the router states of Zaya. Elsewhere two such tensors are two residual streams.
CARRY_MORE_THAN_THE_STREAM = {"zaya"}

# Attribute of a sub-layer whose keys and values later blocks of its ``layer_type`` use in place of their own
# (Gemma 3n and 4). Without that block, the one before it of the same type is made to keep its own.
KEEPS_FOR_LATER = "store_full_length_kv"
