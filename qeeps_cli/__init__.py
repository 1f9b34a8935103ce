"""Find one person, given as a box in a picture, in a folder of whole frames (QEEPS, CVPR 2019).

    import qeeps_cli

    result = qeeps_cli.search("query.jpg", "frames/", box=(312, 266, 424, 531))
    for match in result.matches[:10]:
        print(match.rank, match.frame.name, match.box, match.score)

Boxes are (x1, y1, x2, y2) pixels of the upright picture, here and in every result; only the command line and its JSON
have x,y,w,h. Importing this package loads no torch; the first search does.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qeeps_cli.errors import QeepsError
    from qeeps_cli.model.config import InferenceParams
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.types import Box, Detections, GalleryFrame, Match, Query, SearchResult, Skipped

    __version__: str

__all__ = [
    "Box",
    "Detections",
    "Engine",
    "GalleryFrame",
    "InferenceParams",
    "Match",
    "QeepsError",
    "Query",
    "SearchResult",
    "Skipped",
    "__version__",
    "load_model",
    "search",
]

_HOMES = {
    "Engine": "qeeps_cli.searching.engine",
    "InferenceParams": "qeeps_cli.model.config",
    "QeepsError": "qeeps_cli.errors",
    **dict.fromkeys(
        ("Box", "Detections", "GalleryFrame", "Match", "Query", "SearchResult", "Skipped"), "qeeps_cli.types"
    ),
}


def load_model(weights: str | PathLike[str] | None = None, device: str = "auto") -> Engine:
    """The network, ready to search; load it once for several searches.

    weights: a .safetensors file or the name of shipped weights; None: $QEEPS_WEIGHTS, else the default. device: "auto",
    "cpu", "cuda" or "cuda:N". Raises WeightsError, DeviceError, UsageError.
    """
    from qeeps_cli.searching.run import load_engine

    return load_engine(weights, device)[0]


def search(
    query: str | PathLike[str],
    gallery: str | PathLike[str] | Sequence[str | PathLike[str]],
    box: Sequence[float] | None = None,
    person: int | None = None,
    *,
    model: Engine | None = None,
    device: str = "auto",
    weights: str | PathLike[str] | None = None,
    params: InferenceParams | None = None,
    top_k: int | None = None,
    min_score: float | None = None,
    exclude_query: bool = False,
    recursive: bool = True,
    max_pixels: int | None = None,
    batch: int | None = None,
) -> SearchResult:
    """Find a person in every image of a gallery: what `qeeps search` does, as a function that writes nothing.

    query: the picture of the person. box: where in it, (x1, y1, x2, y2) pixels; or person: the number that
    `qeeps detect` gives; neither: the whole picture is the person's crop. gallery: a folder or an image, or several.
    model: from `load_model`; else weights and device say what to load. The rest are the options of `qeeps search`.

    Raises QeepsError's kinds: UsageError, ImageError (the query), NothingToSearchError, WeightsError, DeviceError.
    Gallery images that cannot be decoded are in the result's `skipped`.
    """
    from qeeps_cli.errors import UsageError
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.searching.request import SearchOptions, list_galleries, read_query
    from qeeps_cli.searching.run import choose_person, load_engine, run_search

    if box is not None and person is not None:
        raise UsageError("expected either a box or a person's number, got both.")
    options = SearchOptions(top_k, min_score, exclude_query, MAX_PIXELS if max_pixels is None else max_pixels, batch)
    picture = read_query(query, box, options.max_pixels)
    frames = list_galleries([gallery] if isinstance(gallery, (str, PathLike)) else gallery, recursive)
    if model is None:
        model = load_engine(weights, device, params)[0]
    elif params is not None:
        model = Engine(model.model, model.device, params)
    if person is not None:
        picture = choose_person(model, picture, person)
    return run_search(model, picture, frames, options)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("qeeps-cli")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
