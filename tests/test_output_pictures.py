"""What is drawn: boxes where they belong, plates inside the picture and off the heads, sheets that are complete."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qeeps_cli.output import contact_sheet as sheets
from qeeps_cli.output.annotate import annotate_frame, annotate_query, shown_matches
from qeeps_cli.output.contact_sheet import contact_sheet, crop_person, match_tile, query_tile
from qeeps_cli.output.detections import draw_detections
from qeeps_cli.output.drawing import GREEN, ORANGE, SKY, VERMILLION, WHITE, draw_labels, font, jpeg
from qeeps_cli.output.names import annotated_name, elide, printable, wrap_elided
from qeeps_cli.types import Detections, GalleryFrame, Match, Query, SearchResult

SIZES = [(540, 960), (576, 720), (2160, 3840)]  # (height, width)
GREY = 128


def grey(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def match(rank, box, score=0.9, name="a.jpg"):
    return Match(rank, GalleryFrame(Path(name), name), box, score, 0.9)


def changed(rgb, image):
    """(H, W) bool: where the picture differs from rgb."""
    return (np.asarray(image) != rgb).any(-1)


def count(image, colour):
    return int((np.asarray(image) == colour).all(-1).sum())


@pytest.mark.parametrize("height, width", SIZES)
def test_the_person_stays_visible_and_the_label_is_in_proportion(height, width):
    rgb = grey(height, width)
    box = (0.4 * width, 0.3 * height, 0.5 * width, 0.8 * height)
    drawn = changed(rgb, annotate_frame(rgb, [match(1, box)], 0.9))
    x1, y1, x2, y2 = map(round, box)
    line = round(0.004 * width)
    assert not drawn[y1 + line : y2 - line, x1 + line : x2 - line].any()
    rows = np.flatnonzero(drawn.any(1))
    assert rows[0] < y1 - 0.015 * width  # the plate stands above the box
    assert y1 - rows[0] < 0.05 * width
    assert rows[-1] <= y2 + 2 * line


def test_no_labels_leave_the_picture_as_it_was_and_the_input_is_never_changed():
    rgb = grey(50, 80)
    assert not changed(rgb, draw_labels(rgb, [])).any()
    annotate_frame(rgb, [match(1, (10, 10, 30, 40))], 0.9)
    assert (rgb == GREY).all()


@pytest.mark.parametrize(
    "box",
    [(0, 0, 60, 200), (900, 0, 960, 200), (0, 340, 60, 540), (0, 0, 960, 540), (955, 535, 960, 540), (0, 0, 960, 20)],
)
def test_a_plate_stays_whole_inside_the_picture(box):
    alone = np.asarray(annotate_frame(grey(900, 1600), [match(8, (700, 400, 800, 700))], 0.9))
    cornered = np.asarray(annotate_frame(grey(540, 960), [match(8, box)], 0.9))
    ink = (17, 17, 17)  # the badge, and the digits of the score
    assert count(cornered, ink) >= 0.3 * count(alone, ink) > 0


def test_plates_avoid_heads_and_each_other():
    rgb = grey(540, 960)
    boxes = [(300 + 50 * i, 200.0, 345 + 50 * i, 330.0) for i in range(6)]  # shoulder to shoulder
    image = annotate_frame(rgb, [match(i + 1, box) for i, box in enumerate(boxes)], 0.9)
    heads = np.zeros((540, 960), bool)
    for x1, y1, x2, y2 in boxes:
        heads[int(y1) + 6 : int(y1 + 0.2 * (y2 - y1)), int(x1) + 8 : int(x2) - 8] = True
    assert not (changed(rgb, image) & heads).any()


def test_a_plate_rather_covers_a_torso_than_a_head():
    person, behind = (300.0, 0.0, 345.0, 200.0), (300.0, 206.0, 345.0, 400.0)  # no room above; a head below the feet
    neighbours = [(120.0, 0.0, 294.0, 204.0), (351.0, 0.0, 530.0, 204.0)]
    rgb = grey(540, 960)
    boxes = [person, behind, *neighbours]
    image = np.asarray(annotate_frame(rgb, [match(i + 1, box) for i, box in enumerate(boxes)], 0.9))
    assert (image[215:235, 308:337] == GREY).all()


def test_the_best_match_of_a_frame_is_thick_and_on_top_and_the_weak_are_thin():
    rgb = grey(540, 960)
    box, other = (400.0, 200.0, 500.0, 400.0), (440.0, 200.0, 540.0, 400.0)
    pixels = np.asarray(annotate_frame(rgb, [match(5, other, 0.3), match(1, box, 0.9)], 0.9))
    row = pixels[300]
    assert (row[396:400] == ORANGE).all() and (row[540:542] == WHITE).all()
    assert (pixels[196:200, 400:500] == ORANGE).all()  # across the other's line
    faint = annotate_frame(rgb, [match(40, box, 0.1)], best_score=0.9)
    assert count(faint, ORANGE) == 0 and count(faint, WHITE) > 0


@pytest.mark.parametrize("height, width", [(1, 1), (20, 10000), (128, 64), (3000, 8)])
def test_pictures_of_any_shape_are_drawn(height, width):
    rgb = grey(height, width)
    whole = (0.0, 0.0, float(width), float(height))
    people = Detections(np.float32([whole]), np.ones(1), np.ones(1), np.zeros((1, 4)))
    for image in (annotate_query(rgb, None), annotate_frame(rgb, [match(1, whole)], 1), draw_detections(rgb, people)):
        assert image.size == (width, height)
        assert Image.open(io.BytesIO(jpeg(image))).size == (width, height)


def test_a_box_of_a_frame_that_was_replaced_by_a_smaller_one_does_no_harm():
    rgb = grey(100, 100)
    outside = (500.0, 600.0, 700.0, 900.0)
    assert annotate_frame(rgb, [match(1, outside)], 0.9).size == (100, 100)
    assert crop_person(rgb, outside, (200, 300), ORANGE).size == (200, 300)


@pytest.mark.parametrize("top, min_score, ranks", [(0, 0.0, []), (2, 0.0, [1, 2]), (9, 0.5, [1, 2]), (9, 1.0, [])])
def test_the_display_rule(top, min_score, ranks):
    matches = [match(i + 1, (0, 0, 1, 1), score) for i, score in enumerate((0.9, 0.5, 0.4))]
    result = SearchResult(Query(Path("q.jpg"), None), matches, [], 1, {})
    assert [shown.rank for shown in shown_matches(result, top, min_score)] == ranks


@pytest.mark.parametrize("count_people", [0, 1, 30])
def test_detections_are_drawn_one_box_each(count_people):
    rgb = grey(540, 960)
    x = np.arange(count_people, dtype=np.float32) * 30 + 10
    boxes = np.stack([x, np.full_like(x, 100), x + 20, np.full_like(x, 180)], 1)
    people = Detections(boxes, np.ones(count_people), np.ones(count_people), np.zeros((count_people, 4)))
    left_sides = changed(rgb, draw_detections(rgb, people))[150, (x - 2).astype(int)]
    assert left_sides.all() and len(left_sides) == count_people


@pytest.mark.parametrize("box", [(10, 10, 30, 60), (0, 0, 200, 100), (150, 60, 200, 100), (90, 40, 92, 42), None])
def test_a_crop_shows_the_whole_box_with_context(box):
    rgb = grey(100, 200)
    x1, y1, x2, y2 = box or (0, 0, 200, 100)
    rgb[y1:y2, x1:x2] = (255, 0, 255)
    crop = np.asarray(crop_person(rgb, box, (200, 300), ORANGE)).astype(int)
    person = (abs(crop - (255, 0, 255)) < 60).all(-1)
    columns, rows = np.flatnonzero(person.any(0)), np.flatnonzero(person.any(1))
    ratio = (rows[-1] - rows[0] + 1) / (columns[-1] - columns[0] + 1)
    assert ratio == pytest.approx((y2 - y1) / (x2 - x1), rel=0.12)  # neither cut nor distorted
    assert ((crop == ORANGE).all(-1).any()) == (box is not None)


@pytest.mark.parametrize("matches", [0, 1, 5, 6, 15])
def test_a_sheet_holds_every_match_and_the_query(matches):
    rgb = grey(540, 960)
    tiles = [match_tile(rgb, (400, 100, 460, 300), i + 1, 0.5, f"cam/{i}.jpg") for i in range(matches)]
    sheet = contact_sheet(query_tile(rgb, (10, 10, 60, 200), "q.jpg"), tiles, ["7 frames searched"])
    empty = contact_sheet(None, [], [])
    assert count(sheet, SKY) > 500 and count(empty, SKY) == 0
    one = count(sheets.match_tile(rgb, (400, 100, 460, 300), 1, 0.5, "").crop, ORANGE)
    assert count(sheet, ORANGE) >= matches * one


def test_an_empty_sheet_says_so():
    query = query_tile(grey(100, 50), None, "q.jpg")
    said, silent = contact_sheet(query, [], [], "no matches in 7 frames"), contact_sheet(query, [], [], "")
    right_half = np.s_[:, sheets.MARGIN + sheets.QUERY_CELL[0] + 2 * sheets.GAP :]
    assert (np.asarray(said)[right_half] < 200).any() and not (np.asarray(silent)[right_half] < 200).any()


def test_ground_truth_frames_are_green_and_red():
    rgb = grey(540, 960)
    tiles = [match_tile(rgb, (9, 9, 60, 200), 1 + i, 0.5, "a.jpg", correct) for i, correct in enumerate((True, False))]
    sheet = contact_sheet(None, tiles)
    around = 2 * sheets.FRAME * sum(sheets.CELL)
    assert count(sheet, GREEN) >= around and count(sheet, VERMILLION) >= around and count(sheet, ORANGE) == 0


def test_pictures_are_deterministic():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (120, 160, 3), np.uint8)
    tile = match_tile(rgb, (20, 20, 60, 100), 1, 0.5, "a.jpg")
    assert jpeg(contact_sheet(None, [tile])) == jpeg(contact_sheet(None, [tile]))
    matches = [match(1, (20, 20, 60, 100)), match(2, (30, 20, 70, 100))]
    assert jpeg(annotate_frame(rgb, matches, 0.9)) == jpeg(annotate_frame(rgb, matches[::-1], 0.9))


@pytest.mark.parametrize(
    "name, shown",
    [("", ""), ("a/1.jpg", "a/1.jpg"), ("é.jpg", "e.jpg"), ("n\n\udce9中", "n???"), ("\x1b[31m.jpg", "?[31m.jpg")],
)
def test_names_on_pictures_are_printable(name, shown):
    assert printable(name) == shown


@pytest.mark.parametrize("text", ["", "short", "cam_07/2019-04-20/" + "very_long_" * 40 + "0001.jpg", "W" * 4000])
def test_wrapped_names_fit_and_keep_their_ends(text):
    def fits(part):
        return font(15).getlength(part) <= 200

    lines = wrap_elided(text, fits, 2)
    assert len(lines) <= 2 and all(map(fits, lines))
    joined = "".join(lines)
    assert joined == text or ("..." in joined and text.startswith(joined[:4]) and text.endswith(joined[-4:]))


@pytest.mark.parametrize("length", [0, 4, 10, 99])
def test_elide_gives_at_most_the_length(length):
    assert len(elide("0123456789" * 5, length)) == min(length, 50)


@pytest.mark.parametrize(
    "name, file",
    [
        ("1.jpg", "007_1.jpg"),
        ("1.png", "007_1.png.jpg"),
        ("a/1.JPG", "007_a_1.jpg"),
        ("../b c/[x].jpeg", "007_b_c__x_.jpg"),
        (".hidden.jpg", "007_hidden.jpg"),
        ("\udce9\n.jpg", "007___.jpg"),
        ("d/" * 2000 + "1.jpg", None),
    ],
)
def test_output_names_are_readable_and_safe(name, file):
    made = annotated_name(7, name)
    assert file in (made, None)
    assert len(made) <= 120 and made.isascii() and "/" not in made and not made.startswith((".", "-"))


def test_a_picture_that_hardly_compresses_is_encoded():
    # with optimize=True Pillow's buffer is too small for it: "broken data stream when writing image file"
    noise = np.random.default_rng(0).integers(0, 256, (288, 384, 3), np.uint8)
    assert Image.open(io.BytesIO(jpeg(Image.fromarray(noise)))).size == (384, 288)
