"""The set that the options of `qeeps benchmark` name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qeeps_cli.errors import UsageError

if TYPE_CHECKING:
    from qeeps_cli.datasets.frames import FrameSet
    from qeeps_cli.evaluation.document import Setup

DEFAULT_GALLERY = "100"  # of CUHK-SYSU: what most papers report


@dataclass(frozen=True)
class Named:
    """The set as the options name it. files: of a COCO-style set, by option. None and False: not given."""

    dataset: str
    root: Path | None
    gallery_size: str | None
    cross_camera: bool
    files: Mapping[str, Any]
    queries: int | None
    frames: int | None


def read_set(named: Named) -> "tuple[FrameSet, Setup]":
    """The set, cut to the limits. Raises UsageError for options of another set, DataError for an unusable set."""
    from qeeps_cli.datasets.examples import EXAMPLES
    from qeeps_cli.datasets.registry import load
    from qeeps_cli.evaluation.document import Setup
    from qeeps_cli.evaluation.protocols import limit

    given = _reader_options(named)
    whole = load(named.dataset, named.root, **given)
    few = limit(whole, named.queries, named.frames)
    is_cut = any(len(own.gallery) < len(full.gallery) for own, full in zip(few.queries, whole.queries, strict=False))
    return few, Setup(
        dataset=named.dataset,
        root=named.root or EXAMPLES,
        gallery_size=given.get("gallery_size"),
        cross_camera=named.cross_camera,
        files={key: value for key, value in named.files.items() if value},
        queries=named.queries if len(few.queries) < len(whole.queries) else None,
        frames=named.frames if is_cut else None,
    )


def _reader_options(named: Named) -> dict[str, Any]:
    """Raises UsageError for options that belong to other sets."""
    given = {key: value for key, value in named.files.items() if value}
    if given and named.dataset != "coco":
        raise UsageError(
            f"--annotations, --queries-file and --extra belong to --dataset coco; {named.dataset} has its own files."
        )
    if named.dataset == "cuhk-sysu":
        size = named.gallery_size or DEFAULT_GALLERY
        given["gallery_size"] = int(size) if size.isdecimal() else size
    elif named.gallery_size is not None:
        raise UsageError(f"--gallery-size belongs to --dataset cuhk-sysu; {named.dataset} has galleries of its own.")
    if named.cross_camera:
        if named.dataset not in ("prw", "prw-mini"):
            raise UsageError(f"--cross-camera belongs to --dataset prw and prw-mini, got {named.dataset}.")
        given["cross_camera"] = True
    return given
