"""Figure 6: what is drawn where, and pictures that are gone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qeeps_cli.output.drawing import GREEN, SKY, VERMILLION
from qeeps_cli.output.search_figure import FigureRow, Shown, search_figure, whole_frame


@pytest.fixture
def frame(tmp_path) -> Path:
    path = tmp_path / "frame.png"
    Image.fromarray(np.full((90, 160, 3), 128, np.uint8)).save(path)
    return path


def count(image, colour):
    return int((np.asarray(image) == colour).all(-1).sum())


def row(frame, *verdicts):
    box = (60.0, 20.0, 80.0, 70.0)
    matches = [Shown(frame, f"m{i}.jpg", box, 0.9 - 0.1 * i, verdict) for i, verdict in enumerate(verdicts)]
    return FigureRow(Shown(frame, "q.jpg", box), matches, "query 1: AP 50.0")


def test_no_queries():
    assert count(search_figure([]), (255, 255, 255)) > 0


def test_right_is_green_wrong_is_red_and_the_query_is_neither(frame):
    drawn = search_figure([row(frame, True, False)])
    assert min(count(drawn, colour) for colour in (GREEN, VERMILLION, SKY)) > 500
    assert count(search_figure([row(frame, True)]), VERMILLION) == 0
    assert count(search_figure([row(frame, False)]), GREEN) == 0


def test_the_figure_grows_with_queries_and_matches(frame):
    one, two = search_figure([row(frame, True)]), search_figure([row(frame, True, False), row(frame)])
    assert two.width > one.width and two.height > 1.8 * one.height


def test_a_picture_that_cannot_be_read_leaves_a_grey_cell(frame, tmp_path):
    gone = Shown(tmp_path / "gone.jpg", "gone.jpg", (0, 0, 5, 5), 0.5, True)
    drawn = search_figure([FigureRow(Shown(frame, "q.jpg", (60, 20, 80, 70)), [gone])])
    assert count(drawn, (228, 230, 233)) > 10_000 and count(drawn, GREEN) > 500


def test_the_box_lies_on_the_person_in_the_whole_frame():
    rgb = np.full((100, 200, 3), 128, np.uint8)
    drawn = np.asarray(whole_frame(rgb, (100.0, 20.0, 140.0, 80.0), (100, 60), GREEN))
    rows, columns = np.nonzero((drawn == GREEN).all(-1))
    assert abs(columns.min() - 50) <= 3 and abs(columns.max() - 70) <= 3
    assert abs(rows.min() - 10) <= 3 and abs(rows.max() - 40) <= 3
