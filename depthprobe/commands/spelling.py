"""A command line as people write it, in lm-eval's spelling too, turned into the spelling that is declared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.options import HF_BACKENDS, parse_model_args

# lm-eval's names that differ from ours by more than an underscore.
_OTHER_NAMES = {
    "--output-path": "--output",
    "-t": "--tasks",
    "-M": "--model",
    "-a": "--model-args",
    "-f": "--num-fewshot",
    "-b": "--batch-size",
    "-L": "--limit",
    "-E": "--documents",
    "-s": "--log-samples",
}
# Its model arguments that options of ours set; True stands for a flag without a value.
_OF_LOADING: dict[str, str] = {
    "pretrained": "--model",
    "revision": "--revision",
    "dtype": "--dtype",
    "device": "--device",
    "trust_remote_code": "--trust-remote-code",
    "peft": "--adapter",
    "attn_implementation": "--attn-implementation",
    "max_length": "--max-length",
    "batch_size": "--batch-size",
}
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MODEL, _ARGS, _DOCUMENTS, _SAMPLES = "--model", "--model-args", "--documents", "--samples"


def as_declared(words: Sequence[str], parameters: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return the words of a command line in the declared spelling, and sentences on what was understood.

    Args:
        words: What was typed after the command.
        parameters: The command's parameters, as typer has them.

    Raises:
        OptionError: if a flag is given a value, or an argument of lm-eval's cannot be taken.
    """
    flags = {name: option for option in parameters for name in (*option.opts, *option.secondary_opts)}
    known = dict(flags)
    if _DOCUMENTS in flags:
        # Commands with tasks also understand these; any option that takes a value stands for how they read.
        known.setdefault(_SAMPLES, flags[_DOCUMENTS])
        known.setdefault(_MODEL, flags[_DOCUMENTS])
    typed = list(_typed(words, known))
    notes: list[str] = []
    if _ARGS in flags:
        typed = _model_args(typed, flags)
    if _DOCUMENTS in flags:
        typed = [_documents(name, value, flags, notes) for name, value in typed]
    if _MODEL not in flags:  # models are positional there
        typed = [(None, value) if name == _MODEL else (name, value) for name, value in typed]
    spelled: list[str] = []
    for name, value in typed:
        # A long option holds its value: it may begin with a dash.
        joined = name is not None and name.startswith("--") and value is not None
        spelled += [f"{name}={value}"] if joined else [each for each in (name, value) if each is not None]
    return spelled, notes


def _typed(words: Sequence[str], flags: dict[str, Any]) -> Iterator[tuple[str | None, str | None]]:
    """Yield (option in its declared spelling, value); None for what is missing of the two."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            yield None, word
            yield from ((None, each) for each in rest)
            return
        if not word.startswith("-") or word == "-":
            yield None, word
            continue
        name, equals, value = word.partition("=")
        name = _name(name if word.startswith("--") else word, flags)
        if name == "--apply-chat-template" and equals and value.lower() not in _WORDS:
            yield "--chat-template", value  # lm-eval's way of naming one of several
            continue
        option = flags.get(name)
        if option is None:
            yield name if equals else None, value if equals else word
        elif option.is_flag or option.count:
            if equals or (rest and rest[0].lower() in _WORDS):
                _refuse_value(name, value if equals else rest[0])
            yield name, None
        elif equals and word.startswith("--"):
            yield name, value
        else:
            yield name, rest.pop(0) if rest else None


def _name(typed: str, flags: dict[str, Any]) -> str:
    if typed in flags:
        return typed
    name = typed.replace("_", "-") if typed.startswith("--") else typed
    name = _OTHER_NAMES.get(name, name)
    return name if name in flags else typed


def _refuse_value(name: str, value: str) -> None:
    hint = f"Write {name} alone." if _WORDS.get(value.lower(), True) else "Leave it out."
    raise OptionError(f"{name} takes no value, got {value or 'nothing'}.", hint)


def _model_args(
    typed: Sequence[tuple[str | None, str | None]], flags: dict[str, Any]
) -> list[tuple[str | None, str | None]]:
    """Return the options with those model arguments of lm-eval that say how a model is loaded as our own."""
    found: list[tuple[str | None, str | None]] = []
    args: dict[str, Any] = {}
    for name, value in typed:
        if name == _ARGS and value is not None:
            args |= parse_model_args(value)
        else:
            found.append((name, value))
    if "pretrained" in args:
        backend = next((value for name, value in found if name == _MODEL), None)
        if backend not in (None, *HF_BACKENDS):
            raise OptionError(
                f"--model {backend} and pretrained={args['pretrained']} name two models.",
                "depthprobe runs models with transformers itself: leave out one of them.",
            )
        found = [each for each in found if each[0] != _MODEL]
        file = args.pop("gguf_file", None)
        args["pretrained"] = f"{args['pretrained']}:{file}" if file else args["pretrained"]
    if args.pop("parallelize", False):
        found.append(("--device-map", "auto"))
    for key in [key for key in args if _OF_LOADING.get(key) in (*flags, _MODEL)]:
        flag, given = _OF_LOADING[key], args.pop(key)
        if flag == _MODEL or not flags[flag].is_flag:
            found.append((flag, str(given)))
        elif given:
            found.append((flag, None))
    if args:
        found.append((_ARGS, json.dumps(args)))
    return found


def _documents(
    name: str | None, value: str | None, flags: dict[str, Any], notes: list[str]
) -> tuple[str | None, str | None]:
    """Return --samples with documents by number as --documents; elsewhere it counts samples of text."""
    if name != _SAMPLES or value is None:
        return name, value
    if not value.lstrip("+-").isdecimal():
        notes.append("--samples counts samples of text; documents by number are now named by --documents.")
        return _DOCUMENTS, value
    if _SAMPLES not in flags:
        raise OptionError(
            f"--samples {value} does not apply here: the tasks' documents are not samples of text.",
            "Count the calibration text with --calibration-samples, documents with --limit.",
        )
    return name, value
