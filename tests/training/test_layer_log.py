"""The log of every layer: right against plain hooks and backward, and no trace of it in the training."""

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

import depthprobe
from depthprobe.errors import OptionError
from depthprobe.results.runs import read_run
from depthprobe.training.divergence import DivergenceStop
from support import tiny

IDS = np.random.default_rng(0).integers(5, 290, size=(12, 10))


def trainer_of(model, directory, steps=6, **options):
    rows = [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in IDS]
    defaults = {"learning_rate": 1e-3, "logging_steps": 2, "save_steps": 2, "seed": 3, "data_seed": 3}
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=steps,
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **defaults | options,
    )
    return Trainer(model=model, args=arguments, train_dataset=rows)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def by_hand(model, rows, blocks):
    """Loss, variance of each block's output and gradient norm of each block, with plain hooks."""
    seen = {}
    handles = [
        block.register_forward_hook(
            lambda _, __, out, layer=layer: seen.setdefault(layer, out if torch.is_tensor(out) else out[0])
        )
        for layer, block in enumerate(blocks)
    ]
    model.zero_grad()
    ids = torch.tensor(rows)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    for handle in handles:
        handle.remove()
    variances = [seen[layer].double().var(dim=-1).mean().item() for layer in range(len(blocks))]
    norms = [
        sum(p.grad.double().square().sum() for p in block.parameters()).sqrt().item() for block in blocks
    ]
    model.zero_grad()
    return loss.item(), variances, norms


@pytest.mark.parametrize("kind, half", [("llama", False), ("gpt2", False), ("llama", True), ("gpt2", True)])
def test_the_log_holds_what_hooks_and_a_backward_pass_find(kind, half, tmp_path):
    model = tiny.build(kind)
    trainer = trainer_of(model, tmp_path, steps=2, bf16=half)

    def expected():
        # Of a copy: the Trainer wraps the model's forward pass into autocast, which the log does not measure.
        plain = tiny.build(kind).eval()
        plain.load_state_dict(model.state_dict())
        return by_hand(plain, IDS[:5], plain.model.layers if kind == "llama" else plain.transformer.h)

    blocks = model.model.layers if kind == "llama" else model.transformer.h
    before = expected()
    trainer.add_callback(depthprobe.LayerLog(trainer, every=2, samples=5))
    trainer.train()
    after = expected()
    run = read_run(tmp_path / "training")
    log, losses = run.tables["training"], run.tables["loss"]
    for step, (loss, variances, norms) in ((0, before), (2, after)):
        rows = log[log.step == step]
        assert rows.layer.tolist() == list(range(len(blocks)))
        assert rows.variance.tolist() == pytest.approx(variances, rel=1e-4)
        assert rows.grad_norm.tolist() == pytest.approx(norms, rel=1e-3)
        row = losses[(losses.step == step) & (losses.data == "heldout")]
        assert row.loss_nats.tolist() == pytest.approx([loss], rel=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_training_is_the_same_with_the_log_and_without_dropout_included(half, tmp_path):
    def trained(logged):
        torch.manual_seed(0)
        model = tiny.build("gpt2")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        trainer = trainer_of(model, tmp_path / str(logged), bf16=half)
        if logged:
            trainer.add_callback(depthprobe.LayerLog(trainer, every=1))
        trainer.train()
        return weights(model), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    plain, logged = trained(False), trained(True)
    assert all(torch.equal(plain[0][name], logged[0][name]) for name in plain[0])
    assert plain[1] == logged[1] and len(plain[1]) == 3


def test_the_numbers_go_where_the_trainer_reports_to(tmp_path):
    seen = []

    class Reporter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    trainer = trainer_of(tiny.build("llama"), tmp_path)
    trainer.add_callback(Reporter())
    trainer.add_callback(depthprobe.LayerLog(trainer, every=3))
    trainer.train()
    reported = [logs for logs in seen if "layer_variance/00" in logs]
    assert len(reported) == 6  # 0, 1, 2, 3, 5, 6
    assert {"layer_loss", "layer_grad_norm/01"} <= reported[0].keys()
    assert sum("loss" in logs for logs in seen) == 3  # the Trainer's own turns are not lost


def test_a_resumed_training_continues_its_log(tmp_path):
    def run(directory, stop=None):
        torch.manual_seed(0)
        trainer = trainer_of(tiny.build("llama"), directory)
        trainer.add_callback(depthprobe.LayerLog(trainer, every=1))

        class Die(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == stop:
                    raise KeyboardInterrupt

        trainer.add_callback(Die())
        there = sorted(directory.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        trainer.train(resume_from_checkpoint=str(there[-1]) if there else None)

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop=5)
    assert read_run(tmp_path / "killed" / "training").tables["training"].step.max() == 5
    run(tmp_path / "killed")
    for name in ("training.csv", "loss.csv"):
        whole, killed = (tmp_path / which / "training" / name for which in ("whole", "killed"))
        assert whole.read_text() == killed.read_text()


def test_a_model_that_cannot_be_measured_goes_on_training(tmp_path, capsys):
    model = tiny.build("llama")
    trainer = trainer_of(model, tmp_path, steps=2)
    trainer.add_callback(depthprobe.LayerLog(trainer, texts=[[7, 400_000]]))
    trainer.train()
    assert trainer.state.global_step == 2
    assert "Step 0 is not logged" in capsys.readouterr().err


def test_nothing_to_measure_on_is_refused(tmp_path):
    trainer = trainer_of(tiny.build("llama"), tmp_path)
    with pytest.raises(OptionError, match="no text"):
        depthprobe.LayerLog(trainer, texts=[])
    with pytest.raises(OptionError, match="must be at least 1"):
        depthprobe.LayerLog(trainer, every=0)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    model = tiny.build("llama")
    trainer = trainer_of(model, tmp_path, steps=30, logging_nan_inf_filter=False, logging_steps=1)
    stop = DivergenceStop()

    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                with torch.no_grad():
                    model.model.norm.weight.fill_(float("nan"))

    trainer.add_callback(stop)
    trainer.add_callback(Break())
    trainer.train()
    assert trainer.state.global_step == 5 and stop.reason == "The loss is nan at step 5."


def test_a_loss_long_above_its_start_stops_the_training_and_a_spike_does_not(tmp_path):
    model = tiny.build("llama")
    trainer = trainer_of(model, tmp_path, steps=60, learning_rate=0.0, logging_steps=1)
    stop = DivergenceStop(patience=4)

    class Worsen(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            with torch.no_grad():
                if state.global_step in (3, 20):
                    model.lm_head.weight.mul_(30)
                if state.global_step == 6:
                    model.lm_head.weight.div_(30)

    trainer.add_callback(stop)
    trainer.add_callback(Worsen())
    trainer.train()
    assert trainer.state.global_step == 24 and "above its start" in stop.reason and "step 21" in stop.reason


def test_the_log_of_another_training_is_kept_and_one_begun_anew_is_not(tmp_path):
    for steps in (4, 3, 3):
        trainer = trainer_of(tiny.build("llama"), tmp_path, steps=steps, save_strategy="no")
        trainer.add_callback(depthprobe.LayerLog(trainer, every=1))
        trainer.train()
    kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert kept == ["training", "training-before-1"]
    steps = [read_run(tmp_path / name).tables["training"].step.max() for name in kept]
    assert steps == [3, 4]


def test_the_losses_since_the_last_measurement_survive_a_kill(tmp_path):
    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 7:
                raise KeyboardInterrupt

    def trainer_with_log():
        trainer = trainer_of(tiny.build("llama"), tmp_path, steps=8)
        trainer.add_callback(depthprobe.LayerLog(trainer, every=100))
        return trainer

    trainer = trainer_with_log()
    trainer.add_callback(Kill())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer_with_log().train(resume_from_checkpoint=True)
    losses = read_run(tmp_path / "training").tables["loss"]
    assert losses[losses.data == "train"].step.tolist() == [2, 4, 6, 8]


def test_a_stream_is_measured_on_its_beginning_and_plain_text_is_refused(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in IDS])

    trainer = trainer_of(tiny.build("llama"), tmp_path)
    trainer.train_dataset = Stream()
    assert len(depthprobe.LayerLog(trainer, samples=3).samples.tokens) == 3
    with pytest.raises(OptionError, match="must be token ids"):
        depthprobe.LayerLog(trainer, texts=["hello world"])


def test_a_checkpoint_of_broken_weights_is_not_written(tmp_path):
    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 3:
                next(model.parameters()).data[0, 0] = float("nan")

    trainer = trainer_of(tiny.build("llama"), tmp_path, steps=6, logging_steps=100)
    stop = DivergenceStop()
    trainer.add_callback(Break())
    trainer.add_callback(stop)
    trainer.train()
    assert trainer.state.global_step == 4 and "NaN" in stop.reason
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
