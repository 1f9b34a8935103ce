"""The decoder against hostile and odd files: rows 19 to 30 of docs/reliability.md. The tests write every file."""

import hashlib
import os
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from qeeps_cli.errors import ExitCode, ImageError
from qeeps_cli.images import MAX_PIXELS, read_image, read_size, resize

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
ORIENTATION = 0x0112


def photograph(height=48, width=64, seed=0) -> np.ndarray:
    """Smooth colours, so that JPEG changes them little, without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [np.sin(x / 9 + seed), np.cos(y / 7 + seed), np.sin((x + 2 * y) / 11 + seed)]
    return (127.5 + 100 * np.stack(channels, -1)).astype(np.uint8)


def encoded(image, format="PNG", **options) -> bytes:
    buffer = BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def write(tmp_path):
    def write(data: bytes, name="image.jpg"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def reason_for(path, **options) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path, **options)
    assert error.value.path == path
    assert "\n" not in error.value.reason
    return error.value.reason


# Files that are no images


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0", "expected a JPEG"),
        (b"these are not pixels\n", "expected a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n", "expected a JPEG"),
        (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n", "expected a JPEG"),
        (b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + bytes(12 + 2 + 192), "expected a JPEG"),
        (encoded(photograph(), "ICO"), "expected a JPEG"),
        (encoded(photograph(), "TGA"), "expected a JPEG"),
    ],
    ids=["empty", "one byte", "text", "EPS", "PDF", "PSD", "ICO", "TGA"],
)
@pytest.mark.parametrize("name", ["image.jpg", "image.png", "image.tif"])
def test_refuses_what_is_no_image(write, name, data, reason):
    assert reason in reason_for(write(data, name))


def test_psd_of_the_test_is_one_that_pillow_opens():
    """Otherwise the row above would prove nothing about formats that Pillow knows."""
    data = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + bytes(12 + 2 + 192)
    assert Image.open(BytesIO(data)).format == "PSD"


def test_refuses_what_is_no_file(tmp_path):
    assert "No such file" in reason_for(tmp_path / "absent.jpg")
    assert "folder" in reason_for(tmp_path)
    assert "not a usable path" in reason_for(tmp_path / "nul\0.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "absent.jpg")
    assert "No such file" in reason_for(tmp_path / "dangling.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_does_not_wait_for_a_pipe(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    reasons = []
    thread = threading.Thread(target=lambda: reasons.append(reason_for(path)), daemon=True)
    thread.start()
    thread.join(10)
    assert reasons == ["expected an image file, got a pipe, socket or device"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_tells_missing_permission(write):
    path = write(encoded(photograph()))
    path.chmod(0)
    assert "Permission denied" in reason_for(path)


def test_error_ends_a_run_as_a_usage_error(tmp_path):
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / "absent.jpg")
    assert error.value.exit_code == ExitCode.USAGE
    assert str(tmp_path / "absent.jpg") in str(error.value)


# Damaged images


FORMATS = ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
def test_refuses_truncated_images(write, format, keep):
    data = encoded(photograph(200, 300), format)
    assert reason_for(write(data[: int(len(data) * keep)]))


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_refuses_a_jpeg_that_lacks_its_last_bytes(write, cut):
    assert "truncated" in reason_for(write(encoded(photograph(200, 300), "JPEG")[:-cut]))


def test_does_not_ask_pillow_to_load_truncated_images():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_refuses_a_png_with_a_broken_checksum(write):
    data = bytearray(encoded(photograph()))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    assert "damaged" in reason_for(write(bytes(data)))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(format=st.sampled_from(FORMATS), edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_any_damage_gives_pixels_or_one_reason(write, format, edits):
    data = bytearray(encoded(photograph(16, 24), format))
    for place, value in edits:
        data[min(int(place * len(data)), len(data) - 1)] = value
    path = write(bytes(data))
    try:
        decoded = read_image(path, max_pixels=1_000_000)
    except ImageError as error:
        assert error.reason and "\n" not in error.reason
    else:
        assert decoded.rgb.dtype == np.uint8 and decoded.rgb.ndim == 3 and decoded.rgb.shape[2] == 3
        assert decoded.rgb.size


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"RIFF", b"P6 ", b"BM"]),
    body=st.binary(max_size=200),
)
def test_any_bytes_give_pixels_or_one_reason(write, head, body):
    try:
        assert read_image(write(head + body), max_pixels=1_000_000).rgb.size
    except ImageError as error:
        assert error.reason and "\n" not in error.reason


# Size


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    data = bytearray(encoded(Image.new("1", (1, 1))))
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return bytes(data[:12]) + header + struct.pack(">I", zlib.crc32(header)) + bytes(data[33:])


def test_refuses_a_decompression_bomb_before_decoding(write):
    path = write(png_header(60_000, 60_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "--max-pixels" in reason_for(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 1e8  # its pixels would take 10 gigabytes


@pytest.mark.parametrize("format", FORMATS)
def test_max_pixels_is_exact(write, format):
    path = write(encoded(photograph(40, 50), format))
    assert read_image(path, max_pixels=2000).size == (40, 50)
    assert "1999 pixels" in reason_for(path, max_pixels=1999)


def test_max_pixels_can_exceed_pillows_own_limit(write, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = write(encoded(photograph(40, 50)))
    assert read_image(path, max_pixels=2000).size == (40, 50)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillows_limit_is_as_before_after_errors_and_threads(write, monkeypatch):
    limit, opened = Image.MAX_IMAGE_PIXELS, Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: (time.sleep(0.002), opened(*args, **options))[1])
    good, bad = write(encoded(photograph()), "good.png"), write(png_header(60_000, 60_000), "bad.png")

    def decode(max_pixels):
        for _ in range(10):
            assert read_image(good, max_pixels).size == (48, 64)
            assert "--max-pixels" in reason_for(bad, max_pixels=max_pixels)

    threads = [threading.Thread(target=decode, args=[max_pixels]) for max_pixels in (4000, 5000, 6000, 7000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == limit


def test_refuses_a_file_too_large_to_be_read(tmp_path):
    path = tmp_path / "disk.jpg"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)  # sparse: takes no room
    assert "too many" in reason_for(path)


@pytest.mark.parametrize("size", [(1, 1), (20, 10_000), (10_000, 20), (3, 7)])
@pytest.mark.parametrize("format", FORMATS)
def test_reads_extreme_shapes(write, size, format):
    assert read_image(write(encoded(photograph(*size), format))).size == size


# Content, not name


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("name", ["image.jpg", "image", "image.txt"])
def test_knows_the_format_by_content(write, format, name):
    assert np.array_equal(read_image(write(encoded(photograph(), format), name)).rgb, photograph())


def test_digest_is_that_of_the_bytes(write):
    data = encoded(photograph())
    decoded = read_image(write(data))
    assert decoded.digest == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert len(decoded.digest) == 32
    assert decoded.note is None


def test_pixels_are_contiguous_and_writable(write):
    """torch.from_numpy warns of anything else."""
    for orientation in (1, 6):
        rgb = read_image(write(with_orientation(photograph(), "PNG", orientation))).rgb
        assert rgb.flags.c_contiguous and rgb.flags.writeable and rgb.dtype == np.uint8


def test_reads_names_of_any_bytes(tmp_path):
    for name in [b"with space.png", b"new\nline.png", b"quote'\".png", b"[x].png", b"-leading.png", b"\xff\xfe.png"]:
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(encoded(photograph()))
        assert read_image(path).size == (48, 64)


# Colour


def colour_of(path) -> tuple[int, int, int]:
    rgb = read_image(path).rgb
    return tuple(int(v) for v in rgb.reshape(-1, 3).mean(0).round())


def near(colour, expected, tolerance=4) -> bool:
    return max(abs(a - b) for a, b in zip(colour, expected, strict=True)) <= tolerance


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(write, format):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    rgb = read_image(write(encoded(values, format))).rgb
    assert np.array_equal(rgb, np.repeat((values >> 8)[..., None], 3, axis=2))


def test_16_bit_grey_of_either_byte_order_is_scaled(write):
    big = Image.frombytes("I;16B", (2, 1), b"\x80\x00\x01\x00")
    assert read_image(write(encoded(big, "TIFF"))).rgb[0, :, 0].tolist() == [128, 1]


@pytest.mark.parametrize(
    ("header", "pixels"),
    [
        (b"P5 2 1 65535\n", b"\x80\x00\x01\x00"),
        (b"P5 2 1 1023\n", struct.pack(">2H", 514, 4)),
        (b"P2 2 1 65535\n", b"32768 256\n"),
    ],
    ids=["16 bits", "10 bits", "plain"],
)
def test_deep_pgm_is_scaled(write, header, pixels):
    assert read_image(write(header + pixels)).rgb[0, :, 0].tolist() == [128, 1]


def test_12_bit_tiff_is_scaled_by_its_own_depth(write):
    tags = {256: (3, 2), 257: (3, 1), 258: (3, 12), 259: (3, 1), 262: (3, 1), 273: (4, 8), 278: (3, 1), 279: (4, 3)}
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items())
    pixels = bytes([0x80, 0x00, 0x10])  # 0x800, 0x010
    data = b"II*\0" + struct.pack("<I", 12) + pixels + b"\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert read_image(write(data)).rgb[0, :, 0].tolist() == [128, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(write, dtype):
    assert "no fixed range" in reason_for(write(encoded(np.ones((4, 4), dtype), "TIFF")))


def test_cmyk_of_adobe_is_not_inverted(write):
    cyan, red = Image.new("CMYK", (16, 16), (255, 0, 0, 0)), Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for format in ("JPEG", "TIFF"):
        assert near(colour_of(write(encoded(cyan, format))), (0, 255, 255))
        assert near(colour_of(write(encoded(red, format))), RED)


def test_ycck_is_converted(write):
    """Photoshop's JPEGs: the inks C, M and Y as if they were R, G and B, brought to YCbCr, and black as its complement.
    Transform 2 in the Adobe segment marks them."""
    red = 255 - np.array([179, 171, 1, 255], np.uint8)  # YCbCr of (0, 255, 255); Pillow writes the complement
    data = bytearray(encoded(Image.fromarray(np.tile(red, (16, 16, 1)), "CMYK"), "JPEG", quality=100))
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    data[marker + 11] = 2
    assert near(colour_of(write(bytes(data))), RED)


def test_16_bit_colour_keeps_its_colour(write):
    rows = b"\0" + struct.pack(">3H", 65535, 32768, 0)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert near(colour_of(write(data)), (255, 128, 0), 1)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, WHITE),
        ("1", 0, BLACK),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), WHITE),
        ("RGBA", (*BLUE, 255), BLUE),
        ("RGBA", (*BLUE, 0), WHITE),
        ("RGBA", (*BLACK, 128), (127, 127, 127)),
    ],
)
def test_modes_keep_their_colour_over_white(write, mode, colour, expected):
    assert near(colour_of(write(encoded(Image.new(mode, (8, 8), colour)))), expected, 1)


def test_palettes_keep_their_colours(write):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    assert read_image(write(encoded(image))).rgb[0].tolist() == [list(RED), list(GREEN)]
    transparent = encoded(image, transparency=0)
    assert read_image(write(transparent)).rgb[0].tolist() == [list(WHITE), list(GREEN)]
    by_colour = encoded(image, transparency=bytes([255, 0]))
    assert read_image(write(by_colour)).rgb[0].tolist() == [list(RED), list(WHITE)]
    assert read_image(write(encoded(image, "GIF", transparency=0))).rgb[0].tolist() == [list(WHITE), list(GREEN)]


def test_a_transparent_colour_of_rgb_becomes_white(write):
    image = Image.new("RGB", (1, 1), RED)
    assert colour_of(write(encoded(image, transparency=RED))) == WHITE


# Orientation


def with_orientation(pixels: np.ndarray, format: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if format == "TIFF":
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[ORIENTATION] = orientation
        return encoded(pixels, format, tiffinfo=info)
    return encoded(pixels, format, exif=exif, **({"quality": 95} if format == "JPEG" else {"lossless": True}))


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a camera stores, from the definition: where row 0 and column 0 of the stored image are seen."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }[orientation](upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(write, format, orientation):
    upright = photograph()
    pixels = np.ascontiguousarray(stored(upright, orientation))
    decoded = read_image(write(with_orientation(pixels, format, orientation)))
    assert decoded.size == upright.shape[:2]
    assert np.abs(decoded.rgb.astype(int) - upright).mean() < (4 if format == "JPEG" else 1e-9)
    assert decoded.note is None


def test_compressed_tiff_is_turned_upright_once(write):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[ORIENTATION] = 6
    pixels = np.ascontiguousarray(stored(photograph(), 6))
    data = encoded(pixels, "TIFF", tiffinfo=info, compression="tiff_lzw")
    assert np.array_equal(read_image(write(data)).rgb, photograph())


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_no_turn(write, orientation):
    assert read_image(write(with_orientation(photograph(), "PNG", orientation))).size == (48, 64)


@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"not TIFF at all", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\x01"],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_leaves_the_image_usable(write, format, exif):
    data = encoded(photograph(), format, exif=b"Exif\0\0" + exif)
    assert read_image(write(data)).size == (48, 64)


# Several frames


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_is_used_and_told(write, format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    path = write(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert near(colour_of(path), RED, 1)
    assert "first frame" in read_image(path).note


def test_a_phones_second_picture_is_not_told(write):
    """MPO: a JPEG with a depth or gain map appended."""
    path = write(encoded(photograph(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]))
    assert Image.open(path).format == "MPO"
    decoded = read_image(path)
    assert decoded.size == (48, 64) and decoded.note is None


# The process


def test_5000_reads_under_a_limit_of_open_files(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(photograph(4, 4)))
    (tmp_path / "b.tif").write_bytes(encoded(photograph(4, 4), "TIFF"))
    (tmp_path / "c.gif").write_bytes(encoded(photograph(4, 4), "GIF")[:-20])
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from qeeps_cli.errors import ImageError
from qeeps_cli.images import read_image
kept = []
for i in range(5000):
    try:
        kept.append(read_image(Path(sys.argv[1]) / ("a.png", "b.tif", "c.gif")[i % 3]))
    except ImageError as error:
        kept.append(error)
print(len(kept))
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5000\n", "")


def test_odd_files_write_nothing_to_stderr(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(photograph(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    (tmp_path / "b.tif").write_bytes(encoded(photograph(), "TIFF")[:-20])
    (tmp_path / "c.png").write_bytes(encoded(photograph(1000, 1000)))
    program = """
import sys
from pathlib import Path
from qeeps_cli.errors import ImageError
from qeeps_cli.images import read_image
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_image(path, max_pixels=1_000_000)
    except ImageError:
        pass
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Resizing


@pytest.mark.parametrize("size", [(1, 1), (24, 32), (48, 64), (100, 50)])
def test_resize_gives_the_size_asked_for(size):
    resized = resize(photograph(), *size)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8 and resized.flags.writeable


def test_resize_antialiases():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 64, 16)[:, 2:-2].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("factor", [2, 8])
def test_resize_stays_close_to_the_plain_filter(factor):
    rgb = photograph(480, 640)
    plain = Image.fromarray(rgb).resize((640 // factor, 480 // factor), Image.Resampling.BILINEAR)
    difference = np.abs(resize(rgb, 480 // factor, 640 // factor).astype(int) - np.asarray(plain))
    assert difference.max() <= (0 if factor == 2 else 2)


def test_default_limit_admits_a_108_megapixel_phone():
    assert 12_000 * 9_000 <= MAX_PIXELS


# The size alone


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_is_that_of_the_decoded_picture(write, format, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"exif": exif} if format in ("JPEG", "PNG", "TIFF", "WEBP") else {}
    path = write(encoded(photograph(), format, **options))
    assert read_size(path) == read_image(path).size


@pytest.mark.parametrize("data", [b"", b"text", encoded(photograph())[:20]])
def test_what_has_no_size(write, data):
    with pytest.raises(ImageError):
        read_size(write(data))
