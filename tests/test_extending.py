"""The page on extending, followed to the letter: one file and one entry make a probe."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import depthprobe
from support import tiny

PACKAGE = Path(depthprobe.__file__).parent
PAGE = PACKAGE / "docs" / "extending.md"


def files_of_the_page():
    """What the page says to write, by where it goes."""
    found = re.findall(r"<!-- file: (.+?) -->\n```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return dict(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the package to which the page was applied, two models and a text."""
    place = tmp_path_factory.mktemp("extending")
    shutil.copytree(PACKAGE, place / "depthprobe", ignore=shutil.ignore_patterns("__pycache__", "builtin"))
    (place / "depthprobe" / "builtin").symlink_to(PACKAGE / "builtin")
    files = files_of_the_page()
    probe = files.pop("depthprobe/probes/step_length.py")
    (place / "depthprobe" / "probes" / "step_length.py").write_text(probe)
    entry = files.pop("depthprobe/catalogue.py, above PROBES")
    assert not files
    catalogue = place / "depthprobe" / "catalogue.py"
    text = catalogue.read_text()
    above = "# In the order in which they are listed and reported.\n"
    assert text.count(above) == 1 and text.count("GRADNORM, PRUNE_SWEEP)}") == 1
    text = text.replace(above, f"{entry}\n\n{above}")
    catalogue.write_text(text.replace("GRADNORM, PRUNE_SWEEP)}", "GRADNORM, PRUNE_SWEEP, STEP_LENGTH)}"))
    for name, seed in (("one", 0), ("two", 1)):
        tiny.save(place / name, seed=seed)
    (place / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in tiny.sentences(9)))
    return place


def run(place, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def command(place, *arguments):
    return run(place, "-m", "depthprobe", *arguments)


def test_one_file_and_one_entry_make_a_probe(place):
    help_text = command(place, "step-length", "--help").stdout
    assert "--power" in help_text and "Length of the step that each layer takes" in help_text
    assert "step-length" in command(place, "inspect", "one").stdout
    assert "how far does each layer move" in command(place, "docs").stdout
    page = command(place, "docs", "step-length").stdout
    assert "| `--power` | Power of the norm. | `2` |" in page
    assert r"| `step_length` | activation | mean over tokens of \|x^{l+1} - x^l\| |" in page

    done = command(place, "step-length", "one", "--dataset", "text.jsonl", "--format", "png")
    folder = place / "reports" / "one" / "step-length"
    header, *rows = (folder / "step_length.csv").read_text().splitlines()
    assert header == "layer,step_length,std,tokens" and len(rows) == 4
    assert "step length" in done.stdout.lower() and str(Path("step-length", "step_length.png")) in done.stdout
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["options"] == {"power": 2} and manifest["results"]["longest"] > 0
    assert manifest["columns"]["step_length"][1]["unit"] == "activation"
    again = command(place, "step-length", "one", "--dataset", "text.jsonl", "--format", "png")
    assert "Already measured" in again.stderr and again.stdout == done.stdout

    refused = subprocess.run(
        [sys.executable, "-m", "depthprobe", "step-length", "one", "--power", "0"],
        cwd=place, env=os.environ | {"PYTHONPATH": str(place)}, capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 2 and "--power must be at least 1, got 0" in refused.stderr

    command(place, "plot", "reports/one/step-length", "--format", "svg")
    assert (folder / "step_length.svg").stat().st_size > 1000


def test_the_numbers_are_those_of_a_slow_reference_from_python(place):
    code = (
        "import depthprobe, json, sys\n"
        "found = depthprobe.step_length('one', dataset='text.jsonl', power=1)\n"
        "print(json.dumps(found.frame.step_length.tolist()))"
    )
    found = json.loads(run(place, "-c", code).stdout)
    import torch

    model, tokenizer = tiny.build("llama").double(), tiny.tokenizer()
    seen, steps = [], []
    for block in model.model.layers:
        block.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args or kwargs)[0]), with_kwargs=True
        )
    model.model.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for row in (place / "text.jsonl").read_text().splitlines():
        seen.clear()
        with torch.no_grad():
            model(torch.tensor([tokenizer(json.loads(row)["text"])["input_ids"][:256]]))
        steps.append(torch.stack([(after - before)[0].abs().sum(-1) for before, after in pairwise(seen)]))
    wanted = torch.cat(steps, dim=1).mean(dim=1)
    assert found == pytest.approx(wanted.tolist(), rel=1e-4)


def test_report_and_comparison_show_it(place):
    for probe in ("angular", "step-length"):
        for model in ("one", "two"):
            command(place, probe, model, "--dataset", "text.jsonl", "--format", "png")
    done = command(place, "compare", "reports/one/step-length", "reports/two/step-length", "--format", "png")
    assert "step" in done.stdout.lower()
    (table,) = (place / "reports").glob("compare-*/compare_step_length.csv")
    assert "difference" in table.read_text().splitlines()[0]
    assert table.with_suffix(".png").stat().st_size > 1000

    command(place, "report", "reports/one")
    page = (place / "reports" / "one" / "report" / "report.md").read_text()
    assert "How far does each layer move the residual stream?" in page or "step length" in page.lower()
    figures = [path.name for path in (place / "reports" / "one" / "report").rglob("*.png")]
    assert any("step" in name for name in figures), figures


def test_the_page_touches_two_files_of_the_package():
    assert [name.partition(",")[0] for name in files_of_the_page()] == [
        "depthprobe/probes/step_length.py",
        "depthprobe/catalogue.py",
    ]
