"""From what is typed to requests: the same options mean the same whichever command takes them."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from depthprobe.catalogue import PROBES
from depthprobe.commands import arguments, measuring, report


def asked(groups, *words):
    """What a command with these options makes of some words."""
    app, found = typer.Typer(result_callback=arguments.perform), []
    app.callback()(lambda: None)
    arguments.add_command(app, "command", "Help.", groups, found.append, "depthprobe command")
    done = CliRunner().invoke(app, ["command", *words])
    assert done.exit_code == 0, done.output
    return found[0]


@pytest.mark.parametrize("seed", [(), ("--seed", "3"), ("--seed", "0"), ("--seed", "1,2,3,4")])
def test_a_seed_means_the_same_for_a_report_as_for_the_commands(seed):
    wanted = measuring.requests_for(
        "builtin:pre-ln", list(PROBES.values()), asked(report.GROUPS, *seed), Path("reports")
    )
    for request in wanted:
        # The commands that measure on text alone take one seed.
        own = seed if request.probe == "prune-sweep" else tuple(word.split(",")[0] for word in seed)
        probe = PROBES[request.probe]
        alone = measuring.wanted_of(probe, asked(measuring.groups_of(probe), "builtin:pre-ln", *own)).request
        assert alone == request


def test_texts_that_are_described_and_left_out_are_refused():
    from depthprobe.errors import OptionError

    probe = PROBES["prune-sweep"]
    typed = asked(measuring.groups_of(probe), "builtin:pre-ln", "--no-calibration", "--split", "dev")
    with pytest.raises(OptionError, match="--split dev describes the calibration text, which --no-calib"):
        measuring.wanted_of(probe, typed)
    typed = asked(measuring.groups_of(probe), "builtin:pre-ln", "--calibration-samples", "0")
    assert measuring.wanted_of(probe, typed).request.text is None


def test_options_of_figures_go_to_the_figure_and_not_into_the_settings():
    probe = PROBES["angular"]
    typed = asked(measuring.groups_of(probe), "builtin:pre-ln", "--normalize", "row", "--tokens", "all")
    wanted = measuring.wanted_of(probe, typed)
    assert wanted.figure == {"normalize": "row"}
    assert wanted.request.asked.settings() == {"tokens": "all"}
