"""``depthprobe report MODEL``: what is missing is measured first; the exit status tells what failed."""

import pytest
from typer.testing import CliRunner

from depthprobe.commands.app import app
from depthprobe.errors import MachineError, MeasureError
from depthprobe.pipeline import one_model
from depthprobe.pipeline.run import run


@pytest.mark.parametrize(
    ("error", "status"),
    [(MachineError("Cannot write: the disk is full."), 1), (MeasureError("There is no loss."), 0)],
)
def test_a_report_goes_on_without_what_fails_and_says_whether_the_machine_did(
    tmp_path, monkeypatch, error, status
):
    def failing(request, watch, session):
        if request.probe in ("gradnorm", "prune-sweep"):
            raise error
        return run(request, watch, session)

    monkeypatch.setattr(one_model, "run", failing)
    done = CliRunner().invoke(
        app, ["report", "builtin:pre-ln", "--samples", "4", "--seq-len", "32", "-o", str(tmp_path)]
    )
    assert f"The report goes on without gradnorm: {error}" in done.stderr
    assert (tmp_path / "builtin--pre-ln" / "report" / "report.html").is_file()
    assert done.exit_code == status
    assert done.stderr.rstrip().endswith(f"Error: {error}") == (status == 1)
