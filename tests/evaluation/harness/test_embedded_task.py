"""The embedded task: real, balanced, unambiguous items, the same each time, through lm-eval's own door."""

from collections import Counter

import numpy as np
import pytest

from depthprobe.errors import TextError
from depthprobe.evaluation.harness import embedded_task
from depthprobe.evaluation.harness.embedded_task import CHOICES, FEWEST_ITEMS, NAME, items_hash, make_items
from depthprobe.evaluation.harness.work import TaskOptions, build_work, find_tasks

PREFIX = "    "


def sources(root, modules=("ast", "cmd"), functions=40):
    """Write a made-up standard library whose functions each speak of names of their own."""
    for module in modules:
        blocks = []
        for number in range(functions):
            names = [f"{module}_{word}_{number}" for word in ("first", "second", "third")]
            blocks.append(
                f"def work_{number}({names[0]}, {names[1]}):\n"
                f'{PREFIX}"""Return what becomes of both values when {number} is applied.\n\n'
                f"{PREFIX}A second paragraph makes the context long enough for an item to be made of it.\n"
                f'{PREFIX}"""\n'
                f"{PREFIX}{names[2]} = {names[0]} + {names[1]}\n"
                f"{PREFIX}return {names[2]} * {names[0]}\n"
            )
        (root / f"{module}.py").write_text("\n\n".join(blocks))
    return root


@pytest.fixture(scope="module")
def items():
    return make_items()


def test_there_are_enough_items_from_many_modules(items):
    assert len(items) >= FEWEST_ITEMS
    modules = Counter(item["module"] for item in items)
    assert len(modules) > 40
    assert max(modules.values()) <= embedded_task.ITEMS_A_MODULE


def test_right_answers_stand_evenly_in_all_places(items):
    places = Counter(item["label"] for item in items)
    assert set(places) == set(range(CHOICES))
    assert max(places.values()) - min(places.values()) <= 1


def test_no_item_is_there_twice_and_no_choice_begins_another(items):
    assert len({item["context"] for item in items}) == len(items)
    for item in items:
        choices = item["choices"]
        assert len(choices) == CHOICES
        assert not any(a.startswith(b) for a in choices for b in choices if a is not b)


def test_the_right_answer_is_the_next_line_of_a_held_out_module(items):
    texts = {document.name: document.text for document in embedded_task.corpus.documents("heldout")}
    for item in items:
        right = item["choices"][item["label"]]
        assert f"{item['context']}{right}\n" in texts[item["module"]] + "\n"
        indentation = item["context"].rpartition("\n")[2]
        assert indentation.strip() == ""
        for choice in item["choices"]:
            assert f"\n{indentation}{choice}\n" in texts[item["module"]] + "\n"


def test_length_says_nothing_and_names_do(items):
    for item in items:
        right = item["choices"][item["label"]]
        known = embedded_task._names(item["context"])
        assert embedded_task._names(right) & known
        for choice in item["choices"]:
            assert abs(len(choice) - len(right)) <= embedded_task.LENGTH_DIFFERENCE
            if choice != right:
                assert len(embedded_task._names(choice) - known) >= embedded_task.FOREIGN_NAMES
    lengths = np.asarray([[len(choice) for choice in item["choices"]] for item in items])
    labels = np.asarray([item["label"] for item in items])
    for guess in (lengths.argmin(1), lengths.argmax(1)):
        assert (guess == labels).mean() < 0.35


def test_the_same_sources_give_the_same_items(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_task, "FEWEST_ITEMS", 10)
    root = sources(tmp_path)
    make = make_items.__wrapped__
    assert make(root) == make(root)
    assert items_hash(make(root)) == items_hash(make(root))
    before = items_hash(make(root))
    path = root / "ast.py"
    path.write_text(path.read_text().replace("ast_first_7", "ast_other_7"))
    assert items_hash(make(root)) != before


def test_an_edit_moves_few_items(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_task, "FEWEST_ITEMS", 10)
    root = sources(tmp_path)
    before = {item["context"] for item in make_items.__wrapped__(root)}
    path = root / "cmd.py"
    path.write_text('"""One line more at the top."""\n\n\n' + path.read_text())
    after = {item["context"] for item in make_items.__wrapped__(root)}
    assert len(before & after) >= len(before) - 2


def test_a_library_that_is_too_small_is_an_error(tmp_path):
    with pytest.raises(TextError) as error:
        make_items.__wrapped__(sources(tmp_path, ("ast",), 3))
    assert str(error.value).startswith("The standard library here gives ")
    assert str(error.value).endswith(
        f" items for {NAME}; {FEWEST_ITEMS} are needed. "
        "Name another task with --task, or use a Python that ships its .py files."
    )


def test_lm_eval_scores_it_like_any_other_task():
    from depthprobe.models.loading.loading import load_model

    tasks = find_tasks(TaskOptions(tasks=(NAME,), limit=20, num_fewshot=3))
    assert tasks.notes and tasks.tasks[NAME].VERSION == embedded_task.VERSION
    model = load_model("builtin:pre-ln", dtype="float32", device="cpu")
    work = build_work(tasks, model)
    assert len(work.score_requests) == 20 * CHOICES
    # the context ends in white space, which lm-eval hands to the continuation: nothing of it may be lost
    texts = [model.tokenizer.decode(request.tokens[1:]) for request in work.score_requests[:CHOICES]]
    item = make_items()[0]
    assert texts == [item["context"] + choice for choice in item["choices"]]
    nats = np.zeros(20 * CHOICES)
    nats[[CHOICES * row + make_items()[row]["label"] for row in range(20)]] = 1.0
    outcome = work.results(nats, np.zeros(20 * CHOICES, dtype=bool))
    assert outcome.aggregate[NAME, "acc", "none"] == 1.0
    assert outcome.metrics[NAME, "acc", "none"].chance == 0.25
