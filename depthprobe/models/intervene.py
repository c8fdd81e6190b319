"""Context managers that change the residual stream; on leaving the model is bit for bit what it was.

Three ways to run a model without some of its blocks:

* :func:`skip_blocks` passes the stream through without running the block: exact in one pass without a
  cache, and the cheapest.
* :func:`discard_blocks` runs the block and throws its stream away: right in cached generation too, where
  a passed-through block would leave its slot empty and the cache takes its length from the first slot.
* :func:`delete_blocks` takes the block out of the model, with all that counts blocks put right: the
  truth the others are tested against.

:func:`replay_stream` starts the model in the middle, from a stored stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from depthprobe.models.anatomy import Anatomy
from depthprobe.models.stream import run_backbone, stream_in, stream_out

# What a module calls its own number among the blocks.
OWN_NUMBER = re.compile(r"^_?(layer|block|decoder_layer)_?(idx|index|id|number)$")
BLOCK_COUNT = re.compile(r"^(num|n)_?(hidden_)?layers?$")

Form = Callable[[torch.Tensor], Any]

_FORMS: WeakKeyDictionary[nn.Module, tuple[Form, ...]] = WeakKeyDictionary()


@contextmanager
def skip_blocks(anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Let the blocks of ``layers`` hand on the stream they receive without running.

    Exact for a pass without a cache. Not for cached generation: see :func:`discard_blocks`.
    """
    with _forwards(anatomy, {layer: _passing for layer in layers}):
        yield


@contextmanager
def replay_stream(anatomy: Anatomy, through: int, stream: torch.Tensor) -> Iterator[None]:
    """Let block ``through`` hand out ``stream`` and none before it run.

    The model's own forward makes the rest: masks, rotary tables, final norm, caps and scales.

    Args:
        anatomy: The blocks.
        through: The layer whose output is ``stream``.
        stream: ``[batch, token, hidden]``, the shape of what the blocks would see. Blocks may write
            into it.
    """

    def replaying(form: Form) -> Callable[..., Any]:
        return lambda *args, **kwargs: form(stream)

    changes: dict[int, Callable[[Form], Callable[..., Any]]] = {layer: _passing for layer in range(through)}
    with _forwards(anatomy, changes | {through: replaying}):
        yield


@contextmanager
def discard_blocks(anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Run the blocks of ``layers`` and hand on the stream they received, with all else they returned.

    Their caches fill as ever, so cached generation stays in step.
    """

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = stream_in(args, kwargs)
        assert stream is not None, "the anatomy's pass has shown that every block receives a stream"
        received.append(stream.clone())  # a block may add to its input in place

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        return _with_stream(output, received.pop())

    received: list[torch.Tensor] = []
    with ExitStack() as stack:
        for layer in sorted(set(layers)):
            block = anatomy.blocks[layer]
            stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(after).remove)
        yield


@contextmanager
def delete_blocks(model: nn.Module, anatomy: Anatomy, layers: Collection[int]) -> Iterator[None]:
    """Take the blocks of ``layers`` out of the model, and put them back on leaving.

    With the module list change: every count of blocks in the configurations and on the modules around the
    list, every list there with one entry a block (``layer_types`` and its like, whether stored or
    computed), and the number that each later block's modules carry. Of the anatomy only the blocks that
    stay may be used inside.
    """
    gone = frozenset(layers)
    count = anatomy.layers
    stay = [layer for layer in range(count) if layer not in gone]
    if len(stay) == count:
        yield
        return
    holder = model.get_submodule(anatomy.path)
    with ExitStack() as stack:
        for config in _configs(model):
            _shorten_config(config, count, stay, stack)
        for module in _around(model, anatomy.path):
            for name, value in list(vars(module).items()):
                if BLOCK_COUNT.match(name) and value == count:
                    _set(module, name, len(stay), stack)
                elif isinstance(value, (list, tuple)) and len(value) == count:
                    _set(module, name, type(value)(value[layer] for layer in stay), stack)
        for number, layer in enumerate(stay):
            for module in anatomy.blocks[layer].modules():
                for name, value in list(vars(module).items()):
                    if OWN_NUMBER.match(name) and value == layer and not isinstance(value, bool):
                        _set(module, name, number, stack)
        whole = holder._modules
        stack.callback(setattr, holder, "_modules", whole)
        holder._modules = {str(number): whole[str(layer)] for number, layer in enumerate(stay)}
        yield


def _passing(form: Form) -> Callable[..., Any]:
    """Return a forward that hands on the stream it is given."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return form(stream_in(args, kwargs))

    return forward


@contextmanager
def _forwards(anatomy: Anatomy, changes: dict[int, Callable[[Form], Callable[..., Any]]]) -> Iterator[None]:
    """Give blocks another forward, made from the form of what each returns.

    Set on the module itself, as accelerate does, so that a forward which is called directly changes too.
    """
    forms = _output_forms(anatomy) if changes else ()
    with ExitStack() as stack:
        for layer, make in changes.items():
            _set(anatomy.blocks[layer], "forward", make(forms[layer]), stack)
        yield


def _output_forms(anatomy: Anatomy) -> tuple[Form, ...]:
    """Return what makes each block's kind of return value from a stream; learned by one short pass."""
    known = _FORMS.get(anatomy.backbone)
    if known is not None:
        return known
    seen: dict[nn.Module, Form] = {}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        seen[module] = _form_of(output)

    embedding = anatomy.embedding
    device = next(anatomy.backbone.parameters()).device if embedding is None else _device_of(embedding)
    ids = torch.arange(3, device=device).view(1, 3)
    with ExitStack() as stack:
        for block in anatomy.blocks:
            stack.callback(block.register_forward_hook(note).remove)
        run_backbone(anatomy.backbone, ids, torch.ones_like(ids))
    forms = tuple(seen[block] for block in anatomy.blocks)
    _FORMS[anatomy.backbone] = forms
    return forms


def _form_of(output: Any) -> Form:
    """Return what makes a value like ``output`` from a stream, with None for all else in it."""
    if isinstance(output, torch.Tensor):
        return lambda stream: stream
    at = stream_out(output)
    if isinstance(output, dict):
        kind, names = type(output), [(name, value is at) for name, value in output.items()]
        return lambda stream: kind({name: stream if is_stream else None for name, is_stream in names})
    sequence, places = type(output), [value is at for value in output]
    return lambda stream: _sequence_like(sequence, (stream if place else None for place in places))


def _with_stream(output: Any, stream: torch.Tensor) -> Any:
    """Return a copy of a block's output whose stream is ``stream``."""
    if isinstance(output, torch.Tensor):
        return stream
    at = stream_out(output)
    if isinstance(output, dict):
        return type(output)({name: stream if value is at else value for name, value in output.items()})
    return _sequence_like(type(output), (stream if value is at else value for value in output))


def _sequence_like(kind: type, items: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list."""
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def _device_of(module: nn.Module) -> torch.device:
    """Return where a module takes its input; accelerate brings offloaded weights there."""
    hook = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return torch.device(hook) if hook is not None else next(module.parameters()).device


def _set(owner: Any, name: str, value: Any, stack: ExitStack) -> None:
    """Set an attribute; ``stack`` restores it, or removes it where the object had none of its own."""
    own = vars(owner)
    if name in own:
        stack.callback(own.__setitem__, name, own[name])
    else:
        stack.callback(own.pop, name, None)
    own[name] = value


def _configs(model: nn.Module) -> list[Any]:
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
    """Make a configuration speak of the blocks that stay, where it speaks of ``count`` of them."""
    if getattr(config, "num_hidden_layers", None) != count:
        return
    kind = type(config)
    # Lists that are computed from the count (Jamba's layer_types) would come out for the wrong blocks.
    computed = {
        name: value
        for name in dir(kind)
        if isinstance(getattr(kind, name), property)
        and isinstance(value := getattr(config, name, None), (list, tuple))
        and len(value) == count
    }
    for name, value in list(vars(config).items()):
        if isinstance(value, (list, tuple)) and len(value) == count:
            _set(config, name, type(value)(value[layer] for layer in stay), stack)
    _set(
        config,
        getattr(kind, "attribute_map", {}).get("num_hidden_layers", "num_hidden_layers"),
        len(stay),
        stack,
    )
    if computed:
        fixed = {name: type(value)(value[layer] for layer in stay) for name, value in computed.items()}
        stack.callback(setattr, config, "__class__", kind)
        config.__class__ = type(kind.__name__, (kind,), fixed)
