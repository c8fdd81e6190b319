"""The sweep as a whole against the stock lm-eval on a model whose block is really deleted."""

import copy
import os
import signal
import subprocess
import sys
import time

import lm_eval
import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from support import tiny
from support.sweep_tasks import write_tasks

FAMILIES = ("llama", "qwen3", "gpt2", "opt", "mixtral", "gemma2", "mamba")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks") / "mine")


def deleted(model, layer):
    """A copy without one block, every per-layer list and index put right by hand."""
    pruned = copy.deepcopy(model)
    config = pruned.config
    parent = next(m for m in pruned.modules() for c in m.children() if isinstance(c, torch.nn.ModuleList))
    name = next(n for n, c in parent.named_children() if isinstance(c, torch.nn.ModuleList))
    blocks = getattr(parent, name)
    count = len(blocks)
    setattr(parent, name, torch.nn.ModuleList(b for i, b in enumerate(blocks) if i != layer))
    for index, block in enumerate(getattr(parent, name)):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
    config.num_hidden_layers = count - 1
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, key, [item for i, item in enumerate(value) if i != layer])
    return pruned


def stock(model, tasks, names):
    """What ``lm_eval.simple_evaluate`` says: {(task, metric, filter): number}."""
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=copy.deepcopy(tiny.tokenizer()), batch_size=4),
        tasks=list(names),
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    numbers = {}
    for task, results in (found["results"] | found.get("groups", {})).items():
        for key, value in results.items():
            metric, _, filter_name = key.partition(",")
            if filter_name and not metric.endswith("_stderr") and isinstance(value, float | int):
                numbers[task, metric, filter_name] = float(value)
    return numbers


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_is_stock_lm_evals_on_the_model_without_the_block(family, tasks, tmp_path):
    from depthprobe.evaluation.harness.options import SweepOptions
    from depthprobe.pipeline.request import Request
    from depthprobe.pipeline.run import run as run_sweep
    from depthprobe.texts.options import TextOptions

    tiny.save(tmp_path / family, family)
    (tmp_path / "text.txt").write_text(" ".join(tiny.sentences(40)))
    names = ("mine_all", "mine_rolling", "mine_gen")
    request = Request(
        "prune-sweep",
        str(tmp_path / family),
        TextOptions(str(tmp_path / "text.txt"), samples=4, seq_len=16),
        SweepOptions(names, include_path=(tasks,), layers=(0, 2)),
        output=tmp_path / "reports",
    )
    frame = run_sweep(request).tables["prune_sweep"]
    model = tiny.build(family)
    wanted = {(): stock(model, tasks, names)}
    for layer in (0, 2):
        wanted[layer] = stock(deleted(model, layer), tasks, names)
    kinds = set(zip(frame.task, frame.metric, frame["filter"], strict=True)) - {
        ("calibration", "loss", "none")
    }
    assert kinds == set(wanted[()])
    for row in frame[frame.task != "calibration"].itertuples():
        key = (row.task, row.metric, row.filter)
        assert row.baseline == pytest.approx(wanted[()][key], rel=1e-4), key
        assert row.pruned == pytest.approx(wanted[row.layer][key], rel=1e-4), (key, row.layer)
        assert row.drop == pytest.approx(row.pruned - row.baseline, abs=1e-12)


def test_the_calibration_loss_is_transformers_own(tasks, tmp_path):
    from depthprobe.evaluation.harness.options import SweepOptions
    from depthprobe.pipeline.request import Request
    from depthprobe.pipeline.run import run as run_sweep
    from depthprobe.texts.options import TextOptions
    from depthprobe.texts.samples import read_samples

    tiny.save(tmp_path / "llama")
    (tmp_path / "text.txt").write_text(" ".join(tiny.sentences(40)))
    text = TextOptions(str(tmp_path / "text.txt"), samples=6, seq_len=16)
    options = SweepOptions(("mine_mc",), include_path=(tasks,), limit=3, block=2)
    request = Request("prune-sweep", str(tmp_path / "llama"), text, options, output=tmp_path / "reports")
    frame = run_sweep(request).tables["prune_sweep"]
    frame = frame[frame.task == "calibration"]
    ids = torch.tensor(np.stack(read_samples(text, tiny.tokenizer()).tokens))
    model = tiny.build("llama")
    assert list(frame.layer) == [0, 1, 2]
    for row in frame.itertuples():
        pruned = deleted(deleted(model, row.layer), row.layer)
        with torch.no_grad():
            assert row.pruned == pytest.approx(pruned(ids, labels=ids).loss.item(), abs=1e-5)
            assert row.baseline == pytest.approx(model(ids, labels=ids).loss.item(), abs=1e-5)


def without_text(place, tasks, names, **more):
    """A request for a sweep of two layers without calibration text."""

    from depthprobe.evaluation.harness.options import SweepOptions
    from depthprobe.pipeline.request import Request

    tiny.save(place / "llama")
    options = SweepOptions(names, include_path=(tasks,), limit=5, layers=(0, 2), **more)
    return Request("prune-sweep", str(place / "llama"), None, options, output=place / "reports")


def test_without_calibration_text_a_sweep_has_its_tasks_alone_and_can_be_drawn(tasks, tmp_path):
    from depthprobe.findings.findings import read_findings
    from depthprobe.findings.study import read_study
    from depthprobe.pipeline.run import run as run_sweep
    from depthprobe.render.charts.figures import draw_run

    run = run_sweep(without_text(tmp_path, tasks, ("mine_mc", "mine_gen")))
    assert set(run.tables["prune_sweep"].task) == {"mine_mc", "mine_gen"}
    assert run.manifest["settings"]["text"] is None and run.manifest["data"]["samples"] == 0
    assert all(path.stat().st_size > 1000 for path in draw_run(run))
    findings = read_findings(read_study([run.directory]))
    assert [drops.task for drops in findings.drops] == ["mine_mc", "mine_gen"]
    assert not any(
        "calibration" in sentence for sentence in (*findings.verdict.lines, *findings.verdict.readings)
    )


def test_text_to_be_generated_needs_no_text_to_be_scored(tasks, tmp_path):
    from depthprobe.pipeline.run import run as run_sweep

    run = run_sweep(without_text(tmp_path, tasks, ("mine_gen",)))
    assert list(run.tables["prune_sweep"].task) == ["mine_gen"] * 2


def test_a_sweep_that_breaks_off_says_what_is_on_disk_and_continues_with_it(tasks, tmp_path, monkeypatch):
    from depthprobe import interruption
    from depthprobe.evaluation import answers as answering
    from depthprobe.pipeline.run import run as run_sweep
    from depthprobe.results.journal import pieces_in

    request = without_text(tmp_path, tasks, ("mine_mc", "mine_gen"))
    unfinished = tmp_path / "reports" / "llama" / ".prune-sweep-mine_mc-mine_gen.unfinished"
    generate, asked = answering.generate, []

    def interrupted(work, indices):
        asked.append(indices)
        if len(asked) > 2:
            raise KeyboardInterrupt
        return generate(work, indices)

    monkeypatch.setattr(answering, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_sweep(request)
    done = len(pieces_in(unfinished) - {"work"})
    assert done == 3  # the scores, and two of three variants' texts
    said = f"Interrupted: 3 of 4 pieces are on disk in {unfinished}; the same command continues."
    assert interruption.sentence(caught.value) == said

    # Before the journal is open again, what the earlier start has left is told.
    monkeypatch.setattr("depthprobe.pipeline.session.load_model", lambda *_, **__: interrupted(None, None))
    with pytest.raises(KeyboardInterrupt) as caught:
        run_sweep(request)
    said = (
        f"Interrupted before anything new was measured; the work of an earlier start stays in {unfinished}."
    )
    assert interruption.sentence(caught.value) == said


@pytest.mark.parametrize("where", ["pipeline.session.load_model", "probes.prune_sweep.answer_all"])
def test_an_interrupt_before_the_first_answer_leaves_nothing(tasks, tmp_path, monkeypatch, where):
    from depthprobe import interruption
    from depthprobe.pipeline.run import run as run_sweep

    def interrupted(*_, **__):
        raise interruption.Terminated

    monkeypatch.setattr(f"depthprobe.{where}", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_sweep(without_text(tmp_path, tasks, ("mine_mc",)))
    said = interruption.sentence(caught.value)
    first = "Interrupted before the first piece of work was finished; nothing is kept."
    assert said == (first if "answer_all" in where else interruption.NOTHING)
    assert not (tmp_path / "reports").exists()


def test_answers_that_the_journal_holds_are_told_as_done_already(tasks, tmp_path, monkeypatch):
    from contextlib import contextmanager

    from depthprobe.pipeline.run import run as run_sweep
    from depthprobe.pipeline.watch import Silent
    from depthprobe.probes import prune_sweep

    counted = []

    class Counting(Silent):
        @contextmanager
        def stage(self, what, total, unit, already=0):
            if what != "Sweeping":
                yield lambda count: None
                return
            counts = []
            yield counts.append
            counted.append((total, already, sum(counts)))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    request = without_text(tmp_path, tasks, ("mine_mc", "mine_gen"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prune_sweep, "gather_answers", interrupted)
        run_sweep(request, Counting())
    run_sweep(request, Counting())
    total = counted[0][0]
    assert counted == [(total, 0, total), (total, total, 0)]


def command(place, tasks, *extra, launcher=()):
    return [
        sys.executable, *launcher, "-m", "depthprobe", "prune-sweep", str(place / "model"),
        "--task", "mine_mc,mine_gen", "--include-path", str(tasks),
        "--dataset", str(place / "text.txt"), "--calibration-samples", "40", "--seq-len", "24", *extra,
    ]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    tiny.save(tmp_path / "model", layers=6)
    (tmp_path / "text.txt").write_text(" ".join(tiny.sentences(200)))
    return tmp_path


def environment():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "DEPTHPROBE"))}
    return kept | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(place, command):
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def csv_of(place, output):
    (path,) = (place / output).rglob("prune_sweep.csv")
    return path.read_bytes()


def test_killed_at_any_moment_a_sweep_continues_to_the_same_bytes(place, tasks):
    run(place, command(place, tasks, "-o", "whole"))
    for after_s in (3.5, 5.0, 6.0, 7.0):
        process = subprocess.Popen(
            command(place, tasks, "-o", "killed"), cwd=place, env=environment(), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(place, command(place, tasks, "-o", "killed"))
    assert csv_of(place, "killed") == csv_of(place, "whole")
    left = [path.name for path in (place / "killed" / "model").iterdir()]
    assert left == ["prune-sweep-mine_mc-mine_gen"]


def test_two_processes_give_the_csv_of_one(place, tasks):
    run(place, command(place, tasks, "-o", "one"))
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29511")
    done = run(place, command(place, tasks, "-o", "two", launcher=torchrun))
    assert csv_of(place, "two") == csv_of(place, "one")
    assert done.stderr.count("Model: ") == 1, done.stderr
    again = run(place, command(place, tasks, "-o", "two", launcher=torchrun))
    assert again.stderr.count("Already measured") == again.stderr.count("Model: ") == 1


def test_other_settings_leave_an_unfinished_sweep_alone_and_say_so(place, tasks):
    from depthprobe.results.journal import Journal

    unfinished = place / "out" / "model" / ".prune-sweep-mine_mc-mine_gen.unfinished"
    with Journal.open(unfinished, {"block": 1}) as journal:
        journal.write("score/0", {"loglikelihoods": np.zeros(3)})
    done = run(place, command(place, tasks, "-o", "out", "--layers", "1,3-4"))
    assert "An unfinished run with other settings" in done.stderr and unfinished.is_dir()
    frame = pd.read_csv(next((place / "out").rglob("prune_sweep.csv")))
    assert sorted(frame.layer.unique()) == [1, 3, 4]


def test_the_second_of_two_on_one_run_ends_with_a_line(place, tasks):
    first = subprocess.Popen(
        command(place, tasks, "-o", "out", "--calibration-samples", "4000"), cwd=place, env=environment(),
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        lock = place / "out" / "model" / ".prune-sweep-mine_mc-mine_gen.unfinished" / "journal" / "lock"
        for _ in range(6000):  # importing alone takes many seconds on a busy machine
            if lock.exists():
                break
            time.sleep(0.02)
        assert lock.exists()
        first.send_signal(signal.SIGSTOP)  # it stays in the middle of its work, lock in hand
        second = subprocess.run(
            command(place, tasks, "-o", "out", "--calibration-samples", "4000"),
            cwd=place, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 2 and "Traceback" not in second.stderr
    assert str(first.pid) in second.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mine_nc"], "mine_nc.*mine_mc"),
        (["--task", "mine_mc", "--limit", "0"], "--limit must be more than 0, got 0"),
        (["--task", "mine_mc", "--layers", "2-9"], "--layers names 6, 7, 8, 9, beyond the model's 6 layers"),
        (
            ["--task", "mine_mc", "--layers", "a"],
            "--layers must be a list such as 0,5,20-31 .0-based., got a",
        ),
        (["--task", "mine_mc", "--block", "6"], "--block must be 1 to 5 for a model of 6 layers, got 6."),
        (["--task", "mine_mc", "--apply-chat-template"], "chat template"),
        (["--task", "mine_mc", "--samples", "{"], "--documents must be JSON or a JSON file, got ."),
        (
            ["--task", "mine_mc", "--samples", '{"mine_mc": 3}'],
            "--documents must list document numbers for mine_mc, got 3",
        ),
        (
            ["--task", "mine_mc", "--layers", "0-999999999999"],
            "--layers must be at most 100000, got 0-999999999999.",
        ),
        (
            ["--task", "mine_mc", "--seed", "9" * 20],
            "--seed must be a whole number from 0 to 4294967295, got 9+",
        ),
        (["--task", "mine_gen", "--gen-kwargs", "bogus=3"], "Text cannot be generated.*bogus"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(place, tasks, monkeypatch, arguments, message):
    import re

    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    monkeypatch.chdir(place)
    given = ["prune-sweep", "model", "--include-path", str(tasks), "--dataset", "text.txt", *arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.match(f"Error: .*{message}", last), last
    assert not (place / "reports").exists()


def test_a_masked_model_is_refused_before_its_weights_are_read(tasks, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "bert", "bert")
    (tmp_path / "text.txt").write_text("the stream of a model " * 20)
    done = CliRunner().invoke(
        app,
        ["prune-sweep", "bert", "--task", "mine_mc", "--include-path", str(tasks), "--dataset", "text.txt"],
    )
    assert done.exit_code == 2 and "Error: bert" in done.stderr.splitlines()[-1]


def test_an_encoder_decoder_is_refused_before_its_weights_are_read(tasks, tmp_path, monkeypatch):
    from transformers import T5Config
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "t5")
    T5Config(vocab_size=300, d_model=32, num_layers=2, pad_token_id=1).save_pretrained(tmp_path / "t5")
    (tmp_path / "text.txt").write_text("the stream of a model " * 20)
    done = CliRunner().invoke(
        app, ["prune-sweep", "t5", "--task", "mine_mc", "--include-path", str(tasks), "--dataset", "text.txt"]
    )
    assert done.exit_code == 2
    assert "Error: t5 is an encoder-decoder model, which prune-sweep does not" in done.stderr.splitlines()[-1]


def test_one_model_over_all_gpus_leaves_none_to_other_processes(monkeypatch):
    from depthprobe.errors import OptionError
    from depthprobe.machine.processes import Processes
    from depthprobe.models.loading.options import LoadOptions
    from depthprobe.pipeline.request import Request
    from depthprobe.pipeline.run import run as run_sweep
    from depthprobe.texts.options import default_options

    monkeypatch.setattr(Processes, "here", classmethod(lambda cls: cls(rank=0, count=2)))
    load = LoadOptions(device_map="auto")
    wanted = Request("prune-sweep", "builtin:pre-ln", default_options(embedded=True), load=load)
    with pytest.raises(OptionError, match="--device-map auto gives all GPUs to one model, but several"):
        run_sweep(wanted)
