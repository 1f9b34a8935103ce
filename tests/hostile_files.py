"""Files that a gallery may hold, good and bad, made from one picture: rows 19 to 28 of docs/reliability.md."""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin

ORIENTATION = 0x0112
HEIGHT, WIDTH = 120, 160
FORMATS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "GIF": "gif", "PPM": "ppm"}


@dataclass(frozen=True)
class Hostile:
    """A file. rgb: what it shows, (H, W, 3) uint8; None: it is to be skipped, with `told` in the reason. off: by how
    much a pixel may differ, on average. told: a part of the note, for what is used."""

    data: bytes
    rgb: np.ndarray | None
    told: str = ""
    off: float = 0.0


def scene() -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: smooth, coloured, from black to white, without any symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(x / 19 + 1), np.cos(y / 17 + 2), np.sin((x + 2 * y) / 31 + 3)]
    return (127.5 + 127 * np.stack(waves, -1)).astype(np.uint8)


def grey(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L").convert("RGB"))


def encoded(image: np.ndarray | Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    image.save(buffer, format, **options)
    return buffer.getvalue()


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a camera stores under an EXIF orientation, from the definition of where row 0 and column 0 are
    seen."""
    turned = upright.transpose(1, 0, 2)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }[orientation]


def oriented(upright: np.ndarray, orientation: int, format: str = "PNG") -> bytes:
    """A file that shows `upright` to whoever heeds its orientation."""
    pixels = stored(upright, orientation)
    if format == "TIFF":
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[ORIENTATION] = orientation
        return encoded(pixels, format, tiffinfo=info)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(pixels, format, exif=exif, **({"quality": 95} if format == "JPEG" else {"lossless": True}))


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    data = encoded(Image.new("1", (1, 1)))
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def ycck(rgb: np.ndarray) -> bytes:
    """A JPEG as Photoshop makes it: the inks C, M and Y brought to YCbCr as if they were R, G and B, and no black.
    Transform 2 in the Adobe segment marks it."""
    inks = np.asarray(Image.fromarray(255 - rgb).convert("YCbCr"))
    planes = np.dstack([255 - inks, np.zeros(rgb.shape[:2], np.uint8)])  # Pillow writes the complement
    data = bytearray(encoded(Image.fromarray(planes, "CMYK"), "JPEG", quality=95, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def corpus() -> dict[str, Hostile]:
    """Names and files."""
    rgb = scene()
    return {**_unusual(rgb), **_turned(rgb), **_several(rgb), **_no_pictures(), **_cut(rgb)}


def _unusual(rgb: np.ndarray) -> dict[str, Hostile]:
    """Depths, colour models and shapes of pictures that are whole."""
    picture, shades = Image.fromarray(rgb), grey(rgb)
    deep = shades[..., 0].astype(np.uint16) * 257
    bits = np.repeat((rgb[..., :1] > 127) * np.uint8(255), 3, axis=2)
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1)))
    white = Image.new("RGB", picture.size, "white")
    over_white = np.asarray(Image.composite(picture, white, alpha))
    shades_over_white = np.asarray(Image.composite(Image.fromarray(shades), white, alpha))
    palette = picture.quantize(255, dither=Image.Dither.NONE)
    see_through = np.array(palette.convert("RGB"))
    see_through[np.asarray(palette) == 0] = 255
    tall, wide, dot = np.resize(rgb, (10_000, 20, 3)), np.resize(rgb, (20, 10_000, 3)), rgb[:1, :1]
    return {
        "16 bit grey.png": Hostile(encoded(deep), shades),
        "16 bit grey.tif": Hostile(encoded(deep, "TIFF"), shades),
        "16 bit grey.pgm": Hostile(encoded(deep, "PPM"), shades),
        "cmyk.jpg": Hostile(encoded(picture.convert("CMYK"), "JPEG", quality=95), rgb, off=4),
        "ycck.jpg": Hostile(ycck(rgb), rgb, off=4),
        "rgba.png": Hostile(encoded(Image.merge("RGBA", [*picture.split(), alpha])), over_white, off=1),
        "la.png": Hostile(encoded(Image.merge("LA", [picture.convert("L"), alpha])), shades_over_white, off=1),
        "palette with alpha.png": Hostile(encoded(palette, transparency=0), see_through),
        "1 bit.png": Hostile(encoded(Image.fromarray(bits).convert("1")), bits),
        "1 bit.tif": Hostile(encoded(Image.fromarray(bits).convert("1"), "TIFF", compression="group4"), bits),
        "a png.jpg": Hostile(encoded(rgb), rgb),
        "a jpeg.png": Hostile(encoded(rgb, "JPEG", quality=95), rgb, off=4),
        "1x1.png": Hostile(encoded(dot), dot),
        "10000x20.png": Hostile(encoded(wide), wide),
        "20x10000.png": Hostile(encoded(tall), tall),
    }


def _turned(rgb: np.ndarray) -> dict[str, Hostile]:
    turned = {f"exif {way}.png": Hostile(oriented(rgb, way), rgb) for way in range(1, 9)}
    turned |= {f"exif {way}.tif": Hostile(oriented(rgb, way, "TIFF"), rgb) for way in (3, 6)}
    turned |= {f"exif {way}.jpg": Hostile(oriented(rgb, way, "JPEG"), rgb, off=4) for way in (2, 8)}
    broken = {"none": b"", "short": b"MM\0*\0\0\0\x08\0\x01", "far": b"II*\0\xff\xff\xff\xff", "text": b"no TIFF"}
    for name, exif in broken.items():
        data = encoded(rgb, "JPEG", quality=95, exif=b"Exif\0\0" + exif)
        turned[f"broken exif {name}.jpg"] = Hostile(data, rgb, off=4)
    return turned


def _several(rgb: np.ndarray) -> dict[str, Hostile]:
    """First frames of animations and of documents."""
    first, more = Image.fromarray(rgb), {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT), "red")]}
    return {
        "animated.gif": Hostile(encoded(first, "GIF", **more), rgb, "first frame", off=12),
        "animated.png": Hostile(encoded(first, "PNG", **more), rgb, "first frame"),
        "animated.webp": Hostile(encoded(first, "WEBP", lossless=True, **more), rgb, "first frame"),
        "pages.tif": Hostile(encoded(first, "TIFF", **more), rgb, "first frame"),
    }


def _no_pictures() -> dict[str, Hostile]:
    foreign = {
        "text.jpg": b"these are not pixels\n",
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n",
        "pdf.png": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "psd.tif": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + bytes(12 + 2 + 192),
    }
    return {
        "empty.jpg": Hostile(b"", None, "empty"),
        "bomb.png": Hostile(bomb(), None, "--max-pixels"),
        **{name: Hostile(data, None, "expected a JPEG") for name, data in foreign.items()},
    }


def _cut(rgb: np.ndarray) -> dict[str, Hostile]:
    """Every format at every quarter, and without its last bytes."""
    cut = {}
    for format, extension in FORMATS.items():
        data = encoded(rgb, format)
        for quarter in (1, 2, 3):
            cut[f"cut {quarter}.{extension}"] = Hostile(data[: len(data) * quarter // 4], None)
    whole = encoded(rgb, "JPEG")
    cut["cut 4.jpg"] = Hostile(whole[:-2], None, "damaged or cut short")
    return cut
