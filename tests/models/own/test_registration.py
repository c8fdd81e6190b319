"""Importing depthprobe changes nothing elsewhere; its model type is registered on loading or on demand."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import tiny
from support.norm_placement_models import build

BEGIN = """
import sys


def check_known():
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    sizes = dict(vocab_size=64, hidden_size=16, intermediate_size=32, num_attention_heads=2)
    config = AutoConfig.for_model("depthprobe", norm="mix", num_hidden_layers=4, **sizes)
    assert type(AutoModelForCausalLM.from_config(config)).__name__ == "DepthprobeForCausalLM"
    assert type(AutoModel.from_config(config)).__name__ == "DepthprobeModel"
"""


def run(code, *arguments):
    command = [sys.executable, "-W", "error::ImportWarning", "-c", BEGIN + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


def test_importing_depthprobe_leaves_the_import_system_and_heavy_libraries_alone():
    run("""
import builtins
before = list(sys.meta_path), list(sys.path_hooks), list(sys.path), builtins.__import__, set(sys.modules)
import depthprobe
after = list(sys.meta_path), list(sys.path_hooks), list(sys.path), builtins.__import__
assert after == before[:4]
heavy = ("torch", "transformers", "huggingface_hub", "numpy", "pandas", "matplotlib", "depthprobe.lab")
assert not [name for name in set(sys.modules) - before[4] if name.startswith(heavy)]
""")


@pytest.mark.parametrize("order", ["import depthprobe, transformers", "import transformers, depthprobe"])
def test_importing_depthprobe_registers_nothing(order):
    run(f"""
{order}
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
assert "depthprobe" not in CONFIG_MAPPING
""")


FIRST = ["", "import transformers", "import transformers.models.llama.modeling_llama"]


@pytest.mark.parametrize("first", FIRST)
def test_one_call_makes_the_auto_classes_know_the_type(first):
    run(f"""
import depthprobe
{first}
depthprobe.register_with_transformers()
depthprobe.register_with_transformers()
check_known()
""")


def test_loading_a_model_of_the_type_registers_it(tmp_path):
    model = build("mix")
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    run(
        """
import depthprobe
assert depthprobe.load_model(sys.argv[1]).describe()["model_type"] == "depthprobe"
check_known()
""",
        tmp_path,
    )


def test_loading_another_model_does_not():
    run("""
import depthprobe
depthprobe.load_model("builtin:pre-ln")
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
assert "depthprobe" not in CONFIG_MAPPING and "depthprobe.models.own.decoder" not in sys.modules
""")


def test_the_decoder_waits_for_a_thread_that_is_importing_transformers():
    run("""
import importlib, threading
import torch
import depthprobe
sys.setswitchinterval(1e-4)
thread = threading.Thread(target=lambda: importlib.import_module("transformers"))
thread.start()
while "transformers" not in sys.modules:
    pass
depthprobe.register_with_transformers()
thread.join()
check_known()
""")
