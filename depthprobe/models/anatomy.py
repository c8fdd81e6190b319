"""What a loaded model is made of: found by structure, believed only after one forward pass.

Boundaries are counted as in the papers: x^0 is what the first block receives, x^l what block l
receives, x^L what the last block returns, BEFORE the final norm. (transformers' last entry of
``output_hidden_states`` is after the final norm and is never used here.)
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from depthprobe.errors import AnatomyError
from depthprobe.models.architectures import BLOCK_PATHS
from depthprobe.models.trace import Trace, trace_blocks


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that the probes speak of.

    ``backbone`` runs the blocks without the head. ``final_norm`` and ``head`` are None where the model
    has none. ``norm_placement`` is ``pre``, ``post``, ``sandwich`` (a norm before and after each
    branch), ``branch-post`` (only after each branch, as OLMo 2), ``none``, or ``mixed`` where the
    blocks differ; ``norm_placements`` has one entry a block.
    """

    path: str
    blocks: tuple[nn.Module, ...]
    backbone: nn.Module
    hidden: int
    embedding_path: str | None
    final_norm_path: str | None
    head_path: str | None
    norm_placements: tuple[str, ...]
    embedding: nn.Module | None
    final_norm: nn.Module | None
    head: nn.Module | None

    @property
    def layers(self) -> int:
        """Number of blocks, L; there are L + 1 boundaries."""
        return len(self.blocks)

    @property
    def norm_placement(self) -> str:
        """The placement that all blocks share, or ``mixed``.

        A first block without a norm of its own does not count: where the embedding is normalised
        (ModernBERT, RWKV), it has none to read the stream with.
        """
        kinds = set(self.norm_placements)
        if len(kinds) > 1 and self.norm_placements[0] == "none":
            kinds = set(self.norm_placements[1:])
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def describe(self) -> dict[str, Any]:
        """Return the anatomy in JSON values, for a manifest."""
        return {
            "blocks_path": self.path,
            "layers": self.layers,
            "block": type(self.blocks[0]).__name__,
            "hidden": self.hidden,
            "embedding_path": self.embedding_path,
            "final_norm_path": self.final_norm_path,
            "head_path": self.head_path,
            "norm_placement": self.norm_placement,
        }


def describe_anatomy(model: nn.Module) -> Anatomy:
    """Return the anatomy of a transformers model, verified by one short forward pass.

    Candidates are the module lists of the model, the ones as long as the configuration declares first.
    The pass must show that every block ran once and in order, on a ``[batch, token, hidden]`` stream,
    and that each received exactly what the one before it returned.

    Args:
        model: A decoder-only or encoder model, in evaluation mode, on any device.

    Raises:
        AnatomyError: if no list of blocks passes; it says what was found and why it was not believed.
    """
    candidates = block_lists(model)
    if not candidates:
        raise AnatomyError(
            f"{type(model).__name__} has no list of blocks.",
            "Only stacks of residual blocks can be measured.",
        )
    refusals = []
    for path, blocks in candidates:
        trace = trace_blocks(model, blocks)
        if trace.refusal is None:
            backbone = backbone_of(model, path, blocks, trace)
            return _anatomy(model, path, blocks, backbone, trace)
        refusals.append(f"{path} ({len(blocks)} modules): {trace.refusal}")
    raise AnatomyError(
        f"The residual blocks of {type(model).__name__} were not found. Tried {'; '.join(refusals)}.",
        "Its stream is not one plain chain of blocks; measuring it would give wrong numbers.",
    )


def block_lists(model: nn.Module) -> list[tuple[str, tuple[nn.Module, ...]]]:
    """Return the candidate block lists, ``(dotted path, blocks)``, likeliest first.

    Lists inside lists (experts, heads) are left out. Lists of the declared length come first, then the
    larger ones; anything below one percent of the model's parameters is no stack of blocks.
    """
    config = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    declared = getattr(text, "num_hidden_layers", None)
    named = BLOCK_PATHS.get(getattr(config, "model_type", ""))
    total = sum(parameter.numel() for parameter in model.parameters())
    found: list[tuple[str, tuple[nn.Module, ...]]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(outer + ".") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            found.append((path, tuple(module)))

    def size(blocks: tuple[nn.Module, ...]) -> int:
        return sum(parameter.numel() for block in blocks for parameter in block.parameters())

    large = [(path, blocks) for path, blocks in found if size(blocks) >= 0.01 * total]
    return sorted(large, key=lambda item: (item[0] != named, len(item[1]) != declared, -size(item[1])))


def backbone_of(model: nn.Module, path: str, blocks: tuple[nn.Module, ...], trace: Trace) -> nn.Module:
    """Return the smallest part of the model that runs the blocks the same way, hence without the head.

    The modules around the block list that take ``input_ids`` are tried from the inside out; the first
    whose pass shows the stream of the whole model's ``trace`` is it.
    """
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        part = model.get_submodule(".".join(parts[:end]))
        if "input_ids" not in inspect.signature(part.forward).parameters:
            continue
        found = trace_blocks(part, blocks)
        if found.refusal is None and found.agrees_with(trace):
            return part
    return model


def _anatomy(
    model: nn.Module, path: str, blocks: tuple[nn.Module, ...], backbone: nn.Module, trace: Trace
) -> Anatomy:
    names = {module: name for name, module in model.named_modules()}
    embedding, head = _part(model, "get_input_embeddings"), _part(model, "get_output_embeddings")
    return Anatomy(
        path=path,
        blocks=blocks,
        backbone=backbone,
        hidden=trace.hidden,
        embedding_path=names.get(embedding),
        final_norm_path=names.get(trace.final_norm),
        head_path=names.get(head),
        norm_placements=tuple(trace.norm_placements),
        embedding=embedding,
        final_norm=trace.final_norm,
        head=head,
    )


def _part(model: nn.Module, getter: str) -> nn.Module | None:
    """Return what transformers' getter gives, or None where a model does not answer it."""
    try:
        return getattr(model, getter)()
    except (AttributeError, NotImplementedError):
        return None
