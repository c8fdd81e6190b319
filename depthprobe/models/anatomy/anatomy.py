"""What a loaded model is made of: found by structure, confirmed by one forward pass.

Boundaries are counted as in the papers: x^0 is what the first block receives, x^l what block l
receives, x^L what the last block returns, BEFORE the final norm. (transformers' last entry of
``output_hidden_states`` is after the final norm and is never used here.)
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from depthprobe.errors import AnatomyError
from depthprobe.models.anatomy.architectures import BLOCK_PATHS
from depthprobe.models.anatomy.block_sites import Forward, Site, wrapping
from depthprobe.models.anatomy.branches import Insides, look_inside
from depthprobe.models.anatomy.stream import StreamAxes, pick, run_backbone
from depthprobe.models.anatomy.trace import FORWARD_EXCEPTIONS, Trace, probe_ids, trace_blocks


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that the probes work on.

    ``backbone`` runs the blocks without the head. ``feels_padding`` says that masked padding changes the
    output at real tokens (convolutions, Fourier transforms), so that a batch may hold one length only.
    ``final_norm`` and ``head`` are None where the model has none. ``norm_placement`` is ``pre``, ``post``,
    ``sandwich`` (a norm before and after each branch), ``branch-post`` (only after each, as in OLMo 2),
    ``none``, or ``mixed`` where the blocks differ; ``insides`` has one entry for each layer.
    """

    path: str
    sites: tuple[Site, ...]
    layout: StreamAxes
    feels_padding: bool
    backbone: nn.Module
    hidden: int
    embedding_path: str | None
    final_norm_path: str | None
    head_path: str | None
    insides: tuple[Insides, ...]
    embedding: nn.Module | None
    final_norm: nn.Module | None
    head: nn.Module | None

    @property
    def layers(self) -> int:
        """Number of layers, L; there are L + 1 boundaries."""
        return len(self.sites)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The block of each layer; the same one more than once where it is called several times."""
        return tuple(site.block for site in self.sites)

    @property
    def norm_placements(self) -> tuple[str, ...]:
        """Where the norms of each layer are."""
        return tuple(layer.norm_placement for layer in self.insides)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about what is unusual."""
        ran = {site.index for site in self.sites}
        idle = [index for index in range(max(ran) + 1) if index not in ran]
        if idle:
            names = ", ".join(map(str, idle))
            return (f"Blocks {names} of {self.path} do not run on text; layers are counted without them.",)
        if any(site.call for site in self.sites):
            return (f"{self.layers} layers share {len(ran)} blocks.",)
        return ()

    @property
    def without_branches(self) -> tuple[int, ...]:
        """Layers for which stream in + branches = stream out was not found to hold."""
        return tuple(layer for layer, inside in enumerate(self.insides) if inside.branches is None)

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
            **({"padding": "samples of one length a batch"} if self.feels_padding else {}),
        }


def describe_anatomy(model: nn.Module, tower: str | None = None) -> Anatomy:
    """Return the anatomy of a transformers model, verified by one short forward pass.

    Candidates are the model's module lists, those of the length that the configuration declares first.
    The pass must show that every block ran once and in order, on a ``[batch, token, hidden]`` stream,
    and that each received exactly what the one before it returned.

    Args:
        model: A language model, in evaluation mode, on any device.
        tower: ``decoder`` (default) or ``encoder`` of an encoder-decoder model, which has both.

    Raises:
        AnatomyError: if no list of blocks passes; it says what was found and why it was rejected.
    """
    candidates = block_lists(model, tower)
    if not candidates:
        raise AnatomyError(
            f"{type(model).__name__} has no list of blocks.",
            "Only stacks of residual blocks can be measured.",
        )
    refusals = []
    largest = max(candidates, key=lambda item: _size(item[1]))[0]
    count = len(candidates[0][1])
    for path, blocks in candidates:
        # Lists of another length are the model only if they are most of it; the rest are towers and helpers.
        if len(blocks) != count and path != largest:
            continue
        trace = trace_blocks(model, blocks)
        if trace.refusal is None:
            backbone = backbone_of(model, path, blocks, trace)
            insides = look_inside(backbone, trace.sites, probe_ids(backbone))
            return _anatomy(model, path, backbone, trace, insides)
        refusals.append(f"{path} ({len(blocks)} modules): {trace.refusal}")
    raise AnatomyError(
        f"The residual blocks of {type(model).__name__} were not found. Tried {'; '.join(refusals)}.",
        "Its stream is not one plain chain of blocks; measuring it would give wrong numbers.",
    )


def block_lists(model: nn.Module, tower: str | None = None) -> list[tuple[str, tuple[nn.Module, ...]]]:
    """Return the candidate block lists, ``(dotted path, blocks)``, likeliest first.

    Lists inside lists (experts, heads) are left out. Lists of the declared length come first, then the
    larger ones; anything below one percent of the model's parameters is not a stack of blocks.
    """
    if tower is None and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        tower = "decoder"
    config: Any = getattr(model, "config", None)
    text = (
        config.get_text_config(**{tower or "decoder": True}) if hasattr(config, "get_text_config") else config
    )
    declared = getattr(text, "num_hidden_layers", None)
    within = None if tower is None else set(getattr(model, f"get_{tower}")().modules())
    named = BLOCK_PATHS.get(getattr(config, "model_type", ""))
    total = sum(parameter.numel() for parameter in model.parameters())
    found: list[tuple[str, tuple[nn.Module, ...]]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(outer + ".") for outer, _ in found)
        if (
            isinstance(module, nn.ModuleList)
            and len(module)
            and not inside
            and (within is None or module in within)
        ):
            found.append((path, tuple(module)))

    large = [(path, blocks) for path, blocks in found if _size(blocks) >= 0.01 * total]
    # Beside a huge vocabulary even the blocks are less than that.
    large = large or [(path, blocks) for path, blocks in found if len(blocks) == declared]
    return sorted(large, key=lambda item: (item[0] != named, len(item[1]) != declared, -_size(item[1])))


def _size(blocks: tuple[nn.Module, ...]) -> int:
    return sum(parameter.numel() for block in blocks for parameter in block.parameters())


def backbone_of(model: nn.Module, path: str, blocks: tuple[nn.Module, ...], trace: Trace) -> nn.Module:
    """Return the smallest part of the model that runs the blocks the same way, hence without the head.

    The modules around the block list that take ``input_ids`` are tried from the inside out; the first
    whose pass shows the stream of the whole model's ``trace`` is it.
    """
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        part = model.get_submodule(".".join(parts[:end]))
        if "input_ids" not in inspect.signature(part.forward).parameters:  # also module lists
            continue
        found = trace_blocks(part, blocks)
        if found.refusal is None and found.agrees_with(trace):
            return part
    return model


def _anatomy(
    model: nn.Module, path: str, backbone: nn.Module, trace: Trace, insides: tuple[Insides, ...]
) -> Anatomy:
    names = {module: name for name, module in model.named_modules()}
    embedding, head = part_of(model, "get_input_embeddings"), part_of(model, "get_output_embeddings")
    return Anatomy(
        path=path,
        sites=trace.sites,
        layout=trace.layout,
        feels_padding=_feels_padding(backbone, trace),
        backbone=backbone,
        hidden=trace.hidden,
        embedding_path=names.get(embedding),
        final_norm_path=names.get(trace.final_norm),
        head_path=names.get(head),
        insides=insides,
        embedding=embedding,
        final_norm=trace.final_norm,
        head=head,
    )


def _feels_padding(backbone: nn.Module, trace: Trace) -> bool:
    """Return whether padding after the text changes x^L at its tokens, although the mask marks it."""
    ids = probe_ids(backbone)
    padded = torch.cat([ids, ids[:, :3]], dim=1)
    mask = torch.ones_like(padded)
    mask[:, ids.shape[1] :] = 0
    last, truth = len(trace.sites) - 1, trace.boundaries[-1].double()
    found: list[torch.Tensor] = []

    def noting(layer: int, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            found.append(trace.layout.tokens(pick(output, trace.sites[last].target)).double())
            return output

        return run

    with wrapping(trace.sites, [last], noting):
        try:
            run_backbone(backbone, padded, mask)
        except FORWARD_EXCEPTIONS:
            return True
    # Kernels round differently at another length; half precision far more so.
    tolerance = 1e-4 if trace.boundaries[-1].dtype.itemsize >= 4 else 5e-2
    length = ids.shape[1]
    return bool((found[0][:, :length] - truth[:, :length]).norm() > tolerance * truth.norm())


def part_of(model: nn.Module, getter: str) -> nn.Module | None:
    """Return the module that transformers' getter returns, or None where a model has none."""
    try:
        part = getattr(model, getter)()
    except (AttributeError, NotImplementedError):
        return None
    return part if isinstance(part, nn.Module) else None
