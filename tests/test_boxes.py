"""Boxes: conversions, overlap, and what users type (docs/reliability.md, row 31)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qeeps_cli.boxes import clip, fit_box, iou, parse_box, xywh_to_xyxy, xyxy_to_xywh
from qeeps_cli.errors import UsageError

EMPTY = np.zeros((0, 4), np.float32)
coordinates = st.floats(-1000, 1000, width=32)
sides = st.floats(0.125, 1000, width=32)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@pytest.mark.parametrize(
    ("xywh", "xyxy"),
    [
        (EMPTY, EMPTY),
        ([[0, 0, 10, 20]], [[0, 0, 10, 20]]),
        ([[5, 6, 10, 20], [-3, 1, 1, 1]], [[5, 6, 15, 26], [-3, 1, -2, 2]]),
        ([5.5, 6, 0.5, 20], [5.5, 6, 6, 26]),
    ],
)
def test_conversions(xywh, xyxy):
    assert np.array_equal(xywh_to_xyxy(xywh), xyxy)
    assert np.array_equal(xyxy_to_xywh(xyxy), xywh)


def test_conversions_keep_the_type():
    assert xywh_to_xyxy(EMPTY).dtype == xyxy_to_xywh(EMPTY).dtype == np.float32


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (EMPTY, EMPTY, np.zeros((0, 0))),
        (EMPTY, [[0, 0, 1, 1]], np.zeros((0, 1))),
        ([[0, 0, 10, 10]], [[0, 0, 10, 10]], [[1]]),
        ([[0, 0, 10, 10]], [[5, 0, 15, 10], [10, 0, 20, 10], [20, 20, 30, 30]], [[1 / 3, 0, 0]]),
        ([[0, 0, 9, 9]], [[0, 0, 10, 10]], [[0.81]]),  # continuous: with the old +1 this would be 0.826
        ([[2, 2, 2, 2]], [[2, 2, 2, 2], [0, 0, 4, 4]], [[0, 0]]),
    ],
)
def test_iou(a, b, expected):
    assert np.allclose(iou(a, b), expected) and iou(a, b).shape == np.shape(expected)


@given(boxes, boxes)
def test_iou_is_symmetric_and_within_bounds(a, b):
    value = iou([a], [b])[0, 0]
    assert 0 <= value <= 1 + 1e-12
    assert value == pytest.approx(iou([b], [a])[0, 0])
    assert iou([a], [a])[0, 0] == pytest.approx(1)


def test_clip():
    assert clip(EMPTY, 10, 20).shape == (0, 4)
    given_boxes = np.array([[-5.0, -6, 30, 12], [1, 2, 3, 4]])
    assert clip(given_boxes, 10, 20).tolist() == [[0, 0, 20, 10], [1, 2, 3, 4]]
    assert given_boxes[0, 0] == -5  # the input is left alone


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1,2,3,4", (1, 2, 4, 6)), (" 1 , 2.5, 3 ,4e1", (1, 2.5, 4, 42.5)), ("-1,-2,30,40", (-1, -2, 29, 38))],
)
def test_parse_box(text, expected):
    assert parse_box(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,2,3", "1,2,3,4,5", "1,2,3,", "a,b,c,d", "0x1,2,3,4", "1;2;3;4", "1 2 3 4"]
    + ["nan,2,3,4", "1,2,inf,4", "1,2,-inf,4", "1e999,2,3,4", "1,2,0,4", "1,2,3,0", "1,2,-3,4"],
)
def test_parse_box_refuses(text):
    with pytest.raises(UsageError, match="--box expects"):
        parse_box(text)


@given(st.text(max_size=30))
def test_parse_box_gives_a_box_or_a_usage_error(text):
    try:
        x1, y1, x2, y2 = parse_box(text)
    except UsageError:
        return
    assert all(math.isfinite(v) for v in (x1, y1)) and x2 >= x1 and y2 >= y1


def test_fit_box_keeps_what_fits():
    assert fit_box((0, 0, 64, 48), 48, 64) == ((0, 0, 64, 48), None)
    assert fit_box((1.5, 2, 3, 4), 48, 64) == ((1.5, 2, 3, 4), None)


def test_fit_box_cuts_what_hangs_over_and_says_so():
    box, note = fit_box((-5, -5, 100, 20), 48, 64)
    assert box == (0, 0, 64, 20)
    assert "0,0,64,20" in note and "64x48" in note


def test_corners_given_as_a_box_are_named():
    corners = "If it was given by its corners, x1,y1,x2,y2, write x,y,w,h = 30,10,30,35."
    _, note = fit_box((30, 10, 90, 55), 48, 64)  # 30,10,60,45
    assert note.endswith(f"was cut to 30,10,34,38. {corners}")
    _, note = fit_box((30, 10, 90, 15), 48, 64)  # 5 is no lower edge of what begins at 10
    assert note.endswith("was cut to 30,10,34,5")
    with pytest.raises(UsageError, match="with their boxes[.]$"):
        fit_box((63.5, 1, 127.5, 5), 48, 64)  # 63.5,1,64,4: as corners less than a pixel, too


@pytest.mark.parametrize(
    "box", [(64, 0, 70, 10), (-10, 0, 0, 10), (0, 48, 10, 60), (0, 47.5, 10, 60), (63.5, 0, 90, 10), (1, 1, 1.5, 9)]
)
def test_fit_box_refuses_what_lies_outside_with_the_size_of_the_image(box):
    with pytest.raises(UsageError, match="64 pixels wide and 48 high"):
        fit_box(box, 48, 64)


@given(boxes, st.integers(1, 500), st.integers(1, 500))
def test_a_fitted_box_lies_inside(box, height, width):
    try:
        (x1, y1, x2, y2), note = fit_box(box, height, width)
    except UsageError:
        return
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    assert (note is None) == ((x1, y1, x2, y2) == box)
