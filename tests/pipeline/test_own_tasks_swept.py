"""A sweep of a task of one's own: what happened is told and recorded, and what fails late loses nothing."""

import pytest

from depthprobe.errors import TextError
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.run import run
from support import own_tasks, tiny
from support.own_tasks import CHOICE, Function
from support.watching import Told

REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)

# The first counts its calls: 4 documents are tried, then scored for the whole model and for each of 2
# variants. The second fails on log-likelihoods that are no whole numbers, as real ones are.
SCORING = """
calls = 0
def scores(doc, results):
    global calls
    calls += 1
    return {"acc": float(results[0][0] > results[1][0]), "odd": float("nan") if calls > 12 else 1.0}
def fails(doc, results):
    return {"acc": nowhere if results[0][0] % 1 else 1.0}
def total(items):
    return sum(items) / len(items)
"""


def request(folder, config, **given):
    directory = tiny.save(folder / "model")
    (directory / "chat_template.jinja").write_text(REFUSING)
    tasks = own_tasks.write(folder / "tasks", CHOICE | config, code=SCORING)
    options = SweepOptions(("own",), include_path=(tasks,), layers=(0, 2), **given)
    return Request("prune-sweep", str(directory), None, options, output=folder / "reports")


def test_a_dropped_system_message_and_a_number_left_out_are_told_and_recorded(tmp_path):
    told = Told()
    metrics = [
        {"metric": name, "aggregation": Function("code.total"), "higher_is_better": True}
        for name in ("acc", "odd")
    ]
    asked = request(
        tmp_path,
        {"process_results": Function("code.scores"), "metric_list": metrics},
        apply_chat_template=True,
        system_instruction="Be brief.",
    )
    found = run(asked, told)
    notes = [
        f"The chat template of {asked.model} refuses a system message (TemplateError: System role not "
        "supported): --system-instruction is in none of the 4 prompts, as in lm-eval.",
        "odd of own is left out: it is nan without layer 2.",
    ]
    said = [news for news in told.news if news in notes]
    assert said == notes
    assert found.manifest["results"]["notes"] == notes
    assert found.manifest["results"]["requests"]["system_messages"] == {
        "own": {
            "prompts": 4,
            "with_it": 0,
            "reason": "the chat template refuses it (TemplateError: System role not supported)",
        }
    }
    assert set(found.tables["prune_sweep"].metric) == {"acc"}


def test_what_is_wrong_with_a_task_is_told_before_the_weights_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("depthprobe.pipeline.session.Session.model", None)  # would fail if it were called
    asked = request(tmp_path, {"doc_to_text": "{{ question if answer != 2 else nothing }}"})
    with pytest.raises(TextError, match=r"^doc_to_text of the task own fails on document 2: Undefined"):
        run(asked)


def test_scoring_that_fails_on_the_real_answers_keeps_them(tmp_path):
    asked = request(
        tmp_path,
        {
            "process_results": Function("code.fails"),
            "metric_list": [{"metric": "acc", "aggregation": "mean"}],
        },
    )
    with pytest.raises(TextError, match=r"^process_results of the task own fails on document 0: NameError"):
        run(asked)
    told = Told()
    with pytest.raises(TextError):
        run(asked, told)
    assert any(news.startswith("Continuing an interrupted run: ") for news in told.news)
