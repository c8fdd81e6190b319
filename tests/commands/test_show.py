"""What a command says when it ends otherwise than by itself."""

import pytest
import typer

from depthprobe.commands.show import guarded


def test_ctrl_c_names_the_commands_that_go_on_where_they_were(capsys):
    @guarded
    def command():
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 130
    said = capsys.readouterr().err
    assert all(name in said for name in ("Interrupted", "sweep", "gradnorm", "pretrain"))
