"""The command on models without weights, with wrong ones, and on those that other commands refuse."""

import json
import re
import sys

import pytest

from support import model_types, tiny


def inspect(*arguments):
    from typer.testing import CliRunner

    from depthprobe.commands.app import app

    return CliRunner().invoke(app, ["inspect", "--device", "cpu", *map(str, arguments)])


def printed(*arguments):
    done = inspect(*arguments)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def save(directory, model_type, masked=False, **changes):
    """Save a configuration and a tokenizer, no weights."""
    model = model_types.build(model_type, masked=masked)
    config = model.config
    config.architectures = [type(model).__name__]
    for name, value in changes.items():
        setattr(config, name, value)
    config.save_pretrained(directory)
    tiny.tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def bare(tmp_path):
    return save(tmp_path / "bare-llama", "llama")


def test_a_directory_without_weights_is_told_all_about(bare):
    out = printed(bare)
    assert "LlamaForCausalLM (llama)" in out
    assert "4 at model.layers, followed without weights" in out
    assert re.search(r"0-3 LlamaDecoderLayer full attention feed-forward pre 9,280", out)
    assert re.search(r"angular [<\d.]+ GiB [<\d.]+ GiB fits yes", out)
    assert re.search(r"prune-sweep [<\d.]+ GiB [<\d.]+ GiB fits yes", out)
    assert "will not run" not in out


def test_weights_are_neither_opened_nor_needed(tmp_path):
    directory = tiny.save(tmp_path / "tiny-llama")
    (directory / "model.safetensors").write_bytes(b"no weights at all")  # so that no library can read them
    opened, listening = [], [True]
    sys.addaudithook(
        lambda event, args: opened.append(str(args[0])) if listening and event == "open" else None
    )
    try:
        assert "4 at model.layers" in printed(directory)
    finally:
        listening.clear()
    assert any(name.endswith("config.json") for name in opened)
    assert not any(name.endswith("model.safetensors") for name in opened)
    done = inspect(directory, "--check")
    assert done.exit_code == 2 and "model.safetensors" in done.stderr


def test_check_verifies_the_blocks_with_weights(tmp_path):
    out = printed(tiny.save(tmp_path / "tiny-llama"), "--check")
    assert "4 at model.layers, verified by a forward pass" in out
    assert "stream in + branches = stream out in all blocks" in out


def test_mixed_blocks_have_a_row_for_each_sort(tmp_path):
    out = printed(save(tmp_path / "gemma2", "gemma2"))
    assert re.search(r"0, 2 Gemma2DecoderLayer sliding attention", out)
    assert re.search(r"1, 3 Gemma2DecoderLayer full attention", out)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([0], "0"),
        ([0, 1, 2, 3], "0-3"),
        ([0, 1, 5], "0-1, 5"),
        ([1, 3, 5, 7], "1, 3 .. 7"),
        ([2, 9], "2, 9"),
    ],
)
def test_layers_are_written_as_spans(layers, text):
    from depthprobe.commands.inspect import regular_spans

    assert regular_spans(layers) == text


def test_a_masked_model_is_told_what_prune_sweep_will_say(tmp_path):
    from depthprobe.errors import LoadError
    from depthprobe.evaluation.harness.options import TaskOptions
    from depthprobe.evaluation.harness.requests import check_checkpoint
    from depthprobe.models.loading.options import LoadOptions
    from depthprobe.models.sizing.blueprint import open_without_weights

    directory = save(tmp_path / "bert", "bert", masked=True)
    out = printed(directory)
    with pytest.raises(LoadError) as refusal:
        check_checkpoint(TaskOptions(("x",)), open_without_weights(str(directory), LoadOptions()))
    assert f"prune-sweep will not run: {refusal.value}" in out
    assert re.search(r"angular .* fits yes", out) and "angular will not run" not in out


def test_an_encoder_decoder_model_has_no_sweep_and_a_tower_to_choose(tmp_path):
    from transformers import AutoConfig

    directory = tmp_path / "t5"
    shape = {"num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "d_model": 32, "d_kv": 8, "d_ff": 64}
    config = AutoConfig.for_model("t5", vocab_size=300, architectures=["T5ForConditionalGeneration"], **shape)
    config.save_pretrained(directory)
    tiny.tokenizer().save_pretrained(directory)
    out = printed(directory)
    assert "3 at decoder.block" in out and "cross attention" in out
    assert "prune-sweep will not run" in out and "is an encoder-decoder model" in out
    assert "2 at encoder.block" in printed(directory, "--tower", "encoder")


def test_a_refused_family_says_why_no_command_will_run(tmp_path):
    out = printed(save(tmp_path / "deepseek", "deepseek_v4"))
    assert "angular will not run: The residual blocks of DeepseekV4ForCausalLM were not found." in out
    assert "not [batch, token, hidden]" in out and "--check loads the weights and verifies this." in out


def test_what_was_not_run_says_so(tmp_path):
    out = printed(save(tmp_path / "dbrx", "dbrx"))
    assert "found by structure, not run" in out and "not known without the weights" in out
    assert re.search(r"angular .* fits not known", out)


def test_a_model_too_large_for_the_memory_says_so(tmp_path):
    sizes = {"hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 400}
    out = printed(save(tmp_path / "huge", "llama", **sizes, num_attention_heads=512, num_key_value_heads=512))
    assert "does not fit no" in out
    assert re.search(
        r"angular will not run: .* needs [\d,.]+ GiB in float32, but only [\d,.]+ GiB are free on cpu", out
    )


def test_metas_layout_needs_its_weights(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps({"dim": 32, "n_layers": 2, "n_heads": 4}))
    done = inspect(tmp_path)
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 2, done.stderr


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"hidden_size": 0}, "says hidden_size 0, but it must be a whole number of at least 1."),
        (
            {"num_hidden_layers": -1},
            "says num_hidden_layers -1, but it must be a whole number of at least 1.",
        ),
        ({"num_hidden_layers": 10**9}, "says num_hidden_layers 1000000000, but it must be at most 10,000."),
        ({"vocab_size": 10**15}, "but it must be at most 2,147,483,647."),
    ],
)
def test_sizes_that_no_model_has_are_told_at_once(bare, changed, told):
    path = bare / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    done = inspect(bare)
    assert done.exit_code == 2 and told in done.stderr


def test_a_vocabulary_that_dwarfs_the_blocks_does_not_hide_them(bare):
    path = bare / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 10**9}))
    out = printed(bare)
    assert "4 at model.layers" in out and "but only" in out and "no list of blocks" not in out


def test_a_kernel_that_this_machine_lacks_is_told_and_replaced(bare):
    path = bare / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_attn_implementation": "owner/kernel"}))
    done = inspect(bare)
    assert done.exit_code == 0
    assert "'owner/kernel', which is code on the hub: it is not fetched" in done.stderr
    assert "pip install" not in done.stderr


def test_a_directory_has_no_revision(bare):
    done = inspect(bare, "--revision", "main")
    assert done.exit_code == 2 and "has no revision 'main'. Leave out --revision." in done.stderr
