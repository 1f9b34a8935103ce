"""The rendered example frames of a checkout: a small benchmark across cameras that needs no download."""

from pathlib import Path

from qeeps_cli.datasets.coco import QUERIES, load_coco
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.errors import DataError

EXAMPLES = Path(__file__).parents[2] / "examples" / "rendered"


def load_examples(root: Path | None = None) -> FrameSet:
    """Reads examples/rendered of the checkout, or a copy of it.

    Raises DataError where it is not there: a wheel holds the program and its weights, but no example frames.
    """
    root = EXAMPLES if root is None else Path(root)
    missing = [name for name in ("frames", "annotations.json", QUERIES) if not (root / name).exists()]
    if missing:
        raise DataError(
            f"the example frames are not here: looked for {', '.join(missing)} in {root}. They come with a checkout of "
            "the project (examples/rendered), not with an installed wheel. Name the folder with --root, or another set "
            "with --dataset."
        )
    frames = load_coco(root)
    return FrameSet("examples", frames.frames, frames.queries, frames.notes)
