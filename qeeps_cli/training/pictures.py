"""Reading a training picture: one that cannot be decoded ends the run with its name, it is never skipped silently."""

from pathlib import Path

import numpy as np

from qeeps_cli.errors import DataError, ImageError
from qeeps_cli.images import read_image


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, upright. Raises DataError naming the picture."""
    try:
        return read_image(path).rgb
    except ImageError as error:
        raise DataError(f"training picture {error}") from error
