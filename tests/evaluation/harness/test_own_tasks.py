"""Tasks of one's own with something wrong: one sentence with task and document, before a model is scored."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from depthprobe.errors import DepthprobeError, MeasureError, OptionError, TextError
from depthprobe.evaluation.harness import tasks as tasks_module
from depthprobe.evaluation.harness.work import TaskOptions, build_prompts, build_work, find_tasks
from depthprobe.evaluation.left_out import comparable
from depthprobe.models.loading.loading import load_model
from support import own_tasks, tiny
from support.own_tasks import CHOICE, ROWS, TEXT, Function, rows

COLUMNS = " The columns of its data: question, choices, answer."
YAML = " Check its YAML file."


@pytest.fixture(autouse=True)
def _own_tasks_only(monkeypatch):
    """Leave out lm-eval's 15,000 task files, and the hub where it looks for metrics."""
    monkeypatch.setattr(
        "depthprobe.evaluation.harness.tasks._manager",
        lambda include_path, defaults, read=tasks_module._manager: read(include_path, False),
    )
    monkeypatch.setattr("evaluate.load", lambda name: (_ for _ in ()).throw(FileNotFoundError(name)))


def code(name):
    return Function(f"code.{name}")


def metric(name, **settings):
    return {"metric_list": [{"metric": name} | settings]}


def scored_by(body):
    return {"process_results": code("scores")}, ROWS, f"def scores(doc, results): {body}"


def asked_by(setting, body):
    return {setting: code("ask")}, ROWS, f"def ask(doc): {body}"


# What is wrong -> (settings, rows, code.py), and what is said when the task is loaded.
AT_LOADING = {
    "a column that is not there": (
        ({"doc_to_text": "{{qestion}}"}, ROWS, ""),
        "doc_to_text of the task own fails on document 0: UndefinedError: 'qestion' is undefined." + COLUMNS,
    ),
    "a template that does not end": (
        ({"doc_to_text": "{{question"}, ROWS, ""),
        "doc_to_text of the task own fails on document 0: TemplateSyntaxError: unexpected end of template, "
        "expected 'end of print statement'." + COLUMNS,
    ),
    "a function that raises": (
        asked_by("doc_to_text", "raise RuntimeError('no luck\\nsecond line')"),
        "doc_to_text of the task own fails on document 0: RuntimeError: no luck." + COLUMNS,
    ),
    "a function that ends the program": (
        asked_by("doc_to_text", "import sys; sys.exit('bye')"),
        "doc_to_text of the task own fails on document 0: SystemExit: bye." + COLUMNS,
    ),
    "a module that is not there": (
        ({"doc_to_text": Function("gone.ask")}, ROWS, ""),
        "The task own does not load: Cannot import module 'gone' for function 'ask' (from YAML in FOLDER)."
        + YAML,
    ),
    "a function that is not there": (
        ({"doc_to_text": code("ask")}, ROWS, ""),
        "The task own does not load: AttributeError: Module 'FOLDER/code.py' has no function 'ask' "
        "(from YAML in FOLDER)." + YAML,
    ),
    "a module that is not Python": (
        ({"doc_to_text": code("ask")}, ROWS, "def ask(doc) return 1"),
        "The task own does not load: SyntaxError: expected ':' (code.py, line 1)." + YAML,
    ),
    "a package that is not there": (
        ({"doc_to_text": code("ask")}, ROWS, "import surely_not_installed"),
        "The task own needs a Python package that is missing: No module named 'surely_not_installed'. "
        "Install it and run again; of a file of your own, put its directory into PYTHONPATH.",
    ),
    "process_docs that raises": (
        asked_by("process_docs", "raise KeyError('x')"),
        "The split test of the task own cannot be read: KeyError: 'x'. Check its process_docs.",
    ),
    "process_docs that returns a list": (
        asked_by("process_docs", "return list(doc)"),
        "process_docs of the task own must give a data set of the library datasets, got list. "
        "Return datasets.Dataset.from_list(rows).",
    ),
    "process_docs that returns nothing": (
        asked_by("process_docs", "pass"),
        "process_docs of the task own must give a data set of the library datasets, got NoneType. "
        "Return datasets.Dataset.from_list(rows).",
    ),
    "process_docs that drops everything": (
        asked_by("process_docs", "return doc.select([])"),
        "The task own has no documents: its split test is empty once process_docs has run.",
    ),
    "a document without choices": (
        ({}, rows(0, choices=[]), ""),
        "doc_to_choice of the task own fails on document 0: it gives no choices." + COLUMNS,
    ),
    "an empty choice": (
        ({}, rows(0, choices=["", "a", "b"]), ""),
        "One of the choices of document 0 of the task own is empty.",
    ),
    "choices that are text": (
        ({"doc_to_choice": "{{question}}"}, ROWS, ""),
        "doc_to_choice of the task own fails on document 0: it must give a list of texts "
        "(SyntaxError: invalid syntax)." + COLUMNS,
    ),
    "choices that are numbers": (
        ({"doc_to_choice": [1, 2, 3]}, ROWS, ""),
        "doc_to_choice of the task own fails on document 0: every choice must be text, got '1'." + COLUMNS,
    ),
    "a target beyond the choices": (
        ({}, rows(0, answer=7), ""),
        "The target of document 0 of the task own is 7, but its choices are numbered 0 to 2.",
    ),
    "a metric that does not exist": (
        (metric("acuracy"), ROWS, ""),
        "The task own asks for the metric acuracy, which neither lm-eval nor the library evaluate has. "
        "Check its metric_list.",
    ),
    "a metric that does not exist, all said of it": (
        (TEXT | metric("acuracy", aggregation="mean", higher_is_better=True), ROWS, ""),
        "The task own asks for the metric acuracy, which neither lm-eval nor the library evaluate has. "
        "Check its metric_list.",
    ),
    "an own metric without an aggregation": (
        (metric("mine") | {"process_results": code("scores")}, ROWS, "scores = lambda doc, results: {}"),
        "The task own asks for the metric mine, which lm-eval does not have. Check its metric_list.",
    ),
    "an aggregation that does not exist": (
        (metric("acc", aggregation="avrage"), ROWS, ""),
        "The task own asks for the aggregation avrage, which lm-eval does not have. Check its metric_list.",
    ),
    "a list of metrics that is none": (
        ({"metric_list": "acc"}, ROWS, ""),
        "The task own cannot be set up: ValueError: 'metric' key not provided for an entry in 'metric_list', "
        "must be specified!." + YAML,
    ),
    "a filter that does not exist": (
        (TEXT | {"filter_list": [{"name": "a", "filter": [{"function": "regx"}]}]}, ROWS, ""),
        "The task own cannot be set up: Unknown filter 'regx'. Did you mean: regex, regex_pos?." + YAML,
    ),
    "an output_type that does not exist": (
        ({"output_type": "multiple"}, ROWS, ""),
        "The task own cannot be set up: ValueError: Got invalid output_type 'multiple', must be in "
        "'loglikelihood,multiple_choice,loglikelihood_rolling,generate_until'." + YAML,
    ),
    "a setting that does not exist": (
        ({"doc_to_txt": "x"}, ROWS, ""),
        "The task own cannot be set up: TypeError: TaskConfig.__init__() got an unexpected keyword argument "
        "'doc_to_txt'." + YAML,
    ),
    "a split that does not exist": (
        ({"test_split": "tset"}, ROWS, ""),
        "The data of the task own have no split tset. Their splits: test.",
    ),
    "no split": (
        ({"test_split": None}, ROWS, ""),
        "The task own names neither a test_split nor a validation_split.",
    ),
    "no data": (
        ({"custom_dataset": None}, ROWS, ""),
        "The task own has no data: it names no dataset_path." + YAML,
    ),
    "examples from a split that does not exist": (
        ({"fewshot_split": "dev", "num_fewshot": 1}, ROWS, ""),
        "The data of the task own have no split dev. Their splits: test.",
    ),
    "a number of examples in words": (
        ({"num_fewshot": "two"}, ROWS, ""),
        "The examples of the task own cannot be read: TypeError: '>' not supported between instances of "
        "'str' and 'int'.",
    ),
    "a temperature in words": (
        (TEXT | {"generation_kwargs": {"until": ["x"], "temperature": "hot"}}, ROWS, ""),
        "The task own cannot be set up: ValueError: could not convert string to float: 'hot'." + YAML,
    ),
}


@pytest.mark.parametrize("case", AT_LOADING)
def test_what_is_wrong_with_a_task_is_told_when_it_is_loaded(case, tmp_path):
    (config, data, source), expected = AT_LOADING[case]
    folder = own_tasks.write(tmp_path, CHOICE | config, data, source)
    with pytest.raises(DepthprobeError) as error:
        find_tasks(TaskOptions(tasks=("own",), include_path=(folder,)))
    assert str(error.value) == expected.replace("FOLDER", str(folder))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "The task own has no documents: its data are empty."),
        ("{not json", "The data of the task own cannot be read (FILE): ArrowInvalid: JSON parse error: "),
    ],
)
def test_data_files_without_rows_are_told(text, expected, tmp_path):
    folder = own_tasks.write(tmp_path, CHOICE | own_tasks.json_data(tmp_path, text))
    with pytest.raises(TextError) as error:
        find_tasks(TaskOptions(tasks=("own",), include_path=(folder,)))
    file = own_tasks.json_data(tmp_path, text)["dataset_kwargs"]["data_files"]["test"]
    assert str(error.value).startswith(expected.replace("FILE", str(file)))
    assert "HF_HUB_OFFLINE" not in str(error.value)


# What is wrong -> (settings, rows, code.py), and what is said when the prompts are built: still no weights.
BEFORE_WEIGHTS = {
    "a column missing in one document": (
        ({"doc_to_text": "{{ question if answer != 2 else nothing }}"}, ROWS, ""),
        "doc_to_text of the task own fails on document 2: UndefinedError: 'nothing' is undefined." + COLUMNS,
    ),
    "a function that fails on one document": (
        asked_by("doc_to_target", "return [0, 1][doc['answer']]"),
        "doc_to_target of the task own fails on document 2: IndexError: list index out of range." + COLUMNS,
    ),
    "a description that fails": (
        ({"description": "{{topic}}: "}, ROWS, ""),
        "The prompt of document 0 of the task own cannot be built: UndefinedError: 'topic' is undefined.",
    ),
    "a beginning of the answer that fails": (
        ({"gen_prefix": "{{topic}}: "}, ROWS, ""),
        "gen_prefix of the task own fails on document 0: UndefinedError: 'topic' is undefined." + COLUMNS,
    ),
    "a prompt that is no text": (
        asked_by("doc_to_text", "return None"),
        "The prompt of document 0 of the task own cannot be built: AssertionError: Context is not a string! "
        ": None.",
    ),
    "one document without choices": (
        ({}, rows(2, choices=[]), ""),
        "doc_to_choice of the task own fails on document 2: it gives no choices." + COLUMNS,
    ),
    "targets beyond the choices": (
        ({"doc_to_target": -1}, ROWS, ""),
        "No document of the task own can be answered right: document 0 has the target '-1', which is none "
        "of its 3 choices (counted from 0). Check its doc_to_target.",
    ),
    "a target that is neither number nor text": (
        asked_by("doc_to_target", "return float(doc['answer'])"),
        "The target of document 0 of the task own must be the number or the text of a choice, got '0.0'.",
    ),
    "more examples than there are": (
        ({"num_fewshot": 20}, ROWS, ""),
        "The task own has only 4 examples, but each prompt is to hold 20 others. "
        "Give fewer with --num-fewshot.",
    ),
    "a metric of another kind of task": (
        (metric("perplexity"), ROWS, ""),
        "The task own would give no number: lm-eval does not compute perplexity for output_type "
        "multiple_choice. Its metric_list may name acc, acc_bytes, acc_mutual_info, acc_norm, brier_score, "
        "exact_match, f1, likelihood, mcc.",
    ),
    "process_results that raises": (
        scored_by("return {'acc': 1 / (doc['answer'] - 1)}"),
        "process_results of the task own fails on document 1: ZeroDivisionError: division by zero.",
    ),
    "process_results that raises on texts": (
        (TEXT | {"process_results": code("scores")}, ROWS, "def scores(doc, results): return nowhere"),
        "process_results of the task own fails on document 0: NameError: name 'nowhere' is not defined.",
    ),
    "process_results that returns nothing": (
        scored_by("pass"),
        "process_results of the task own must give a dictionary, got NoneType for document 0.",
    ),
    "process_results without a number": (
        scored_by("return {}"),
        "The task own would give no number: its process_results gives none for any document.",
    ),
    "scores that are words": (
        scored_by("return {'acc': 'yes'}"),
        "The aggregation of acc of the task own fails: TypeError: unsupported operand type(s) for +: 'int' "
        "and 'str'. Check its metric_list.",
    ),
    "an aggregation that raises": (
        (metric("acc", aggregation=code("total")), ROWS, "def total(items): return nowhere"),
        "The aggregation of acc of the task own fails: NameError: name 'nowhere' is not defined. "
        "Check its metric_list.",
    ),
    "a filter with a wrong setting": (
        (
            TEXT | {"filter_list": [{"name": "a", "filter": [{"function": "regex", "pattern": "x"}]}]},
            ROWS,
            "",
        ),
        "The filters of the task own fail: TypeError: RegexFilter.__init__() got an unexpected keyword "
        "argument 'pattern'. Check its filter_list.",
    ),
    "texts that stop at a number": (
        (TEXT | {"generation_kwargs": {"until": 5}}, ROWS, ""),
        "The task own must stop at texts, got until: [5]. Check its generation_kwargs and --gen-kwargs.",
    ),
    "texts that stop at once": (
        (TEXT | {"generation_kwargs": {"until": ["", "x"]}}, ROWS, ""),
        "The task own stops at an empty text, so that every answer would end at once. "
        "Check its generation_kwargs and --gen-kwargs.",
    ),
    "a number of tokens in words": (
        (TEXT | {"generation_kwargs": {"until": ["x"], "max_gen_toks": "many"}}, ROWS, ""),
        "The generation settings of the task own fail: ValueError: invalid literal for int() with base 10: "
        "'many'. Check its generation_kwargs and --gen-kwargs.",
    ),
    "no token": (
        (TEXT | {"generation_kwargs": {"until": ["x"], "max_gen_toks": 0}}, ROWS, ""),
        "The task own must generate at least 1 token, got 0. Check its generation_kwargs and --gen-kwargs.",
    ),
    "sampling in words": (
        (TEXT | {"generation_kwargs": {"until": ["x"], "do_sample": "maybe"}}, ROWS, ""),
        "do_sample of the task own must be true or false, got 'maybe'. "
        "Check its generation_kwargs and --gen-kwargs.",
    ),
    "repeats below one": (
        ({"repeats": -1}, ROWS, ""),
        "The task own must be repeated at least once, got repeats: -1.",
    ),
    "half a surrogate pair": (
        asked_by("doc_to_text", "return 'a\\ud800b' if doc['answer'] == 1 else 'c'"),
        "The prompt of document 1 of the task own holds a character that no text can hold (half of a "
        "surrogate pair): 'a\\ud800b'. Correct the task's data, or how its function reads them.",
    ),
    "repeats in words": (
        (TEXT | {"repeats": "two"}, ROWS, ""),
        "The task own must be repeated at least once, got repeats: 'two'.",
    ),
}


def prompts_of(folder, config, data=ROWS, source="", tokenizer=None, **given):
    own_tasks.write(folder, config, data, source)
    tasks = find_tasks(TaskOptions(tasks=("own",), include_path=(folder,), **given))
    return build_prompts(tasks, "tiny", tokenizer or tiny.tokenizer())


@pytest.mark.parametrize("case", BEFORE_WEIGHTS)
def test_what_is_wrong_with_a_task_is_told_before_weights_are_read(case, tmp_path):
    (config, data, source), expected = BEFORE_WEIGHTS[case]
    with pytest.raises(DepthprobeError) as error:
        prompts_of(tmp_path, CHOICE | config, data, source)
    assert str(error.value) == expected


# A task written as a class, and what is said of it.
CLASS = """
from lm_eval.api.task import ConfigurableTask
class Own(ConfigurableTask):
    def __init__(self, config=None):
        super().__init__(config={CONFIG} | {"task": "own", "custom_dataset": rows, "test_split": "test"})
    """


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", None),
        (
            "def doc_to_text(self, doc): return ['a', 'b'][doc['answer']]",
            "The prompt of document 2 of the task own cannot be built: IndexError: list index out of range.",
        ),
        (
            "def process_results(self, doc, results): return {'acc': 1 / (doc['answer'] - 1)}",
            "The scoring of the task own fails on document 1: ZeroDivisionError: division by zero.",
        ),
        (
            "def doc_to_target(self, doc): return {}\n"
            "    def process_results(self, doc, results): return {'acc': 1.0}",
            None,
        ),
        (
            "def fewshot_context(self, doc, num_fewshot): return doc['question']",
            "The prompt of document 0 of the task own cannot be built: TypeError: Own.fewshot_context() got "
            "an unexpected keyword argument 'system_instruction'.",
        ),
        (
            "def construct_requests(self, doc, ctx, **given): return []",
            "No document of the task own asks anything of the model.",
        ),
        (
            "def construct_requests(self, doc, ctx, **given):\n"
            "        return [] if doc['answer'] == 1 else super().construct_requests(doc, ctx, **given)",
            "Document 1 of the task own asks nothing of the model.",
        ),
    ],
)
def test_tasks_written_as_classes_are_told_of_alike(body, expected, tmp_path):
    config = {"task": "own", "class": Function("code.Own")}
    nothing = dict.fromkeys(("custom_dataset", "test_split"))
    source = own_tasks.READER + CLASS.replace("{CONFIG}", repr(CHOICE)) + body
    if expected is None:
        assert prompts_of(tmp_path, nothing | config, source=source).notes == ()
        return
    with pytest.raises(TextError) as error:
        prompts_of(tmp_path, nothing | config, source=source)
    assert str(error.value) == expected


def test_the_document_is_named_by_its_number_in_the_data(tmp_path):
    config = CHOICE | {"doc_to_text": "{{ question if answer != 2 else nothing }}"}
    with pytest.raises(TextError, match=r"^doc_to_text of the task own fails on document 2: "):
        prompts_of(tmp_path, config, documents={"own": [1, 2, 3]})


# What looks wrong -> (settings, rows, code.py), and what is said of it; lm-eval takes it all.
SUSPICIOUS = {
    "a column in single braces": (
        ({"doc_to_text": "Q: {question}"}, ROWS, ""),
        "doc_to_text of the task own prints {question} as it stands, in every document alike: a column is "
        "put in by double braces, {{question}}.",
    ),
    "a target in single braces": (
        ({"output_type": "loglikelihood", "doc_to_choice": None, "doc_to_target": " {answer}"}, ROWS, ""),
        "doc_to_target of the task own prints {answer} as it stands, in every document alike: a column is "
        "put in by double braces, {{answer}}.",
    ),
    "a column that is taken for text": (
        ({"doc_to_text": "qestion"}, ROWS, ""),
        "All 4 documents of the task own ask the same, 'qestion': check its doc_to_text.",
    ),
    "a function that always asks the same": (
        asked_by("doc_to_text", "return 'always ' * 20"),
        "All 4 documents of the task own ask the same, "
        "'always always always always always always always always a...': check its doc_to_text.",
    ),
    "a target that is taken for text": (
        (TEXT | {"doc_to_target": "answr", "doc_to_choice": None}, ROWS, ""),
        "All 4 documents of the task own have the target 'answr', which is not a column of its data.",
    ),
    "a choice given twice": (
        ({}, rows(2, choices=["deep", "deep", "more"]), ""),
        "1 of 4 documents of the task own have the same choice twice, the first of them document 2.",
    ),
    "a target beyond the choices of one document": (
        ({}, rows(2, answer=7), ""),
        "1 of 4 documents of the task own cannot be answered right: document 2 has the target '7', which is "
        "none of its 3 choices (counted from 0). As in lm-eval they count as wrong.",
    ),
    "a metric beside others that is not computed": (
        ({"metric_list": [{"metric": "acc"}, {"metric": "perplexity"}]}, ROWS, ""),
        "The task own gives fewer numbers than it asks for: lm-eval does not compute perplexity for "
        "output_type multiple_choice.",
    ),
    "examples from the documents asked about": (
        ({"num_fewshot": 2}, ROWS, ""),
        "The examples in the prompts of the task own come from the documents asked about, and lm-eval does "
        "not leave out the document itself: a prompt may hold its own answer.",
    ),
    "a description of running text": (
        (
            {
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_choice": None,
                "doc_to_target": "{{question}}",
                "description": "Read this.",
                "metric_list": None,
            },
            ROWS,
            "",
        ),
        "The task own scores running text without a prompt: its description has no effect.",
    ),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_what_looks_wrong_with_a_task_is_said_before_weights_are_read(case, tmp_path):
    (config, data, source), expected = SUSPICIOUS[case]
    config = {key: value for key, value in (CHOICE | config).items() if value is not None}
    if config["output_type"] == "loglikelihood":
        config.pop("metric_list")
    assert prompts_of(tmp_path, config, data, source).notes == (expected,)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"doc_to_text": "", "doc_to_choice": "{{[question + ' a', question + ' b']}}", "doc_to_target": 0},
        {"num_fewshot": 1, "fewshot_split": "test"},
        {"doc_to_text": '{"question": "{{question}}"}'},
    ],
)
def test_nothing_is_said_of_a_task_that_is_right(config, tmp_path):
    assert prompts_of(tmp_path, CHOICE | config).notes == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "include: gone.yaml\ntask: new\n",
            "FileNotFoundError: [Errno 2] No such file or directory: 'FOLDER/gone.yaml'",
        ),
        ("task: new\n  doc: [1\n", "mapping values are not allowed in this context in line 2"),
        (
            "task: new\ndoc_to_text: !fnction code.x\n",
            "could not determine a constructor for the tag '!fnction' in line 2",
        ),
        ("include: new.yaml\ntask: new\n", "ValueError: Include cycle at FOLDER/new.yaml"),
        ("- new\n", "ValueError: Expected YAML dict from FOLDER/new.yaml, got list"),
    ],
)
def test_a_file_that_lm_eval_passes_over_is_told_by_name_and_by_path(text, expected, tmp_path):
    (tmp_path / "new.yaml").write_text(text)
    path = str(tmp_path / "new.yaml")
    expected = expected.replace("FOLDER", str(tmp_path))
    for asked in (TaskOptions(tasks=("new",), include_path=(tmp_path,)), TaskOptions(tasks=(path,))):
        with pytest.raises(OptionError) as error:
            find_tasks(asked)
        assert str(error.value) == f"The task file {path} cannot be read: {expected}. Check its YAML."


GROUPS = {
    "one that contains itself": (
        "group: g\ntask: [own, g]\n",
        "The group g contains itself. Check the task list of its YAML file.",
    ),
    "one that contains what does not exist": (
        "group: g\ntask: [own, nosuch]\n",
        "The group g holds nosuch, which lm-eval does not know.",
    ),
    "an empty one": ("group: g\ntask: []\n", "The group g must list its tasks by name, got task: '[]'."),
    "one that is no list": (
        "group: g\ntask: own\n",
        "The group g must list its tasks by name, got task: 'own'.",
    ),
    "one that lists numbers": (
        "group: g\ntask: [5]\n",
        "The group g must list its tasks by name, got task: '[5]'.",
    ),
    "one that lists a task twice": (
        "group: g\ntask: [own, {task: own, num_fewshot: 1}]\n",
        "The group g lists own twice, and lm-eval keeps only one of them.",
    ),
    "one with a metric that is only a name": (
        "group: g\ntask: [own]\naggregate_metric_list: [acc]\n",
        "aggregate_metric_list of the group g holds 'acc', which is not a metric. Write {metric: acc}.",
    ),
    "one with an aggregation that does not exist": (
        "group: g\ntask: [own]\naggregate_metric_list: [{metric: acc, aggregation: max}]\n",
        "The task g does not load: ValueError: Currently, 'mean' is the only pre-defined aggregation. "
        "Got 'max'." + YAML,
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups_that_cannot_be_asked_are_told(case, tmp_path):
    text, expected = GROUPS[case]
    folder = own_tasks.write(tmp_path, CHOICE)
    (folder / "g.yaml").write_text(text)
    with pytest.raises(DepthprobeError) as error:
        find_tasks(TaskOptions(tasks=("g",), include_path=(folder,)))
    assert str(error.value) == expected


def test_names_defined_twice_and_files_that_define_no_task_are_told(tmp_path):
    folder = own_tasks.write(tmp_path, CHOICE)
    first, second, group = folder / "own.yaml", folder / "second.yaml", folder / "g.yaml"
    second.write_text(first.read_text())
    with pytest.raises(OptionError) as error:
        find_tasks(TaskOptions(tasks=("own",), include_path=(folder,)))
    assert str(error.value) == (
        f"The task own is defined twice: by {first} and by {second}. Rename or remove one of them."
    )
    with pytest.raises(OptionError) as error:
        find_tasks(TaskOptions(tasks=(str(first), str(second))))
    assert str(error.value) == (f"The task own is named twice: by {first} and by {second}. Name one of them.")
    group.write_text("group: g\ntask: [own]\n")
    with pytest.raises(OptionError) as error:
        find_tasks(TaskOptions(tasks=(str(group),)))
    assert str(error.value) == (
        f"{group} defines a group, which lm-eval finds only by its name. "
        "Give its directory with --include-path, and --task g."
    )


def test_a_name_that_is_no_text_is_told_by_the_file_it_stands_in(tmp_path):
    folder = own_tasks.write(tmp_path, CHOICE)
    (folder / "second.yaml").write_text("task: 5\n")
    with pytest.raises(OptionError) as error:
        find_tasks(TaskOptions(tasks=("own",), include_path=(folder,)))
    assert str(error.value) == (
        f"The task file {folder / 'second.yaml'} cannot be read: its task must be a name, got 5. "
        "Check its YAML."
    )


TURNS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
ANSWER = "{% if add_generation_prompt %}[assistant]{% endif %}"
REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURNS
    + ANSWER
)
IGNORING = "{% for m in messages if m['role'] != 'system' %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
ESCAPING = "{% for m in messages %}{{ m | tojson }}{% endfor %}" + ANSWER


def chat_tokenizer(template):
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def chat_prompts(folder, template, config=None, **given):
    tokenizer = chat_tokenizer(template)
    return prompts_of(folder, CHOICE | (config or {}), tokenizer=tokenizer, apply_chat_template=True, **given)


REFUSED = "the chat template refuses it (TemplateError: System role not supported)"

# What becomes of system messages: template, settings of the task, options -> note, what the manifest says.
SYSTEM_MESSAGES = {
    "refused": (
        (REFUSING, {}, {"system_instruction": "Be brief."}),
        "The chat template of tiny refuses a system message (TemplateError: System role not supported): "
        "--system-instruction is in none of the 4 prompts, as in lm-eval.",
        {"prompts": 4, "with_it": 0, "reason": REFUSED},
    ),
    "a description refused": (
        (REFUSING, {"description": "About depth."}, {}),
        "The chat template of tiny refuses a system message (TemplateError: System role not supported): "
        "the description of own is in none of the 4 prompts, as in lm-eval.",
        {"prompts": 4, "with_it": 0, "reason": REFUSED},
    ),
    "both refused, examples in turns": (
        (
            REFUSING,
            {"description": "About depth.", "num_fewshot": 1, "fewshot_split": "test"},
            {"system_instruction": "Be brief."},
        ),
        "The chat template of tiny refuses a system message (TemplateError: System role not supported): "
        "--system-instruction and the description of own are in none of the 4 prompts, as in lm-eval.",
        {"prompts": 4, "with_it": 0, "reason": REFUSED},
    ),
    "ignored": (
        (IGNORING + ANSWER, {}, {"system_instruction": "Be brief."}),
        "The chat template of tiny ignores a system message: --system-instruction is in none of the 4 "
        "prompts, as in lm-eval.",
        {"prompts": 4, "with_it": 0, "reason": "the chat template ignores it"},
    ),
    "one of them refused": (
        (
            REFUSING.replace("%}{{ r", "and 'layer 2' in messages[1]['content'] %}{{ r"),
            {},
            {"system_instruction": "Be brief."},
        ),
        "The chat template of tiny refuses a system message (TemplateError: System role not supported): "
        "--system-instruction is missing from 1 of 4 prompts, as in lm-eval.",
        {"prompts": 4, "with_it": 3, "reason": REFUSED},
    ),
    "used": (
        (TURNS + ANSWER, {}, {"system_instruction": "Be brief."}),
        None,
        {"prompts": 4, "with_it": 4, "reason": None},
    ),
    "used, escaped": (
        (ESCAPING, {}, {"system_instruction": 'Say "no".'}),
        None,
        {"prompts": 4, "with_it": 4, "reason": None},
    ),
}


@pytest.mark.parametrize("case", SYSTEM_MESSAGES)
def test_what_a_chat_template_does_with_system_messages_is_said_and_recorded(case, tmp_path):
    (template, config, given), note, record = SYSTEM_MESSAGES[case]
    prompts = chat_prompts(tmp_path, template, config, **given)
    assert prompts.notes == (() if note is None else (note,))
    assert prompts.system_messages == {"own": record}


def test_a_system_instruction_without_a_chat_template_is_in_every_prompt_but_those_of_running_text(tmp_path):
    plain = prompts_of(tmp_path / "a", CHOICE, system_instruction="Be brief.")
    assert plain.notes == ()
    assert plain.system_messages == {"own": {"prompts": 4, "with_it": 4, "reason": None}}
    running = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{question}}"}
    rolling = prompts_of(tmp_path / "b", running, system_instruction="Be brief.")
    assert rolling.notes == (
        "The task own scores running text without a prompt: --system-instruction has no effect.",
    )
    assert rolling.system_messages["own"]["with_it"] == 0


@pytest.mark.parametrize(
    ("template", "given", "expected"),
    [
        (
            "{{ messages.nothing.at_all }}",
            {},
            "The chat template of tiny fails on document 0 of the task own: UndefinedError: 'list object' "
            "has no attribute 'nothing'. Leave out --apply-chat-template, or mend the template.",
        ),
        (
            "{% if 'layer 2' in messages[0]['content'] %}{{ raise_exception('no 2') }}{% endif %}"
            + TURNS
            + ANSWER,
            {},
            "The chat template of tiny fails on document 2 of the task own: TemplateError: no 2. "
            "Leave out --apply-chat-template, or mend the template.",
        ),
        (
            "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}" + TURNS + ANSWER,
            {"num_fewshot": 1},
            "The chat template of tiny fails on document 0 of the task own: TemplateError: one turn only. "
            "Try --no-fewshot-as-multiturn, or leave out --apply-chat-template.",
        ),
        (
            "{{ messages[0].content }",
            {},
            "The chat template of tiny fails on document 0 of the task own: TemplateSyntaxError: unexpected "
            "'}'. Leave out --apply-chat-template, or mend the template.",
        ),
    ],
)
def test_a_chat_template_that_fails_is_told_with_task_and_document(template, given, expected, tmp_path):
    with pytest.raises(OptionError) as error:
        chat_prompts(tmp_path, template, {"fewshot_split": "test"}, **given)
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            TURNS.replace("\n", ""),
            [
                "The chat template of tiny does not begin the answer's turn: every prompt ends with the "
                "question itself."
            ],
        ),
        (
            "[user]{{ messages[0]['contents'] }}[assistant]",
            [
                "The chat template of tiny leaves out what the user says: every prompt lacks its question.",
                "All 4 documents of the task own have the same prompt, '[user][assistant]'.",
            ],
        ),
        ("[INST]{{ messages[0]['content'] }}[/INST]", []),
    ],
)
def test_a_chat_template_that_loses_the_question_or_the_turn_is_told(template, expected, tmp_path):
    assert chat_prompts(tmp_path, template).notes == tuple(expected)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(tiny.save(tmp_path_factory.mktemp("model"))), dtype="float32", device="cpu")


@pytest.mark.parametrize("kind", [CHOICE, TEXT])
def test_a_chat_template_with_a_token_beyond_the_embedding_is_refused(kind, model, tmp_path):
    tokenizer = chat_tokenizer("{{ messages[0]['content'] }}<|new|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    rows = model.vocabulary
    assert tokenizer.convert_tokens_to_ids("<|new|>") >= rows
    folder = own_tasks.write(tmp_path, kind)
    tasks = find_tasks(TaskOptions(tasks=("own",), include_path=(folder,), apply_chat_template=True))
    with pytest.raises(TextError) as error:
        build_work(tasks, replace(model, tokenizer=tokenizer))
    assert str(error.value) == (
        f"Document 0 of own holds the token '<|new|>' with the id {len(tokenizer) - 1}, but the model's "
        f"embedding has only {rows} rows. "
        "The tokenizer or its chat template does not belong to these weights."
    )


def outcomes_of(folder, model, config, source, answers, name="own"):
    """The outcomes of the whole model and of variants, from made-up log-likelihoods of each."""
    own_tasks.write(folder, CHOICE | config, code=source)
    work = build_work(find_tasks(TaskOptions(tasks=(name,), include_path=(folder,))), model)
    count = len(work.score_requests)
    return {
        variant: work.results(first - np.arange(count), np.zeros(count, dtype=bool))
        for variant, first in answers.items()
    }


def test_a_number_that_one_variant_lacks_is_left_out_of_all_and_told(model, tmp_path):
    source = (
        "def scores(doc, results):\n"
        "    return {'acc': 1.0, 'odd': float('nan') if results[0][0] < -50 else 1.0}\n"
        "def total(items): return sum(items) / len(items)\n"
    )
    metrics = [
        {"metric": name, "aggregation": code("total"), "higher_is_better": True} for name in ("acc", "odd")
    ]
    config = {"process_results": code("scores"), "metric_list": metrics}
    (tmp_path / "g.yaml").write_text(
        "group: g\ntask: [own]\naggregate_metric_list: [{metric: acc}, {metric: odd}]\n"
    )
    outcomes = outcomes_of(tmp_path, model, config, source, {(): -1.0, (0,): -2.0, (1,): -60.0}, name="g")
    kept, notes = comparable(outcomes)
    assert all(
        set(each.aggregate) == {("own", "acc", "none"), ("g", "acc", "none")} for each in kept.values()
    )
    assert notes == [
        "odd of own is left out: it is nan without layer 1.",
        "odd of g is left out: the task own lacks it without layer 1.",
    ]
    assert comparable({(): outcomes[()]}) == ({(): outcomes[()]}, [])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 1 / 0", "its aggregation fails: ZeroDivisionError: division by zero for the whole model"),
        ("return float('inf')", "it is inf for the whole model"),
        ("return 'much'", "it is no number but str for the whole model"),
    ],
)
def test_a_task_whose_only_number_is_none_ends_the_sweep_with_the_reason(body, expected, model, tmp_path):
    config = metric("acc", aggregation=code("total"), higher_is_better=True)
    with pytest.raises(MeasureError) as error:
        comparable(outcomes_of(tmp_path, model, config, f"def total(items): {body}", {(): -1.0}))
    assert str(error.value) == (
        f"The tasks give no number that can be compared: acc of own is left out: {expected}. Check the task."
    )


def test_a_document_that_cannot_be_answered_right_lowers_the_chance_level(model, tmp_path):
    own_tasks.write(tmp_path, CHOICE, rows(2, answer=7))
    work = build_work(find_tasks(TaskOptions(tasks=("own",), include_path=(tmp_path,))), model)
    found = work.results(-np.arange(12.0), np.zeros(12, dtype=bool))
    assert found.metrics["own", "acc", "none"].chance == pytest.approx((1 / 3 + 1 / 3 + 0 + 1 / 3) / 4)


def test_what_fails_only_on_real_answers_is_told_with_its_document(model, tmp_path):
    source = "def scores(doc, results): return {'acc': [0.0][results[0][0] < -20]}"
    config = {"process_results": code("scores")}
    with pytest.raises(TextError) as error:
        outcomes_of(tmp_path, model, config, source, {(): -14.0})
    assert str(error.value) == (
        "process_results of the task own fails on document 3: IndexError: list index out of range."
    )


def test_trying_a_task_leaves_its_requests_as_they_were_and_runs_no_unsafe_code(tmp_path):
    source = "def scores(doc, results): raise AssertionError('run')"
    config = TEXT | {"process_results": code("scores"), "unsafe_code": True}
    folder = own_tasks.write(tmp_path, config, code=source)
    asked = TaskOptions(tasks=("own",), include_path=(folder,), confirm_run_unsafe_code=True)
    tasks = find_tasks(asked)
    build_prompts(tasks, "tiny", tiny.tokenizer())
    instances = tasks.tasks["own"].instances
    assert len(instances) == 4
    assert all(each.resps == [] and each.filtered_resps == {} for each in instances)
