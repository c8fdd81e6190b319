"""Where the names of points on a drawing stand, so that none covers a point, a line or another name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# In points: between a mark and its name, and how much further away a name is tried in turn.
_GAP = 0.8
_FURTHER = (0.0, 5.0, 10.0, 16.0)
_DIRECTIONS = 16


@dataclass(frozen=True)
class Name:
    """Where a name stands: its middle in points, and where a line to it ends if it is not beside its mark."""

    x: float
    y: float
    line_end: NDArray[np.float64] | None


def place_names(
    points: NDArray[np.float64],
    sizes: NDArray[np.float64],
    order: Sequence[int],
    *,
    radius: float,
    room: tuple[float, float],
    lines: NDArray[np.float64],
) -> list[Name | None]:
    """Return a place for the name of every point; None for those without room.

    Names are placed one after the other, each as near to its point as possible. They cover no mark and no
    other name, and lie within the drawing; where there is no other place, they may cover a line.

    Args:
        points: ``[point, 2]`` across and up, in points (1/72 inch) from the lower left, as everything here.
        sizes: ``[point, 2]`` width and height of each name.
        order: The points, those first whose names matter most.
        radius: Of the mark at a point.
        room: Width and height of the drawing.
        lines: ``[line, 4]`` boxes (left, bottom, right, top) of what is better not covered.
    """
    marks = np.concatenate([points - radius, points + radius], axis=1)
    found: list[Name | None] = [None] * len(points)
    names = np.empty((0, 4))
    for point in order:
        solid = np.concatenate([marks, names])
        others = np.delete(solid, point, axis=0)
        chosen = None
        for box, end in _choices(points[point], sizes[point], radius, room):
            if _covers(box, solid).any() or (
                end is not None and _crosses(points[point], end, radius, others)
            ):
                continue
            clear = not _covers(box, lines).any()
            if chosen is None or clear:
                chosen = box, end
            if clear:
                break
        if chosen is not None:
            box, end = chosen
            found[point] = Name(float(box[0::2].mean()), float(box[1::2].mean()), end)
            names = np.concatenate([names, box[None]])
    return found


def _choices(
    point: NDArray[np.float64], size: NDArray[np.float64], radius: float, room: tuple[float, float]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64] | None]]:
    """Yield the boxes that a name could have, nearest first, and where a line would have to lead."""
    for further in _FURTHER:
        # Where the name touches its mark, neighbouring directions look the same: half of them are enough.
        step = 2 if further == 0 else 1
        for turn in range(0, _DIRECTIONS, step):
            angle = 2 * np.pi * turn / _DIRECTIONS
            direction = np.round([np.cos(angle), np.sin(angle)], 6)
            # The side of the name that faces the mark is what stands at the distance.
            middle = point + direction * (radius + _GAP + further) + np.sign(direction) * size / 2
            box = np.concatenate([middle - size / 2, middle + size / 2])
            if (box[:2] >= 0).all() and (box[2:] <= room).all():
                yield box, np.clip(point, box[:2], box[2:]) if further else None


def _covers(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return ``[other]`` whether a box covers part of the other ones."""
    return (
        (box[0] < others[:, 2]) & (others[:, 0] < box[2]) & (box[1] < others[:, 3]) & (others[:, 1] < box[3])
    )


def _crosses(
    point: NDArray[np.float64], end: NDArray[np.float64], radius: float, others: NDArray[np.float64]
) -> bool:
    """Return whether the line from a mark to its name crosses another mark or name."""
    length = float(np.hypot(*(end - point)))
    shares = np.linspace(min(1.0, radius / length), 1, 9) if length else np.array([1.0])
    places = point + shares[:, None] * (end - point)
    across, up = places[:, :1], places[:, 1:]
    within = (others[:, 0] < across) & (across < others[:, 2]) & (others[:, 1] < up) & (up < others[:, 3])
    return bool(within.any())
