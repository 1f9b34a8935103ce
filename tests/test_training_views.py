"""Views: boxes follow the pixels, people cut by the edge are ignored, colours survive the augmentation."""

import numpy as np
import pytest
from PIL import Image
from training_sets import (
    CANVAS,
    CLOTHES,
    COLOURS,
    HEIGHT,
    HIGH,
    LOW,
    VIEW,
    WIDTH,
    Standing,
    batches_of,
    colour_mask,
    dress,
    frames_source,
    ground,
    is_mirrored,
    tiny_stage,
    write_scene,
)

from qeeps_cli.errors import DataError
from qeeps_cli.training import crop_batches
from qeeps_cli.training.augment import erase, jitter_boxes, photometric, saturated
from qeeps_cli.training.crop_bank import STORED_HEIGHT, Crop, _paste, cut, paint_canvas
from qeeps_cli.training.population import Frame
from qeeps_cli.training.views import PADDING, crop_view, view

# One person of each colour, in two rows; far enough apart for their edges to be told.
PEOPLE = [(6.0, 8.0, 20.0, 44.0), (60.0, 4.5, 74.5, 36.0), (120.0, 10.0, 135.0, 43.0)]
PEOPLE += [(20.0, 70.0, 36.0, 108.0), (75.0, 66.0, 90.0, 99.0), (138.0, 75.0, 154.0, 118.0)]


def frame_of(path, boxes, labels=None, ignore=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes)) if labels is None else np.array(labels)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore)
    return Frame(path, boxes, labels, ignore, "c0", 0)


@pytest.fixture(scope="module")
def colourful(tmp_path_factory):
    """A frame in which each person is one plain colour: row r of its boxes wears COLOURS[r]."""
    path = tmp_path_factory.mktemp("views") / "frame.png"
    rgb = ground(HEIGHT, WIDTH)
    for box, colour in zip(PEOPLE, COLOURS, strict=True):
        x1, y1, x2, y2 = (round(v) for v in box)
        rgb[y1:y2, x1:x2] = np.where(colour, HIGH, LOW)
    Image.fromarray(rgb).save(path)
    return frame_of(path, PEOPLE)


def extent(rgb, colour):
    """xyxy of a colour's pixels."""
    y, x = np.nonzero(colour_mask(rgb, colour))
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("focus", [None, 0, 4, 5])
@pytest.mark.parametrize("size", [VIEW, (700, 900)])  # a window of the scaled frame, and a frame padded all round
def test_boxes_follow_the_pixels(colourful, focus, mirror, size):
    seen_people = 0
    for seed in range(12 if size == VIEW else 2):
        seen = view(colourful, focus, size, np.random.default_rng(seed), mirror, erasing=0.0)
        assert seen.rgb.shape == (*size, 3) and seen.rgb.dtype == np.uint8
        assert seen.boxes.dtype == np.float32
        assert (seen.labels == seen.rows).all()  # labels of this frame are its rows
        assert (seen.boxes >= 0).all() and (seen.boxes <= [size[1], size[0]] * 2).all()
        for box, row in zip(seen.boxes, seen.rows, strict=True):
            x, y = (box[:2] + box[2:]) / 2
            centre = seen.rgb[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
            assert colour_mask(centre, COLOURS[row]).all()
            assert extent(seen.rgb, COLOURS[row]) == pytest.approx(box, abs=4)
            seen_people += 1
        assert focus is None or focus in seen.rows[~seen.ignore]
    assert seen_people >= 6


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("focus", range(6))
@pytest.mark.parametrize("size", [VIEW, (192, 256)])
def test_the_person_in_focus_is_whole(colourful, focus, mirror, size):
    x1, y1, x2, y2 = colourful.boxes[focus]
    sides = []
    for seed in range(12):
        seen = view(colourful, focus, size, np.random.default_rng(seed), mirror)
        assert not seen.ignore[seen.rows == focus].item()
        left, top, right, bottom = seen.boxes[seen.rows == focus][0]
        assert (right - left) / (bottom - top) == pytest.approx((x2 - x1) / (y2 - y1), rel=0.02)
        sides.append((bottom - top) / (y2 - y1))
    assert max(sides) * (y2 - y1) <= 0.95 * size[0] + 1  # no scale lets the person stick out ...
    assert size == VIEW or max(sides) / min(sides) > 1.5  # ... and where there is room, there are many scales


@pytest.mark.parametrize("mirror", [False, True])
def test_people_cut_by_the_edge_are_ignored_or_gone(tmp_path, mirror):
    """The focus fills the view, at the frame's corner: the window covers x < 84.2 and y < 63.2 of the frame."""
    Image.fromarray(ground(HEIGHT, WIDTH)).save(tmp_path / "frame.png")
    boxes = [
        (0, 0, 60, 60),  # in focus: its 60 pixels become 95 % of the view's 96
        (70, 20, 90, 40),  # 71 % of it is in the view
        (78, 20, 98, 40),  # 31 %
        (78, 20, 138, 40),  # 10 %, though many pixels of it
        (20, 40, 30, 80),  # 58 %, cut below
        (20, 50, 30, 90),  # 33 %
        (70, 50, 90, 76.4),  # 71 % by 50 %: what remains is an area
        (100, 100, 120, 119),  # nothing
        (64, 5, 74, 25),  # whole, but ignored in the frame
        (83.4, 20, 84.6, 40),  # 67 %, but hardly a pixel wide
    ]
    frame = frame_of(tmp_path / "frame.png", boxes, ignore=[False] * 8 + [True, False])
    seen = view(frame, 0, VIEW, np.random.default_rng(0), mirror)
    assert seen.rows.tolist() == [0, 1, 2, 4, 5, 6, 8]
    assert seen.ignore.tolist() == [False, False, True, False, True, True, True]
    scale = 0.95 * 96 / 60
    expected = np.array([70 * scale, 20 * scale, 128, 40 * scale])
    if mirror:
        expected[[0, 2]] = 128 - expected[[2, 0]]
    np.testing.assert_allclose(seen.boxes[1], expected, atol=0.5)


def test_a_frame_without_people(tmp_path):
    Image.fromarray(ground(HEIGHT, WIDTH)).save(tmp_path / "frame.png")
    seen = view(frame_of(tmp_path / "frame.png", []), None, VIEW, np.random.default_rng(0), True)
    assert seen.boxes.shape == (0, 4) and len(seen.labels) == len(seen.ignore) == len(seen.rows) == 0


def test_views_differ_by_generator_and_repeat_by_seed(colourful):
    one, same, other = (view(colourful, 0, VIEW, np.random.default_rng(seed), False) for seed in (1, 1, 2))
    assert np.array_equal(one.rgb, same.rgb) and np.array_equal(one.boxes, same.boxes)
    assert not np.array_equal(one.boxes, other.boxes)


@pytest.mark.parametrize("draw", [view, crop_view])
def test_an_unreadable_picture_is_named(tmp_path, draw):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    with pytest.raises(DataError, match="broken.jpg"):
        draw(frame_of(tmp_path / "broken.jpg", [(1, 1, 9, 9)]), 0, VIEW, np.random.default_rng(0), False)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [VIEW, (384, 640)])
def test_a_bare_crop_lies_in_the_corner_of_an_empty_canvas(tmp_path, size, mirror):
    rgb = ground(HEIGHT, WIDTH)
    person = Standing(0, 40, 30, 16, 40)
    dress(rgb, person)
    Image.fromarray(rgb).save(tmp_path / "frame.png")
    frame = frame_of(tmp_path / "frame.png", [(0, 0, 9, 9), (40, 30, 56, 70)], labels=[7, 9])
    heights = set()
    for seed in range(8):
        seen = crop_view(frame, 1, size, np.random.default_rng(seed), mirror)
        assert seen.rows.tolist() == [1] and seen.labels.tolist() == [9] and seen.ignore.tolist() == [False]
        left, top, right, bottom = seen.boxes[0]
        assert left == top == 0 and (right - left) / (bottom - top) == pytest.approx(16 / 40, rel=0.05)
        assert is_mirrored(seen.rgb, seen.boxes[0], person.clothes) == mirror
        assert (seen.rgb[int(bottom) :] == PADDING).all() and (seen.rgb[:, int(right) :] == PADDING).all()
        heights.add(int(bottom))
    if size == VIEW:
        assert max(heights) <= 0.95 * 96
    else:
        assert len(heights) > 3 and 120 <= min(heights) and max(heights) <= 280


@pytest.mark.parametrize("colour", COLOURS)
def test_photometric_keeps_a_colour_that_colour(colour):
    """Strong and dull clothes: what channels a colour is made of stays, under every light, sensor and JPEG."""
    changed = 0
    for seed in range(40):
        rgb = np.full((48, 48, 3), 120, np.uint8)
        rgb[8:40, 4:22] = np.where(colour, HIGH, LOW)
        rgb[8:40, 26:44] = np.where(colour, 130, 75)
        after = photometric(rgb, np.random.default_rng(seed))
        assert after.shape == rgb.shape and after.dtype == np.uint8
        for patch in (after[14:34, 9:17], after[14:34, 31:39]):
            mean = patch.reshape(-1, 3).mean(axis=0)
            assert mean[np.array(colour, bool)].min() > mean[~np.array(colour, bool)].max() + 8
        changed += not np.array_equal(after, rgb)
    assert changed > 25


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1.0, [(120, 120, 120), (150, 90, 60), (60, 90, 150)]),
        (1.2, [(120, 120, 120), (160, 88, 52), (52, 88, 160)]),
        (0.0, [(120, 120, 120), (100, 100, 100), (100, 100, 100)]),
        (10.0, [(120, 120, 120), (255, 0, 0), (0, 0, 255)]),
    ],
)
def test_saturation_moves_channels_from_their_mean_and_leaves_grey_alone(factor, expected):
    pixels = np.array([[(120, 120, 120), (150, 90, 60), (60, 90, 150)]], np.uint8)
    after = np.asarray(saturated(Image.fromarray(pixels), factor))[0].astype(int)
    assert np.abs(after - expected).max() <= 1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_erasing_covers_a_part_of_the_person_and_nothing_else(probability):
    box = np.array([20.0, 10.0, 50.0, 90.0], np.float32)
    for seed in range(30):
        rgb = np.full((100, 80, 3), 255, np.uint8)
        erase(rgb, box, np.random.default_rng(seed), probability)
        covered = (rgb != 255).any(axis=2)
        assert (
            not covered[:10].any()
            and not covered[90:].any()
            and not covered[:, :20].any()
            and not covered[:, 50:].any()
        )
        assert (0 < covered.sum() <= 0.45 * 30 * 80) if probability else not covered.any()


@pytest.mark.parametrize("boxes", [[], [(10, 10, 20, 30), (0, 0, 40, 30)]])
def test_jittered_boxes_stay_near_and_inside(boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    for seed in range(20):
        moved = jitter_boxes(boxes, np.random.default_rng(seed), 0.1, (30, 40))
        assert moved.shape == boxes.shape and moved.dtype == np.float32
        assert (abs(moved - boxes) <= 0.1 * sides + 1e-4).all()
        assert (moved >= 0).all() and (moved <= [40, 30, 40, 30]).all()
        assert len(boxes) == 0 or not np.array_equal(moved, boxes)


def test_a_person_is_cut_out_with_surroundings():
    rgb = ground(400, 300)
    rgb[50:350, 100:200] = np.where(COLOURS[0], HIGH, LOW)
    crop = cut(rgb, (100.0, 50.0, 200.0, 350.0))
    assert crop.box[3] - crop.box[1] == pytest.approx(STORED_HEIGHT, abs=1)
    assert extent(crop.rgb, COLOURS[0]) == pytest.approx(crop.box, abs=1.5)
    assert crop.box[0] == pytest.approx(100 * STORED_HEIGHT / 300, abs=2)  # to the edge of the picture
    assert crop.box[1] == pytest.approx(50 * STORED_HEIGHT / 300, abs=2)
    narrow = cut(ground(400, 900), (400.0, 100.0, 440.0, 200.0))
    assert narrow.box.tolist() == [50, 50, 90, 150] and narrow.rgb.shape == (200, 140, 3)
    whole = cut(rgb[:100, :50], None)
    assert whole.box.tolist() == [0, 0, 50, 100] and whole.rgb.shape == (100, 50, 3)
    at_the_edge = cut(rgb, (-5.0, 300.0, 20.0, 420.0))  # cut to the picture, also the box
    assert at_the_edge.box[0] == 0 and at_the_edge.box[3] == at_the_edge.rgb.shape[0]


@pytest.mark.parametrize("clothes", [CLOTHES[0], CLOTHES[11]])
def test_a_canvas_shows_the_person_in_the_roi(clothes):
    person = Standing(CLOTHES.index(clothes), 6, 8, 20, 50)
    rgb = ground(66, 32)
    dress(rgb, person)
    crop = Crop(rgb, np.array([6, 8, 26, 58], np.float32))
    mirrored, heights = set(), []
    for seed in range(24):
        canvas, roi = paint_canvas(crop, ground(96, 64), np.random.default_rng(seed), 0.42)
        assert canvas.shape == (96, 64, 3) and canvas.dtype == np.uint8 and roi.dtype == np.float32
        coloured = colour_mask(canvas, clothes[0]) | colour_mask(canvas, clothes[1])
        y, x = np.nonzero(coloured)
        inside = (x >= roi[0] - 4) & (x <= roi[2] + 4) & (y >= roi[1] - 5) & (y <= roi[3] + 5)
        assert inside.mean() > 0.97
        assert coloured.sum() > 0.4 * (roi[2] - roi[0]) * (roi[3] - roi[1])  # a part may be erased
        mirrored.add(is_mirrored(canvas, roi, clothes))
        heights.append((roi[3] - roi[1]) / 96)
    assert mirrored == {False, True}
    assert min(heights) < 0.6 and max(heights) > 0.75


def test_a_person_may_be_changed_on_the_canvas():
    """It is given the person where they stand, and what it makes is what is shown; all else is drawn as without."""
    crop = Crop(np.full((60, 30, 3), 90, np.uint8), np.array([5, 5, 25, 55], np.float32))
    seen = []

    def mark(shown):
        seen.append(shown)
        rgb = shown.rgb.copy()
        x1, y1, x2, y2 = shown.box.round().astype(int)
        rgb[y1:y2, x1:x2] = np.where(COLOURS[0], HIGH, LOW)
        return Crop(rgb, shown.box)

    for seed in range(12):
        plain, roi = paint_canvas(crop, ground(96, 64), np.random.default_rng(seed), 0.42)
        marked, same_roi = paint_canvas(crop, ground(96, 64), np.random.default_rng(seed), 0.42, mark)
        assert np.array_equal(roi, same_roi) and seen[-1].rgb.shape == (96, 64, 3)
        assert np.abs(seen[-1].box - roi).max() < 0.07 * (roi[3] - roi[1])  # the RoI is loose
        x, y = ((roi[:2] + roi[2:]) / 2).astype(int)
        coloured = colour_mask(marked, COLOURS[0])
        assert coloured[y - 8 : y + 8, x - 4 : x + 4].mean() > 0.3 and not colour_mask(plain, COLOURS[0]).any()
        outside = np.ones((96, 64), bool)
        outside[max(0, int(roi[1]) - 8) : int(roi[3]) + 9, max(0, int(roi[0]) - 8) : int(roi[2]) + 9] = False
        assert not coloured[outside].any()


@pytest.mark.parametrize("novel", [0.0, 1.0])
def test_who_does_not_exist_is_made_on_the_canvas(tmp_path, monkeypatch, novel):
    def green(shown, other, rng):
        assert shown.rgb.shape == (*CANVAS, 3) and other.rgb.size
        return Crop(np.full_like(shown.rgb, (20, 200, 20)), shown.box)

    monkeypatch.setattr(crop_batches, "novel_person", green)
    sources = [frames_source(write_scene(tmp_path / "scene"))]
    _, _, batches = batches_of(sources, tiny_stage(identities=6, crops_each=4, novel=novel))
    for image in batches.draw(np.random.default_rng(3))["images"].float():
        others, own = image[[0, 2]].mean(), image[1].mean()
        assert (own > 2 * others) == bool(novel)


def test_the_smallest_people_are_as_high_as_the_recipe_says(tmp_path):
    sources = [frames_source(write_scene(tmp_path / "scene"))]
    for smallest in (0.2, 0.7):
        _, _, batches = batches_of(sources, tiny_stage(identities=6, crops_each=8, smallest=smallest))
        boxes = batches.draw(np.random.default_rng(1))["boxes"]
        lowest = float((boxes[:, 3] - boxes[:, 1]).min()) / CANVAS[0]
        assert 0.85 * smallest < lowest < 1.4 * smallest  # boxes are loose by up to 6 % on each side


def test_what_surrounds_a_person_is_on_the_canvas():
    """As in a frame, where conv3 sees beyond the box; farther away is background."""
    beyond = 0
    rgb = np.full((300, 200, 3), np.where(COLOURS[0], HIGH, LOW), np.uint8)
    rgb[100:150, 80:100] = np.where(COLOURS[1], HIGH, LOW)
    crop = cut(rgb, (80.0, 100.0, 100.0, 150.0))
    for seed in range(20):
        canvas, roi = paint_canvas(crop, np.zeros((96, 48, 3), np.uint8), np.random.default_rng(seed), 0.42)
        x1, y1, x2, y2 = (int(v) for v in roi)
        around = np.ones(canvas.shape[:2], bool)
        around[max(0, y1 - 3) : y2 + 3, max(0, x1 - 3) : x2 + 3] = False
        half = round(0.75 * (y2 - y1))  # the RoI is loose, and the person stretched
        far = np.ones(canvas.shape[:2], bool)
        far[max(0, y1 - half) : y2 + half, max(0, x1 - half) : x2 + half] = False
        assert not colour_mask(canvas, COLOURS[0])[far].any()
        beyond += far.sum()
        half = (y2 - y1) // 2 - 4
        around[: max(0, y1 - half)] = around[y2 + half :] = False
        around[:, : max(0, x1 - half)] = around[:, x2 + half :] = False
        assert colour_mask(canvas, COLOURS[0])[around].mean() > 0.9
    assert beyond


def test_a_small_person_is_whole_however_much_they_are_enlarged():
    """Nothing is cut at the canvas's edges, whether the picture goes on there or not."""
    for margin in (0, 12):
        rgb = np.full((24 + 2 * margin, 10 + 2 * margin, 3), np.where(COLOURS[0], HIGH, LOW), np.uint8)
        rgb[margin : margin + 24, margin : margin + 10] = np.where(COLOURS[1], HIGH, LOW)
        rgb[margin + 22 : margin + 24, margin : margin + 10] = np.where(COLOURS[2], HIGH, LOW)  # shoes
        crop = Crop(rgb, np.array([margin, margin, margin + 10, margin + 24], np.float32))
        for corner in ((0, 0), (5, 3), (16, 8)):
            canvas = np.zeros((192, 96, 3), np.uint8)
            box = _paste(canvas, crop, (7.7, 7.3), corner)
            assert box[:2] == pytest.approx(corner, abs=1) and box[3] <= 192
            y, _ = np.nonzero(colour_mask(canvas, COLOURS[2]))
            assert y.max() + 1 == pytest.approx(box[3], abs=5) and y.max() - y.min() > 8
