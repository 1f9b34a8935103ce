"""People who do not exist: made of two, or in other colours, with nothing else of the picture changed."""

import numpy as np
import pytest
from training_sets import COLOURS, HIGH, LOW, colour_mask, ground

from qeeps_cli.training.crop_bank import Crop
from qeeps_cli.training.novel_people import compose, novel_person, recolour, recolour_halves

RED, GREEN, BLUE = COLOURS[:3]


def dressed_in(colour, height=100, box=(10, 20, 40, 80)):
    """A person of one colour on grey ground."""
    rgb = ground(height, 50)
    x1, y1, x2, y2 = box
    rgb[y1:y2, x1:x2] = np.where(colour, HIGH, LOW)
    return Crop(rgb, np.array(box, np.float32))


def test_a_composed_person_is_one_above_and_the_other_below_a_line():
    crop, other = dressed_in(RED), dressed_in(GREEN, 140, (5, 10, 45, 130))
    before = crop.rgb.copy()
    above, cuts = set(), []
    for seed in range(40):
        made = compose(crop, other, np.random.default_rng(seed))
        outside = np.ones(before.shape[:2], bool)
        outside[20:80, 10:40] = False
        assert np.array_equal(made.rgb[outside], before[outside]) and np.array_equal(made.box, crop.box)
        red, green = (colour_mask(made.rgb, c)[20:80, 10:40].all(axis=1) for c in (RED, GREEN))
        assert (red ^ green).all() and abs(np.diff(red.astype(int))).sum() == 1
        above.add(bool(red[0]))
        cuts.append(int(np.flatnonzero(np.diff(red.astype(int)))[0] + 1) / 60)
    assert above == {True, False}
    assert 0.38 <= min(cuts) < 0.48 and 0.57 < max(cuts) <= 0.65
    assert np.array_equal(crop.rgb, before)  # the crop is kept in memory for the next step


@pytest.mark.parametrize("size", [(24, 8), (208, 90), (30, 60)])
def test_people_of_any_size_can_be_composed(size):
    height, width = size
    whole = Crop(ground(height, width), np.array([0, 0, width, height], np.float32))
    made = compose(whole, dressed_in(BLUE), np.random.default_rng(1))
    assert made.rgb.shape == whole.rgb.shape and colour_mask(made.rgb, BLUE).any()


@pytest.mark.parametrize(
    "box",
    [
        (-3, -6, 30, 70),  # beyond the upper left
        (25, 40, 53.4, 104.2),  # beyond the lower right
        (49.6, 10, 50, 60),  # rounds to nothing at the right
        (10, 99.7, 40, 100),  # and at the bottom
        (20, 30, 20.3, 30.4),
    ],
)
def test_a_box_at_the_edge_is_composed_inside_of_the_picture(box):
    crop = Crop(ground(100, 50), np.array(box, np.float32))
    for seed in range(4):
        made = compose(crop, dressed_in(BLUE), np.random.default_rng(seed))
        assert made.rgb.shape == (100, 50, 3) and np.array_equal(made.box, crop.box)


def test_halves_are_recoloured_apart():
    crop = dressed_in(RED)
    before, kept = crop.rgb.copy(), set()
    for seed in range(40):
        made = recolour_halves(crop, np.random.default_rng(seed))
        assert made.rgb.shape == before.shape and made.rgb.dtype == np.uint8
        changed = (made.rgb != before).any(axis=(1, 2))
        kept.add((bool(changed[20:46].any()), bool(changed[58:80].any())))
    assert kept == {(True, False), (False, True), (True, True)}
    assert np.array_equal(crop.rgb, before)


def test_recolouring_turns_hues_and_keeps_the_pattern():
    """Stripes stay stripes, in colours from all over the circle."""
    rgb = np.zeros((60, 30, 3), np.uint8)
    rgb[:] = (200, 60, 60)
    rgb[::6] = rgb[1::6] = (60, 30, 30)
    strongest = set()
    for seed in range(60):
        made = recolour(rgb, np.random.default_rng(seed))
        light, dark = made[3].astype(int), made[0].astype(int)
        assert (made[2::6] == made[2]).all() and (made[1::6] == made[1]).all()
        assert light.max() > dark.max()
        strongest.add(int(light.argmax()))
    assert strongest == {0, 1, 2}


def test_novel_people_are_composed_recoloured_or_both():
    crop, other, seen = dressed_in(RED), dressed_in(GREEN), set()
    for seed in range(60):
        made = novel_person(crop, other, np.random.default_rng(seed))
        green = colour_mask(made.rgb, GREEN)[20:80, 10:40]
        pure = (colour_mask(made.rgb, RED)[20:80, 10:40] | green).all()
        seen.add((bool(green.any()), bool(pure)))
        assert not np.array_equal(made.rgb, crop.rgb)
    assert {(True, True), (True, False), (False, False)} <= seen
