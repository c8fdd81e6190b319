"""transformers' Auto classes know the lab's models once depthprobe is imported, whichever comes first."""

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import importlib, importlib.util, inspect, sys
from importlib.machinery import PathFinder

TABLE = "transformers.models.auto.configuration_auto"


def waiting():
    return [finder for finder in sys.meta_path if type(finder).__module__ == "depthprobe.registration"]


def check_known():
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    sizes = dict(vocab_size=64, hidden_size=16, intermediate_size=32, num_attention_heads=2)
    config = AutoConfig.for_model("depthprobe", norm="mix", num_hidden_layers=4, **sizes)
    assert type(AutoModelForCausalLM.from_config(config)).__name__ == "DepthprobeForCausalLM"
    assert type(AutoModel.from_config(config)).__name__ == "DepthprobeModel"
    assert not waiting()
"""

# What transformers is first asked for; each runs the table's module from another depth of its imports.
FIRST = [
    "import transformers",
    "from transformers import LlamaConfig",
    "import transformers.models.llama.modeling_llama",
    "import depthprobe.lab.decoder",
]


def run(code):
    command = [sys.executable, "-W", "error::ImportWarning", "-c", BEGIN + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", FIRST)
def test_depthprobe_before_transformers(first):
    run(f"import depthprobe\n{first}\ncheck_known()")


def test_transformers_before_depthprobe():
    run("from transformers import AutoModelForCausalLM\nimport depthprobe\ncheck_known()")


def test_waiting_imports_nothing_and_ends_with_the_first_use():
    run("""
before = set(sys.modules)
import depthprobe
heavy = ("torch", "transformers", "huggingface_hub", "numpy", "depthprobe.lab")
assert not [name for name in set(sys.modules) - before if name.startswith(heavy)]
assert len(waiting()) == 1
import transformers  # lazy: the table is not read yet
assert len(waiting()) == 1 and TABLE not in sys.modules
importlib.import_module(TABLE)
assert not waiting() and "depthprobe.lab.decoder" not in sys.modules
""")


def test_reloading_and_looking_without_importing_change_nothing():
    run("""
import depthprobe
importlib.reload(depthprobe)
assert len(waiting()) == 1
assert importlib.util.find_spec(TABLE).origin.endswith("configuration_auto.py")
assert len(waiting()) == 1 and TABLE not in sys.modules  # it was only asked where the module is
check_known()
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
table, kind = sys.modules[TABLE], CONFIG_MAPPING["depthprobe"]
for module in (depthprobe, depthprobe):
    importlib.reload(module)
assert CONFIG_MAPPING["depthprobe"] is kind
check_known()
""")


def test_the_watched_module_is_loaded_as_if_nobody_watched():
    run("""
import depthprobe
table = importlib.import_module(TABLE)
spec = PathFinder.find_spec(TABLE, sys.modules["transformers.models.auto"].__path__)
assert type(table.__loader__) is type(spec.loader) and vars(table.__loader__) == vars(spec.loader)
assert table.__spec__.loader is table.__loader__ and table.__file__ == spec.origin
assert "class AutoConfig" in inspect.getsource(table)
importlib.reload(table)
importlib.reload(depthprobe)
""")


def test_a_failing_import_is_told_as_it_is_and_can_be_repeated():
    run("""
import depthprobe
sys.modules["transformers.dynamic_module_utils"] = None
try:
    importlib.import_module(TABLE)
except ImportError as error:
    assert "dynamic_module_utils" in str(error)
else:
    raise AssertionError
assert TABLE not in sys.modules and len(waiting()) == 1
del sys.modules["transformers.dynamic_module_utils"]
check_known()
""")


def test_threads_that_import_both_at_once_do_not_lock_each_other():
    run("""
import threading
names = ["depthprobe", "transformers.models.auto.modeling_auto", "depthprobe.lab.decoder", TABLE]
failures = []
barrier = threading.Barrier(len(names))


def load(name):
    barrier.wait()
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures.append((name, error))


threads = [threading.Thread(target=load, args=(name,), daemon=True) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
    assert not thread.is_alive()
assert not failures, failures
check_known()
""")


def test_the_decoder_waits_for_a_thread_that_is_importing_transformers():
    run("""
import threading
import torch
import depthprobe
sys.setswitchinterval(1e-4)
thread = threading.Thread(target=lambda: importlib.import_module("transformers"))
thread.start()
while "transformers" not in sys.modules:
    pass
import depthprobe.lab.decoder
thread.join()
check_known()
""")
