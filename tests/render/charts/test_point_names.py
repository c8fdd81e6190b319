"""Names on a drawing: on no mark, on no other name, inside, and as near as can be."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from depthprobe.render.charts.kit.point_names import place_names

ROOM = (200.0, 150.0)
RADIUS = 2.0
NO_LINES = np.empty((0, 4))


def placed(points, lines=NO_LINES):
    points = np.asarray(points, dtype="float64")
    sizes = np.full((len(points), 2), (7.0, 4.5))
    names = place_names(points, sizes, range(len(points)), radius=RADIUS, room=ROOM, lines=lines)
    return points, sizes, names


places = st.tuples(st.floats(3, ROOM[0] - 3), st.floats(3, ROOM[1] - 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(places, min_size=1, max_size=25))
def test_no_name_covers_a_mark_or_another_name_or_leaves_the_drawing(points):
    points, sizes, names = placed(points)
    boxes = []
    for name, size in zip(names, sizes, strict=True):
        if name is not None:
            boxes.append(
                (name.x - size[0] / 2, name.y - size[1] / 2, name.x + size[0] / 2, name.y + size[1] / 2)
            )
    for number, (left, bottom, right, top) in enumerate(boxes):
        assert left >= -1e-9 and bottom >= -1e-9 and right <= ROOM[0] + 1e-9 and top <= ROOM[1] + 1e-9
        for x, y in points:
            assert not (left < x < right and bottom < y < top)
        for other in boxes[number + 1 :]:
            apart = (min(right, other[2]) - max(left, other[0]), min(top, other[3]) - max(bottom, other[1]))
            assert min(apart) <= 1e-9


def test_a_lonely_point_has_its_name_to_the_right_without_a_line():
    _, _, (name,) = placed([(100, 75)])
    assert (name.x, name.y, name.line_end) == (100 + RADIUS + 0.8 + 3.5, 75, None)


def test_a_name_goes_where_no_line_is_if_there_is_such_a_place():
    lines = np.array([[100.0, 0.0, 200.0, 150.0]])
    _, _, (name,) = placed([(99, 75)], lines)
    assert name.x + 3.5 <= 100
    everywhere = np.array([[0.0, 0.0, *ROOM]])
    assert placed([(99, 75)], everywhere)[2][0] is not None


def test_in_the_middle_of_a_crowd_there_is_no_place_and_outside_there_is():
    crowd = [(x, y) for x in np.arange(50, 130, 4) for y in np.arange(30, 110, 4)]
    middle = crowd.index((90, 70))
    _, _, names = placed([crowd[middle], *crowd, (180, 75)])
    assert names[0] is None and names[-1] is not None
