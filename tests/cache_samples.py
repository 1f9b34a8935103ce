"""Detections made up from a digest, and caches of them."""

import hashlib
import os
from pathlib import Path

import numpy as np

from qeeps_cli.cache.store import Cache
from qeeps_cli.types import Detections

FINGERPRINT = {"weights": "ab" * 32, "parameters": {"nms": 0.4}, "precision": "float32"}
SIZE = (480, 640)
DIMENSIONS = 8
NOBODY = 65534


def digest(name: object) -> str:
    return hashlib.blake2b(str(name).encode(), digest_size=16).hexdigest()


def found(name: object, people: int | None = None, proposals: int | None = None) -> Detections:
    """What a network might find: 0 to 4 people, always the same ones for a name."""
    random = np.random.default_rng(int(digest(name)[:8], 16))
    people = int(random.integers(5)) if people is None else people
    return Detections(
        random.uniform(0, 400, (people, 4)).astype(np.float32),
        random.uniform(0, 1, people).astype(np.float32),
        random.uniform(0, 1, people).astype(np.float32),
        random.normal(size=(people, DIMENSIONS)).astype(np.float32),
        None if proposals is None else random.uniform(0, 400, (proposals, 4)).astype(np.float32),
    )


def same(a: Detections, b: Detections) -> bool:
    """Byte for byte, types and shapes included."""
    names = ("boxes", "person_scores", "scores", "embeddings", "proposals")
    return all(_bytes(getattr(a, name)) == _bytes(getattr(b, name)) for name in names)


def _bytes(array: np.ndarray | None) -> object:
    return None if array is None else (array.dtype, array.shape, array.tobytes())


def refuse(warning: str) -> None:
    raise AssertionError(f"unexpected warning: {warning}")


def fill(folder: Path, names, fingerprint=FINGERPRINT) -> dict[str, Detections]:
    """A cache of frames; what `add` gave for each."""
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(fingerprint)
        return {name: store.add(digest(name), f"{name}.jpg", SIZE, found(name)) for name in names}


def read(folder: Path, names, fingerprint=FINGERPRINT, warn=refuse) -> dict[str, Detections]:
    """Those of the frames that are cached."""
    with Cache(folder, read_only=True, warn=warn) as cache:
        store = cache.frames(fingerprint)
        return {name: store.get(digest(name)) for name in names if digest(name) in store}


def same_frames(a: dict[str, Detections], b: dict[str, Detections]) -> bool:
    return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)


def segments(folder: Path, kind: str = "frames") -> list[Path]:
    return sorted(folder.glob(f"{kind}-*.h5"))


def reseal(path: Path) -> None:
    """Gives a changed segment the name of its bytes, as if it had been written so."""
    name = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    path.rename(path.with_name(f"{path.name.split('-')[0]}-{name}.h5"))


def in_child(action) -> int:
    """The exit code of a forked child: 0 when the action gives a true value."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if action() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def unprivileged(action, user: int = NOBODY) -> int:
    """The exit code of a child that is not root: that of its action, as in `in_child`."""

    def without_root() -> bool:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        return action()

    return in_child(without_root)
