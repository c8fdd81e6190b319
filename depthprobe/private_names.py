"""What depthprobe uses of other libraries beyond their public interface, each name once.

tests/test_private_names.py checks every entry against the installed versions. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

# Names of a class that ours override, because transformers and lm-eval look there. If one is gone, ours is
# never called: weights would be drawn as Llama draws them, models split inside a block, hidden states not
# recorded, and lm-eval would run the model itself. -> (module, class, name)
OVERRIDDEN = (
    ("transformers.models.llama.modeling_llama", "LlamaForCausalLM", "_init_weights"),
    ("transformers.models.llama.modeling_llama", "LlamaForCausalLM", "_no_split_modules"),
    ("transformers.models.llama.modeling_llama", "LlamaModel", "_can_record_outputs"),
    ("lm_eval.models.huggingface", "HFLM", "_loglikelihood_tokens"),
)

# Public names of modules that we replace by a function of our own for a while. If one is gone: an
# AttributeError. If one is no longer called: templates compile slowly, bars are drawn, an error in data or in
# a task of one's own is not reported in our words, the fonts in a PDF are larger.
# -> (module, name, caller's module, caller)
REPLACED = (
    ("lm_eval.utils", "env.from_string", "lm_eval.utils", "apply_template"),
    ("lm_eval.api.task", "tqdm", "lm_eval.api.task", "Task.build_all_requests"),
    *(
        ("lm_eval.api.task", f"ConfigurableTask.{name}", "lm_eval.api.task", caller)
        for name, caller in {
            "download": "ConfigurableTask.__init__",
            "doc_to_text": "ConfigurableTask.__init__",
            "doc_to_target": "ConfigurableTask.__init__",
            "doc_to_choice": "ConfigurableTask.__init__",
            "doc_to_prefix": "Task.build_all_requests",
            "fewshot_docs": "ConfigurableTask.__init__",
            "training_docs": "Task.fewshot_docs",
            "validation_docs": "Task.eval_docs.fget",
            "test_docs": "Task.eval_docs.fget",
        }.items()
    ),
    *(
        ("lm_eval.api.task", name, "lm_eval.api.task", "ConfigurableTask.__init__")
        for name in ("get_metric", "get_aggregation", "get_metric_aggregation")
    ),
    ("fontTools.subset", "load_font", "matplotlib.backends._backend_pdf_ps", "get_glyphs_subset"),
)


def attention_kernel(config: Any) -> str | None:
    """Return the attention implementation that transformers chose for a configuration.

    transformers has no public way to read it. If the name is gone: None, and manifests lack it.
    """
    return getattr(config, "_attn_implementation", None)


def use_one_gpu(arguments: Any) -> None:
    """Make a Trainer with these arguments use only one GPU of this process.

    transformers counts what CUDA shows and has no argument for it. If the name is gone: larger steps where
    one process sees several GPUs, which the training record would not show.
    """
    arguments._n_gpu = 1


def input_device(module: nn.Module) -> torch.device:
    """Return where a module takes its input: its weights' device, or where accelerate puts offloaded ones.

    If the name is gone: an error about the meta device in models that are offloaded.
    """
    import torch

    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return torch.device(device) if device is not None else next(module.parameters()).device


def unwrapped_forward(model: nn.Module) -> Callable[..., Any] | None:
    """Return a model's own forward pass if accelerate has wrapped it for mixed precision, else None.

    accelerate's own function for this also strips transformers' decorators. If the name is gone: None, and a
    model in training is measured in half precision, without any error.
    """
    return model.__dict__.get("_original_forward")


@contextmanager
def lm_answering_with(lm: Any, model: nn.Module | None) -> Iterator[None]:
    """While the body runs, lm-eval's ``HFLM`` uses another model; None leaves its own.

    HFLM takes a model only when it is made, and reads a tokenizer then. If the name is gone: an
    AttributeError here, before anything has been computed.
    """
    own = lm._model
    try:
        lm._model = own if model is None else model
        yield
    finally:
        lm._model = own


def own_parameters(module: nn.Module) -> dict[str, torch.Tensor | None]:
    """Return the dictionary in which a module keeps its own parameters and from which it computes.

    ``setattr`` accepts only parameters there. If the name is gone: an AttributeError.
    """
    return module._parameters  # type: ignore[return-value]


@contextmanager
def children_replaced(module: nn.Module, children: dict[str, nn.Module | None]) -> Iterator[None]:
    """While the body runs, a module has other children; then its own again, in their own order.

    Set one by one, they would move to the end. If the name is gone: an AttributeError.
    """
    own = module._modules
    module._modules = children
    try:
        yield
    finally:
        module._modules = own


def own_children(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return a module's children by name, as :func:`children_replaced` takes them."""
    return module._modules


def share_storage(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors share a storage, on the meta device too, where every address is 0.

    If the name is gone: an AttributeError.
    """
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata


def dynamic_rotaries(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose rotary frequencies follow the longest text that was read (dynamic NTK).

    transformers says so in a module's ``rope_type``, or for each type of layer in a dictionary of that name.
    If the name is gone: none, and a text that is read after a longer one gets other numbers, which the check
    before a measurement finds and refuses.
    """
    return [module for module in model.modules() if _dynamic_layers(module)]


def reset_rotary(module: nn.Module) -> None:
    """Give one of :func:`dynamic_rotaries` the frequencies that it had before it read anything.

    transformers does it itself only when the next text is shorter than those of pre-training. If a name is
    gone: an AttributeError.
    """
    known: Any = module
    for prefix in _dynamic_layers(module):
        original = getattr(known, f"{prefix}original_inv_freq")
        current = getattr(known, f"{prefix}inv_freq")
        known.register_buffer(f"{prefix}inv_freq", original.to(current.device, copy=True), persistent=False)
        # Of a type of layer the module counts only once it has read a long text.
        if not prefix or hasattr(known, f"{prefix}max_seq_len_cached"):
            setattr(known, f"{prefix}max_seq_len_cached", known.original_max_seq_len)


def _dynamic_layers(module: nn.Module) -> list[str]:
    """Return what the names of a module's dynamic frequencies begin with: nothing, or a type of layer."""
    kinds = getattr(module, "rope_type", None)
    if isinstance(kinds, str):
        return [""] if "dynamic" in kinds else []
    if isinstance(kinds, dict):
        return [f"{layer}_" for layer, kind in kinds.items() if isinstance(kind, str) and "dynamic" in kind]
    return []
