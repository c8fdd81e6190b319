"""Small lm-eval tasks of every kind on disk: YAML files with their data beside them."""

import json
import random
from pathlib import Path

import yaml

from support import tiny

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "training_split": "train",
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
    ],
    "metadata": {"version": 2.0},
}


def write_tasks(folder: Path) -> Path:
    """Write the tasks into a folder and return it, for ``include_path``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in {"tiny_choice": 8, "tiny_few": 3, "tiny_many": 7}.items():
        write(folder, name, CHOICE, questions(count, seed=count))
    write(folder, "tiny_three", CHOICE, questions(4, seed=9, choices=3))
    write(folder, "tiny_tagged", CHOICE | {"tag": "tiny_tag"}, questions(3, seed=10))
    write(
        folder,
        "tiny_last_word",
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
            "doc_to_target": "{{' ' + text.split(' ')[-1]}}",
            "metric_list": [
                {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
                {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            ],
        },
        [{"text": text} for text in tiny.sentences(6, seed=3)],
    )
    write(
        folder,
        "tiny_rolling",
        {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
        # the last ones are several times longer than a tiny model's 128 positions
        [{"text": text} for text in ["a", *tiny.sentences(3, seed=4), *tiny.sentences(2, 5, (200, 300))]],
    )
    extract = [{"function": "regex", "regex_pattern": "([a-z]+)"}, {"function": "take_first"}]
    write(
        folder,
        "tiny_text",
        {
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{choices[answer]}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
            "repeats": 2,
            "filter_list": [
                {"name": "word", "filter": extract},
                {"name": "all", "filter": [{"function": "take_first"}]},
            ],
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True},
                {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True},
            ],
        },
        questions(5, seed=6),
    )
    write(
        folder,
        "tiny_unsafe",
        CHOICE | {"unsafe_code": True, "dataset_path": "nobody/has-this"},
        questions(2, seed=7),
    )
    for name, weighted in {"tiny_group": True, "tiny_equal": False}.items():
        config = {
            "group": name,
            "task": ["tiny_few", "tiny_many", {"group": f"{name}_inner", "task": ["tiny_three"]}],
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": weighted}],
            "metadata": {"version": 1},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def questions(count: int, seed: int, choices: int = 4) -> list[dict]:
    """Return rows of a question, choices and the number of the right one."""
    generator = random.Random(seed)
    return [
        {
            "question": text,
            "choices": generator.sample(sorted(set(tiny.WORDS)), choices),
            "answer": generator.randrange(choices),
        }
        for text in tiny.sentences(count, seed)
    ]


def write(folder: Path, name: str, config: dict, rows: list[dict]) -> None:
    """Write one task with its rows, half of which are its few-shot examples too."""
    data = folder / f"{name}.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = folder / f"{name}_examples.json"
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows[: len(rows) // 2]))
    base = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(data), "train": str(examples)},
            "cache_dir": str(folder / "cache"),
        },
        "test_split": "test",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(base | config))
