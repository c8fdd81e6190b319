"""How much memory each command needs, estimated before any weight is read, against what is free.

The weights are counted exactly, in the dtype that would be loaded. The working memory is an estimate: one
batch of :data:`TOKENS_AT_ONCE` tokens inside one block, and what the command keeps besides. Batches grow
into free memory and shrink where it is short, so a model that just fits still runs, only slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn
from transformers import PretrainedConfig

from depthprobe.catalogue import PROBES
from depthprobe.declaring import Working
from depthprobe.models.loading.placement import MEMORY_MARGIN, choose_dtype, dtype_name
from depthprobe.models.loading.quantisation import Quantisation

TOKENS_AT_ONCE = 2048
# What prune-sweep keeps: logits in float32 (see evaluation.passes), streams on a CPU (evaluation.engine).
LOGIT_BYTES = {"cuda": 256 << 20, "cpu": 8 << 20}

FITS = "fits"
SPLIT = "fits split over devices with --device-map auto"
TOO_LARGE = "does not fit"


@dataclass(frozen=True)
class Widths:
    """The sizes that working memory depends on.

    ``feedforward`` counts the active experts; ``vocabulary`` is 0 where a configuration names none;
    ``largest`` is the number of parameters of the largest block, 0 where it is not known.
    """

    layers: int
    hidden: int
    feedforward: int
    vocabulary: int = 0
    largest: int = 0


def _inside(widths: Widths) -> int:
    return 4 * (16 * widths.hidden + 4 * widths.feedforward)


def bytes_per_token(config: PretrainedConfig, layers: int, hidden: int) -> int:
    """Return a generous guess of the bytes that one token in flight costs inside a block."""
    return _inside(widths_of(config, layers, hidden))


def working_bytes(working: Working, widths: Widths, itemsize: int, kind: str) -> int:
    """Return the bytes that a probe needs besides the weights.

    Args:
        working: What it keeps, as the catalogue declares it.
        widths: The sizes of the model.
        itemsize: Bytes of each number in the stream.
        kind: Of the device: ``cuda``, ``cpu``, ``mps``.
    """
    if working.gradients:
        # The least that will do: the gradients of one block, and a batch whose blocks are run again.
        return 4 * widths.largest + TOKENS_AT_ONCE * gradient_token_bytes(widths, itemsize)[1]
    token = _inside(widths) + 4 * working.vectors * widths.hidden
    if working.boundaries:
        token += (widths.layers + 1) * widths.hidden * itemsize
    logits = LOGIT_BYTES.get(kind, LOGIT_BYTES["cuda"]) if working.logits else 0
    return TOKENS_AT_ONCE * token + logits


def gradient_token_bytes(widths: Widths, itemsize: int) -> tuple[int, int]:
    """Return the most that a token in flight costs while gradients are taken.

    Returns:
        Bytes if everything that the backward pass needs is kept, and if blocks are run again in it.
    """
    block = itemsize * (24 * widths.hidden + 6 * widths.feedforward)
    # Logits, their gradient, and a copy of each while they are split and joined.
    logits = 4 * itemsize * widths.vocabulary
    stream = itemsize * widths.layers * widths.hidden
    return widths.layers * block + logits, stream + 2 * block + logits


@dataclass(frozen=True)
class Footprint:
    """What one command needs, in bytes, and how it compares with what is free."""

    command: str
    weights: float
    working: float
    verdict: str


@dataclass(frozen=True)
class Room:
    """Free bytes on the chosen device, and on all devices that a model can be split over."""

    device: torch.device
    free: int
    everywhere: int


def room_on(device: torch.device) -> Room:
    """Return what is free: a GPU's own memory, or the main memory with what can be swapped."""
    memory = psutil.virtual_memory().available + psutil.swap_memory().free
    if device.type != "cuda":
        return Room(device, memory, memory)
    gpus = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
    return Room(device, torch.cuda.mem_get_info(device)[0], sum(gpus) + memory)


def widths_of(config: PretrainedConfig, layers: int, hidden: int | None) -> Widths:
    """Return the sizes that a configuration names; without a feed-forward width, four times the stream's."""
    text = config.get_text_config(decoder=True)
    hidden = hidden or _number(text, "hidden_size", "d_model", "n_embd") or 1
    dense = _number(text, "intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size") or 4 * hidden
    expert = _number(text, "moe_intermediate_size")
    active = _number(text, "num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts") or 1
    vocabulary = _number(text, "vocab_size") or 0
    return Widths(layers, hidden, max(dense, (expert or dense) * active), vocabulary)


def _number(config: Any, *names: str) -> int | None:
    for name in names:
        value = getattr(config, name, None)
        value = max(value) if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, int) and value > 0:
            return value
    return None


def declared_dtype(config: PretrainedConfig) -> torch.dtype | None:
    """Return the dtype that a configuration says its checkpoint is stored in, None if it says nothing."""
    for holder in (config, config.get_text_config()):
        if isinstance(dtype := getattr(holder, "dtype", None), torch.dtype):
            return dtype
    return None


def loaded_dtype(
    wanted: torch.dtype | None,
    stored: torch.dtype | None,
    packed: Quantisation | None,
    device: torch.device,
) -> torch.dtype:
    """Return the dtype of the weights in memory; in a packed model, that of the weights not packed."""
    stored = stored or torch.float32
    if packed is not None and not packed.unpacked:
        return wanted or stored
    return choose_dtype(wanted, stored, device)[0]


def weight_bytes(model: nn.Module, path: str, dtype: torch.dtype, packed: Quantisation | None) -> float:
    """Return the bytes of a model's weights in memory; in a packed one, its blocks' matrices are packed.

    Args:
        model: The model, on the meta device.
        path: Path of its block list.
        dtype: As :func:`loaded_dtype` gives it.
        packed: How it is quantised, if it is.
    """
    total = 0.0
    bits = packed.bits if packed is not None and not packed.unpacked else None
    for name, parameter in model.named_parameters():
        small = bits is not None and parameter.dim() > 1 and name.startswith(f"{path}.")
        total += parameter.numel() * (bits / 8 if small and bits else dtype.itemsize)
    return total


def footprints(weights: float, widths: Widths, dtype: torch.dtype, room: Room) -> list[Footprint]:
    """Return what each command needs and whether it fits."""
    found = []
    for command, probe in PROBES.items():
        beside = working_bytes(probe.working, widths, dtype.itemsize, room.device.type)
        needed = weights * MEMORY_MARGIN + beside
        verdict = FITS if needed <= room.free else SPLIT if needed <= room.everywhere else TOO_LARGE
        found.append(Footprint(command, weights * MEMORY_MARGIN, beside, verdict))
    return found


def why_not(name: str, footprint: Footprint, dtype: torch.dtype, room: Room) -> str:
    """Return the sentence for a command that does not fit."""
    half = " --dtype bfloat16 halves the weights." if dtype.itemsize == 4 else ""
    place = f"{room.device} alone" if room.everywhere == room.free else "all devices and the main memory"
    return (
        f"{name} needs {gib(footprint.weights + footprint.working)} in {dtype_name(dtype)}, but only "
        f"{gib(room.everywhere)} are free on {place}.{half}"
    )


def gib(size: float) -> str:
    """Return text such as ``12.3 GiB``; with two decimals below one."""
    amount = size / 2**30
    if amount < 0.005:
        return "<0.01 GiB"
    return f"{amount:.2f} GiB" if amount < 1 else f"{amount:,.1f} GiB"
