"""The map of the package, held: who may import whom, one door to each library, help without weight."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import depthprobe

PACKAGE = Path(depthprobe.__file__).parent

# What every room may use: it imports nothing but leaves itself. The catalogue alone reads the options of
# lm-eval's tasks, a module without weight.
LEAVES = {"errors", "interruption", "measurement", "redaction", "builtin", "declaring", "catalogue"}
LEAVES |= {"private_names", ""}

# room -> the rooms of depthprobe it may import from, beside its own and the leaves. In the order of the path:
# commands -> pipeline -> probes -> evaluation, models; machine, texts, metrics, results stand beside them.
MAY_IMPORT = {
    "docs": set(),
    "machine": set(),
    "metrics": set(),
    "results": set(),
    "texts": {"machine"},
    "models/own": set(),
    "models/loading": {"models/own", "machine"},
    "models/anatomy": set(),
    "models/sizing": {"models/anatomy", "models/loading"},
    "models/gradients": {"models/anatomy", "models/loading", "models/sizing"},
    "models/saving": {"models/loading", "models/sizing"},
    "models": {"models/anatomy"},
    "evaluation/harness": {"evaluation", "models/loading", "machine"},
    "evaluation/scoring": {"evaluation", "models", "models/anatomy", "models/loading", "machine", "results"},
    "evaluation": {
        "evaluation/harness",
        "evaluation/scoring",
        "models",
        "models/anatomy",
        "machine",
        "metrics",
        "results",
    },
    "probes": {
        "evaluation",
        "evaluation/harness",
        "evaluation/scoring",
        "models",
        "models/anatomy",
        "models/gradients",
        "models/loading",
        "models/sizing",
        "machine",
        "metrics",
        "results",
        "texts",
    },
    "training": {"probes", "models/anatomy", "models/loading", "models/own", "machine", "results", "texts"},
    "findings": {"metrics", "results"},
    "render/charts": {"findings", "results"},
    "render/terminal": {"findings", "results"},
    "render/report": {"findings", "render/charts", "results"},
    "render": set(),
    "comparing": {"findings", "machine", "metrics", "results"},
    "pipeline": {
        "probes",
        "evaluation/harness",
        "models",
        "models/anatomy",
        "models/loading",
        "comparing",
        "machine",
        "results",
        "texts",
    },
    "api": {"notebook", "pipeline", "evaluation/harness", "models/loading", "results", "texts"},
    "notebook": {"findings", "render/charts", "results"},
    "commands": {
        "pipeline",
        "probes",
        "training",
        "evaluation/harness",
        "models/anatomy",
        "models/loading",
        "models/own",
        "models/saving",
        "models/sizing",
        "docs",
        "comparing",
        "findings",
        "render/charts",
        "render/report",
        "render/terminal",
        "machine",
        "results",
        "texts",
    },
    "__main__": {"commands"},
    **{leaf: set() for leaf in LEAVES if leaf},
    "catalogue": {"evaluation/harness"},
    "__init__": set(),
}

# foreign library -> the rooms that are its door: folders, with all that stands in them
DOORS = {
    "transformers": {"models", "training"} | {"texts", "api"},  # texts and api: the tokenizer's type only
    "datasets": {"texts"},
    "huggingface_hub": {"machine", "models", "texts"},
    "matplotlib": {"render", "api", "notebook"},  # api, notebook: the figure's type only
    "typer": {"commands"},
    "rich": {"commands", "render"},
    "lm_eval": {"evaluation/harness"},
    "safetensors": {"models"},
    "accelerate": {"models", "machine"},
    "peft": {"models"},
    "gguf": {"models"},
    "torch": {
        "models",
        "metrics",
        "probes",
        "evaluation",
        "training",
        "machine",
        "api",  # a type only
        "private_names",  # types, and a device
    },
}


def room_of(parts):
    """The room of a module by the parts of its name: its second folder, where it stands in one."""
    if len(parts) > 1 and (PACKAGE / parts[0] / parts[1]).is_dir():
        return "/".join(parts[:2])
    return parts[0].removesuffix(".py")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield from (
                [f"depthprobe.{alias.name}" for alias in node.names] if module == "depthprobe" else [module]
            )


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way_and_foreign_libraries_have_one_door(path):
    room = room_of(path.relative_to(PACKAGE).parts)
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "depthprobe":
            target = room_of(rest.split("."))
            known = target if target in MAY_IMPORT else ""  # a name of depthprobe/__init__.py itself
            assert known in MAY_IMPORT[room] | LEAVES | {room}, f"{room} must not import {name}"
        elif top in DOORS:
            assert {room, room.partition("/")[0]} & DOORS[top], f"{room} must not import {top}"


def test_every_room_of_the_package_stands_in_the_table():
    assert {room_of(path.relative_to(PACKAGE).parts) for path in FILES} == set(MAY_IMPORT)


HEAVY = ("torch", "transformers", "datasets", "matplotlib", "pandas", "numpy", "lm_eval", "huggingface_hub")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([name, "--help"] for name in ("angular", "gradnorm", "variance", "compare", "inspect", "plot")),
        *([name, "--help"] for name in ("pretrain", "report", "convert", "docs")),
    ],
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from depthprobe.__main__ import main\n"
        f"sys.argv = ['depthprobe', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]"), done.stdout[-200:]
    assert "Usage" in done.stdout


def test_importing_the_package_imports_nothing_heavy_and_its_public_names_exist():
    code = f"import sys, depthprobe; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert all(getattr(depthprobe, name) is not None for name in depthprobe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = depthprobe.nosuch


def test_the_tests_stand_in_the_folders_of_the_package():
    here = Path(__file__).parent
    theirs = {path.parent.relative_to(here) for path in here.rglob("test_*.py")}
    ours = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert sorted(map(str, theirs - ours)) == []


def test_options_that_somebody_forgot_to_decorate_are_refused():
    from depthprobe.declaring import Options, fields_of

    class Undecorated(Options):
        power: int = 2

    with pytest.raises(TypeError, match="Undecorated must be decorated with @dataclass"):
        fields_of(Undecorated)
