"""Everything that passes the door to lm-eval, against ``lm_eval.simple_evaluate`` on the same model."""

import json
import random
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import lm_eval.evaluator
import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

from depthprobe.errors import LoadError, MeasureError, OptionError, TextError
from depthprobe.evaluation.harness import tasks as tasks_module
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.evaluation.harness.work import (
    TaskOptions,
    build_work,
    check_checkpoint,
    find_tasks,
    parse_seeds,
)
from depthprobe.models.loading.loading import load_model, open_checkpoint
from support import lm_eval_tasks, tiny

CHAT = (
    "{% if enable_thinking is defined %}<{{ enable_thinking }}{{ effort }}>{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)

pytestmark = pytest.mark.filterwarnings("ignore:.*max_new_tokens.*", "ignore:.*max_length.*")


@pytest.fixture(autouse=True)
def _own_tasks_only(request, monkeypatch):
    """Leave out lm-eval's 15,000 task files, which take seconds to read."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(
            "depthprobe.evaluation.harness.tasks._manager",
            lambda include_path, defaults, read=tasks_module._manager: read(include_path, False),
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lm_eval_tasks.write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(tiny.save(tmp_path_factory.mktemp("model"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    directory = tiny.save(tmp_path_factory.mktemp("chat"), seed=1)
    (directory / "chat_template.jinja").write_text(CHAT)
    return load_model(str(directory), dtype="float32", device="cpu")


def options(folder, *tasks, **given):
    return TaskOptions(tasks=tasks, include_path=(folder,), **given)


def answer(model, work):
    """The slow truth: one request at a time, no padding, no sharing."""
    nats, greedy = [], []
    for request in work.score_requests:
        with torch.no_grad():
            logits = model.model(torch.tensor([request.tokens[:-1]])).logits[0, -request.scored :]
        wanted = torch.tensor(request.tokens[-request.scored :])
        chosen = logits.double().log_softmax(-1).gather(1, wanted[:, None])
        nats.append(chosen.sum().item())
        greedy.append(bool((logits.argmax(-1) == wanted).all()))
    return np.asarray(nats), np.asarray(greedy, dtype=bool), work.generate()


def theirs(model, folder, tasks, **given):
    with ExitStack() as stack:
        # what it tells of the machine takes seconds, and it asks the hub for the model
        for name in ("add_env_info", "add_tokenizer_info", "get_git_commit_hash"):
            stack.enter_context(patch.object(lm_eval.evaluator, name, lambda *_: None))
        stack.enter_context(patch.object(HFLM, "get_model_info", lambda lm: {}))
        return simple_evaluate(model, folder, tasks, **given)


def simple_evaluate(model, folder, tasks, **given):
    args = {"max_length": given.pop("max_length", None), **given.pop("model_args", {})}
    given |= {"samples": given.pop("documents")} if "documents" in given else {}
    tokenizer = model.tokenizer
    if "add_bos_token" in args:  # as lm-eval itself loads it
        tokenizer = AutoTokenizer.from_pretrained(model.source.location, add_bos_token=args["add_bos_token"])
    lm = HFLM(pretrained=model.model, tokenizer=tokenizer, **args)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(lm, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, **given)


def numbers(results):
    """lm-eval's results as (task or group, metric, filter) -> number, standard errors apart."""
    return {
        (name, *column.rsplit(",", 1)): number
        for part in ("results", "groups")
        for name, row in results.get(part, {}).items()
        for column, number in row.items()
        if "," in column and "_stderr" not in column
    }


CASES = {
    "multiple choice": (["tiny_choice"], {}),
    "few-shot multiple choice, mixed with other kinds": (
        ["tiny_choice", "tiny_last_word", "tiny_text"],
        {"num_fewshot": 2},
    ),
    "log-likelihood of a continuation": (["tiny_last_word"], {}),
    "rolling log-likelihood over windows": (["tiny_rolling"], {}),
    "generated text through two filters": (["tiny_text"], {}),
    "generation settings overridden": (["tiny_text"], {"gen_kwargs": "max_gen_toks=3,temperature=0"}),
    "sampled text": (["tiny_text"], {"gen_kwargs": "do_sample=True,temperature=1.5"}),
    "a group weighted by size": (["tiny_group"], {}),
    "a group of equal weights": (["tiny_equal"], {}),
    "a tag and a pattern": (["tiny_tag", "tiny_ch*"], {}),
    "a limit": (["tiny_group"], {"limit": 2}),
    "a share": (["tiny_choice", "tiny_many"], {"limit": 0.4}),
    "chosen documents": (["tiny_choice"], {"documents": {"tiny_choice": [1, 4, 6]}}),
    "a short context": (["tiny_choice", "tiny_rolling"], {"max_length": 16}),
    "without BOS": (["tiny_choice", "tiny_rolling"], {"model_args": {"add_bos_token": False}}),
    "with BOS": (["tiny_choice", "tiny_text"], {"model_args": {"add_bos_token": True}}),
    "another prefix": (["tiny_rolling"], {"model_args": {"prefix_token_id": 7}}),
    "answers after a word": (["tiny_text"], {"model_args": {"think_end_token": "e"}}),
    "a system instruction": (["tiny_choice"], {"system_instruction": "Answer in one word.\n"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_and_the_rows_are_those_of_simple_evaluate(case, folder, model):
    tasks, given = CASES[case]
    work = build_work(find_tasks(options(folder, *tasks, **given)), model)
    outcome = work.results(*answer(model, work), samples=True)
    names = [name for name in tasks if "*" not in name] + ["tiny_choice"] * ("tiny_ch*" in tasks)
    assert_same(outcome, theirs(model, folder, names, **given))


@pytest.mark.parametrize("multiturn", [None, False])
def test_chat_templates_give_the_prompts_of_simple_evaluate(multiturn, folder, chat_model):
    given = {"num_fewshot": 1, "apply_chat_template": True, "system_instruction": "Be brief."}
    asked = options(folder, "tiny_choice", "tiny_text", fewshot_as_multiturn=multiturn, **given)
    work = build_work(find_tasks(asked), chat_model)
    outcome = work.results(*answer(chat_model, work), samples=True)
    extra = {} if multiturn is None else {"fewshot_as_multiturn": multiturn}
    assert_same(outcome, theirs(chat_model, folder, ["tiny_choice", "tiny_text"], **given, **extra))


def test_what_a_chat_template_takes_is_handed_to_it(folder, chat_model):
    args = {"enable_thinking": False, "chat_template_args": {"effort": "low"}}
    given = {"apply_chat_template": True, "model_args": args}
    work = build_work(find_tasks(options(folder, "tiny_choice", "tiny_text", **given)), chat_model)
    outcome = work.results(*answer(chat_model, work), samples=True)
    assert all(row["arguments"][0][0].startswith("<Falselow>") for row in outcome.samples["tiny_choice"])
    assert_same(outcome, theirs(chat_model, folder, ["tiny_choice", "tiny_text"], **given))


def test_thinking_needs_tasks_that_generate(folder, chat_model):
    args = {"enable_thinking": True, "think_end_token": "e"}
    given = {"apply_chat_template": True, "model_args": args}
    found = find_tasks(options(folder, "tiny_choice", **given))
    with pytest.raises(OptionError, match="tiny_choice scores given answers"):
        build_work(found, chat_model)
    with pytest.raises(OptionError, match="needs think_end_token"):
        options(folder, "tiny_text", model_args={"enable_thinking": True})


@pytest.mark.parametrize("seed", ["7", "0,1,2,3"])
def test_the_seed_decides_the_examples_as_in_lm_eval(seed, folder, model):
    seeds = parse_seeds(seed)
    work = build_work(find_tasks(options(folder, "tiny_choice", num_fewshot=1, seeds=seeds)), model)
    named = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    reference = theirs(model, folder, ["tiny_choice"], num_fewshot=1, **dict(zip(named, seeds, strict=True)))
    assert_same(work.results(*answer(model, work), samples=True), reference)


def assert_same(outcome, reference):
    expected = numbers(reference)
    assert set(outcome.aggregate) == set(expected) == set(outcome.metrics)
    for key, number in expected.items():
        assert outcome.aggregate[key] == pytest.approx(number, rel=1e-5), key  # float32 log-likelihoods
    assert set(outcome.samples) == set(reference["samples"])
    for name, rows in reference["samples"].items():
        assert len(rows) == len(outcome.samples[name])
        for row, mine in zip(rows, outcome.samples[name], strict=True):
            assert list(mine) == list(row)
            assert approximately(mine) == approximately(row)
        for (task, metric, filter_name), scores in outcome.per_doc.items():
            if task == name:
                kept = [row for row in rows if row["filter"] == filter_name]
                assert scores.doc_ids.tolist() == [row["doc_id"] for row in kept]
                assert approximately(scores.items) == approximately(row[metric] for row in kept)


def approximately(value):
    """Any nest of values with its floats rounded: float32 sums differ in their last digits."""
    if isinstance(value, dict):
        return {key: approximately(item) for key, item in value.items()}
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, float, np.number)):
        return pytest.approx(float(value), abs=1e-3)
    return [approximately(item) for item in value]


def test_one_work_serves_many_models(folder, model):
    work = build_work(find_tasks(options(folder, "tiny_group", "tiny_text", "tiny_rolling")), model)
    nats, greedy, texts = answer(model, work)
    first = work.results(nats, greedy, texts)
    other = work.results(-np.arange(len(nats), dtype=float), ~greedy, ["the"] * len(texts))
    again = work.results(nats, greedy, texts)
    assert first.aggregate != other.aggregate
    assert first.aggregate == again.aggregate
    assert first.metrics == again.metrics


def test_texts_come_from_whatever_model_is_asked(folder, model):
    work = build_work(find_tasks(options(folder, "tiny_text")), model, batch_size=2)
    other = tiny.build("llama", seed=5)
    assert work.generate(model=other) != work.generate()
    assert work.generate([3, 1]) == [work.generate([index])[0] for index in (3, 1)]
    assert work.generate([]) == []


def test_requests_asked_twice_are_scored_once(folder, model, tmp_path):
    tasks = find_tasks(options(folder, "tiny_choice"))
    work = build_work(tasks, model)
    requests = [(request.tokens, request.scored) for request in work.score_requests]
    assert len(set(requests)) == len(requests) == 32
    rows = lm_eval_tasks.questions(2, seed=1)
    for row in rows:
        row["choices"] = ["the", "of", "the", "of"]
    lm_eval_tasks.write(tmp_path, "tiny_twice", lm_eval_tasks.CHOICE, rows)
    twice = build_work(find_tasks(options(tmp_path, "tiny_twice")), model)
    assert len(twice.score_requests) == 4
    outcome = twice.results(np.asarray([-1.0, -2, -3, -4]), np.zeros(4, dtype=bool), samples=True)
    assert [resps[0][0] for resps in outcome.samples["tiny_twice"][0]["resps"]] == [-1, -2, -1, -2]


def test_long_prompts_lose_their_beginning_and_a_note_says_so(folder, model):
    work = build_work(find_tasks(options(folder, "tiny_choice", "tiny_text", max_length=16)), model)
    assert max(len(request.tokens) for request in work.score_requests) == 17
    whole = build_work(find_tasks(options(folder, "tiny_choice", "tiny_text")), model)
    by_hand = sum(
        len(work._lm.tok_encode(instance.args[0] + instance.args[1])) > 17
        for instance in work.tasks.tasks["tiny_choice"].instances
    ) + sum(
        len(work._lm.tok_encode(instance.args[0])) > 16 - 6
        for instance in work.tasks.tasks["tiny_text"].instances
    )
    assert whole.truncated == 0 and whole.notes == ()
    assert work.truncated == by_hand > 0
    assert work.notes == (
        f"{by_hand} of 37 requests are longer than the 16 tokens that the model reads and lose their "
        "beginning, as in lm-eval.",
    )


def test_perplexities_keep_what_a_paired_comparison_needs(folder, model):
    work = build_work(find_tasks(options(folder, "tiny_rolling", "tiny_last_word")), model)
    nats, greedy, texts = answer(model, work)
    outcome = work.results(nats, greedy, texts)
    key = ("tiny_rolling", "byte_perplexity", "none")
    values = outcome.per_doc[key].values
    assert values.shape == (6, 2)
    assert np.exp(-values[:, 0].sum() / values[:, 1].sum()) == pytest.approx(outcome.aggregate[key])
    assert outcome.metrics[key].aggregation == "weighted_perplexity"
    assert outcome.metrics[key].higher_is_better is False
    assert outcome.metrics[key].aggregate(list(outcome.per_doc[key].items)) == outcome.aggregate[key]
    lone = ("tiny_last_word", "perplexity", "none")
    assert outcome.metrics[lone].aggregation == "perplexity"
    assert np.exp(-outcome.per_doc[lone].values.mean()) == pytest.approx(outcome.aggregate[lone])


def test_texts_compared_as_a_whole_have_items_but_no_values(folder, model):
    work = build_work(find_tasks(options(folder, "tiny_text")), model)
    outcome = work.results(*answer(model, work))
    key = ("tiny_text", "bleu", "all")
    assert outcome.per_doc[key].values is None
    assert outcome.metrics[key].aggregate(list(outcome.per_doc[key].items)) == outcome.aggregate[key]
    assert outcome.metrics[key].chance is None


def test_groups_tell_their_weights_and_chance_levels(folder, model):
    for name, weights in {"tiny_group": (3, 7, 4), "tiny_equal": (1, 1, 1)}.items():
        work = build_work(find_tasks(options(folder, name)), model)
        outcome = work.results(*answer(model, work))
        metric = outcome.metrics[name, "acc", "none"]
        few, many, three = (weight / sum(weights) for weight in weights)
        assert metric.members == pytest.approx({"tiny_few": few, "tiny_many": many, "tiny_three": three})
        assert metric.chance == pytest.approx((few + many) / 4 + three / 3)
        assert (metric.docs, metric.higher_is_better, metric.aggregation) == (14, True, "group")
        assert outcome.metrics["tiny_three", "acc_norm", "none"].chance == pytest.approx(1 / 3)
        assert (name, "acc_norm", "none") not in outcome.aggregate
        assert sum(
            weight * outcome.aggregate[task, "acc", "none"] for task, weight in metric.members.items()
        ) == pytest.approx(outcome.aggregate[name, "acc", "none"])


def test_names_as_written_lead_to_what_they_stand_for(folder):
    tasks = find_tasks(options(folder, "tiny_group", "tiny_tag", "tiny_ch*", str(folder / "tiny_text.yaml")))
    assert list(tasks.asked.values()) == [("tiny_group",), ("tiny_tagged",), ("tiny_choice",), ("tiny_text",)]
    assert set(tasks.groups) == {"tiny_group", "tiny_group::tiny_group_inner"}


def test_the_callers_random_state_and_tokenizer_stay_as_they_are(folder, model):
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    template = model.tokenizer.pad_token
    work = build_work(find_tasks(options(folder, "tiny_choice", "tiny_text", num_fewshot=2)), model)
    work.results(*answer(model, work))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after
    assert model.tokenizer.pad_token == template


def test_what_is_asked_is_described_and_hashed(folder, model):
    described = [
        build_work(find_tasks(options(folder, "tiny_group", "tiny_text", **given)), model).describe()
        for given in ({}, {}, {"num_fewshot": 1}, {"limit": 2}, {"gen_kwargs": "max_gen_toks=5"})
    ]
    assert described[0] == described[1]
    assert len({json.dumps(description) for description in described}) == 4
    assert described[0]["tasks"]["tiny_few"] | {"sha256": ""} == {
        "version": "2.0",
        "num_fewshot": 0,
        "output_type": "multiple_choice",
        "dataset": "json",
        "dataset_config": None,
        "docs": 3,
        "requests": 12,
        "sha256": "",
    }
    assert described[0]["groups"]["tiny_group"]["version"] == "1"


def message(error):
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "kept"), [(25.0, "25"), (25, "25"), (1.0, "1"), (0.25, "0.25"), (None, "None")]
)
def test_a_number_of_documents_is_a_whole_number_wherever_it_is_written(given, kept):
    options = SweepOptions(limit=given)
    assert str(options.limit) == str(options.recorded()["limit"]) == kept
    assert str(options.settings()["tasks"]["limit"]) == kept


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"limit": 0},
            "--limit must be more than 0, got 0. Give a number of documents, or a share of them such as 0.1.",
        ),
        (
            {"limit": 3, "documents": {"tiny_choice": [1]}},
            "--limit and --documents cannot be combined. Leave one of them out.",
        ),
        (
            {"documents": {"tiny_choice": []}},
            "--documents must list document numbers for tiny_choice, got []. "
            'Write them as {"TASK": [0, 3, 6]}.',
        ),
        ({"num_fewshot": -1}, "--num-fewshot must be at least 0, got -1."),
        ({"max_length": 0}, "--max-length must be at least 1, got 0."),
        (
            {"fewshot_as_multiturn": True},
            "--fewshot-as-multiturn needs a chat template. Add --apply-chat-template.",
        ),
        (
            {"include_path": (Path("nowhere"),)},
            "There is no directory nowhere. Check the path given to --include-path.",
        ),
        ({"tasks": ()}, "No task is named. Name one with --task, for example --task hellaswag."),
    ],
)
def test_impossible_options_are_refused_at_once(given, expected):
    with pytest.raises(OptionError) as error:
        TaskOptions(**{"tasks": ("tiny_choice",)} | given)
    assert message(error) == expected


@pytest.mark.parametrize(
    ("tasks", "given", "expected"),
    [
        (
            ["tiny_unsafe"],
            {},
            "The task tiny_unsafe runs code that the model writes. "
            "Add --confirm-run-unsafe-code if this machine may run it.",
        ),
        (
            ["tiny_few", "tiny_group"],
            {},
            "The task tiny_few is named twice: by tiny_few and by tiny_group. Name one of them.",
        ),
        (
            ["tiny_few"],
            {"documents": {"tiny_few": [1, 3]}},
            "--documents names document 3 of tiny_few, which has 3 documents. They are numbered 0 to 2.",
        ),
        (
            ["tiny_few"],
            {"documents": {"tiny_many": [1]}},
            "--documents names tiny_many, which is not among the tasks. They are: tiny_few.",
        ),
        (
            ["tiny_text"],
            {"gen_kwargs": "temperature"},
            "--gen-kwargs must be NAME=VALUE, separated by commas, or JSON; got temperature.",
        ),
        (["no/such.yaml"], {}, "There is no task file no/such.yaml. Check the path given to --task."),
    ],
)
def test_tasks_that_cannot_be_asked_are_refused_before_a_model_is_needed(tasks, given, expected, folder):
    with pytest.raises(OptionError) as error:
        find_tasks(options(folder, *tasks, **given))
    assert message(error) == expected


def test_an_unknown_task_is_refused_with_the_nearest_names(folder):
    with pytest.raises(OptionError) as error:
        find_tasks(options(folder, "tiny_choise"))
    assert message(error) == (
        f"lm-eval {lm_eval.__version__} has no task tiny_choise. "
        "The nearest names: tiny_choice, tiny_three, tiny_unsafe, tiny_few, tiny_rolling."
    )
    with pytest.raises(OptionError) as error:
        find_tasks(options(folder, "xyzzy"))
    assert message(error) == (
        f"lm-eval {lm_eval.__version__} has no task xyzzy. `lm-eval ls tasks` lists them all."
    )


@pytest.mark.slow
def test_lm_evals_own_tasks_are_known():
    with pytest.raises(OptionError) as error:
        find_tasks(TaskOptions(tasks=("helaswag",)))
    assert "The nearest names: hellaswag, " in message(error)
    with pytest.raises(OptionError) as error:
        find_tasks(TaskOptions(tasks=("humaneval",)))
    assert message(error) == (
        "The task humaneval runs code that the model writes. "
        "Add --confirm-run-unsafe-code if this machine may run it."
    )


def test_data_that_cannot_be_reached_is_reported_by_name(folder, tmp_path):
    config = lm_eval_tasks.CHOICE | {"dataset_kwargs": {"data_files": {"test": str(tmp_path / "gone.json")}}}
    lm_eval_tasks.write(tmp_path, "tiny_gone", config, lm_eval_tasks.questions(2, seed=0))
    with pytest.raises(TextError) as error:
        find_tasks(options(tmp_path, "tiny_gone"))
    assert message(error).startswith(
        f"The data of the task tiny_gone cannot be read ({tmp_path / 'gone.json'}): FileNotFoundError: "
    )
    assert message(error).endswith(". Correct the file, or the paths in the task's dataset_kwargs.")


def test_a_model_without_a_chat_template_is_refused_before_and_after_its_weights_are_read(folder, tmp_path):
    asked = options(folder, "tiny_choice", apply_chat_template=True)
    checkpoint = open_checkpoint(str(tiny.save(tmp_path / "plain")))
    expected = (
        f"{checkpoint.source.name} has no chat template, which --apply-chat-template asks for. "
        "Leave the option out, or choose a model tuned for chat."
    )
    with pytest.raises(OptionError) as error:
        check_checkpoint(asked, checkpoint)
    assert message(error) == expected
    with pytest.raises(OptionError) as error:
        build_work(find_tasks(asked), load_model(checkpoint))
    assert message(error) == expected


def test_a_masked_language_model_is_refused_before_and_after_its_weights_are_read(folder, tmp_path):
    checkpoint = open_checkpoint(str(tiny.save(tmp_path / "bert", "bert")))
    expected = (
        f"{checkpoint.source.name} does not predict the next token (it may be a masked model): "
        "lm-eval cannot score it. Choose a causal language model."
    )
    with pytest.raises(LoadError) as error:
        check_checkpoint(options(folder, "tiny_choice"), checkpoint)
    assert message(error) == expected
    with pytest.raises(LoadError) as error:
        build_work(find_tasks(options(folder, "tiny_choice")), load_model(checkpoint))
    assert message(error) == expected


def test_what_does_not_fit_the_model_is_refused(folder, model, tmp_path):
    with pytest.raises(OptionError) as error:
        build_work(find_tasks(options(folder, "tiny_choice", max_length=129)), model)
    assert message(error) == "--max-length must be at most the model's 128 positions, got 129."
    with pytest.raises(OptionError) as error:
        build_work(find_tasks(options(folder, "tiny_text", gen_kwargs="max_gen_toks=128")), model)
    assert message(error) == (
        "The task tiny_text generates 128 tokens, which leaves no room for its prompts in the model's 128. "
        "Ask for fewer, for example --gen-kwargs max_gen_toks=64."
    )
    rows = lm_eval_tasks.questions(2, seed=0)
    rows[1]["choices"][0] = "many words " * 200
    lm_eval_tasks.write(tmp_path, "tiny_long", lm_eval_tasks.CHOICE, rows)
    with pytest.raises(TextError) as error:
        build_work(find_tasks(options(tmp_path, "tiny_long")), model)
    assert message(error).startswith("Document 1 of tiny_long has ")
    assert message(error).endswith(
        " tokens to score, but the model reads only 128. Leave it out with --documents."
    )


def test_a_task_without_examples_by_definition_stays_so_and_a_note_says_so(folder, tmp_path):
    lm_eval_tasks.write(
        tmp_path, "tiny_zero", lm_eval_tasks.CHOICE | {"num_fewshot": 0}, lm_eval_tasks.questions(4, seed=0)
    )
    tasks = find_tasks(options(tmp_path, "tiny_zero", num_fewshot=2))
    assert tasks.notes == (
        "--num-fewshot does not apply to tiny_zero: lm-eval defines it to have no examples.",
    )
    assert tasks.tasks["tiny_zero"].config.num_fewshot == 0


def test_answers_must_be_complete_and_not_nan(folder, model):
    work = build_work(find_tasks(options(folder, "tiny_few")), model)
    with pytest.raises(MeasureError) as error:
        work.results(np.zeros(11), np.zeros(12, dtype=bool))
    assert message(error) == "There are (11, 12, 0) answers to (12, 12, 0) requests."
    broken = np.zeros(12)
    broken[3] = np.nan
    with pytest.raises(MeasureError) as error:
        work.results(broken, np.zeros(12, dtype=bool))
    assert message(error) == (
        "The log-likelihood of 1 of 12 requests is NaN. The model overflows: try --dtype float32 or bfloat16."
    )


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("42", (42, 42, 42, 42)),
        ("1,2,3", (1, 2, 3, 1234)),
        ("0,None,8,52", (0, None, 8, 52)),
    ],
)
def test_seeds_are_written_as_in_lm_eval(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1,2", "1,2,3,4,5"])
def test_other_seeds_are_refused(text):
    with pytest.raises(OptionError) as error:
        parse_seeds(text)
    assert message(error) == (
        f"--seed must be a whole number from 0 to {2**32 - 1}, got {text or 'nothing'}. "
        "Give one, or four separated by commas for random, numpy, torch and few-shot sampling."
    )
