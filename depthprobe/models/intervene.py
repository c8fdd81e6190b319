"""Context managers that change the residual stream; on leaving, the model is bit for bit what it was.

Three ways to run a model without some of its blocks:

* :func:`skip_blocks` passes the stream through without running the block: exact in one pass without a
  cache, and the cheapest.
* :func:`discard_blocks` runs the block and discards its output: right in cached generation too, where
  a passed-through block would leave its slot empty and the cache takes its length from the first slot.
* :func:`delete_blocks` takes the block out of the model, and corrects everything that counts blocks: the
  truth that the others are tested against.

:func:`discard_in_rows` does the second for many variants at once, each in rows of its own;
:func:`replay_stream` starts the model in the middle, from a stored stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from depthprobe.errors import MeasureError
from depthprobe.models.anatomy.anatomy import Anatomy
from depthprobe.models.anatomy.architectures import KEEPS_FOR_LATER
from depthprobe.models.anatomy.block_sites import Forward, Site, set_for_now, wrapping
from depthprobe.models.anatomy.stream import given, pick, put, run_backbone, sequence_like
from depthprobe.private_names import children_replaced, input_device, own_children

# What a module calls its own number among the blocks.
OWN_NUMBER = re.compile(r"^_?(layer|block|decoder_layer)_?(idx|index|id|number)$")
BLOCK_COUNT = re.compile(r"^(num|n)_?(hidden_)?layers?$")

Form = Callable[[torch.Tensor, dict[int | str, Any]], Any]

_FORMS: WeakKeyDictionary[nn.Module, tuple[Form, ...]] = WeakKeyDictionary()


@contextmanager
def skip_blocks(anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Let the blocks of ``layers`` hand on what they receive without running.

    Exact for a pass without a cache. Not for cached generation: see :func:`discard_blocks`.
    """
    forms = _output_forms(anatomy) if layers else ()

    def passing(layer: int, forward: Forward) -> Forward:
        return _passing(anatomy.sites[layer], forms[layer])

    with _keys_kept(anatomy, layers), wrapping(anatomy.sites, set(layers), passing):
        yield


@contextmanager
def replay_stream(anatomy: Anatomy, through: int, stream: torch.Tensor) -> Iterator[None]:
    """Let block ``through`` return ``stream``, and none up to it run.

    The model's own forward does the rest: masks, rotary tables, final norm, caps and scales.

    Args:
        anatomy: The blocks.
        through: The layer whose output is ``stream``.
        stream: ``[batch, token, hidden]``, the shape of what the blocks would see. Blocks may write
            into it.

    Raises:
        ValueError: If the model lays out its stream differently.
    """
    if not anatomy.layout.is_plain():
        raise ValueError("the stream is not [batch, token, hidden]")
    forms = _output_forms(anatomy)

    def instead(layer: int, forward: Forward) -> Forward:
        site, form = anatomy.sites[layer], forms[layer]
        if layer < through:
            return _passing(site, form)
        return lambda *args, **kwargs: form(stream, given(args, kwargs))

    with wrapping(anatomy.sites, range(through + 1), instead):
        yield


@contextmanager
def discard_blocks(anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Run the blocks of ``layers`` and hand on what they received.

    Their caches fill as usual, so cached generation stays in step.
    """

    def discarding(layer: int, forward: Forward) -> Forward:
        site = anatomy.sites[layer]

        def run(*args: Any, **kwargs: Any) -> Any:
            received = given(args, kwargs)
            # copied: a block may add to its input in place
            stream = pick(received, site.source).clone()
            kept = [(target, pick(received, source)) for target, source in site.carried]
            output = put(forward(*args, **kwargs), site.target, stream)
            for target, value in kept:
                output = put(output, target, value)
            return output

        return run

    with _keys_kept(anatomy, layers), wrapping(anatomy.sites, set(layers), discarding):
        yield


@contextmanager
def discard_in_rows(anatomy: Anatomy, gone: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Run every block for all rows of a batch, and for some rows hand on what they received.

    So one pass serves many variants, each in rows of its own, and reads every weight once.

    Args:
        anatomy: The blocks; the stream must be ``[batch, token, hidden]``.
        gone: For each layer that some rows go without: bool ``[batch]``, which rows.

    Raises:
        ValueError: during the pass, if a block hands on something else that has no row for each text.
    """
    if not anatomy.layout.is_plain():
        raise ValueError("the stream is not [batch, token, hidden]")

    def discarding(layer: int, forward: Forward) -> Forward:
        site, rows = anatomy.sites[layer], gone[layer]

        def run(*args: Any, **kwargs: Any) -> Any:
            received = given(args, kwargs)
            places = ((site.target, site.source), *site.carried)
            # copied: a block may add to its input in place
            kept = [(target, _copied(pick(received, source))) for target, source in places]
            output = forward(*args, **kwargs)
            for target, before in kept:
                output = put(output, target, _by_row(rows, before, pick(output, target)))
            return output

        return run

    with wrapping(anatomy.sites, set(gone), discarding):
        yield


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _by_row(rows: torch.Tensor, chosen: Any, other: Any) -> torch.Tensor:
    """Return ``chosen`` in the rows that are true and ``other`` elsewhere."""
    tensors = isinstance(chosen, torch.Tensor) and isinstance(other, torch.Tensor)
    if not tensors or chosen.shape != other.shape or chosen.shape[:1] != rows.shape:
        raise ValueError("what a block hands on has no row for each text")
    return torch.where(rows.to(other.device).view(-1, *[1] * (other.dim() - 1)), chosen, other)


def keeps_for_later(anatomy: Anatomy, layers: Collection[int]) -> bool:
    """Return whether blocks of ``layers`` keep keys and values that later blocks use."""
    return any(
        getattr(module, KEEPS_FOR_LATER, False) is True
        for layer in layers
        for module in anatomy.sites[layer].block.modules()
    )


@contextmanager
def delete_blocks(model: nn.Module, anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Take the blocks of ``layers`` out of the model, and put them back on leaving.

    Changed with the module list: every count of blocks in the configurations and on the modules around the
    list, every list there with one entry for each block (such as ``layer_types``, whether stored or
    computed), and the number that each later block's modules carry. Inside, only the anatomy's remaining
    blocks may be used.
    """
    gone = frozenset(layers)
    count = anatomy.layers
    stay = [layer for layer in range(count) if layer not in gone]
    if len(stay) == count:
        yield
        return
    if [site.index for site in anatomy.sites] != list(range(count)):
        raise MeasureError(
            "Blocks that run for several layers, or not at all, cannot be deleted one by one.",
            "Such layers can only be passed through.",
        )
    holder = model.get_submodule(anatomy.path)
    with ExitStack() as stack:
        for config in configurations(model):
            _shorten_config(config, count, stay, stack)
        for module in _around(model, anatomy.path):
            for name, value in list(vars(module).items()):
                if BLOCK_COUNT.match(name) and value == count:
                    set_for_now(module, name, len(stay), stack)
                elif isinstance(value, (list, tuple)) and len(value) == count:
                    set_for_now(module, name, type(value)(value[layer] for layer in stay), stack)
        for number, layer in enumerate(stay):
            for module in anatomy.sites[layer].block.modules():
                for name, value in list(vars(module).items()):
                    if OWN_NUMBER.match(name) and value == layer and not isinstance(value, bool):
                        set_for_now(module, name, number, stack)
        whole = own_children(holder)
        left = {str(number): whole[str(layer)] for number, layer in enumerate(stay)}
        stack.enter_context(children_replaced(holder, left))
        yield


@contextmanager
def _keys_kept(anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Let earlier blocks keep the keys and values that later ones take from those of ``layers``.

    See :data:`KEEPS_FOR_LATER`; as in a model that was built without these layers.
    """
    with ExitStack() as stack:
        for layer in sorted(set(layers), reverse=True):
            for module in anatomy.sites[layer].block.modules():
                if getattr(module, KEEPS_FOR_LATER, False) is not True:
                    continue
                set_for_now(module, KEEPS_FOR_LATER, False, stack)
                earlier = (
                    other
                    for before in range(layer - 1, -1, -1)
                    if before not in layers
                    for other in anatomy.sites[before].block.modules()
                    if getattr(other, KEEPS_FOR_LATER, None) is False
                    and getattr(other, "layer_type", None) == getattr(module, "layer_type", None)
                )
                heir = next(earlier, None)
                if heir is not None:
                    set_for_now(heir, KEEPS_FOR_LATER, True, stack)
        yield


def _passing(site: Site, form: Form) -> Forward:
    """Return a forward that hands on what it is given."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        received = given(args, kwargs)
        return form(pick(received, site.source), received)

    return forward


def _output_forms(anatomy: Anatomy) -> tuple[Form, ...]:
    """Return, for each block, a function that wraps a stream as the block does; found by a short pass."""
    known = _FORMS.get(anatomy.backbone)
    if known is not None:
        return known
    seen: dict[int, Form] = {}

    def noting(layer: int, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            seen[layer] = _form_of(output, anatomy.sites[layer])
            return output

        return run

    embedding = anatomy.embedding
    device = next(anatomy.backbone.parameters()).device if embedding is None else input_device(embedding)
    ids = torch.arange(3, device=device).view(1, 3)
    with wrapping(anatomy.sites, range(anatomy.layers), noting):
        run_backbone(anatomy.backbone, ids, torch.ones_like(ids))
    forms = tuple(seen[layer] for layer in range(anatomy.layers))
    _FORMS[anatomy.backbone] = forms
    return forms


def _form_of(output: Any, site: Site) -> Form:
    """Return a function that makes a value like ``output`` from a stream and a block's arguments.

    What blocks hand on besides the stream is handed on as received; all else is None.
    """
    blank = _blank(output)

    def form(stream: torch.Tensor, received: dict[int | str, Any]) -> Any:
        made = put(blank, site.target, stream)
        for target, source in site.carried:
            made = put(made, target, pick(received, source))
        return made

    return form


def _blank(value: Any) -> Any:
    """Return nested values of the same form with None in every place."""
    if isinstance(value, dict):
        return type(value)({name: _blank(item) for name, item in value.items()})
    if isinstance(value, (tuple, list)):
        return sequence_like(type(value), (_blank(item) for item in value))
    return None


def configurations(model: nn.Module) -> list[Any]:
    """Return every configuration object that a module of the model holds, each once."""
    found: dict[int, Any] = {}
    for module in model.modules():
        config = vars(module).get("config")
        if config is None:
            continue
        text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
        found.update({id(config): config, id(text): text})
    return list(found.values())


def _around(model: nn.Module, path: str) -> list[nn.Module]:
    """Return the modules on the way from the model to its block list."""
    parts = path.split(".")
    return [model.get_submodule(".".join(parts[:end])) for end in range(len(parts))]


def _shorten_config(config: Any, count: int, stay: list[int], stack: ExitStack) -> None:
    """Make a configuration describe the blocks that stay, if it describes ``count`` blocks."""
    if getattr(config, "num_hidden_layers", None) != count:
        return
    kind = type(config)
    # Lists computed from the count (Jamba's layer_types) would describe the wrong blocks.
    computed = {
        name: value
        for name in dir(kind)
        if isinstance(getattr(kind, name), property)
        and isinstance(value := getattr(config, name, None), (list, tuple))
        and len(value) == count
    }
    for name, value in list(vars(config).items()):
        if isinstance(value, (list, tuple)) and len(value) == count:
            set_for_now(config, name, type(value)(value[layer] for layer in stay), stack)
        elif isinstance(value, dict) and value and set(value) <= set(range(count)):  # keyed by layer
            renumbered = {number: value[layer] for number, layer in enumerate(stay) if layer in value}
            set_for_now(config, name, renumbered, stack)
    set_for_now(
        config,
        getattr(kind, "attribute_map", {}).get("num_hidden_layers", "num_hidden_layers"),
        len(stay),
        stack,
    )
    if computed:
        fixed = {name: type(value)(value[layer] for layer in stay) for name, value in computed.items()}
        stack.callback(setattr, config, "__class__", kind)
        config.__class__ = type(kind.__name__, (kind,), fixed)
