"""What a search needs: small random weights, and a small gallery. A plugin of the tests that ask for them."""

from pathlib import Path

import pytest
from command_line import FRAMES, SIZE
from PIL import Image


def shrink(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        image.resize(SIZE).save(target, quality=90)
    return target


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A random network that takes a fraction of a second a frame."""
    from networks import small_network

    from qeeps_cli.weights import save_checkpoint

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_checkpoint(path, small_network(shorter_side=128, longest_side=192), {"data": "none", "recipe": {"seed": 0}})
    return path


@pytest.fixture(scope="session")
def frames(tmp_path_factory, examples) -> Path:
    """Three frames of the CCTV example, shrunk; the third in a subfolder."""
    folder = tmp_path_factory.mktemp("frames")
    for name, place in zip(FRAMES, (FRAMES[0], FRAMES[1], f"later/{FRAMES[2]}"), strict=True):
        shrink(examples / "cctv" / "frames" / name, folder / place)
    return folder
