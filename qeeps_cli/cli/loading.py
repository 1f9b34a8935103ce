"""Weights to an engine, a place to a cache, with what the user should know about them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages, visible_name

if TYPE_CHECKING:
    from qeeps_cli.cache.store import Cache
    from qeeps_cli.model.config import InferenceParams
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.weights import Checkpoint


def load(
    weights: str | None, device: str, params: "InferenceParams | None", messages: Messages
) -> "tuple[Engine, Checkpoint]":
    """The network on its device. Raises WeightsError, DeviceError, UsageError."""
    from qeeps_cli.device import describe, fallback_note
    from qeeps_cli.searching.loading import load_engine

    engine, checkpoint = load_engine(weights, device, params)
    messages.detail(f"weights {visible_name(checkpoint.path)}, sha256 {checkpoint.digest}")
    messages.detail(f"device  {describe(engine.device)}, {str(engine.dtype).removeprefix('torch.')}")
    if note := fallback_note(device, engine.device):
        messages.note(note)
    return engine, checkpoint


@contextmanager
def open_cache(
    roots: Sequence[Path],
    folder: Path | None,
    messages: Messages,
    *,
    use: bool = True,
    needed_by: str | None = None,
    read_only: bool = False,
) -> "Iterator[Cache | None]":
    """The cache of a gallery, as long as the block lasts; None without `use`.

    folder: --cache, which Typer also takes from $QEEPS_CACHE; None: the default place for these roots. needed_by: what
    can do nothing where nothing can be kept, which then is a CacheError. read_only: keep nothing. A problem that does
    not stop the command is a note. Whoever interrupts the block is told that what it did is kept.
    """
    if not use:
        yield None
        return
    from qeeps_cli.cache.folder import is_writable
    from qeeps_cli.cache.location import choose_folder
    from qeeps_cli.cache.store import Cache
    from qeeps_cli.cli.process import Terminated
    from qeeps_cli.errors import CacheError

    place = choose_folder(roots, folder)
    # Before there is a Cache, which would note that the command goes on. Of a file in the folder's place it says more.
    if needed_by and not os.path.isfile(place) and not is_writable(place):
        raise CacheError(
            f"{needed_by} needs a cache folder that can be written, and {visible_name(place)} cannot. Change its "
            "permissions, or name another place with --cache."
        )
    cache = Cache(place, read_only=read_only, warn=messages.note)
    messages.detail(f"cache   {visible_name(place)}")
    try:
        with cache:
            yield cache
    except (KeyboardInterrupt, Terminated):
        if cache.writable:
            messages.say(f"what was computed is kept in {visible_name(place)}: the same command goes on from there")
        raise
