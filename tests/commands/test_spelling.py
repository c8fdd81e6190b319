"""What people type, in lm-eval's spelling too, and what a flag with a value is told."""

import re

import pytest
import typer
from typer.testing import CliRunner

from depthprobe.catalogue import PROBES
from depthprobe.commands.app import program
from depthprobe.commands.spelling import as_declared
from depthprobe.errors import OptionError

COMMANDS = (*PROBES, "compare", "report", "inspect", "pretrain", "convert", "plot", "docs")


def parameters(name):
    command = typer.main.get_command(program(name)).commands[name]
    return [each for each in command.params if getattr(each, "opts", [""])[0].startswith("-")]


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [
        ("prune-sweep", "m --num_fewshot 2", "m --num-fewshot=2"),
        ("prune-sweep", "--tasks a,b --batch_size auto:4 m", "--tasks=a,b --batch-size=auto:4 m"),
        (
            "prune-sweep",
            "-t a -f 3 -L 5 -b 8 -o out m",
            "--tasks=a --num-fewshot=3 --limit=5 --batch-size=8 -o out m",
        ),
        ("prune-sweep", "--output_path=out --log_samples", "--output=out --log-samples"),
        ("prune-sweep", "--apply_chat_template=tool m", "--chat-template=tool m"),
        ("prune-sweep", "--apply_chat_template m", "--apply-chat-template m"),
        ("prune-sweep", "--no-fewshot_as_multiturn m", "--no-fewshot-as-multiturn m"),
        ("prune-sweep", "--system_instruction --be_brief m", "--system-instruction=--be_brief m"),
        (
            "prune-sweep",
            "--model hf --model_args pretrained=a/b,dtype=float16",
            "--model=a/b --dtype=float16",
        ),
        (
            "prune-sweep",
            "--model_args revision=x,trust_remote_code=True,peft=p,parallelize=True,max_length=9 m",
            "m --device-map=auto --revision=x --trust-remote-code --adapter=p --max-length=9",
        ),
        ("prune-sweep", "--model_args trust_remote_code=False m", "m"),
        ("prune-sweep", "-a add_bos_token=True m", 'm --model-args={"add_bos_token":true}'),
        ("prune-sweep", "--model_args pretrained=r,gguf_file=f.gguf", "--model=r:f.gguf"),
        ("report", "--num_fewshot 2 --calibration_samples 4 m", "--num-fewshot=2 --calibration-samples=4 m"),
        ("report", "--model hf --model_args pretrained=a/b,dtype=float16", "a/b --dtype=float16"),
        ("report", "--model a/b --limit 2", "a/b --limit=2"),
        ("compare", "--model a --model b -L 3", "a b --limit=3"),
        ("angular", "--seq_len 8 --batch_size auto:2 m", "--seq-len=8 --batch-size=auto:2 m"),
        ("angular", "--samples 8 m", "--samples=8 m"),
        ("angular", "-- --odd_name", "-- --odd_name"),
        ("angular", "--nosuch_thing=1 m", "--nosuch_thing=1 m"),
        ("convert", "--trust_remote_code a b", "--trust-remote-code a b"),
        ("plot", "--title= run", "--title= run"),
    ],
)
def test_other_spellings_are_understood(command, typed, meant):
    spelled, notes = as_declared(typed.split(" "), parameters(command))
    assert [re.sub(r"([:,]) ", r"\1", word) for word in spelled] == meant.split(" ") and not notes


@pytest.mark.parametrize("command", ["prune-sweep", "report", "compare"])
def test_documents_by_the_old_name_are_taken_with_a_note(command):
    for old in ("--samples", "-E"):
        spelled, notes = as_declared([old, '{"a": [1]}', "m"], parameters(command))
        assert spelled == ['--documents={"a": [1]}', "m"]
        assert bool(notes) == (old == "--samples")
    assert "documents by number are now named by --documents" in notes[0] if notes else True


@pytest.mark.parametrize("command", ["angular", "variance", "gradnorm", "report", "compare"])
def test_samples_and_seed_mean_the_same_in_every_command(command):
    flags = [flag for each in parameters(command) for flag in each.opts]
    assert flags.count("--samples") == 1 and flags.count("--seed") == 1
    assert as_declared(["--samples", "8"], parameters(command)) == (["--samples=8"], [])


def test_a_count_of_samples_where_nothing_has_it_is_told():
    with pytest.raises(OptionError, match="Count the calibration text with --calibration-samples"):
        as_declared(["--samples", "8"], parameters("prune-sweep"))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--quiet true", "--quiet takes no value, got true. Write --quiet alone."),
        ("--quiet=True", "--quiet takes no value, got True. Write --quiet alone."),
        ("-q false", "-q takes no value, got false. Leave it out."),
        ("--log_samples no", "--log-samples takes no value, got no. Leave it out."),
        ("--model_args x", "--model-args must be NAME=VALUE, separated by commas, or JSON; got x."),
        ("--model_args {1", "--model-args must be NAME=VALUE, separated by commas, or JSON; got {1."),
        ("--model vllm --model_args pretrained=x", "--model vllm and pretrained=x name two models."),
    ],
)
def test_what_cannot_be_taken_is_one_sentence_and_status_2(typed, message):
    done = CliRunner().invoke(program("prune-sweep"), ["prune-sweep", *typed.split()])
    shown = re.sub(r"[\s│]+", " ", done.output)
    assert done.exit_code == 2 and message in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_can_be_typed(command):
    example = typer.main.get_command(program(command)).commands[command].epilog
    name, *rest = example.split()[1:]
    assert example.startswith("depthprobe ") and name == command
    spelled, notes = as_declared(rest, parameters(command))
    known = {flag for each in parameters(command) for flag in each.opts}
    assert {word.partition("=")[0] for word in spelled if word.startswith("-")} <= known and not notes


def test_the_shell_completes_commands_and_options(monkeypatch, capsys):
    from depthprobe.commands import app

    def completed(line, place):
        monkeypatch.setenv(app.COMPLETING, "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(place))
        with pytest.raises(SystemExit):
            app.run([])
        return capsys.readouterr().out.split()

    assert completed("depthprobe prune-sweep --calib", 2) == ["--calibration-samples"]
    assert completed("depthprobe comp", 1) == ["compare"]
