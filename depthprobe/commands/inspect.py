"""``depthprobe inspect``: what a model is made of, whether it fits, and which commands will run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from depthprobe.catalogue import PROBES
from depthprobe.commands import options as shared
from depthprobe.commands.arguments import Asked, OptionGroup
from depthprobe.commands.choice import choose_model
from depthprobe.commands.show import Watch, importing, result_console
from depthprobe.declaring import Option, Probe
from depthprobe.errors import AnatomyError, DepthprobeError, LoadError, OptionError
from depthprobe.evaluation.harness.options import SweepOptions, TaskOptions
from depthprobe.models.loading.options import LoadOptions, split_adapter

if TYPE_CHECKING:
    from rich.table import Table

    from depthprobe.models.anatomy.anatomy import Anatomy
    from depthprobe.models.loading.checkpoint import Checkpoint
    from depthprobe.models.loading.loading import LoadedModel
    from depthprobe.models.sizing.blueprint import Blueprint
    from depthprobe.models.sizing.footprint import Footprint

HINT = "--check loads the weights and verifies this."


@dataclass(frozen=True)
class InspectOptions:
    """How thoroughly a model is inspected."""

    check: Annotated[bool, Option("Load the weights too, and verify the blocks by a forward pass.")] = False


EXAMPLE = "depthprobe inspect builtin:pre-ln"
GROUPS = (*shared.OF_MODEL, OptionGroup(InspectOptions), shared.OF_TERMINAL)


def command(asked: Asked) -> None:
    """What a model is made of, whether it fits, and which commands will run: without its weights.

    Reads the configuration and the tokenizer, builds the model without values and runs it that way. Prints
    the blocks and their kinds, where the norms are, the parameters, the memory that each command needs, and
    why a command will not run. With --check the weights are loaded and the blocks verified.
    """
    chosen, why = choose_model(**asked.values(shared.ModelOptions))
    check = asked.options(InspectOptions).check
    watch = Watch(**asked.values(shared.TerminalOptions))
    watch.say(f"Model: {chosen} ({why}).")

    with importing():
        from depthprobe.models.loading.loading import load_model, open_checkpoint
        from depthprobe.models.sizing.blueprint import open_without_weights
        from depthprobe.models.sizing.footprint import declared_dtype

    load = asked.options(LoadOptions)
    chosen, adapter = split_adapter(chosen, load.adapter)
    load = replace(load, adapter=None)
    if adapter is not None:
        watch.say("--adapter is ignored: an adapter changes no sizes.")
    loaded: LoadedModel | None = None
    with watch.stage("Reading configuration and tokenizer", None, ""):
        checkpoint = open_checkpoint(chosen, load) if check else open_without_weights(chosen, load)
    for note in (*checkpoint.source.notes, *checkpoint.notes):
        watch.say(note)
    stored = None if checkpoint.config is None else declared_dtype(checkpoint.config)
    if check:
        with watch.stage("Fetching and loading weights", None, "bytes"):
            loaded = load_model(checkpoint, load, stage=watch.stage)
        for note in loaded.notes:
            watch.say(note)
        if checkpoint.config is None:  # Meta's original layout
            checkpoint = replace(checkpoint, config=loaded.model.config)
    with watch.stage("Finding the blocks", None, ""):
        found = _look(checkpoint, load, loaded, stored)
    console = result_console()
    console.print(_facts(chosen, found))
    if found.blueprint is not None:
        console.print(_blocks(found.blueprint))
    console.print(_commands(found))
    for line in found.sentences:
        console.print(line, soft_wrap=not console.is_terminal, markup=False)


@dataclass
class _Found:
    """What is printed: facts, the blueprint, what each command needs, and why one will not run."""

    rows: list[tuple[str, str]]
    blueprint: Blueprint | None
    footprints: Sequence[Footprint]
    reasons: dict[str, str]
    sentences: list[str]
    followed: bool = True


def _look(checkpoint: Checkpoint, load: LoadOptions, loaded: LoadedModel | None, stored: Any) -> _Found:
    from depthprobe.models.anatomy.anatomy import describe_anatomy
    from depthprobe.models.loading.checkpoint import declared_positions
    from depthprobe.models.loading.initial import build_on_meta
    from depthprobe.models.loading.placement import choose_device, dtype_name, parse_dtype
    from depthprobe.models.loading.quantisation import check_quantisation
    from depthprobe.models.sizing import footprint as memory
    from depthprobe.models.sizing.blueprint import describe_blueprint, verified

    config, name = copy.deepcopy(checkpoint.config), checkpoint.source.name
    assert config is not None, "open_without_weights has checked"
    place = choose_device(load.device)
    wanted = parse_dtype(load.dtype, place)
    model = build_on_meta(name, config, checkpoint.trust_remote_code)
    blueprint, anatomy, refusal, unloadable, packed = None, None, "", "", None
    try:
        if loaded is not None:
            anatomy = describe_anatomy(loaded.model, checkpoint.tower)
    except AnatomyError as error:
        refusal = str(error)
    try:
        blueprint = describe_blueprint(model, checkpoint.tower, None if anatomy is None else anatomy.path)
        refusal = refusal or ("" if anatomy is not None else blueprint.refusal or "")
    except AnatomyError as error:
        refusal = refusal or str(error)
    if blueprint is not None and anatomy is not None:
        blueprint = verified(blueprint, anatomy)
    if model.main_input_name != "input_ids":
        unloadable = f"{name} ({config.model_type}) reads {model.main_input_name}, not text."
    try:
        packed = check_quantisation(name, config, place) if checkpoint.gguf is None else None
    except LoadError as error:
        unloadable = unloadable or str(error)
    dtype = memory.loaded_dtype(wanted, stored, packed, place) if loaded is None else loaded.model.dtype
    path = "" if blueprint is None else blueprint.path
    weights = memory.weight_bytes(model, path, dtype, packed)
    layers, hidden = (0, None) if blueprint is None else (len(blueprint.layers), blueprint.hidden)
    room = memory.room_on(place)
    widths = memory.widths_of(config, layers, hidden)
    if blueprint is not None:
        widths = replace(widths, largest=max((plan.parameters for plan in blueprint.layers), default=0))
    footprints = memory.footprints(weights, widths, dtype, room)
    reasons = {}
    for needed in footprints:
        probe = PROBES[needed.command]
        reason = unloadable or refusal or _why_no_numbers(probe, name, checkpoint, blueprint, model)
        if needed.verdict == memory.TOO_LARGE and loaded is None:
            reason = reason or memory.why_not(name, needed, dtype, room)
        if reason:
            reasons[needed.command] = reason
    limit = declared_positions(config) if loaded is None else loaded.context_tokens
    quantisation = (
        str(packed) if packed is not None else (loaded.quantisation if loaded is not None else None)
    )
    rows = [
        ("architecture", f"{type(model).__name__} ({config.model_type})"),
        *_structure(blueprint, anatomy),
        ("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"),
        ("vocabulary", f"{config.get_text_config().vocab_size:,}" if _has_vocabulary(config) else "none"),
        ("context", "no limit declared" if limit is None else f"{limit:,} tokens"),
        ("stored in", "not said" if stored is None else dtype_name(stored)),
        ("quantisation", quantisation or "none"),
        ("loaded in", f"{dtype_name(dtype)} on {place}"),
    ]
    sentences = [f"Free on {place}: {memory.gib(room.free)}."]
    if room.everywhere != room.free:
        sentences[0] += f" Over all devices and the main memory: {memory.gib(room.everywhere)}."
    sentences += [f"{command} will not run: {reason}" for command, reason in reasons.items()]
    if blueprint is not None and loaded is None:
        if blueprint.not_run is not None:
            sentences.append(f"Found by structure alone: this model cannot run without values. {HINT}")
        elif refusal:
            sentences.append(f"Found in a forward pass without values. {HINT}")
    followed = anatomy is not None or (blueprint is not None and blueprint.not_run is None)
    return _Found(rows, blueprint, footprints, reasons, sentences, followed)


def _why_no_numbers(
    probe: Probe, name: str, checkpoint: Checkpoint, blueprint: Blueprint | None, model: Any
) -> str:
    """Return why a model that loads has no such numbers; nothing if it has."""
    if issubclass(probe.options, TaskOptions):
        return _why_no_tasks(checkpoint)
    if probe.needs_loss and blueprint is not None and not blueprint.head_path:
        return f"{name} has no language-model head, so there is no loss to take a gradient of."
    from depthprobe.models.loading.missing import lacks_head
    from depthprobe.models.loading.weights import stored_names

    stored = stored_names(checkpoint.folder) if checkpoint.gguf is None else None
    if probe.needs_loss and stored is not None and lacks_head(model, stored):
        return (
            f"{name} has no weights for its language-model head, so there is no loss to take a gradient of."
        )
    return ""


def _why_no_tasks(checkpoint: Checkpoint) -> str:
    """Return why a sweep refuses a model before its weights are read; empty if it does not."""
    from depthprobe.probes.preparation import prepare

    try:
        prepare("prune-sweep", SweepOptions()).check_checkpoint(checkpoint)
    except OptionError:
        return ""  # about what to remove, which nobody has said yet
    except DepthprobeError as error:
        return str(error)
    return ""


def _has_vocabulary(config: Any) -> bool:
    return isinstance(getattr(config.get_text_config(), "vocab_size", None), int)


def _structure(blueprint: Blueprint | None, anatomy: Anatomy | None) -> Iterator[tuple[str, str]]:
    """Yield what is known of the blocks and both ends, as verified if there is an anatomy."""
    if blueprint is None:
        return
    how = "found by structure, not run" if blueprint.not_run else "followed without weights"
    how = "not a plain chain" if blueprint.refusal else how
    path, layers, norms = blueprint.path, len(blueprint.layers), blueprint.norm_placement
    final, width = blueprint.final_norm_path, blueprint.hidden
    if anatomy is not None:
        how = "verified by a forward pass"
        path, layers, norms = anatomy.path, anatomy.layers, anatomy.norm_placement
        final, width = anatomy.final_norm_path, anatomy.hidden
    yield "blocks", f"{layers} at {path}, {how}"
    if anatomy is not None:
        without = len(anatomy.without_branches)
        holds = "all blocks" if not without else f"{layers - without} of {layers} blocks"
        yield "branches", f"stream in + branches = stream out in {holds}"
    unknown = "not known without the weights"
    yield "norms", norms or unknown
    yield "final norm", final or (unknown if blueprint.not_run and anatomy is None else "none")
    yield "hidden", f"{width:,}" if width else unknown
    size = f", {blueprint.embedding_parameters:,} parameters" if blueprint.embedding_parameters else ""
    yield "embedding", f"{blueprint.embedding_path or 'none'}{size}"
    tied = ", tied to the embedding" if blueprint.head_is_tied else ""
    yield "head", f"{blueprint.head_path}{tied}" if blueprint.head_path else "none: there are no losses"


def _facts(name: str, found: _Found) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(name), box=box.HORIZONTALS, show_header=False, title_style="bold")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in found.rows:
        table.add_row(label, Text(value))
    return table


def _blocks(blueprint: Blueprint) -> Table:
    """Return a table with one row for each sort of block and its layers (0-based)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    sorts: dict[Any, list[int]] = {}
    for layer, plan in enumerate(blueprint.layers):
        sorts.setdefault(plan, []).append(layer)
    table = Table(box=box.HORIZONTALS)
    for heading in ("layers", "block", "mixes tokens by", "feed-forward", "norms"):
        table.add_column(heading)
    table.add_column("parameters each", justify="right")
    for plan, layers in sorts.items():
        cells = (plan.block, plan.kinds.mixer, plan.kinds.feedforward, plan.norm_placement or "-")
        table.add_row(regular_spans(layers), *map(Text, cells), f"{plan.parameters:,}")
    return table


def regular_spans(layers: Sequence[int]) -> str:
    """Return ``0-3, 7`` for ``[0, 1, 2, 3, 7]`` and ``0, 2 .. 24`` for every second layer up to 24."""
    from depthprobe.findings.words import spans

    steps = {b - a for a, b in pairwise(layers)}
    if len(layers) > 3 and len(steps) == 1 and steps != {1}:
        return f"{layers[0]}, {layers[1]} .. {layers[-1]}"
    return spans(layers)


def _commands(found: _Found) -> Table:
    from rich import box
    from rich.table import Table

    from depthprobe.models.sizing.footprint import gib

    table = Table(box=box.HORIZONTALS)
    table.add_column("command", style="bold")
    table.add_column("weights", justify="right")
    table.add_column("working memory", justify="right")
    table.add_column("memory")
    table.add_column("will run")
    for needed in found.footprints:
        runs = "no" if needed.command in found.reasons else "yes" if found.followed else "not known"
        table.add_row(needed.command, gib(needed.weights), gib(needed.working), needed.verdict, runs)
    return table
