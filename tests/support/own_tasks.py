"""A small task of one's own on disk, as a user would write it, with whatever is wrong with it."""

import json
from pathlib import Path
from typing import Any

import yaml

ROWS = [
    {"question": f"the layer {number}", "choices": ["deep", "less", "more"], "answer": number % 3}
    for number in range(4)
]

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
TEXT = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}

# Quicker than the library's reader of JSON, which first converts a file.
READER = """
import json, pathlib, datasets
def rows(**_):
    lines = (pathlib.Path(__file__).parent / "rows.json").read_text().splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}
"""


class Function(str):
    """A value that YAML writes as ``!function``."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def rows(number: int, **changed: Any) -> list[dict]:
    """Return the rows with one of them changed."""
    return [row | (changed if index == number else {}) for index, row in enumerate(ROWS)]


def write(folder: Path, config: dict, data: list[dict] = ROWS, code: str = "", name: str = "own") -> Path:
    """Write a task into a folder, with the module ``code`` beside it; return the folder.

    A setting of None is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in data))
    (folder / "reader.py").write_text(READER)
    (folder / "code.py").write_text(code)
    base = {"task": name, "custom_dataset": Function("reader.rows"), "test_split": "test"}
    settings = {key: value for key, value in (base | config).items() if value is not None}
    (folder / f"{name}.yaml").write_text(yaml.dump(settings, Dumper=_Dumper))
    return folder


def json_data(folder: Path, text: str) -> dict:
    """Return the settings with which a task reads a JSON file of this text."""
    (folder / "data.json").write_text(text)
    return {
        "custom_dataset": None,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "data.json")},
            "cache_dir": str(folder / "cache"),
        },
    }
