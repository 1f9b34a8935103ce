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
import os
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from qeeps_cli.keywords import DEFAULTS, SearchKeywords, takes_search_keywords

if TYPE_CHECKING:
    from qeeps_cli.errors import QeepsError
    from qeeps_cli.model.config import InferenceParams
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.types import Box, Detections, GalleryFrame, Match, Query, SearchResult, Sighting, Skipped

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
    "Sighting",
    "Skipped",
    "__version__",
    "find_sightings",
    "load_model",
    "search",
    "search_many",
]

_HOMES = {
    "Engine": "qeeps_cli.searching.engine",
    "InferenceParams": "qeeps_cli.model.config",
    "QeepsError": "qeeps_cli.errors",
    **dict.fromkeys(
        ("Box", "Detections", "GalleryFrame", "Match", "Query", "SearchResult", "Sighting", "Skipped"),
        "qeeps_cli.types",
    ),
}


def load_model(weights: str | PathLike[str] | None = None, device: str | None = None) -> Engine:
    """The network, ready to search; load it once for several searches.

    weights: a .safetensors file or the name of shipped weights; None: $QEEPS_WEIGHTS, else the default. device: "auto",
    "cpu", "cuda" or "cuda:N"; None: $QEEPS_DEVICE, else "auto". Raises WeightsError, DeviceError, UsageError.
    """
    from qeeps_cli.searching.loading import load_engine

    return load_engine(weights, _device(device))[0]


@takes_search_keywords
def search(
    query: str | PathLike[str],
    gallery: str | PathLike[str] | Iterable[str | PathLike[str]],
    box: Sequence[float] | None = None,
    person: int | None = None,
    **keywords: Unpack[SearchKeywords],
) -> SearchResult:
    """Find a person in every image of a gallery: what `qeeps search` does, as a function that gives the result.

    query: the picture of the person, or a moment of a video, "video.mp4@00:01:02". box: where in it, (x1, y1, x2, y2)
    pixels; or person: the number that `qeeps detect` gives; neither: the whole picture is the person's crop. gallery: a
    folder, an image, a video or a pattern such as "cam*/**/*.jpg", or several. model: from `load_model`; else weights
    and device say what to load. mode: "exact", "cached", "cascade" or "auto". shortlist: frames that the cascade
    compares exactly, a number or "5%". expand: of the mode "cached", the best match speaks for the others. cache: the
    folder for what is computed; None: $QEEPS_CACHE, else one beside the gallery; False: nothing is kept. refresh:
    compute again what it holds. every, limit: search only each N-th frame, and only so many; of videos, every "1s" is a
    frame a second, and start and end say from when to when. The rest are the options of `qeeps search`.

    Raises QeepsError's kinds: UsageError, ImageError (the query), NothingToSearchError, WeightsError, DeviceError,
    CacheError. Gallery images that cannot be decoded are in the result's `skipped`.
    """
    if box is not None and person is not None:
        from qeeps_cli.errors import UsageError

        raise UsageError("expected either a box or a person's number, got both.")
    return search_many([(query, box if person is None else person)], gallery, **keywords)[0]


@takes_search_keywords
def search_many(
    queries: Sequence[tuple[str | PathLike[str], Sequence[float] | int | None]],
    gallery: str | PathLike[str] | Iterable[str | PathLike[str]],
    **keywords: Unpack[SearchKeywords],
) -> list[SearchResult]:
    """Find several people in one gallery, a result for each; every frame is decoded once for all of them.

    queries: a picture each, with a box, a person's number or None as in `search`. The rest as in `search`.
    """
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.searching.galleries import list_galleries
    from qeeps_cli.searching.loading import load_engine, open_cache
    from qeeps_cli.searching.queries import QueryRequest, read_requests
    from qeeps_cli.searching.request import SearchOptions
    from qeeps_cli.searching.run import run_search

    given = DEFAULTS | keywords
    pixels = MAX_PIXELS if given["max_pixels"] is None else given["max_pixels"]
    wanted = ("top_k", "min_score", "exclude_query", "batch", "mode", "shortlist", "expand")
    own = {name: given[name] for name in wanted}
    options = SearchOptions(max_pixels=pixels, **own)
    requests = [
        QueryRequest(Path(image), person=where) if isinstance(where, int) else QueryRequest(Path(image), where)
        for image, where in queries
    ]
    pictures = read_requests(requests, pixels)
    roots = [gallery] if isinstance(gallery, (str, PathLike)) else list(gallery)
    cut = {name: given[name] for name in ("every", "start", "end", "limit")}
    found = list_galleries(roots, given["recursive"], **cut)
    model, params = given["model"], given["params"]
    if model is None:
        model = load_engine(given["weights"], _device(given["device"]), params)[0]
    elif params is not None:
        model = model.with_params(params)
    for i, (_, where) in enumerate(queries):
        if isinstance(where, int):
            from qeeps_cli.searching.people import choose_person

            pictures[i] = choose_person(model, pictures[i], where, pixels)
    with open_cache([found.home], given["cache"]) as used:
        return list(run_search(model, pictures, found, options, cache=used, refresh=given["refresh"]))


def find_sightings(
    result: SearchResult, gap: float = 10.0, score: float = 0.5, time_pattern: str | None = None
) -> list[Sighting]:
    """Group the matches of a search into sightings: by which camera, from when to when.

    Of each frame its best match counts, if it scores at least score. Two consecutive ones of a camera belong together
    when at most gap seconds (where no times are known: frames) lie between. time_pattern: where the frames' names have
    camera and time, such as "{camera}_%Y-%m-%d_%H-%M-%S"; else a frame's camera is its video or folder, and its time
    that of the video or of its EXIF data. Raises UsageError for a pattern that is none or fits no name.
    """
    from qeeps_cli.sightings.of_result import SightingRules
    from qeeps_cli.sightings.of_result import find_sightings as find

    return find(result, SightingRules(gap, score, time_pattern))


def _device(given: str | None) -> str:
    return given or os.environ.get("QEEPS_DEVICE") or "auto"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("qeeps-cli")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
