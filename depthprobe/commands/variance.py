"""``depthprobe variance``: how the residual stream grows with depth."""

from __future__ import annotations

from depthprobe.commands import options as shared
from depthprobe.commands.measuring import Asked, measuring


@measuring
def command(asked: Asked, initial: shared.Initial = False) -> None:
    """Variance of the residual stream at every boundary, what each branch adds to it, Block Influence.

    Variance over the hidden dimension, averaged over all real tokens, before the final norm; the same for
    what each branch adds to the stream, where stream in + branches = stream out. Prints how fast the
    variance grows, and whether that is closer to linear or to exponential in depth. Writes variance.csv,
    influence.csv, the figure and manifest.json to OUTPUT/MODEL/variance/.
    """
    run = asked.measure("variance", initial)
    if run is None:
        return

    from depthprobe.render.terminal.listing import lines_of

    asked.show(run, lines_of(run))
