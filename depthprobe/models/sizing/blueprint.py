"""What a model is made of, found from its configuration alone: built and run on the meta device.

What is found here is a plan; measurements rely on ``describe_anatomy``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from depthprobe.builtin import embedded_models
from depthprobe.errors import AnatomyError, LoadError
from depthprobe.models.anatomy.anatomy import Anatomy, block_lists, part_of
from depthprobe.models.anatomy.block_kinds import Kinds, kinds_of, prefix_of
from depthprobe.models.loading.checkpoint import (
    Checkpoint,
    open_checkpoint,
)
from depthprobe.models.loading.options import LoadOptions
from depthprobe.models.loading.sources import ModelSource, told_of_names
from depthprobe.models.sizing.dry_pass import MetaPass, prefer_plain_kernels, run_on_meta


@dataclass(frozen=True)
class BlockPlan:
    """One layer: its block's class and parts; ``norm_placement`` is None where the pass did not show it."""

    block: str
    kinds: Kinds
    norm_placement: str | None
    parameters: int


@dataclass(frozen=True)
class Blueprint:
    """A model's parts, named as in :class:`depthprobe.models.anatomy.anatomy.Anatomy`.

    ``parameters`` counts shared ones once. ``not_run`` says why there was no pass on the meta device (all is
    then found by structure), ``refusal`` why the pass saw no plain chain of blocks; None if all is well.
    """

    architecture: str
    path: str
    layers: tuple[BlockPlan, ...]
    hidden: int | None
    parameters: int
    embedding_path: str | None
    embedding_parameters: int
    final_norm_path: str | None
    head_path: str | None
    head_is_tied: bool
    not_run: str | None = None
    refusal: str | None = None

    @property
    def norm_placement(self) -> str | None:
        """The placement that all blocks share, or ``mixed``; a first block without a norm does not count."""
        kinds = [layer.norm_placement for layer in self.layers]
        if len(set(kinds)) > 1 and kinds[0] == "none":
            kinds = kinds[1:]
        return kinds[0] if len(set(kinds)) == 1 else "mixed"


def open_without_weights(name: str, options: LoadOptions) -> Checkpoint:
    """Return configuration and tokenizer as :func:`open_checkpoint` does, but weights may be absent.

    A directory's weights are neither looked for nor hashed, so its source has no fingerprint.

    Raises:
        LoadError: As :func:`open_checkpoint`, and if the configuration cannot be read without the weights.
    """
    with told_of_names(name):
        folder = embedded_models().get(name, Path(name).expanduser())
        is_directory = bool(name) and (folder / "config.json").is_file()
    if is_directory:
        if options.revision is not None:
            problem = f"{name} is a directory and has no revision {options.revision!r}."
            raise LoadError(problem, "Leave out --revision.")
        source = ModelSource(name, str(folder.resolve()), None, None, "transformers")
        return open_checkpoint(source, options)
    if name.lower().partition(".gguf")[1]:
        raise LoadError(f"{name} holds its configuration in its weight file.", "Add --check.")
    checkpoint = open_checkpoint(name, options)
    if checkpoint.config is None:
        problem = f"{name} is in Meta's original layout, whose sizes are known only from its weights."
        raise LoadError(problem, "Add --check, which loads them.")
    return checkpoint


def describe_blueprint(model: nn.Module, tower: str | None = None, path: str | None = None) -> Blueprint:
    """Return what a model on the meta device is made of.

    Attention and experts run in transformers' plain implementations, which look at no values.

    Args:
        model: The model, with all its parameters on the meta device.
        tower: ``decoder`` (default) or ``encoder`` of an encoder-decoder model, which has both.
        path: Path of the block list, if it is known.

    Raises:
        AnatomyError: If it has no list of blocks.
    """
    candidates = block_lists(model, tower)
    candidates = [item for item in candidates if item[0] == path] or candidates
    if not candidates:
        raise AnatomyError(
            f"{type(model).__name__} has no list of blocks.",
            "Only stacks of residual blocks can be measured.",
        )
    prefer_plain_kernels(model)
    reasons: list[tuple[str, MetaPass]] = []
    for place, blocks in candidates:
        seen = run_on_meta(model, blocks)
        if seen.failure is None and seen.refusal is None:
            return _blueprint(model, place, seen)
        reasons.append((f"{place} ({len(blocks)} modules): {seen.failure or seen.refusal}", seen))
    place, blocks = candidates[0]
    seen = reasons[0][1]
    seen.blocks = list(blocks)
    if all(seen.failure is None for _, seen in reasons):
        seen.refusal = (
            f"The residual blocks of {type(model).__name__} were not found. Tried "
            f"{'; '.join(text for text, _ in reasons)}."
        )
    return _blueprint(model, place, seen)


def verified(blueprint: Blueprint, anatomy: Anatomy) -> Blueprint:
    """Return a blueprint with the norm placements that an anatomy of the same blocks saw with weights."""
    if len(blueprint.layers) != anatomy.layers:
        return blueprint
    layers = tuple(
        replace(plan, norm_placement=placement)
        for plan, placement in zip(blueprint.layers, anatomy.norm_placements, strict=True)
    )
    return replace(blueprint, layers=layers)


def _blueprint(model: nn.Module, path: str, seen: MetaPass) -> Blueprint:
    config = getattr(model, "config", None)
    prefix = prefix_of(model)
    layers = len(seen.blocks)
    plans = tuple(
        BlockPlan(
            type(block).__name__,
            kinds_of(block, config, layer, layers, prefix),
            seen.placements[layer] if seen.placements else None,
            sum(parameter.numel() for parameter in block.parameters()),
        )
        for layer, block in enumerate(seen.blocks)
    )
    names = {module: name for name, module in model.named_modules()}
    embedding, head = part_of(model, "get_input_embeddings"), part_of(model, "get_output_embeddings")
    weights = list(embedding.parameters()) if embedding is not None else []
    shared = set(map(id, weights))
    return Blueprint(
        architecture=type(model).__name__,
        path=path,
        layers=plans,
        hidden=seen.hidden,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embedding_path=names.get(embedding),
        embedding_parameters=sum(parameter.numel() for parameter in weights),
        final_norm_path=names.get(seen.final_norm),
        head_path=names.get(head),
        head_is_tied=head is not None and any(id(p) in shared for p in head.parameters()),
        not_run=seen.failure,
        refusal=seen.refusal,
    )
