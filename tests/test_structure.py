"""The map of the package, held: who may import whom, one door to each library, help without weight."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import depthprobe

PACKAGE = Path(depthprobe.__file__).parent

LEAVES = {"errors", "interruption", "measurement", "redaction", "builtin", "declaring", "catalogue", ""}
LEAVES |= {"private_names"}

# room -> the rooms of depthprobe it may import from (its own and the leaves always)
MAY_IMPORT = {
    "errors": set(),
    "interruption": set(),
    "redaction": set(),
    "private_names": set(),
    "builtin": set(),
    "docs": set(),
    "measurement": set(),
    "declaring": set(),
    "catalogue": {"evaluation"},  # the options of lm-eval's tasks, which need nothing heavy
    "metrics": set(),
    "provenance": set(),
    "machine": set(),
    "texts": {"machine"},
    "batches": set(),
    "processes": set(),
    "models": {"machine", "registration"},
    "evaluation": {"machine", "models", "metrics", "texts", "batches", "processes", "results"},
    "probes": {"evaluation", "models", "metrics", "texts", "batches", "processes", "results"},
    "results": set(),
    "findings": {"results", "metrics"},  # of metrics what needs no torch
    "render": {"findings", "results"},
    "lab": {"probes", "models", "texts", "results", "provenance"},
    "pipeline": {
        "probes",
        "evaluation",
        "models",
        "texts",
        "comparing",
        "results",
        "processes",
        "provenance",
    },
    "api": {"pipeline", "models", "texts", "results", "render"},
    "comparing": {"findings", "metrics", "results", "provenance"},
    "commands": {
        "docs",
        "pipeline",
        "comparing",
        "evaluation",
        "probes",
        "models",
        "texts",
        "batches",
        "results",
        "findings",
        "render",
        "lab",
    },
    "registration": {"lab"},
    "__main__": {"commands"},
    "__init__": set(),
}

# foreign library -> the rooms that are its door
DOORS = {
    "transformers": {"models", "lab"} | {"texts", "api"},  # texts and api: the tokenizer's type only
    "datasets": {"texts"},
    "huggingface_hub": {"machine", "models", "texts"},
    "matplotlib": {"render", "api"},  # api: the figure's type only
    "typer": {"commands"},
    "rich": {"commands", "render"},
    "lm_eval": {"evaluation"},
    "safetensors": {"models"},
    "accelerate": {"models", "batches"},
    "peft": {"models"},
    "gguf": {"models"},
    "torch": {
        "models",
        "metrics",
        "probes",
        "evaluation",
        "lab",
        "batches",
        "provenance",
        "processes",
        "api",  # a type only
        "private_names",  # types, and a device
    },
}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
    room = room_of(path)
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "depthprobe":
            target = rest.partition(".")[0]
            known = target if target in MAY_IMPORT else ""  # a name of depthprobe/__init__.py itself
            assert known in MAY_IMPORT[room] | LEAVES | {room}, f"{room} must not import {name}"
        elif top in DOORS:
            assert room in DOORS[top], f"{room} must not import {top}"


def test_every_room_of_the_package_stands_in_the_table():
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


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
