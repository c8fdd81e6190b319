"""The exceptions table: THE place for an architecture that the structure rule gets wrong.

:mod:`depthprobe.models.anatomy` finds blocks by structure and believes nothing that one forward pass
does not confirm. An entry here only names the block list to try first; it is checked all the same.
"""

from __future__ import annotations

# model_type -> dotted path of the block list below the loaded model.
BLOCK_PATHS: dict[str, str] = {}
