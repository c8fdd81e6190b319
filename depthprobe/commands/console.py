"""The console on which results and help are printed."""

from __future__ import annotations

import rich.console


class Console(rich.console.Console):
    """One whose reader may leave, as ``head`` does: that is no failure, but for rich it is status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that was met, for the program to end without a word."""
        raise  # noqa: PLE0704  called where it is handled
