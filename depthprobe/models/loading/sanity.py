"""Whether a config.json describes a model at all: checked before transformers builds anything from it.

transformers takes most values as they are, and fails much later, in other words, or not at all: with no
layers, or with more than memory has addresses for. What plays no part in a measurement is corrected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from depthprobe.errors import LoadError

# How many layers, heads and numbers in a vector: without one of them there is no model.
_COUNTS = {
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    *("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads"),
    *("hidden_size", "d_model", "n_embd", "intermediate_size", "vocab_size"),
}
# More of them than any model has: building them would take minutes, or for ever.
_MOST = {re.compile(r"layers?$"): 10_000, re.compile(r"heads?$|experts"): 100_000}
_LARGEST = 2**31 - 1
_WORD = 2**63 - 1
_POSITIVE = {"rope_theta", "factor", "rotary_emb_base", "original_max_position_embeddings"}
_EPSILONS = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"}
_ROPES = ("rope_scaling", "rope_parameters")
_LISTS_OF_FACTORS = ("short_factor", "long_factor")
# Parts of a configuration that describe a model of their own.
_PARTS = ("text_config", "encoder", "decoder", "language_config", "llm_config")

# What a model hands out beside the stream: asked for in every call, so what a file says is of no use.
OUTPUTS = ("output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "torchscript")
# In a file both mean which kernel computes attention, see :mod:`depthprobe.models.loading.attention`.
KERNELS = ("attn_implementation", "_attn_implementation")
_DTYPES = ("dtype", "torch_dtype")
_STORED = {
    "float": torch.float32, "fp32": torch.float32, "half": torch.float16, "fp16": torch.float16,
    "bf16": torch.bfloat16, "double": torch.float64, "fp64": torch.float64,
    **{str(kind).removeprefix("torch."): kind for kind in
       (torch.float64, torch.float32, torch.float16, torch.bfloat16)},
}  # fmt: skip


def checked_settings(name: str, raw: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings of a config.json as transformers should see them, and notes on what was put right.

    Args:
        name: The model's name, for messages.
        raw: What the file holds. Where it comes with code of its own, the code knows what its words mean.

    Raises:
        LoadError: If a value cannot be meant: a size of 0, a word where a number belongs.
    """
    _check_kinds(name, raw)
    for part in _parts(raw):
        _check_sizes(name, part)
        _check_rope(name, part, has_code=bool(raw.get("auto_map")))
    notes: list[str] = []
    return _corrected(name, dict(raw), notes), tuple(dict.fromkeys(notes))


def correct(name: str, config: PretrainedConfig) -> tuple[str, ...]:
    """Put right in a configuration what plays no part in a measurement; return notes on it.

    A padding token outside the vocabulary cannot be looked up. What is padded here is masked, so none is
    needed. Models hand out what they are asked for in the call.
    """
    notes: list[str] = []
    for holder in {id(each): each for each in (config, config.get_text_config())}.values():
        pad, words = getattr(holder, "pad_token_id", None), getattr(holder, "vocab_size", None)
        if isinstance(pad, int) and isinstance(words, int) and not -words <= pad < words:
            holder.pad_token_id = None
            notes.append(
                f"config.json of {name} names the padding token {pad}, which is outside its vocabulary of "
                f"{words:,}: it is ignored."
            )
        for key, value in (("return_dict", True), ("output_hidden_states", False)):
            if getattr(holder, key, value) is not value:
                setattr(holder, key, value)
        if getattr(holder, "output_attentions", False):
            holder.output_attentions = False
    return tuple(dict.fromkeys(notes))


def _parts(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield raw
    yield from (raw[key] for key in _PARTS if isinstance(raw.get(key), Mapping))


def _wrong(name: str, key: str, value: Any, must: str) -> LoadError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:40]}..."
    return LoadError(
        f"config.json of {name} says {key} {shown}, but it must be {must}.",
        "Correct it, or download the file again.",
    )


def _check_kinds(name: str, raw: Mapping[str, Any]) -> None:
    """Raise where a list stands for an object, a number for a word, and the like."""
    if not isinstance(raw.get("model_type", ""), str | None):
        raise _wrong(name, "model_type", raw["model_type"], "a word such as 'llama'")
    architectures = raw.get("architectures")
    if isinstance(architectures, str):
        architectures = [architectures]
    if not isinstance(architectures, list | None) or any(not isinstance(e, str) for e in architectures or ()):
        raise _wrong(name, "architectures", architectures, "a list of names of classes")
    code = raw.get("auto_map")
    if code is not None:
        entries = code.values() if isinstance(code, Mapping) else [code]
        flat = [item for entry in entries for item in (entry if isinstance(entry, list) else [entry])]
        if not isinstance(code, Mapping) or any(not isinstance(item, str | None) for item in flat):
            raise _wrong(name, "auto_map", code, "an object of names of classes")
    for key, value in raw.items():
        is_part = key.endswith("_config") and not isinstance(value, Mapping | None)
        if is_part and key != "quantization_config":
            raise _wrong(name, key, value, "an object of settings")
    for part in _parts(raw):
        if not isinstance(part.get("quantization_config"), Mapping | None):
            raise _wrong(name, "quantization_config", part["quantization_config"], "an object of settings")


def _check_sizes(name: str, part: Mapping[str, Any]) -> None:
    for key, value in part.items():
        most = next((most for words, most in _MOST.items() if words.search(key)), _LARGEST)
        for each in value if isinstance(value, list) else [value]:
            if key in _COUNTS and not isinstance(each, Mapping | None):  # LXMERT has one for each part
                if isinstance(each, bool) or not isinstance(each, int) or each < 1:
                    raise _wrong(name, key, value, "a whole number of at least 1")
            is_count = key in _COUNTS or most != _LARGEST or key.endswith(("_size", "_dim"))
            if isinstance(each, int) and each > (most if is_count else _WORD):
                raise _wrong(name, key, value, f"at most {most if is_count else _WORD:,}")
        if key == "sliding_window" and not isinstance(value, int | None):
            raise _wrong(name, key, value, "a whole number")
        if key in _EPSILONS and isinstance(value, int | float) and not 0 <= value < math.inf:
            raise _wrong(name, key, value, "a number of at least 0")
    heads, shared = part.get("num_attention_heads"), part.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(shared, int) and heads % shared:
        raise _wrong(name, "num_key_value_heads", shared, f"a divisor of num_attention_heads ({heads})")


def _check_rope(name: str, part: Mapping[str, Any], has_code: bool) -> None:
    """Raise if how positions are turned into angles is described in a way that none has."""
    for key in _ROPES:
        value = part.get(key)
        if not isinstance(value, Mapping | None):
            raise _wrong(name, key, value, "an object of settings")
        # Gemma 3 has one for each kind of layer.
        nested = [each for each in (value or {}).values() if isinstance(each, Mapping)]
        for described in [value or {}, *nested]:
            kind = described.get("rope_type", described.get("type"))
            known = ("default", "mrope", "su", "axial", *ROPE_INIT_FUNCTIONS)
            if kind is not None and (not isinstance(kind, str) or (kind not in known and not has_code)):
                raise _wrong(name, "rope_type", kind, f"one of {', '.join(dict.fromkeys(known))}")
            _check_positive(name, described, _POSITIVE)
            for factors in _LISTS_OF_FACTORS:
                found = described.get(factors)
                numbers = isinstance(found, list) and all(_is_positive(each) for each in found)
                if found is not None and not numbers:
                    raise _wrong(name, factors, found, "a list of numbers above 0")
    _check_positive(name, part, {"rope_theta", "rotary_emb_base"})


def _check_positive(name: str, settings: Mapping[str, Any], keys: set[str]) -> None:
    for key in sorted(keys & settings.keys()):
        if settings[key] is not None and not _is_positive(settings[key]):
            raise _wrong(name, key, settings[key], "a number above 0")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _corrected(name: str, settings: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return settings with other spellings put right, and without what measuring has no use for."""
    for key in OUTPUTS:
        settings.pop(key, None)
    if not isinstance(settings.get("use_cache", False), bool):
        del settings["use_cache"]
    if not settings.get("quantization_config", True):
        del settings["quantization_config"]
    if isinstance(settings.get("auto_map"), Mapping):
        settings["auto_map"] = {key: code for key, code in settings["auto_map"].items() if code}
    if isinstance(settings.get("architectures"), str):
        settings["architectures"] = [settings["architectures"]]
    for key in _DTYPES:
        if settings.get(key) is None:
            settings.pop(key, None)
            continue
        said = settings[key]
        kind = _STORED.get(said.lower().removeprefix("torch.")) if isinstance(said, str) else None
        if kind is None:
            del settings[key]
            notes.append(
                f"config.json of {name} names the {key} {str(said)[:40]!r}, in which no weights can be "
                "computed with: their own is used."
            )
        else:
            settings[key] = str(kind).removeprefix("torch.")
    for key in _PARTS:
        if isinstance(settings.get(key), Mapping):
            settings[key] = _corrected(name, dict(settings[key]), notes)
    return settings
