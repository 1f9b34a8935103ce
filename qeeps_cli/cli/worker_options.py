"""Where `qeeps index` and `qeeps search` do their work: in this process, or by the workers of a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.cli.messages import Messages
from qeeps_cli.errors import UsageError

if TYPE_CHECKING:
    from qeeps_cli.cache.store import Cache
    from qeeps_cli.distributed.crew import RayCrew
    from qeeps_cli.searching.engine import Engine as NetworkEngine
    from qeeps_cli.searching.galleries import Gallery
    from qeeps_cli.searching.reading import Read
    from qeeps_cli.weights import Checkpoint

LOCAL, RAY = "local", "ray"

Engine = Annotated[
    str,
    typer.Option(
        metavar="local|ray", help="Who computes: this process, or the workers of a Ray cluster (docs/scale.md)."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="With --engine ray: the cluster, auto being this machine's. Default: one of its own, here, for this run.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="With --engine ray: how many. Default: one for each core, or for each share of a GPU."
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        metavar="G", min=0, help="With --engine ray: GPUs of each worker, such as 1 or 0.5. Default: 0, the processor."
    ),
]


@dataclass(frozen=True)
class WorkerOptions:
    """Who computes; a group for `groups.flat`."""

    engine: Engine = LOCAL
    address: Address = None
    workers: Workers = None
    gpus_per_worker: GpusPerWorker = None

    @property
    def is_ray(self) -> bool:
        return self.engine == RAY

    @property
    def cache_needed_by(self) -> str | None:
        """The option that can do nothing without a cache that can be written; None: there is none."""
        return "--engine ray" if self.is_ray else None

    def check(self, device: str, *, no_cache: bool = False) -> None:
        """Before anything is read. device: --device. Raises UsageError for options that do not go together."""
        if self.engine not in (LOCAL, RAY):
            raise UsageError(f"--engine expects local or ray, got {self.engine!r}.")
        if not self.is_ray:
            if (self.address, self.workers, self.gpus_per_worker) != (None, None, None):
                raise UsageError("--address, --workers and --gpus-per-worker belong to --engine ray.")
            return
        from qeeps_cli.distributed.cluster import check_installed

        check_installed()
        if no_cache:
            raise UsageError("--no-cache does not go with --engine ray, whose workers hand over in the cache.")
        kind = "cuda" if self.gpus_per_worker else "cpu"
        if device not in ("auto", kind):
            raise UsageError(
                f"--device {device} does not go with --engine ray and {self.gpus_per_worker or 0:g} GPUs per worker: "
                "leave it out, and give --gpus-per-worker for workers that compute on GPUs."
            )

    def check_gallery(self, gallery: "Gallery", cache: Path | None, *, needs_files: bool = False) -> None:
        """needs_files: whether the output opens frames. Raises UsageError for what cannot be done with URIs."""
        from qeeps_cli.gallery import is_uri

        if not is_uri(gallery.frames[0].name):
            return
        if cache is None:
            raise UsageError("a gallery of URIs has no folder beside it: name one for the cache with --cache.")
        if needs_files:
            raise UsageError("frames of an object store are not drawn: give -o FILE as json, jsonl or csv, not --out.")

    def device(self, device: str, *, only_indexes: bool = False) -> str:
        """--device for this process. What a search goes on with here must be what its workers compute; an index only
        needs the network as it is stored."""
        if not self.is_ray:
            return device
        return "cuda" if self.gpus_per_worker and not only_indexes else "cpu"

    def reader(self) -> "Read":
        """Of the bytes of frames: with Ray, these may be objects of an object store."""
        if self.is_ray:
            from qeeps_cli.distributed.objects import read

            return read
        from qeeps_cli.searching.reading import read_frame

        return read_frame

    @contextmanager
    def crew(
        self,
        checkpoint: "Checkpoint",
        network: "NetworkEngine",
        gallery: "Gallery",
        cache: "Cache | None",
        *,
        messages: Messages,
        only_indexes: bool = False,
        **settings: Any,
    ) -> "Iterator[RayCrew | None]":
        """The workers, as long as the block lasts; None where this process computes. network: of this process.
        settings: fields of RayCrew."""
        if not self.is_ray:
            yield None
            return
        from qeeps_cli.distributed.cluster import Cluster
        from qeeps_cli.distributed.crew import RayCrew
        from qeeps_cli.weights import load_model

        theirs = only_indexes and self.gpus_per_worker
        told = {"tell": messages.detail, "warn": messages.note}
        with Cluster(self.address, self.workers, self.gpus_per_worker or 0.0, **told) as cluster:
            yield RayCrew(
                cluster,
                load_model(checkpoint),
                checkpoint.digest,
                network.params,
                cache,
                gallery.frames,
                fingerprint=None if theirs else network.fingerprint(),
                **settings,
            )
