"""Every numeric option of every command, given what is no number for it: one sentence, at once."""

from importlib import import_module

import pytest
from typer.testing import CliRunner

from depthprobe.catalogue import PROBES
from depthprobe.commands import measuring
from depthprobe.commands.app import _DECLARED, app
from depthprobe.errors import OptionError
from depthprobe.evaluation.harness.options import TaskOptions

HUGE = "1" + "0" * 30


def numeric():
    """Yield command and option, as the command offers it: where two groups have a flag, the earlier one's."""
    for command in (*PROBES, *_DECLARED):
        probe = PROBES.get(command)
        module = measuring if probe else import_module(f"depthprobe.commands.{command}")
        offered = {}
        for group in measuring.groups_of(probe) if probe else module.GROUPS:
            for field in group.fields():
                offered.setdefault(field.flags[0], field)
        yield from ((command, field) for field in offered.values() if field.type in (int, float))


OPTIONS = list(numeric())


def failed(command, *words):
    done = CliRunner().invoke(app, [command, *words])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.exception
    return " ".join(done.stderr.split())


def test_all_numeric_options_are_tried():
    assert {"--samples", "--seq-len", "--seed", "--steps", "--lr", "--hidden", "--block"} <= {
        field.flags[0] for _, field in OPTIONS
    }


@pytest.mark.parametrize(
    ("command", "field"), OPTIONS, ids=[f"{command}{field.flags[0]}" for command, field in OPTIONS]
)
def test_a_number_that_cannot_be_is_one_sentence(command, field):
    flag, least = field.flags[0], field.option.at_least
    if least is not None:
        low = field.type(least - 1)
        assert failed(command, flag, str(low)) == f"Error: {flag} must be at least {least}, got {low}."
    if field.type is int:
        most = field.option.at_most or 10**9
        assert failed(command, flag, HUGE) == f"Error: {flag} must be at most {most}, got {HUGE}."
        told = failed(command, flag, "nan")  # typer's own words, or ours where more than a number is taken
        assert (f"Invalid value for '{flag}'" in told and "integer" in told) or "got nan." in told
    else:
        for word in ("nan", "inf", "-inf"):
            assert failed(command, flag, word) == f"Error: {flag} must be a finite number, got {word}."


@pytest.mark.parametrize("seed", ["18446744073709551616", "-1", "nan", "1,2"])
def test_seeds_of_tasks_say_how_large_they_may_be(seed):
    assert failed("prune-sweep", "--seed", seed).startswith(
        f"Error: --seed must be a whole number from 0 to 4294967295, got {seed}."
    )


def test_a_number_too_long_to_print_is_not_printed():
    from depthprobe.errors import OptionError
    from depthprobe.texts.options import TextOptions

    with pytest.raises(OptionError, match="--samples must be at most .*, got a number of more than 40"):
        TextOptions(samples=10**5000)


@pytest.mark.parametrize("name", ["system_instruction", "gen_kwargs", "chat_template"])
def test_text_that_is_not_utf_8_is_told_with_its_option(name):
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} is not UTF-8 text"):
        TaskOptions(**{name: "a\udcff=b"})
