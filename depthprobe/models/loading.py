"""The one door to transformers' loading: a name in, a loaded model with its tokenizer out.

Three steps, each cheap to fail before the next: :func:`resolve_model` settles what a name stands for,
:func:`open_checkpoint` reads configuration and tokenizer, :func:`load_model` brings the weights to a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from depthprobe.builtin import PREFIX
from depthprobe.errors import LoadError
from depthprobe.models import meta_llama
from depthprobe.models.checkpoint import (
    MACHINE_EXCEPTIONS,
    Checkpoint,
    choose_class,
    class_name,
    declared_positions,
    errors_told,
    open_checkpoint,
)
from depthprobe.models.placement import (
    choose_device,
    choose_dtype,
    dtype_name,
    parse_dtype,
    placement,
    stored_dtype,
)
from depthprobe.models.sources import ModelSource, fetch_weights, original_folder, resolve_model, weight_files

__all__ = [
    "Checkpoint",
    "LoadedModel",
    "ModelSource",
    "context_limit",
    "load_model",
    "open_checkpoint",
    "resolve_model",
]


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, where both came from, and the device inputs go to.

    ``notes`` are sentences for the user about what the loading had to decide.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    device: torch.device
    notes: tuple[str, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())

    @property
    def context_tokens(self) -> int | None:
        """The longest sequence the positions admit, see :func:`context_limit`."""
        return context_limit(self.model)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding: ids from this number on have none."""
        embedding = self.model.get_input_embeddings()
        return int(getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0])

    @property
    def pad_token_id(self) -> int:
        """An id to fill batches with; it is masked, so any valid one will do where none is set."""
        return next(
            (i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0
        )

    def describe(self) -> dict[str, Any]:
        """Return what was really loaded, JSON-safe, for a run's manifest."""
        source, config = self.source, self.model.config
        quantisation = getattr(config, "quantization_config", None)
        if quantisation is not None and not isinstance(quantisation, dict):
            quantisation = quantisation.to_dict()
        placement = getattr(self.model, "hf_device_map", None) or {}
        is_split = len(set(map(str, placement.values()))) > 1
        method = (quantisation or {}).get("quant_method")
        return {
            "id": source.name,
            # where the package lies says nothing, and would put a path of this machine into the manifest
            "location": source.name if source.name.startswith(PREFIX) else source.location,
            "commit": source.revision,
            "fingerprint": source.fingerprint,
            "layout": source.layout,
            "architecture": type(self.model).__name__,
            "model_type": config.model_type,
            "parameters": int(self.model.num_parameters()),
            "dtype": dtype_name(self.model.dtype),
            "quantisation": None if method is None else str(getattr(method, "value", method)),
            "device": str(self.device),
            "device_name": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "device_map": {path: str(place) for path, place in placement.items()} if is_split else None,
            "attention": getattr(config.get_text_config(), "_attn_implementation", None),
            "context_tokens": context_limit(self.model),
        }


def load_model(
    model: str | ModelSource | Checkpoint,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Return a model, ready for forward passes, with its tokenizer.

    Args:
        model: A name as :func:`resolve_model` takes it, its answer, or an opened checkpoint.
        revision: Branch, tag or commit of a hub id; used only with a name.
        dtype: ``auto`` (the checkpoint's own on a GPU, float32 on a CPU) or a name in
            :data:`depthprobe.models.placement.DTYPES`.
        device: ``auto`` (cuda, then mps, then cpu), ``cuda``, ``cuda:N``, ``mps`` or ``cpu``. Where a GPU
            does not hold the weights they are split over all there are and the main memory.
        trust_remote_code: Whether Python files that come with the model may be run; an opened checkpoint
            has settled that.

    Raises:
        OptionError: If ``dtype`` or ``device`` is no known name.
        LoadError: If the model cannot be found, read or built.
        MachineError: If memory, disk or network fail.
    """
    place = choose_device(device)
    wanted = parse_dtype(dtype, place)
    if not isinstance(model, Checkpoint):
        model = open_checkpoint(model, revision=revision, trust_remote_code=trust_remote_code)
    source = model.source
    if source.layout == "meta":
        folder = original_folder(source)
        stored = meta_llama.stored_dtype(folder)
        used, notes = choose_dtype(wanted, stored, place)
        target = placement(source.name, meta_llama.weight_files(folder), stored, used, place)
        with errors_told(source.name, "model", MACHINE_EXCEPTIONS):
            built = meta_llama.load_model(folder, used, target)
    else:
        fetch_weights(source, model.folder)
        built, notes = _build_model(model, wanted, place)
    _refuse_unloaded_weights(source, built)
    return LoadedModel(
        built.eval(), model.tokenizer, source, _input_device(source, built), model.notes + notes
    )


def context_limit(model: PreTrainedModel) -> int | None:
    """Return the longest sequence, in tokens, that a model's positions admit; None if nothing limits it.

    Mamba, RWKV and ALiBi models have no such limit. RoBERTa's position table starts after its padding
    row, so that 514 rows hold 512 positions; OPT's two extra rows are already left out of its config.
    """
    limit = declared_positions(model.config)
    for name, module in model.named_modules():
        is_table = isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]
        if is_table and module.num_embeddings == limit and module.padding_idx is not None:
            return limit - module.padding_idx - 1
    return limit


def _build_model(
    checkpoint: Checkpoint, wanted: torch.dtype | None, device: torch.device
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Return the model with its weights in place, and notes about those it did without."""
    source, config = checkpoint.source, checkpoint.config
    assert config is not None, "only Meta's layout has none"
    files = weight_files(source.name, checkpoint.folder)
    stored = stored_dtype(config, files)
    quantised = getattr(config, "quantization_config", None) is not None
    dtype, notes = (stored, ()) if quantised else choose_dtype(wanted, stored, device)
    target = placement(source.name, files, stored, dtype, device)
    with errors_told(source.name, "model"):
        model, report = choose_class(config).from_pretrained(
            checkpoint.folder,
            config=config,
            dtype="auto" if quantised else dtype,
            device_map={"": target} if target is not None else "auto",
            trust_remote_code=checkpoint.trust_remote_code,
            ignore_mismatched_sizes=True,  # told by us below, with the shapes
            output_loading_info=True,
        )
    mismatched = sorted(report.get("mismatched_keys") or ())
    if mismatched:
        key, found, expected = mismatched[0]
        raise LoadError(
            f"{source.name}: {key} has shape {tuple(found)} where config.json asks for {tuple(expected)}"
            + (f", and {len(mismatched) - 1} more differ." if len(mismatched) > 1 else "."),
            "Check that config.json and the weights belong together.",
        )
    return model, notes + _judge_missing(source, model, sorted(report.get("missing_keys") or ()))


def _judge_missing(source: ModelSource, model: PreTrainedModel, missing: list[str]) -> tuple[str, ...]:
    """Return notes on weights the checkpoint lacks but no measurement of the blocks needs.

    Poolers are not used by language models, and an encoder's head plays no part in its blocks.

    Raises:
        LoadError: If a block, the embedding, a norm, or the head of a causal model has no weights.
    """
    kind = type(model.config)
    is_encoder = kind in MODEL_FOR_MASKED_LM_MAPPING and (
        type(model).__name__ == class_name(MODEL_FOR_MASKED_LM_MAPPING, kind)
    )
    body = f"{model.base_model_prefix}."
    poolers = [key for key in missing if "pooler" in key]
    heads = [key for key in missing if key not in poolers and is_encoder and not key.startswith(body)]
    fatal = [key for key in missing if key not in poolers and key not in heads]
    if fatal:
        raise LoadError(
            f"The checkpoint of {source.name} lacks weights that its config.json asks for: {_some(fatal)}.",
            "Check that config.json and the weights belong together and that the download is complete.",
        )
    if heads:
        return (f"{source.name} has no weights for its head, which stays random: its losses mean nothing.",)
    if model.get_output_embeddings() is None:
        return (f"{source.name} has no language-model head: it can be looked into, but has no losses.",)
    return ()


def _input_device(source: ModelSource, model: PreTrainedModel) -> torch.device:
    """Return where token ids go: to the embedding, or where accelerate brings it when it is needed."""
    if model.main_input_name != "input_ids":
        problem = f"{source.name} ({model.config.model_type}) reads {model.main_input_name}, not text."
        raise LoadError(problem, "Choose a language model.")
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError as error:
        problem = f"{source.name} ({model.config.model_type}) has no token embedding."
        raise LoadError(problem, "Choose a language model.") from error
    hook_device = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return torch.device(hook_device) if hook_device is not None else next(embedding.parameters()).device


def _refuse_unloaded_weights(source: ModelSource, model: PreTrainedModel) -> None:
    """Raise if a weight is on no device; accelerate brings those it offloaded when they are needed."""
    if {"cpu", "disk"} & set(map(str, (getattr(model, "hf_device_map", None) or {}).values())):
        return
    tensors = [*model.named_parameters(), *model.named_buffers()]
    lost = [name for name, tensor in tensors if tensor.device.type == "meta"]
    if lost:
        hint = "Check that the download is complete."
        raise LoadError(f"{source.name} was loaded without {_some(lost)}.", hint)


def _some(keys: list[str], shown: int = 5) -> str:
    return ", ".join(keys[:shown]) + (f" and {len(keys) - shown} more" if len(keys) > shown else "")
