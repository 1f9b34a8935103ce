"""The decoder against a corpus of hostile files, and against whatever damage hypothesis thinks of."""

import hashlib

import numpy as np
import pytest
from hostile_files import FORMATS, Hostile, corpus, encoded, oriented, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from qeeps_cli.errors import ImageError
from qeeps_cli.images import read_image

CORPUS = corpus()
MOST = 1_000_000  # pixels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "image.jpg"


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(tmp_path, name):
    """The right pixels and the right note, or one line that says why not."""
    file: Hostile = CORPUS[name]
    path = tmp_path / name
    path.write_bytes(file.data)
    if file.rgb is None:
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert file.told in caught.value.reason and "\n" not in caught.value.reason
        return
    decoded = read_image(path)
    assert decoded.rgb.shape == file.rgb.shape and decoded.rgb.dtype == np.uint8
    assert np.abs(decoded.rgb.astype(int) - file.rgb).mean() <= file.off
    assert decoded.digest == hashlib.blake2b(file.data, digest_size=16).hexdigest()
    assert file.told in (decoded.note or "") and bool(file.told) <= bool(decoded.note)


def check(path, data: bytes) -> None:
    """Pixels that can be used, or one reason; nothing else escapes."""
    path.write_bytes(data)
    try:
        decoded = read_image(path, max_pixels=MOST)
    except ImageError as error:
        assert error.reason and "\n" not in error.reason and error.path == path
    else:
        height, width, channels = decoded.rgb.shape
        assert channels == 3 and 0 < height * width <= MOST and decoded.rgb.dtype == np.uint8


SMALL = [encoded(scene()[:24, :32], format) for format in FORMATS]
SMALL += [oriented(scene()[:24, :32], 6, format) for format in ("JPEG", "PNG", "WEBP", "TIFF")]
SMALL += [CORPUS[name].data for name in ("bomb.png", "psd.tif", "1x1.png", "broken exif far.jpg")]
files = st.sampled_from(SMALL)
places = st.floats(0, 1, exclude_max=True)


@settings(deadline=None, max_examples=80)
@given(files, st.lists(st.tuples(places, st.binary(min_size=1, max_size=4)), max_size=6))
def test_overwritten_bytes(place, data, edits):
    changed = bytearray(data)
    for where, new in edits:
        start = int(where * len(data))
        changed[start : start + len(new)] = new
    check(place, bytes(changed))


@settings(deadline=None, max_examples=60)
@given(files, places, places, st.binary(max_size=20))
def test_parts_cut_out_and_put_in(place, data, begin, end, inserted):
    begin, end = sorted((int(begin * len(data)), int(end * len(data))))
    check(place, data[:begin] + inserted + data[end:])


@settings(deadline=None, max_examples=60)
@given(files, files, places)
def test_the_head_of_one_file_and_the_tail_of_another(place, one, other, where):
    check(place, one[: int(where * len(one))] + other[int(where * len(other)) :])


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_any_exif(place, exif):
    check(place, encoded(scene()[:24, :32], "JPEG", exif=b"Exif\0\0" + exif))
    assert read_image(place).rgb.size == 24 * 32 * 3, "broken metadata does not make a picture unusable"
