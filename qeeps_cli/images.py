"""The only decoder of the project: a file to upright RGB pixels, or one clear reason why not.

Pillow decodes; what it leaves to its callers is decided here: which formats may be opened, how large a picture may be,
which way is up, and what becomes of depth, alpha and further frames.
"""

import hashlib
import os
import re
import stat
import threading
import time
import warnings
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from qeeps_cli.errors import ImageError
from qeeps_cli.types import Decoded

MAX_PIXELS = 120_000_000  # the pictures of 108-megapixel phones pass; decoded, this is 360 MB

# Pillow also opens EPS (which runs Ghostscript), PDF, PSD, fonts and many more; none is a photograph from a camera.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_FORMAT_NAMES = "JPEG, PNG, BMP, TIFF, WebP, GIF or PPM"

_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_TURNED_ASIDE = (5, 6, 7, 8)  # width and height change places
_ANY_PIXELS = 2**40

_TIFF_BITS_PER_SAMPLE = 258
_DIGITS = re.compile("[0-9]+")

# Pillow's limit on pixels belongs to the process; it is changed only while one header is read.
_PILLOW_LIMIT = threading.Lock()

# What Pillow warns of (odd metadata, a size that max_pixels allows) is either told in `note` or harmless.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class ImageFile:
    """The bytes of a file that ought to be a picture, read once.

    digest: hex blake2b-128 of them. status: the file's, from just before it was read; None where the file changed
    meanwhile, so that nobody takes these bytes for those of the path. read_at: `time.time_ns()` just before that.
    """

    path: Path
    data: bytes
    digest: str
    status: os.stat_result | None
    read_at: int


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode a JPEG, PNG, BMP, TIFF, WebP, GIF or PPM file, known by its content and not by its name.

    The file is read once and its digest is that of the bytes that were decoded, also when it is replaced meanwhile.
    Pixels are turned upright by EXIF orientation. 16-bit grey is scaled to 8 bits; transparent pixels are laid over
    white; of several frames or pages the first is used and `note` says so.

    Raises ImageError for whatever cannot be decoded whole: a missing, empty, truncated or foreign file, a folder, pipe
    or device, and a picture of more than `max_pixels` pixels (checked before its pixels are decoded).
    """
    return decode_image(read_file(path, max_pixels), max_pixels)


def read_file(path: Path | str, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """The first half of `read_image`: the bytes and their digest. Raises ImageError for what is no file to read."""
    path = Path(path)
    read_at = time.time_ns()
    try:
        before = path.stat()
        _check_kind(path, before, max_pixels)
        data = path.read_bytes()
        after = path.stat()
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the path
        raise ImageError(path, f"is not a usable path: {error}") from None
    if not data:
        raise ImageError(path, "the file is empty")
    status = before if _version(before) == _version(after) and len(data) == before.st_size else None
    return ImageFile(path, data, hashlib.blake2b(data, digest_size=16).hexdigest(), status, read_at)


def image_of(path: Path, data: bytes) -> ImageFile:
    """What `read_file` gives, for bytes that are in no file. Raises ImageError where there are none."""
    if not data:
        raise ImageError(path, "the file is empty")
    return ImageFile(path, data, hashlib.blake2b(data, digest_size=16).hexdigest(), None, time.time_ns())


def decode_image(file: ImageFile, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The second half of `read_image`: the pixels. Raises ImageError as that does."""
    try:
        rgb, note = _decode(file.data, max_pixels)
    except Image.DecompressionBombError:
        raise ImageError(
            file.path, f"holds more than {max_pixels} pixels; if it can be trusted, raise --max-pixels"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(file.path, f"expected a {_FORMAT_NAMES} image, got something else") from None
    except Exception as error:  # a damaged file makes Pillow's plugins raise nearly anything
        raise ImageError(file.path, f"damaged or cut short ({_one_line(error)}); copy or convert it again") from None
    return Decoded(rgb, file.digest, note)


def read_size(path: Path | str) -> tuple[int, int]:
    """(height, width) of the upright picture; of most formats its pixels are not decoded.

    A picture of any number of pixels passes: this is for those that were decoded once already. Raises ImageError where
    there is no size to read.
    """
    file = read_file(path, _ANY_PIXELS)
    try:
        with _open(BytesIO(file.data), _ANY_PIXELS) as image:
            if image.format == "TIFF":  # Pillow itself turns these, as soon as the size is known or later
                image.load()
            (width, height), (orientation, _) = image.size, _orientation(image)
    except Exception as error:
        raise ImageError(path, f"has no size that can be read ({_one_line(error)})") from None
    return (width, height) if orientation in _TURNED_ASIDE else (height, width)


def read_date_taken(path: Path | str) -> datetime | None:
    """EXIF's DateTimeOriginal with SubSecTimeOriginal: the camera's own clock, without a time zone; None where the file
    does not say. Of most formats only the header is read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as stream, _open(stream, _ANY_PIXELS) as image:
            exif = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # missing, no picture, or broken metadata: it says nothing of a date
        return None
    date = _exif_text(exif, ExifTags.Base.DateTimeOriginal)
    fraction = _exif_text(exif, ExifTags.Base.SubsecTimeOriginal)
    try:
        whole = datetime.strptime(date, "%Y:%m:%d %H:%M:%S")  # zeros or blanks where the camera's clock was never set
    except ValueError:
        return None
    return whole.replace(microsecond=int(fraction[:6].ljust(6, "0")) if _DIGITS.fullmatch(fraction) else 0)


def _exif_text(exif: dict, tag: int) -> str:
    value = exif.get(tag, "")
    return value.strip("\0 ") if isinstance(value, str) else ""


def resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 to (height, width, 3) uint8, bilinear and antialiased.

    Training and search both resize here, so that the network meets the same pixels in both. The result may be the
    input itself where the size is already right.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    # reducing_gap: pictures of many times the wanted size are first averaged by a whole factor, which is much faster;
    # at 3.0 the result is hardly told from the plain filter, and below a factor of 6 it is the plain filter.
    image = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(image)


def _check_kind(path: Path, status: os.stat_result, max_pixels: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(path, "expected an image file, got a folder")
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer for ever
        raise ImageError(path, "expected an image file, got a pipe, socket or device")
    # 8 bytes are the deepest uncompressed pixel (16-bit RGBA); the rest is room for metadata and further frames.
    if status.st_size > 8 * max_pixels + 2**26:
        raise ImageError(
            path, f"{status.st_size} bytes are too many for a picture of at most {max_pixels} pixels"
        )


def _version(status: os.stat_result) -> tuple[int, ...]:
    """What differs once a file was replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _decode(data: bytes, max_pixels: int) -> tuple[np.ndarray, str | None]:
    notes = []
    with _open(BytesIO(data), max_pixels) as image:
        # An MPO is a phone's JPEG with a depth or gain map behind the picture: its first frame is the picture.
        if image.format != "MPO" and _has_more_frames(image):
            notes.append("animated or multi-page: only the first frame is used")
        image.load()
        rgb = _to_rgb(image)
        orientation, is_broken = _orientation(image)
        if is_broken:
            notes.append("its EXIF data is broken: used as it is stored, not turned")
    if orientation in _TURN_UPRIGHT:
        rgb = rgb.transpose(_TURN_UPRIGHT[orientation])
    return np.array(rgb), "; ".join(notes) or None


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """EXIF orientation, and whether that could not be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1), False
    except Exception:  # broken metadata does not make the pixels wrong
        return 1, True


def _open(stream: BinaryIO, max_pixels: int) -> Image.Image:
    """Read the header. Raises DecompressionBombError above max_pixels, before any plugin makes room for the pixels."""
    with _PILLOW_LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # Pillow warns above this and refuses above twice this
        try:
            return Image.open(stream, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # whatever follows the first frame is damaged, and unused
        return True


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(_grey_to_8_bits(image)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range of brightness")
    if image.has_transparency_data:
        # What lies under transparent pixels is arbitrary, often black; viewers show cut-out pictures over white.
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey_to_8_bits(image: Image.Image) -> np.ndarray:
    """Deep grey scaled from its full range; `convert` would clip it, so that nearly every pixel became white."""
    if image.mode == "I" and image.format == "TIFF":
        raise ValueError("signed or 32-bit grey pixels have no fixed range of brightness")
    bits = 16  # also of PGM files, which Pillow brings to 16 bits from any depth above 8
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    return (np.asarray(image) >> (bits - 8)).clip(0, 255).astype(np.uint8)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
