"""What decides a number is content: whatever changes under the same command is measured again, never answered
with the old numbers; and what did not change is still recognised."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import depthprobe.pipeline.run as pipeline
from depthprobe.catalogue import ANGULAR
from depthprobe.evaluation.harness.options import SweepOptions
from depthprobe.evaluation.harness.tasks import _manager
from depthprobe.models.loading.options import LoadOptions
from depthprobe.pipeline.again import Again
from depthprobe.pipeline.request import Request
from depthprobe.pipeline.watch import Silent
from depthprobe.results.journal import Journal
from depthprobe.results.manifest import MANIFEST_NAME
from depthprobe.results.store import save
from depthprobe.texts.options import TextOptions
from depthprobe.texts.samples import NO_SAMPLES, Samples
from support import tiny

BASE = """
dataset_path: json
test_split: test
output_type: multiple_choice
process_docs: !function functions.upper
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "no"]
doc_to_target: answer
process_results: !function functions.score
metric_list:
- metric: acc
  aggregation: mean
  higher_is_better: true
metadata: {version: 1.0}
"""
FUNCTIONS = """
import json
import os
from pathlib import Path

MODE = os.environ.get("CONTENT_MODE")
WORDS = json.loads((Path(__file__).parent / "words.json").read_text())

def upper(documents):
    return documents.map(lambda document: {"question": document["question"].upper()})

def score(document, results):
    from helper_of_content import right
    return {"acc": right(document, results)}
"""
MADE = """
import datasets
from lm_eval.api.task import ConfigurableTask

class Made(ConfigurableTask):
    def __init__(self, config=None):
        super().__init__(config={
            "task": "made", "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(
                [{"question": "one", "answer": "two"}])},
            "test_split": "test", "output_type": "loglikelihood", "doc_to_text": "question",
            "doc_to_target": "answer", "metric_list": [{"metric": "acc"}],
        })

    def process_results(self, doc, results):
        return {"acc": 1.0}
"""
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
CARD = "---\nconfigs:\n- config_name: default\n  data_files: ../elsewhere/*.jsonl\n---\n"


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def questions(count=4, word="is"):
    return [{"question": f"{word} {number} even?", "answer": number % 2} for number in range(count)]


def write_task(folder, data):
    folder.mkdir()
    (folder / "base.yaml").write_text(BASE)
    task = f"task: mine\ninclude: base.yaml\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
    (folder / "mine.yaml").write_text(task)
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "words.json").write_text("[1, 2]")
    (folder / "helper_of_content.py").write_text("def right(document, results): return 1.0\n")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    place = tmp_path_factory.mktemp("content")
    model = tiny.save(place / "model", layers=2)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "short.jinja").write_text("{{ messages[0] }}")
    (model / "generation_config.json").write_text('{"temperature": 1.0}')
    shutil.copytree(model, place / "named")
    config = json.loads((model / "config.json").read_text())
    shutil.copy(model / "model.safetensors", place / "named" / "other.safetensors")
    (place / "named" / "config.json").write_text(
        json.dumps(config | {"transformers_weights": "other.safetensors"})
    )
    shutil.copytree(model, place / "sharded")
    (place / "sharded" / "model.safetensors").rename(place / "shard.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../shard.safetensors"}}
    (place / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copytree(model, place / "listless")
    for shard in SHARDS:
        shutil.copy(model / "model.safetensors", place / "listless" / shard)
    (place / "listless" / "model.safetensors").unlink()
    shutil.copytree(model, place / "linked")
    (place / "linked" / "model.safetensors").rename(place / "blob")
    (place / "linked" / "model.safetensors").symlink_to(place / "blob")
    shutil.copytree(model, place / "coded")
    code = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    (place / "coded" / "config.json").write_text(json.dumps(config | code))
    (place / "coded" / "parts").mkdir()
    (place / "coded" / "parts" / "inner.py").write_text("SCALE = 1")
    (model / "bpe.codes").write_text("a b")
    (place / "packed").mkdir()
    (place / "packed" / "model.gguf").write_bytes(b"GGUF 1")
    (place / "adapter").mkdir()
    (place / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "model"}')
    shutil.copy(model / "model.safetensors", place / "adapter" / "adapter_model.safetensors")
    write_rows(place / "text.jsonl", [{"text": text} for text in tiny.sentences(4)])
    write_rows(place / "texts" / "train.jsonl", [{"text": text} for text in tiny.sentences(4)])
    write_rows(place / "carded" / "validation" / "a.jsonl", [{"text": "not read"}])
    write_rows(place / "elsewhere" / "a.jsonl", [{"text": text} for text in tiny.sentences(4)])
    (place / "carded" / "README.md").write_text(CARD)
    write_rows(place / "data" / "test.jsonl", questions())
    write_task(place / "tasks", place / "data" / "test.jsonl")
    group = "group: all\ntask: [mine]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    (place / "tasks" / "all.yaml").write_text(group)
    (place / "tasks" / "made.py").write_text(MADE)
    (place / "tasks" / "made.yaml").write_text("task: made\nclass: !function made.Made\n")
    (place / "other").mkdir()
    write_task(place / "other" / "tasks", place / "data" / "test.jsonl")
    write_rows(place / "set" / "test.jsonl", questions())
    direct = BASE.replace("json\n", f"{place / 'set'}\n").replace("process_docs", "# process_docs")
    (place / "direct.yaml").write_text(f"task: direct\n{direct}".replace("process_results", "# "))
    return place


@pytest.fixture
def place(first, tmp_path, monkeypatch):
    """The files in their own place: what a task names is absolute."""
    kept = tmp_path / "kept"
    shutil.copytree(first, kept, symlinks=True)
    monkeypatch.chdir(first)
    monkeypatch.setattr(pipeline._Way, "saved", save_without_measuring)
    monkeypatch.setenv("HF_HOME", str(first / "cache"))
    monkeypatch.setenv("CONTENT_MODE", "usual")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "")
    yield first
    shutil.rmtree(first)
    shutil.copytree(kept, first, symlinks=True)


def save_without_measuring(way, source, place):
    """Stand in for all that comes after the place is chosen."""
    frame = pd.DataFrame({"layer": [0], "n": [1], "distance": [0.1], "std": [0.0], "samples": [4]})
    found = replace(ANGULAR.measurement({"angular": frame}, {}), probe=way.request.probe)
    rows = {"samples_mine_whole.jsonl": b"{}\n"} if way.request.asked.wanted_files() else {}
    return save(place, found, {}, rows)


def angular(model="model", text="text.jsonl", **load):
    return Request("angular", model, TextOptions(text, samples=2), load=LoadOptions(**load))


def sweep(*tasks, **options):
    return Request("prune-sweep", "model", None, SweepOptions(tasks or ("mine",), **options))


MINE = {"include_path": (Path("tasks"),), "limit": 4}


class Told(Silent):
    def __init__(self):
        self.said = []

    def say(self, news):
        self.said.append(news)


def answered(request, watch=None):
    """How a request is answered, as its command would be."""
    again = Again.of(request, ())
    if again.find() is not None:
        return "again"
    _manager.cache_clear()  # another process
    directories = set(Path("reports").glob("*/*"))
    found = pipeline.run(request, watch, None, again.rests_on)
    again.remember(found.directory, "", ())
    return "found" if found.directory in directories else "measured"


def edit(path, before, after):
    def change():
        text = Path(path).read_text()
        assert before in text
        Path(path).write_text(text.replace(before, after))

    return change


def write(path, content):
    return lambda: Path(path).write_text(content)


def weights(path):
    def change():
        tiny.save(Path("new"), seed=1, layers=2)
        shutil.copyfile("new/model.safetensors", path)

    return change


def same_time(path, change):
    """Change a file and put its times back, as rsync and git do."""

    def changed():
        before = os.stat(path)
        change()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


SCENES = {
    "task YAML": (
        partial(sweep, **MINE),
        edit("tasks/mine.yaml", "task: mine", "description: Hm.\ntask: mine"),
    ),
    "included YAML": (partial(sweep, **MINE), edit("tasks/base.yaml", '"{{question}}"', '"Q: {{question}}"')),
    "metric of the task": (partial(sweep, **MINE), edit("tasks/base.yaml", "better: true", "better: false")),
    "function": (partial(sweep, **MINE), edit("tasks/functions.py", "upper()", "lower()")),
    "function that only scores": (
        partial(sweep, **MINE),
        edit("tasks/functions.py", '"acc": ', '"acc": 0.5 * '),
    ),
    "module that a function imports": (
        partial(sweep, **MINE),
        edit("tasks/helper_of_content.py", "1.0", "0.0"),
    ),
    "file that a function reads": (partial(sweep, **MINE), write("tasks/words.json", "[1, 3]")),
    "variable that a function reads": (
        partial(sweep, **MINE),
        lambda: os.environ.__setitem__("CONTENT_MODE", "other"),
    ),
    "data file": (partial(sweep, **MINE), lambda: write_rows(Path("data/test.jsonl"), questions(word="was"))),
    "data file of the same time and size": (
        partial(sweep, **MINE),
        same_time("data/test.jsonl", lambda: write_rows(Path("data/test.jsonl"), questions(word="as"))),
    ),
    "group": (
        partial(sweep, "all", **MINE),
        edit("tasks/all.yaml", "weight_by_size: true", "weight_by_size: false"),
    ),
    "task by its path": (
        partial(sweep, "tasks/mine.yaml"),
        edit("tasks/mine.yaml", "task:", "description: Hm.\ntask:"),
    ),
    "base of a task by its path": (
        partial(sweep, "tasks/mine.yaml"),
        edit("tasks/base.yaml", '"no"', '"never"'),
    ),
    "data set directory of a task": (
        partial(sweep, "direct.yaml"),
        lambda: write_rows(Path("set/test.jsonl"), questions(word="Is")),
    ),
    "weights": (angular, weights("model/model.safetensors")),
    "configuration": (angular, edit("model/config.json", '"rope_theta": 10000.0', '"rope_theta": 5000.0')),
    "tokenizer": (
        angular,
        edit("model/tokenizer.json", '"id": 0', '"id": 2'),
    ),
    "chat template": (partial(sweep, **MINE), write("model/chat_template.jinja", "{{ messages[0] }}")),
    "chat template in tokenizer_config.json": (
        partial(sweep, **MINE),
        edit("model/tokenizer_config.json", "{", '{"chat_template": "{{ messages[-1] }}",'),
    ),
    "named chat template": (
        partial(sweep, **MINE, apply_chat_template="short"),
        write("model/additional_chat_templates/short.jinja", "{{ messages[1] }}"),
    ),
    "generation_config.json": (
        partial(sweep, **MINE),
        write("model/generation_config.json", '{"temperature": 0.5}'),
    ),
    "weights named by transformers_weights": (partial(angular, "named"), weights("named/other.safetensors")),
    "shard outside the directory": (partial(angular, "sharded"), weights("shard.safetensors")),
    "weights behind a link": (partial(angular, "linked"), weights("blob")),
    "code that a model brings": (
        partial(angular, "coded", trust_remote_code=True),
        write("coded/parts/inner.py", "SCALE = 2"),
    ),
    "GGUF file": (
        partial(angular, "packed/model.gguf"),
        lambda: Path("packed/model.gguf").write_bytes(b"GGUF 2"),
    ),
    "tokenizer file of another name": (angular, write("model/bpe.codes", "b a")),
    "adapter": (partial(angular, adapter="adapter"), weights("adapter/adapter_model.safetensors")),
    "tokenizer of an adapter": (
        partial(angular, adapter="adapter"),
        write("adapter/tokenizer_config.json", '{"model_max_length": 5}'),
    ),
    "adapter named with its model": (
        partial(angular, "model+adapter"),
        weights("adapter/adapter_model.safetensors"),
    ),
    "shard without an index": (partial(angular, "listless"), weights(f"listless/{SHARDS[1]}")),
    "text file": (angular, lambda: write_rows(Path("text.jsonl"), [{"text": "another one"}])),
    "directory of texts": (
        partial(angular, text="texts"),
        lambda: write_rows(Path("texts/train.jsonl"), [{"text": "another one"}]),
    ),
    "file that becomes another split": (
        partial(angular, text="texts"),
        lambda: (Path("texts/test").mkdir(), Path("texts/train.jsonl").rename("texts/test/train.jsonl")),
    ),
    "file that a card points to": (
        partial(angular, text="carded"),
        lambda: write_rows(Path("elsewhere/a.jsonl"), [{"text": "another one"}]),
    ),
    "file that a card's pattern takes in": (
        partial(angular, text="carded"),
        lambda: write_rows(Path("elsewhere/b.jsonl"), [{"text": "another one"}]),
    ),
    "coarser arithmetic": (
        angular,
        lambda: os.environ.__setitem__("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_what_has_changed_is_measured_again_and_what_has_not_is_recognised(place, scene):
    of, change = SCENES[scene]
    request = of()
    assert [answered(request), answered(request)] == ["measured", "again"]
    change()
    assert [answered(request), answered(request)] == ["measured", "again"]
    assert len(list(Path("reports").glob(f"*/*/{MANIFEST_NAME}"))) == 2


@pytest.mark.parametrize(
    "change",
    [
        edit("tasks/mine.yaml", "task: mine", "# A remark.\ntask: mine"),
        write("tasks/another.yaml", "task: another\n"),
        write("tasks/README.md", "How to use it."),
        write("model/README.md", "How to use it."),
        lambda: Path("data/test.jsonl").touch(),
        lambda: (
            (Path("moved").mkdir(), shutil.move("data/test.jsonl", "moved/test.jsonl"))
            and edit("tasks/mine.yaml", "/data/", "/moved/")()
        ),
    ],
)
def test_what_decides_nothing_leaves_the_run_what_it_is(place, change):
    request = sweep(**MINE)
    assert answered(request) == "measured"
    change()
    assert answered(request) in ("found", "again")
    assert answered(request) == "again"


def test_a_task_of_the_same_name_in_another_directory_is_another_if_its_content_is(place):
    assert answered(sweep(**MINE)) == "measured"
    there = {**MINE, "include_path": (Path("other/tasks"),)}
    assert answered(sweep(**there)) == "found"
    edit("other/tasks/base.yaml", '"no"', '"never"')()
    assert answered(sweep(**there)) == "measured"


def test_a_task_by_its_path_is_another_if_a_file_of_that_name_elsewhere_is(place, monkeypatch):
    edit("other/tasks/base.yaml", '"no"', '"never"')()
    request = replace(sweep("mine.yaml"), model=str(place / "model"), output=place / "reports")
    monkeypatch.chdir(place / "tasks")
    assert answered(request) == "measured"
    monkeypatch.chdir(place / "other" / "tasks")
    told = Told()
    answered(request, told)
    assert any("other contents of the task mine" in said for said in told.said)


def test_documents_are_those_that_the_function_makes_now(place):
    """The datasets library would give those that the function made before it was edited."""
    from depthprobe.evaluation.harness.tasks import find_tasks

    def asked():
        _manager.cache_clear()
        return find_tasks(sweep(**MINE).options).tasks["mine"].eval_docs[0]["question"]

    assert asked() == "IS 0 EVEN?"
    edit("tasks/functions.py", ".upper()", ".title()")()
    assert asked() == "Is 0 Even?"
    same_time("data/test.jsonl", lambda: write_rows(Path("data/test.jsonl"), questions(word="as")))()
    assert asked() == "As 0 Even?"
    assert not Path("tasks/__pycache__").exists()  # compiled files go by time and size too


def test_sample_rows_asked_for_later_are_made_and_then_found(place):
    told = Told()
    assert answered(sweep(**MINE)) == "measured"
    assert answered(sweep(**MINE, log_samples=True), told) == "measured"
    (said,) = [said for said in told.said if "holds this run" in said]
    assert "holds this run, but without samples_*.jsonl, so this one goes to" in said
    assert answered(sweep(**MINE, log_samples=True)) == "again"
    assert answered(sweep(**MINE)) == "again"


def test_a_run_that_did_not_record_its_tasks_is_not_taken_for_the_same(place):
    told = Told()
    assert answered(sweep(**MINE)) == "measured"
    (run,) = Path("reports/model").glob("prune-sweep*")
    manifest = json.loads((run / MANIFEST_NAME).read_text())
    del manifest["settings"]["task_sha256"]
    (run / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert answered(sweep(**MINE), told) == "measured"
    assert any(
        "holds a run of an earlier version, which did not record what its tasks say and ask, so that it "
        "cannot be known whether it is this one" in said
        for said in told.said
    )
    assert answered(sweep(**MINE)) == "again"


@pytest.mark.parametrize(
    ("change", "continued"),
    [
        (lambda: None, True),
        (edit("tasks/functions.py", '"acc": ', '"acc": 0.5 * '), False),
        (write("model/chat_template.jinja", "{{ messages[0] }}"), False),
    ],
)
def test_work_of_other_content_is_not_continued(place, monkeypatch, change, continued):
    found = []

    def interrupted(way, source, reserved):
        unfinished, settings = way.place_of_journal(reserved, NO_SAMPLES)
        with Journal.open(unfinished, settings) as journal:
            found.append(journal.done("piece"))
            journal.write("piece", {"done": True})
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline._Way, "saved", interrupted)
    told = Told()
    for leg in range(2):
        with pytest.raises(KeyboardInterrupt):
            answered(sweep(**MINE), told)
        if leg == 0:
            change()
    assert found == [False, continued]
    assert continued != any("An unfinished run with other settings (other " in said for said in told.said)


class Hub:
    """A data set of the hub: its commit as far as it answers, and the tokens of its text."""

    def __init__(self, monkeypatch):
        self.commit, self.tokens, self.asked = "a" * 40, "of a", 0
        monkeypatch.setattr("depthprobe.machine.looks.commit_on_hub", self.answer)
        monkeypatch.setattr("depthprobe.pipeline.run.newest_commit", self.answer)
        monkeypatch.setattr(pipeline._Way, "read", self.read)
        monkeypatch.setattr(pipeline._Way, "reach_text", lambda way: None)

    def answer(self, dataset):
        assert dataset == "me/text"
        return self.commit

    def read(self, source):
        self.asked += 1
        return None, Samples((), {"tokens_sha256": self.tokens})


@pytest.fixture
def hub(place, monkeypatch):
    hub = Hub(monkeypatch)

    def saved(way, source, reserved):
        data = {"revision": hub.commit, "tokens_sha256": hub.tokens}
        frame = pd.DataFrame({"layer": [0], "n": [1], "distance": [0.1], "std": [0.0], "samples": [4]})
        return save(reserved, ANGULAR.measurement({"angular": frame}, {}), {"data": data})

    monkeypatch.setattr(pipeline._Way, "saved", saved)
    return hub


def test_a_text_of_the_hub_is_the_same_while_its_commit_or_its_tokens_are(hub):
    request, told = angular(text="me/text"), Told()
    assert [answered(request), answered(request)] == ["measured", "again"]
    hub.commit = "b" * 40  # its card was edited
    assert [answered(request), answered(request)] == ["found", "again"]
    assert hub.asked == 1
    hub.commit, hub.tokens = "c" * 40, "of c"
    assert [answered(request, told), answered(request)] == ["measured", "again"]
    assert any("holds this run, but of other samples than me/text gives now" in said for said in told.said)


def test_a_hub_that_does_not_answer_leaves_the_run_with_a_sentence(hub):
    request, told = angular(text="me/text"), Told()
    answered(request)
    hub.commit = None
    found = Again.of(request, ()).find()
    assert found.note == "The hub does not answer, so it is not known whether me/text has changed since."
    for file in Path("reports").rglob(".again.json"):
        file.unlink()
    assert answered(request, told) == "found"
    assert any(
        "So it is not known whether reports/model/angular was measured on it" in said for said in told.said
    )


def test_a_task_written_as_a_class_is_its_source(place):
    """Its documents are made by a function, so that it is never known quickly."""
    made = partial(sweep, "made", include_path=(Path("tasks"),))
    assert [answered(made()), answered(made())] == ["measured", "found"]
    edit("tasks/made.py", "1.0", "0.0")()
    assert [answered(made()), answered(made())] == ["measured", "found"]


def test_code_of_another_repository_counts_by_its_commit(place, monkeypatch):
    edit("coded/config.json", "modeling.Model", "me/code--modeling.Model")()
    commits = iter("aab")
    monkeypatch.setattr(
        "depthprobe.models.loading.hub.fetch_file",
        lambda repo, file, revision: Path("cache", repo, next(commits), file),
    )
    request = angular("coded", trust_remote_code=True)
    assert [answered(request) for _ in range(3)] == ["measured", "found", "measured"]
