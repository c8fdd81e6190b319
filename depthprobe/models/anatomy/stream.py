"""The residual stream: how a backbone is run, and which of a block's tensors is the stream.

What goes into a block and what comes out is named by its path among nested arguments: ``(0,)`` for the
first positional one, ``("hidden_states",)`` for one by name, ``(0, 1)`` for the second item of a tuple that
comes first, ``()`` for a bare return value.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from depthprobe.errors import MeasureError

Path = tuple[int | str, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, torch.Tensor]]:
    """Yield every tensor of nested tuples, lists and dicts with its path, in order."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):  # transformers' ModelOutput is one
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, (tuple, list)):
        for place, item in enumerate(value):
            yield from leaves(item, (*path, place))


def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, Any]:
    """Return a call's arguments as one mapping that paths point into, positional ones first."""
    return dict[Any, Any](enumerate(args)) | kwargs


def pick(value: Any, path: Path) -> Any:
    """Return the value at a path, None where there is none."""
    for step in path:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value


def put(value: Any, path: Path, item: Any) -> Any:
    """Return a copy of nested values with ``item`` at ``path``."""
    if not path:
        return item
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        return type(value)({name: put(v, rest, item) if name == step else v for name, v in value.items()})
    items = [put(v, rest, item) if place == step else v for place, v in enumerate(value)]
    return sequence_like(type(value), items)


def sequence_like(kind: type, items: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list."""
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


@dataclass(frozen=True)
class StreamAxes:
    """How a model lays out its stream.

    ``axes`` are the places of batch, token and hidden among the tensor's axes; ``first`` is the place of
    the first real token, if a model puts tokens of its own before the text. After the text there may be
    further places.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    first: int = 0

    def tokens(self, stream: torch.Tensor) -> torch.Tensor:
        """Return a view ``[batch, token, hidden]`` that begins with the first token of the text."""
        return stream.permute(self.axes)[:, self.first :]

    def is_plain(self) -> bool:
        """Return whether the stream is ``[batch, token, hidden]`` as it is."""
        return self == StreamAxes()


def run_backbone(backbone: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
    """Run the blocks over ``[batch, token]`` ids without a cache; what they compute is read on the way.

    The decoder of an encoder-decoder model reads the text that its encoder reads.

    Args:
        backbone: The model without its head, see :func:`depthprobe.models.anatomy.anatomy.backbone_of`.
        input_ids: int64 ``[batch, token]``, padded on the right: position ids counted from the left
            are then those of the unpadded text in every model.
        attention_mask: int64 ``[batch, token]``, 1 for real tokens.
    """
    with torch.inference_mode():
        backbone(**inputs_of(backbone, input_ids, attention_mask))


def inputs_of(backbone: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Any]:
    """Return the keyword arguments with which a model or a part of it reads ``[batch, token]`` ids."""
    accepted = inspect.signature(backbone.forward).parameters
    wanted: dict[str, Any] = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "decoder_input_ids": input_ids,
        "decoder_attention_mask": attention_mask,
        "use_cache": False,
    }
    return {name: value for name, value in wanted.items() if name in accepted}


def refuse_directionless(vectors: torch.Tensor, boundary: int) -> None:
    """Raise if a vector of the stream has no direction: NaN, infinite or zero.

    Args:
        vectors: ``[vector, hidden]`` at one boundary.
        boundary: Which one, for the message.

    Raises:
        MeasureError: saying what is wrong, where it begins and how often.
    """
    finite = vectors.isfinite().all(dim=-1)
    usable = finite & vectors.ne(0).any(dim=-1)
    if bool(usable.all()):
        return
    raise MeasureError(
        f"The residual stream is {'zero' if bool(finite.all()) else 'NaN or infinite'} from boundary "
        f"x^{boundary} on "
        f"({'the embedding' if boundary == 0 else f'the output of layer {boundary - 1}'}) "
        f"in {int((~usable).sum())} of the {len(vectors)} vectors of a batch.",
        "Try --dtype float32 or bfloat16; if that does not help, the weights are broken.",
    )


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors hold the same numbers (NaN equals NaN), on whatever devices.

    Compared in the coarser of both dtypes: some models keep a float32 stream around bf16 modules.
    """
    if a.shape != b.shape or a.is_floating_point() != b.is_floating_point():
        return False
    dtype = min(a.dtype, b.dtype, key=lambda kind: kind.itemsize)
    a, b = a.to(b.device, dtype), b.to(dtype)
    return bool(((a == b) | ((a != a) & (b != b))).all())
