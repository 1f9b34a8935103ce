"""Scaling, normalisation, and the query brought to the gallery's size with the person inside (§5.2)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.preprocess import MEAN, STD, Placed, place, prepare_frame, prepare_query, scaled_size, to_tensor
from qeeps_cli.types import Box

SMALL = ModelConfig(backbone="resnet18", shorter_side=60, longest_side=100, crop_height=40)
BLUE, RED = (0, 0, 255), (255, 0, 0)


def painted(height: int, width: int, box: Box) -> np.ndarray:
    """A blue picture with a red person."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = BLUE
    x1, y1, x2, y2 = (int(value) for value in box)
    rgb[y1:y2, x1:x2] = RED
    return rgb


def red_box(image: Tensor) -> np.ndarray:
    """xyxy of the red area of a normalised canvas. Padding, the mean colour, is neither red nor blue."""
    red, _, blue = image * torch.tensor(STD).reshape(3, 1, 1) + torch.tensor(MEAN).reshape(3, 1, 1)
    rows, columns = ((red - blue) > 0.2).nonzero(as_tuple=True)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def check(placed: Placed, size: tuple[int, int]) -> None:
    """The box lies inside the canvas and is where the red pixels are."""
    assert placed.image.shape == (3, *size) and placed.image.dtype == torch.float32
    x1, y1, x2, y2 = placed.box
    assert 0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]
    np.testing.assert_allclose(placed.box, red_box(placed.image), atol=1.01)


@pytest.mark.parametrize(
    ("size", "shorter", "longest", "expected"),
    [
        ((1, 1), 600, 1000, (600, 600)),
        ((1080, 1920), 600, 1000, (562, 1000)),
        ((1920, 1080), 600, 1000, (1000, 562)),
        ((600, 800), 600, 1000, (600, 800)),
        ((576, 768), 600, 1000, (600, 800)),
        ((480, 640), 600, 1000, (600, 800)),
        ((1080, 1920), 900, 1500, (844, 1500)),  # "‡"
        ((1200, 1600), 900, 1500, (900, 1200)),
        ((10000, 20), 600, 1000, (1000, 2)),
        ((20, 100000), 600, 1000, (1, 1000)),
    ],
)
def test_scaled_size(size, shorter, longest, expected):
    assert scaled_size(*size, ModelConfig(shorter_side=shorter, longest_side=longest)) == expected


def test_normalisation_is_imagenets():
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [124, 116, 104]]], np.uint8)
    tensor = to_tensor(rgb)
    assert tensor.shape == (3, 1, 3) and tensor.dtype == torch.float32
    expected = torch.tensor([[-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.6400], [0.0056, -0.0049, 0.0082]])
    torch.testing.assert_close(tensor[:, 0].T, expected, rtol=0, atol=1e-4)
    assert rgb[0, 1].tolist() == [255, 255, 255]  # the caller's picture is left alone


def test_channels_stay_in_the_order_red_green_blue():
    red, green, blue = to_tensor(painted(1, 1, (0, 0, 1, 1)))[:, 0, 0].tolist()
    assert red > 2 and green < -2 and blue < -1.8


@pytest.mark.parametrize("size", [(1080, 1920), (60, 100), (50, 20)])
def test_a_frames_boxes_follow_its_factors(size):
    box = (0.2 * size[1], 0.3 * size[0], 0.5 * size[1], 0.9 * size[0])
    image, factors = prepare_frame(painted(*size, box), SMALL)
    assert image.shape == (3, *scaled_size(*size, SMALL))
    np.testing.assert_allclose(red_box(image), np.array(box).astype(int) * [*factors, *factors], atol=1.01)


@pytest.mark.parametrize(
    ("picture", "box", "size"),
    [
        ((60, 100), (30, 10, 50, 50), (60, 100)),  # of the gallery's own size
        ((120, 200), (60, 20, 100, 100), (60, 100)),  # twice as large
        ((60, 100), (0, 0, 20, 40), (60, 80)),  # wider than the gallery: cropped, person at the left edge
        ((60, 100), (80, 10, 100, 60), (60, 80)),  # … at the right edge
        ((60, 80), (30, 10, 50, 50), (60, 100)),  # narrower: padded
        ((200, 120), (40, 120, 80, 200), (60, 100)),  # portrait query, landscape gallery, person at the bottom
        ((200, 120), (40, 0, 80, 60), (60, 100)),  # … at the top
        ((100, 200), (10, 20, 60, 90), (100, 60)),  # landscape query, portrait gallery
        ((200, 120), (10, 0, 110, 200), (60, 100)),  # the person is taller than the gallery's input: scaled to fit
        ((60, 100), (0, 0, 100, 60), (60, 30)),  # wider than it
        ((60, 100), (0, 0, 100, 60), (30, 20)),  # both
    ],
)
def test_the_person_is_always_on_the_canvas_at_the_box(picture, box, size):
    check(prepare_query(painted(*picture, box), box, size, SMALL), size)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_person_is_on_the_canvas_whatever_the_shapes(data):
    side = st.integers(24, 160)
    height, width = data.draw(side), data.draw(side)
    x1, y1 = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
    x2, y2 = data.draw(st.integers(x1 + 12, width)), data.draw(st.integers(y1 + 12, height))
    size = (data.draw(side), data.draw(side))
    box = (x1, y1, x2, y2)
    check(prepare_query(painted(height, width, box), box, size, SMALL), size)


def test_a_query_of_the_gallerys_size_goes_in_as_a_frame_does():
    rgb, box = painted(120, 200, (60, 20, 100, 100)), (60.0, 20.0, 100.0, 100.0)
    image, factors = prepare_frame(rgb, SMALL)
    placed = prepare_query(rgb, box, (60, 100), SMALL)
    assert torch.equal(placed.image, image)
    assert placed.box == tuple(value * factor for value, factor in zip(box, factors * 2, strict=True))


@pytest.mark.parametrize(("picture", "size"), [((80, 40), (60, 100)), ((20, 8), (60, 100)), ((300, 100), (60, 100))])
def test_a_bare_crop_is_brought_to_the_height_of_a_person(picture, size):
    height, width = picture
    placed = prepare_query(painted(height, width, (0, 0, width, height)), None, size, SMALL)
    check(placed, size)
    assert placed.box == (0.0, 0.0, round(40 * width / height), 40.0)
    assert not placed.image[:, 40:].any() and not placed.image[:, :, round(40 * width / height) :].any()


@pytest.mark.parametrize(("picture", "size"), [((80, 40), (30, 100)), ((20, 80), (60, 100))])
def test_a_bare_crop_that_is_larger_than_the_canvas_is_scaled_until_it_fits(picture, size):
    placed = prepare_query(painted(*picture, (0, 0, picture[1], picture[0])), None, size, SMALL)
    check(placed, size)
    x1, y1, x2, y2 = placed.box
    assert (x2 - x1) / (y2 - y1) == pytest.approx(picture[1] / picture[0], rel=0.05)
    assert x2 == size[1] or y2 == size[0]


def column_numbers(width: int) -> Tensor:
    """A picture 10 pixels high whose pixels are their column's number."""
    return torch.arange(float(width)).expand(3, 10, width)


@pytest.mark.parametrize(
    ("low", "high", "first"),
    [
        (40, 60, 30),  # centred on the person
        (41, 60, 30),  # its middle is 50.5, which rounds to even
        (0, 20, 0),  # as far as the picture allows
        (85, 100, 60),
        (30, 70, 30),  # as wide as the canvas
    ],
)
def test_a_crop_is_centred_on_the_person(low, high, first):
    placed = place(column_numbers(100), (low, 2, high, 8), (10, 40))
    assert placed.image[0, 0].tolist() == list(range(first, first + 40))
    assert placed.box == (low - first, 2, high - first, 8)


def test_padding_is_the_mean_colour_on_the_right_and_below():
    image = torch.ones(3, 4, 6)
    placed = place(image, (1, 1, 5, 3), (7, 9))
    assert torch.equal(placed.image[:, :4, :6], image) and placed.image.sum() == image.sum()
    assert placed.box == (1, 1, 5, 3)
    mean_colour = np.round(255 * np.array([[MEAN]])).astype(np.uint8)
    assert to_tensor(mean_colour).abs().max() < 0.01
