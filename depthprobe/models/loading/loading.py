"""The one door to transformers' loading: a name in, a loaded model with its tokenizer out.

Three steps, so that failures come before the expensive part: :func:`resolve_model` finds what a name refers
to, :func:`open_checkpoint` reads configuration and tokenizer, :func:`load_model` brings weights to a device.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from depthprobe.builtin import PREFIX
from depthprobe.errors import LoadError
from depthprobe.models.loading import adapters, gguf, gguf_reader, original_llama
from depthprobe.models.loading.attention import check_kernel, check_precision
from depthprobe.models.loading.checkpoint import (
    MACHINE_EXCEPTIONS,
    Checkpoint,
    choose_class,
    declared_positions,
    errors_told,
    open_checkpoint,
)
from depthprobe.models.loading.finite import check_finite
from depthprobe.models.loading.initial import build_initial
from depthprobe.models.loading.missing import judge_missing, refuse_unloaded_weights, some
from depthprobe.models.loading.options import LoadOptions
from depthprobe.models.loading.placement import (
    choose_device,
    choose_dtype,
    dtype_name,
    needed_bytes,
    parse_dtype,
    placement,
    stored_dtype,
)
from depthprobe.models.loading.quantisation import Quantisation, check_quantisation
from depthprobe.models.loading.sources import (
    IN_MEMORY,
    ModelSource,
    fetch_weights,
    original_folder,
    resolve_model,
)
from depthprobe.models.loading.stages import Stage, unseen
from depthprobe.models.loading.stored import stored_weights
from depthprobe.models.loading.weights import glance_at, weight_files
from depthprobe.private_names import attention_kernel, input_device

__all__ = [
    "Checkpoint",
    "LoadOptions",
    "LoadedModel",
    "ModelSource",
    "context_limit",
    "load_model",
    "open_checkpoint",
    "resolve_model",
]


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, where both came from, and the device that inputs go to.

    ``notes`` are sentences for the user about what loading had to decide; ``quantisation`` says how the
    checkpoint's weights were packed, None if they were not; ``tower`` is the measured tower of an
    encoder-decoder model, None for all others; ``initial_seed`` that of weights that were never trained;
    ``kernel`` the attention kernel that was asked for; ``glance`` what a glance at the weights showed when
    they were loaded, see :func:`glance_at`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    device: torch.device
    notes: tuple[str, ...] = ()
    quantisation: str | None = None
    tower: str | None = None
    initial_seed: int | None = None
    unfilled: tuple[str, ...] = ()
    kernel: str | None = None
    glance: str | None = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights in memory, packed ones as packed: GPTQ and AWQ keep theirs in buffers."""
        held = {id(tensor): tensor for tensor in self.model.state_dict(keep_vars=True).values()}
        tensors = (tensor for tensor in held.values() if isinstance(tensor, torch.Tensor))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def context_tokens(self) -> int | None:
        """The longest sequence that the positions allow, see :func:`context_limit`."""
        return context_limit(self.model)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding; token ids must be below this."""
        embedding = self.model.get_input_embeddings()
        return int(getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0])

    @property
    def pad_token_id(self) -> int:
        """An id to pad batches with; it is masked, so any valid one will do where none is set."""
        if self.tokenizer is None:
            return 0
        return next(
            (i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0
        )

    def as_options(self) -> LoadOptions:
        """Return the options with which a command would load it like this."""
        # On a CPU float32 is the default.
        usual = self.device.type == "cpu" and self.model.dtype == torch.float32
        return LoadOptions(
            dtype="auto" if usual else dtype_name(self.model.dtype),
            device=str(self.device),
            tower=self.tower,
            initial_seed=self.initial_seed,
            attn_implementation=self.kernel,
        )

    def describe(self) -> dict[str, Any]:
        """Return what was really loaded, JSON-safe, for a run's manifest."""
        source, config = self.source, self.model.config
        placement = getattr(self.model, "hf_device_map", None) or {}
        is_split = len(set(map(str, placement.values()))) > 1
        return {
            "id": source.name,
            # the package's directory says nothing, and would put a path of this machine into the manifest
            "location": source.name if source.name.startswith(PREFIX) else source.location,
            "commit": source.revision,
            "fingerprint": source.fingerprint,
            "layout": source.layout,
            "gguf_file": source.gguf_file,
            "architecture": type(self.model).__name__,
            "model_type": config.model_type,
            "parameters": int(self.model.num_parameters()),
            "dtype": dtype_name(self.model.dtype),
            "quantisation": self.quantisation,
            "adapter": None if source.adapter is None else source.adapter.describe(),
            "tower": self.tower,
            "initial_seed": self.initial_seed,
            "device": str(self.device),
            "device_name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "device_map": {path: str(place) for path, place in placement.items()} if is_split else None,
            "attention": attention_kernel(config.get_text_config()),
            "context_tokens": context_limit(self.model),
        }


def load_model(
    model: str | Path | ModelSource | Checkpoint,
    options: LoadOptions | None = None,
    *,
    stage: Stage = unseen,
    **wanted: Any,
) -> LoadedModel:
    """Return a model, ready for forward passes, with its tokenizer.

    Args:
        model: A name or path as :func:`resolve_model` takes it, its answer, or an opened checkpoint.
            Revision and adapter are used only with a name; an opened checkpoint has also fixed trust in code
            and tower.
        options: How the model is wanted.
        stage: Shows what takes a while, see :mod:`depthprobe.models.loading.stages`.
        wanted: Fields of :class:`LoadOptions`, instead of it or to change some of it: ``revision``,
            ``dtype``, ``device``, ``device_map``, ``trust_remote_code``, ``adapter``, ``tower``,
            ``attn_implementation``, ``initial_seed``.

    Raises:
        OptionError: If ``dtype``, ``device`` or another option has a value that cannot be used.
        LoadError: If the model cannot be found, read or built.
        MachineError: If memory, disk or network fails.
    """
    options = replace(options or LoadOptions(), **wanted)
    model = str(model) if isinstance(model, Path) else model
    place = choose_device(options.device)
    dtype = parse_dtype(options.dtype, place)
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model, options, stage=stage)
    source = checkpoint.source
    if options.initial_seed is not None:
        built, notes = build_initial(checkpoint, options.initial_seed, dtype, place)
        device, notes = _input_device(source, built), checkpoint.notes + notes
        return LoadedModel(
            built.eval(),
            checkpoint.tokenizer,
            source,
            device,
            notes,
            None,
            checkpoint.tower,
            options.initial_seed,
            kernel=options.attn_implementation,
        )
    adapter = None if source.adapter is None else adapters.read_adapter(source.adapter)
    # A CPU is a single device: there is nothing to split over, and no GPU to ask for.
    split = options.device_map == "auto" and place.type != "cpu"
    if source.layout == "meta":
        with stage("Converting weights", None, ""):
            built = _build_original(source, dtype, place, split)
        if options.attn_implementation is not None:
            kernel = check_kernel(options.attn_implementation, place)
            check_precision(kernel, built.model.dtype)
            with errors_told(source.name, "model"):
                built.model.set_attn_implementation(kernel)
    else:
        built = _build_model(checkpoint, dtype, place, "auto" if split else None, stage)
    refuse_unloaded_weights(source, built.model)
    device, network = _input_device(source, built.model), built.model
    if adapter is not None:
        network = adapters.merge_adapter(adapter, network, source.name)
    check_finite(source.name, network)
    return LoadedModel(
        network.eval(),
        checkpoint.tokenizer,
        source,
        device,
        checkpoint.notes + built.notes,
        built.quantisation,
        checkpoint.tower,
        unfilled=built.unfilled,
        kernel=options.attn_implementation,
        glance=glance_at(network),
    )


def already_loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> LoadedModel:
    """Return a model that is in memory, such as one that is being trained, as the probes take it.

    It is not changed: put it into evaluation mode first. Only drawing or masking tokens needs a tokenizer.
    """
    name = str(getattr(model.config, "name_or_path", "") or type(model).__name__)
    source = ModelSource(name, IN_MEMORY, revision=None, fingerprint=None, layout="transformers")
    device = next(model.parameters()).device
    return LoadedModel(model, tokenizer, source, device)


def context_limit(model: PreTrainedModel) -> int | None:
    """Return the longest sequence, in tokens, that a model's positions allow; None if nothing limits it.

    Mamba, RWKV and ALiBi models have no such limit. RoBERTa's position table starts after its padding
    row, so that 514 rows hold 512 positions; OPT's two extra rows are already left out of its config.
    """
    limit = declared_positions(model.config)
    for name, module in model.named_modules():
        is_table = isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]
        if is_table and module.num_embeddings == limit and module.padding_idx is not None:
            return limit - module.padding_idx - 1
    return limit


@dataclass(frozen=True)
class _Built:
    """A model with its weights in place, and the fields of a :class:`LoadedModel` that its files decide."""

    model: PreTrainedModel
    notes: tuple[str, ...]
    quantisation: str | None = None
    unfilled: tuple[str, ...] = ()


def _build_original(
    source: ModelSource, wanted: torch.dtype | None, device: torch.device, split: bool
) -> _Built:
    """Return the model of Meta's original files."""
    folder = original_folder(source)
    stored = original_llama.stored_dtype(folder)
    dtype, notes = choose_dtype(wanted, stored, device)
    weights = needed_bytes(original_llama.weight_files(folder), stored, dtype)
    target = None if split else placement(source.name, weights, dtype, device)
    with errors_told(source.name, "model", MACHINE_EXCEPTIONS):
        return _Built(original_llama.load_model(folder, dtype, target), notes)


def _build_model(
    checkpoint: Checkpoint,
    wanted: torch.dtype | None,
    device: torch.device,
    device_map: str | dict[str, Any] | None = None,
    stage: Stage = unseen,
) -> _Built:
    """Return the model of transformers' own layout or a GGUF file.

    Args:
        checkpoint: The opened checkpoint.
        wanted: The dtype asked for, None for the one that suits the device.
        device: Where inputs go.
        device_map: As in transformers; None is the device, or all there are if it is too small.
        stage: Shows what takes a while.
    """
    source, config = checkpoint.source, checkpoint.config
    assert config is not None, "only Meta's layout has none"
    packed: Quantisation | None = None
    files: list[Path] = []
    if checkpoint.gguf is not None:
        stored, more = (
            checkpoint.gguf.stored_dtype,
            gguf.unpacking_options() | {"gguf_file": source.gguf_file},
        )
        dtype, notes = choose_dtype(wanted, stored, device)
        weights = float(checkpoint.gguf.elements * dtype.itemsize)
        quantisation: str | None = f"gguf {checkpoint.gguf.file_type}"
    else:
        packed, more = check_quantisation(source.name, config, device), {}
        quantisation = None if packed is None else str(packed)
        is_packed = packed is not None and not packed.unpacked
        if is_packed and source.adapter is not None:
            raise LoadError(
                f"{source.name} is quantised ({packed}), so {source.adapter.name} cannot be merged "
                "into packed weights without rounding them again.",
                "Name the model it was made from, unquantised.",
            )
        fetch_weights(source, checkpoint.folder)
        files = weight_files(source.name, checkpoint.folder)
        if (checkpoint.folder / "adapter_config.json").is_file():
            raise LoadError(  # transformers would put the adapter on the model without a word
                f"{source.name} holds a whole model and an adapter beside it.",
                "Name a directory with a model alone; add an adapter with --adapter.",
            )
        stored = stored_dtype(config, files)
        dtype, notes = (wanted or stored, ()) if is_packed else choose_dtype(wanted, stored, device)
        check_precision(attention_kernel(config), dtype)
        weights = needed_bytes(files, stored, stored if is_packed else dtype)
        if packed is not None and packed.unpacked:
            weights = sum(path.stat().st_size for path in files) * dtype.itemsize * 8 / (packed.bits or 8)
    if device_map is None:
        target = placement(source.name, weights, dtype, device)
        device_map = {"": target} if target is not None else "auto"
    # Weights that fit nowhere else are read from disk when needed; some must be rewritten for that.
    offloaded, folder = tempfile.mkdtemp(prefix="depthprobe-"), checkpoint.folder
    try:
        if files:
            read = stored_weights(source.name, folder, files, Path(offloaded))
            folder, more, notes = read.folder, more | read.options, notes + read.notes
        with _unpacking(checkpoint, stage), errors_told(source.name, "model"):
            model, report = choose_class(config).from_pretrained(
                folder,
                config=config,
                dtype="auto" if packed is not None and not packed.unpacked and wanted is None else dtype,
                device_map=device_map,
                trust_remote_code=checkpoint.trust_remote_code,
                ignore_mismatched_sizes=True,  # reported by us below, with the shapes
                output_loading_info=True,
                offload_folder=offloaded,
                **more,
            )
    except BaseException:
        shutil.rmtree(offloaded, ignore_errors=True)
        raise
    weakref.finalize(model, shutil.rmtree, offloaded, ignore_errors=True)
    mismatched = sorted(report.get("mismatched_keys") or ())
    if mismatched:
        key, found, expected = mismatched[0]
        raise LoadError(
            f"{source.name}: {key} has shape {tuple(found)} where config.json asks for {tuple(expected)}"
            + (f", and {len(mismatched) - 1} more differ." if len(mismatched) > 1 else "."),
            "Check that config.json and the weights belong together.",
        )
    missing = sorted(report.get("missing_keys") or ())
    notes += judge_missing(source, model, missing)
    unexpected = sorted(report.get("unexpected_keys") or ())  # without those the class ignores on purpose
    if unexpected:
        modules = some(list(dict.fromkeys(key.rpartition(".")[0] or key for key in unexpected)))
        notes += (f"{source.name} holds weights that {type(model).__name__} has no place for: {modules}.",)
    return _Built(model, notes, quantisation, tuple(missing))


@contextlib.contextmanager
def _unpacking(checkpoint: Checkpoint, stage: Stage) -> Iterator[None]:
    """Count the weights of a GGUF file that transformers unpacks while the body runs."""
    if checkpoint.gguf is None:
        yield
        return
    source = checkpoint.source
    path = checkpoint.folder / str(source.gguf_file)
    with (
        stage("Unpacking weights", checkpoint.gguf.elements, "weights") as advance,
        gguf_reader.lent(source.name, path, advance=advance, stage=stage),
    ):
        yield


def _input_device(source: ModelSource, model: PreTrainedModel) -> torch.device:
    """Return the device for token ids: the embedding's, or the one accelerate moves it to when needed."""
    if model.main_input_name != "input_ids":
        problem = f"{source.name} ({model.config.model_type}) reads {model.main_input_name}, not text."
        raise LoadError(problem, "Choose a language model.")
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError as error:
        problem = f"{source.name} ({model.config.model_type}) has no token embedding."
        raise LoadError(problem, "Choose a language model.") from error
    return input_device(embedding)
