"""A checkpoint without its weights: configuration, tokenizer and the class that will load it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    TOKENIZER_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
)

from depthprobe.errors import DepthprobeError, LoadError, OptionError
from depthprobe.models.loading import gguf, gguf_reader, original_llama
from depthprobe.models.loading.attention import check_kernel, kernel_named
from depthprobe.models.loading.hub_errors import explain_load_error
from depthprobe.models.loading.local_files import check_files, read_json
from depthprobe.models.loading.options import LoadOptions
from depthprobe.models.loading.placement import choose_device
from depthprobe.models.loading.sanity import KERNELS, checked_settings, correct
from depthprobe.models.loading.sources import (
    ModelSource,
    fetch_adapter_files,
    fetch_small_files,
    original_folder,
    resolve_model,
    small_files,
)
from depthprobe.models.loading.stages import Stage, unseen
from depthprobe.models.own.registration import OWN_TYPE, register_with_transformers

# Any file that a tokenizer can be read from; byte-level ones need none.
TOKENIZER_FILES = [
    "tokenizer.json",
    "tekken.json",
    "*.model",
    "*.tiktoken",
    "vocab*",
    "merges.txt",
    "*.vocab",
]

# What the libraries raise for a checkpoint that they cannot build, as observed with damaged ones.
MACHINE_EXCEPTIONS = (MemoryError, OSError, RuntimeError)
LOAD_EXCEPTIONS = (
    *MACHINE_EXCEPTIONS, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, TypeError,
    ValueError, SafetensorError, StrictDataclassError, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a model before its weights are read.

    ``folder`` holds its files; ``config`` is None for Meta's original layout, whose sizes are known from the
    weights; ``context_tokens`` is the longest sequence its configuration allows, None if it names no limit;
    ``tower`` is the measured tower of an encoder-decoder model, None for all others; ``gguf`` the
    header of a GGUF file.
    """

    source: ModelSource
    folder: Path
    config: PretrainedConfig | None
    tokenizer: PreTrainedTokenizerBase
    trust_remote_code: bool
    notes: tuple[str, ...] = ()
    tower: str | None = None
    gguf: gguf.Header | None = None

    @property
    def context_tokens(self) -> int | None:
        """The configuration's own limit; :func:`loading.context_limit` is the exact one."""
        return None if self.config is None else declared_positions(self.config)


def open_checkpoint(
    name_or_source: str | ModelSource,
    options: LoadOptions | None = None,
    *,
    stage: Stage = unseen,
    **wanted: Any,
) -> Checkpoint:
    """Return a checkpoint's configuration and tokenizer; of a hub model only those files are fetched.

    Args:
        name_or_source: A name as :func:`resolve_model` takes it, or its answer. Revision and adapter are
            used only with a name.
        options: How the model is wanted.
        stage: Shows what takes a while, see :mod:`depthprobe.models.loading.stages`.
        wanted: Fields of :class:`LoadOptions`, instead of it or to change some of it.

    Raises:
        LoadError: If the model cannot be found, or its configuration or tokenizer cannot be used.
        OptionError: If a tower is asked for but the model has only one.
        MachineError: If the disk or the network fails.
    """
    options = replace(options or LoadOptions(), **wanted)
    source, trust = name_or_source, options.trust_remote_code
    if isinstance(source, str):
        source = resolve_model(source, options.revision, options.adapter)
    if source.layout == "meta":
        choose_tower(source.name, None, options.tower)
        folder = original_folder(source, weights=False)
        return Checkpoint(source, folder, None, original_llama.load_tokenizer(folder), trust)
    header = None
    if source.layout == "gguf":
        gguf.require_package(source.name)
        folder = fetch_small_files(source, with_code=False)
        with stage("Reading configuration", None, ""):
            header, config = _read_gguf(source, folder, _kernel(source.name, {}, options)[0])
        notes: tuple[str, ...] = ()
    else:
        folder = fetch_small_files(source, trust)
        check_files(source.name, small_files(folder))
        config, notes = _read_config(source, folder, options)
    tower = choose_tower(source.name, config, options.tower)
    with stage("Reading tokenizer" if header is None else "Converting tokenizer", None, ""):
        tokenizer = _read_tokenizer(source, folder, trust, config)
        tokenizer, note = _with_adapter(source, tokenizer, config)
        notes += (note,) if note else ()
    return Checkpoint(source, folder, config, tokenizer, trust, notes, tower, header)


def choose_tower(name: str, config: PretrainedConfig | None, wanted: str | None) -> str | None:
    """Return the tower of an encoder-decoder model that is measured, None for a model with one tower.

    Raises:
        OptionError: If a tower is asked for in a model with one tower.
    """
    if config is not None and config.is_encoder_decoder and not _is_lone_encoder(config):
        return wanted or "decoder"
    if wanted is not None:
        problem = f"--tower {wanted} is for encoder-decoder models, but {name} has a single tower."
        raise OptionError(problem, "Leave out --tower.")
    return None


def _is_lone_encoder(config: PretrainedConfig) -> bool:
    """Return whether an encoder-decoder's configuration comes with its encoder alone (T5EncoderModel)."""
    architecture = (config.architectures or [""])[0]
    return architecture.endswith("EncoderModel") and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING


def declared_positions(config: PretrainedConfig) -> int | None:
    """Return how many positions a configuration declares; None where nothing limits them.

    For an encoder-decoder model, the smaller of what its towers declare: the same text goes through both.
    """
    parts = [config.get_text_config()]
    if config.is_encoder_decoder:
        towers = (getattr(config, name, None) for name in ("encoder", "decoder"))
        parts = [config, *(tower for tower in towers if isinstance(tower, PretrainedConfig))]
    return min((limit for limit in map(_own_positions, parts) if limit is not None), default=None)


def _own_positions(config: PretrainedConfig) -> int | None:
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", None) == "alibi":
        return None
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
    both = (f"max_{tower}_position_embeddings" for tower in ("encoder", "decoder"))
    towers: list[Any] = [getattr(config, name, None) for name in both]
    if all(isinstance(limit, int) and limit > 0 for limit in towers):  # LED's name for both
        return min(towers)
    limits = (getattr(config, name, None) for name in names)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def _read_gguf(source: ModelSource, folder: Path, kernel: str | None) -> tuple[gguf.Header, PretrainedConfig]:
    """Return header and configuration of a GGUF file, reading it once for both.

    ``kernel`` is the attention kernel that was asked for.
    """
    path = folder / str(source.gguf_file)
    reader = gguf_reader.open_reader(source.name, path)
    header = gguf.read_header(source.name, path, reader)
    try:
        with (
            gguf_reader.lent(source.name, path, reader),
            errors_told(source.name, "configuration", MACHINE_EXCEPTIONS),
        ):
            config = AutoConfig.from_pretrained(
                folder, gguf_file=source.gguf_file, attn_implementation=kernel
            )
            return header, config
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise gguf.unknown_architecture(source.name, header) from error


def _read_config(
    source: ModelSource, folder: Path, options: LoadOptions
) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """Return the configuration, and notes about code that comes with the model and on what was put right."""
    name, trust = source.name, options.trust_remote_code
    raw = read_json(name, folder / "config.json")
    settings, notes = checked_settings(name, raw)
    model_type, code = settings.get("model_type"), settings.get("auto_map") or {}
    if model_type == OWN_TYPE:
        register_with_transformers()
    known = model_type in CONFIG_MAPPING
    files = ", ".join(sorted({_code_file(entry) for entry in _flat(code.values())}))
    if not known and not code:
        what = f"has the unknown model type {model_type!r}" if model_type else "names no model_type"
        raise LoadError(
            f"config.json of {name} {what}.",
            f"A transformers newer than {transformers.__version__} may know it: pip install -U transformers.",
        )
    if not known and not trust:
        raise LoadError(
            f"{name} needs code of its own ({files}), which is not run unless you say so.",
            "Read that code, then add --trust-remote-code.",
        )
    if code and not trust:
        notes += (f"{name} brings code of its own ({files}), which was not run.",)
    kernel, note = _kernel(name, settings, options)
    notes += (note,) if note else ()
    with errors_told(name, "configuration"):
        if trust and "AutoConfig" in code:
            put_right = {key: settings.get(key) for key in ("dtype",) if key in settings}
            config = AutoConfig.from_pretrained(
                folder, trust_remote_code=True, attn_implementation=kernel, **put_right
            )
        else:
            for key in KERNELS:
                settings.pop(key, None)
            config = own_class(settings).from_dict(
                settings, attn_implementation=kernel, name_or_path=str(folder)
            )
        notes += correct(name, config)
    return config, notes


def own_class(settings: Mapping[str, Any]) -> type[PretrainedConfig]:
    """Return the class of transformers that a configuration belongs to, as AutoConfig chooses it."""
    # What transformers makes of a Mistral whose layers differ.
    is_ministral = settings["model_type"] == "mistral" and "layer_types" in settings
    return CONFIG_MAPPING["ministral" if is_ministral else settings["model_type"]]


def _kernel(name: str, settings: Mapping[str, Any], options: LoadOptions) -> tuple[str | None, str]:
    """Return the attention kernel for a model, None for transformers' choice, and a note on the choice."""
    device = choose_device(options.device)
    if options.attn_implementation is not None:
        return check_kernel(options.attn_implementation, device), ""
    return kernel_named(name, settings, device)


def _flat(entries: Any) -> Iterator[str]:
    for entry in entries:
        yield from (item for item in (entry if isinstance(entry, list | tuple) else [entry]) if item)


def _code_file(entry: str) -> str:
    """Return 'modeling_x.py' (of REPO, where it is another) from 'REPO--modeling_x.Class'."""
    repo, _, path = entry.rpartition("--")
    return f"{path.rpartition('.')[0]}.py" + (f" of {repo}" if repo else "")


def choose_class(config: PretrainedConfig) -> Any:
    """Return the transformers Auto class that loads a checkpoint with the head it was trained with.

    Encoders such as BERT are also in the causal table (as decoders of another model). So where both
    tables list a type, the checkpoint's own architecture decides; by default the masked head is right.
    A decoder saved bare or with another task's head is loaded without one: a random head gives random losses.

    Raises:
        LoadError: If transformers has no model of this type that reads tokens.
    """
    remote = getattr(config, "auto_map", None) or {}
    for auto in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModel"):
        if auto in remote:
            return getattr(transformers, auto)
    kind, architecture = type(config), (config.architectures or [None])[0]
    has_head = architecture is None or re.search("CausalLM|LMHead|Generation", architecture)
    has_head = has_head or config.get_text_config().tie_word_embeddings
    if _is_lone_encoder(config):
        return transformers.AutoModelForTextEncoding
    if config.is_encoder_decoder:
        if has_head and kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            return transformers.AutoModelForSeq2SeqLM
        if kind in MODEL_MAPPING:
            return transformers.AutoModel
    causal, masked = kind in MODEL_FOR_CAUSAL_LM_MAPPING, kind in MODEL_FOR_MASKED_LM_MAPPING
    if causal and masked:
        says_causal = architecture == class_name(MODEL_FOR_CAUSAL_LM_MAPPING, kind)
        causal = says_causal or getattr(config, "is_decoder", False)
        masked = not causal
    if causal and has_head:
        return transformers.AutoModelForCausalLM
    if masked:
        return transformers.AutoModelForMaskedLM
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText
    if kind in MODEL_MAPPING:
        return transformers.AutoModel
    raise LoadError(
        f"transformers has no language model of type {config.model_type!r}.", "Choose another model."
    )


def class_name(mapping: Any, kind: type[PretrainedConfig]) -> str:
    """Return the name of the model class that one of transformers' tables lists for a configuration."""
    entry = mapping[kind]
    return (entry[0] if isinstance(entry, list | tuple) else entry).__name__


def is_masked(model: PreTrainedModel) -> bool:
    """Return whether a model was built with the head that fills in masked tokens."""
    kind = type(model.config)
    return (
        not model.config.is_encoder_decoder
        and kind in MODEL_FOR_MASKED_LM_MAPPING
        and type(model).__name__ == class_name(MODEL_FOR_MASKED_LM_MAPPING, kind)
    )


def _gguf_tokenizer_class(config: PretrainedConfig, folder: Path) -> Any:
    """Return the class that AutoTokenizer would choose for a GGUF file, without reading its header again."""
    kind = TOKENIZER_MAPPING.get(type(config), PreTrainedTokenizerFast)
    named = (folder / "tokenizer_config.json").is_file() or getattr(config, "tokenizer_class", None)
    # Mistral's class is one of two, depending on the files.
    plain = isinstance(kind, type) and not named and "Mistral" not in kind.__name__
    return kind if plain else AutoTokenizer


def _read_tokenizer(
    source: ModelSource, folder: Path, trust: bool, config: PretrainedConfig | None = None
) -> PreTrainedTokenizerBase:
    has_files = any(True for pattern in TOKENIZER_FILES for _ in folder.glob(pattern))
    kind: Any = AutoTokenizer
    inside: dict[str, Any] = {"trust_remote_code": trust} | ({} if config is None else {"config": config})
    if source.gguf_file is not None:
        kind, inside = _gguf_tokenizer_class(config, folder), {"gguf_file": source.gguf_file}
    hint = "Put tokenizer.json or tokenizer.model beside its config.json."
    with errors_told(source.name, "tokenizer"):
        try:
            tokenizer = kind.from_pretrained(folder, **inside)
        except Exception as error:
            if not has_files and source.gguf_file is None:
                raise LoadError(f"{source.name} has no tokenizer.", hint) from error
            if type(error) is Exception:  # the tokenizers library raises no other: no name to catch it by
                raise ValueError(str(error)) from error
            raise
    # Without files transformers builds some types from their special tokens alone; real bytes need 256.
    if not has_files and len(tokenizer) < 256:
        raise LoadError(f"{source.name} has no tokenizer.", hint)
    return tokenizer


def _with_adapter(
    source: ModelSource, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig | None
) -> tuple[PreTrainedTokenizerBase, str]:
    """Return the tokenizer that an adapter was trained with, where it has other tokens, and a note on it."""
    if source.adapter is None:
        return tokenizer, ""
    folder = fetch_adapter_files(source.adapter)
    if not any(True for pattern in TOKENIZER_FILES for _ in folder.glob(pattern)):
        return tokenizer, ""
    inside = {} if config is None else {"config": config}
    with errors_told(source.adapter.name, "tokenizer"):
        own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **inside)
    if own.get_vocab() == tokenizer.get_vocab():
        return tokenizer, ""
    return own, (
        f"The tokenizer of {source.adapter.name} is used: it has {len(own):,} tokens, that of {source.name} "
        f"{len(tokenizer):,}."
    )


@contextmanager
def errors_told(
    name: str, what: str, exceptions: tuple[type[Exception], ...] = LOAD_EXCEPTIONS
) -> Iterator[None]:
    """Turn what transformers raises into our errors, and silence its warnings: we report them ourselves."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(max(verbosity, transformers.logging.ERROR))
    try:
        yield
    except DepthprobeError:
        raise
    except exceptions as error:
        raise explain_load_error(error, name, what) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
