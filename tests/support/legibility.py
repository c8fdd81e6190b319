"""What a drawn figure or a printed table looks like to its reader."""

import io

from rich.console import Console


def boxes(figure):
    """The drawn boxes of all visible text, in pixels."""
    figure.canvas.draw()
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [(text.get_text(), text.get_window_extent()) for text in found if text.get_text()]


def check_text(figure):
    """No text is clipped or overlaps another."""
    found = boxes(figure)
    width, height = figure.canvas.get_width_height()
    for index, (text, box) in enumerate(found):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 0.5 and box.y1 <= height, text
        for other, behind in found[index + 1 :]:
            overlap = (
                min(box.x1, behind.x1) - max(box.x0, behind.x0),
                min(box.y1, behind.y1) - max(box.y0, behind.y0),
            )
            # Line boxes include the room for letters that reach below the line.
            assert min(overlap) < 0.02 * figure.dpi, (text, other)


def check_print(figure):
    """No text is clipped or overlaps another, as a PNG of 300 dpi has it."""
    figure.set_dpi(300)
    check_text(figure)


def printed(table, encoding="utf-8"):
    """A table as it is in a file, 80 columns wide."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as file:
        Console(file=file, width=80).print(table)
        file.flush()
        return raw.getvalue().decode(encoding)
