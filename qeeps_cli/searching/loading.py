"""Weights to an engine, a gallery to its cache."""

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from qeeps_cli.cache.location import choose_folder
from qeeps_cli.cache.store import Cache
from qeeps_cli.device import resolve_device
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching import out_of_memory
from qeeps_cli.searching.engine import Engine
from qeeps_cli.weights import Checkpoint, find_weights, load_model, read_checkpoint

GPU_BATCH = 8


def load_engine(
    weights: str | Path | None = None, device: str = "auto", params: InferenceParams | None = None
) -> tuple[Engine, Checkpoint]:
    """The network of some weights, ready on a device, and what the checkpoint says of itself.

    weights: as in `find_weights`. device: as in `resolve_device`. Raises WeightsError, UsageError, DeviceError.
    """
    checkpoint = read_checkpoint(find_weights(weights))
    model, chosen = load_model(checkpoint), resolve_device(device)
    engine = out_of_memory.make_engine(model, chosen, params, checkpoint.digest, by_name=device != "auto")
    return engine, checkpoint


def open_cache(roots: Sequence[str | Path], folder: str | Path | bool | None) -> AbstractContextManager[Cache | None]:
    """The cache of a gallery for the Python API; what its user should know is a warning.

    folder: a path; None: $QEEPS_CACHE, else the default place for these roots; False: no cache. Raises CacheError.
    """
    if folder is False:
        return nullcontext()
    given = os.environ.get("QEEPS_CACHE") if folder in (None, True) else folder
    place = choose_folder([Path(root) for root in roots], Path(given) if given else None)
    return Cache(place, warn=lambda text: warnings.warn(text, stacklevel=2))


def batch_size(engine: Engine, batch: int | None) -> int:
    """How many frames run together, where the user does not say."""
    return batch or (GPU_BATCH if engine.device.type == "cuda" else 1)
