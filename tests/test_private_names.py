"""What depthprobe uses of other libraries beyond their promises is there, and does what we take it for."""

import ast
import importlib
import inspect
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.state import AcceleratorState
from lm_eval.models.huggingface import HFLM
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

import depthprobe
from depthprobe import private_names
from depthprobe.training.layer_log import _without_autocast
from support import tiny

PACKAGE = Path(depthprobe.__file__).parent
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def names_made_here():
    """Return every private name that the package itself defines or sets on its own objects."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    yield node.attr


def private_names_used(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for part in [*(node.module or "").split("."), *(alias.name for alias in node.names)]:
                yield part, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            if isinstance(node.args[1], ast.Constant):
                yield node.args[1].value, node.lineno


# What IPython documents for a figure of one's own, and Python for a named tuple.
PUBLIC_BY_CONVENTION = {"_repr_png_", "_fields"}
OVERRIDDEN = {name for _, _, name in private_names.OVERRIDDEN}


def test_private_names_of_others_stand_in_one_file():
    known = set(names_made_here()) | PUBLIC_BY_CONVENTION | OVERRIDDEN
    astray = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path, tree in TREES.items()
        if path.name != "private_names.py"
        for name, line in private_names_used(tree)
        if is_private(name) and name not in known
    ]
    assert not astray


@pytest.mark.parametrize(("module", "kind", "name"), private_names.OVERRIDDEN)
def test_what_our_classes_override_is_there(module, kind, name):
    assert hasattr(getattr(importlib.import_module(module), kind), name)


@pytest.mark.parametrize(("module", "name", "caller_module", "caller"), private_names.REPLACED)
def test_what_stands_in_for_a_while_is_still_called(module, name, caller_module, caller):
    assert callable(attrgetter(name)(importlib.import_module(module)))
    calling = inspect.getsource(attrgetter(caller)(importlib.import_module(caller_module)))
    assert f"{name.rpartition('.')[2]}(" in calling


@pytest.fixture
def model():
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **tiny.SHAPE)).eval()


@pytest.fixture
def prepared(model):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    yield accelerator.prepare_model(model)
    AcceleratorState._reset_state(reset_partial_state=True)


def linear_type(model):
    """Return the dtype in which the model's matrices really compute."""
    seen = []
    handle = model.lm_head.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    with torch.no_grad():
        model(torch.arange(5, 15).view(1, 10))
    handle.remove()
    return seen[0]


def test_what_accelerate_wraps_for_mixed_precision_is_found_and_computes_in_full(prepared):
    assert linear_type(prepared) == torch.bfloat16  # else there is nothing to unwrap
    wrapped = prepared.forward
    with _without_autocast(prepared):
        assert linear_type(prepared) == torch.float32
    assert prepared.forward == wrapped and linear_type(prepared) == torch.bfloat16


def test_a_model_that_nobody_wrapped_has_nothing_to_unwrap(model):
    assert private_names.unwrapped_forward(model) is None


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_the_attention_kernel_is_read(kernel):
    config = AutoConfig.for_model("llama", **tiny.SHAPE)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=kernel)
    assert private_names.attention_kernel(model.config) == kernel


def test_a_trainer_is_told_of_one_gpu(tmp_path):
    arguments = TrainingArguments(output_dir=tmp_path, use_cpu=True, report_to="none")
    assert arguments.n_gpu == 0
    private_names.use_one_gpu(arguments)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == arguments.per_device_train_batch_size


def test_the_device_that_accelerate_brings_weights_to_is_found():
    module = nn.Linear(2, 2)
    assert private_names.input_device(module) == torch.device("cpu")
    add_hook_to_module(module, AlignDevicesHook(execution_device="meta"))
    assert private_names.input_device(module) == torch.device("meta")


def test_lm_eval_asks_the_model_that_it_is_given(model, tmp_path):
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    lm = HFLM(pretrained=model, tokenizer=tiny.tokenizer(), batch_size=1)
    other = nn.Identity()
    with private_names.lm_answering_with(lm, other):
        assert lm.model is other
    with private_names.lm_answering_with(lm, None):
        assert lm.model is model
    assert lm.model is model


def test_a_module_computes_with_what_is_put_among_its_parameters():
    module, ones = nn.Linear(3, 2, bias=False), torch.ones(2, 3)
    private_names.own_parameters(module)["weight"] = ones
    assert torch.equal(module(torch.ones(1, 3)), torch.full((1, 2), 3.0))


def test_children_are_replaced_and_come_back_in_order():
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    first, second, third = layers
    left = {"0": private_names.own_children(layers)["2"]}
    with private_names.children_replaced(layers, left):
        assert list(layers) == [third]
    assert list(layers) == [first, second, third]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_views_of_one_storage_are_known_on_the_meta_device_too(device):
    whole = torch.empty(4, device=device)
    assert private_names.share_storage(whole, whole[1:])
    assert not private_names.share_storage(whole, torch.empty(4, device=device))


def test_frequencies_that_follow_the_longest_text_are_put_back():
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    shape = tiny.SHAPE | {"max_position_embeddings": 16, "num_key_value_heads": 2}
    config = AutoConfig.for_model("llama", **shape, rope_parameters=rope)
    model = AutoModelForCausalLM.from_config(config).eval()
    (rotary,) = private_names.dynamic_rotaries(model)
    fresh = rotary.inv_freq.clone()
    with torch.no_grad():
        model(torch.arange(40).view(1, 40))
    assert not torch.equal(rotary.inv_freq, fresh)  # else there is nothing to put back
    private_names.reset_rotary(rotary)
    assert torch.equal(rotary.inv_freq, fresh) and rotary.max_seq_len_cached == 16


def test_other_models_have_no_frequencies_to_put_back(model):
    assert private_names.dynamic_rotaries(model) == []
