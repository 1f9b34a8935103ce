"""Options that several commands have, once."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.model.config import InferenceParams

if TYPE_CHECKING:
    from qeeps_cli.cache.store import Cache as OpenCache
    from qeeps_cli.cli.messages import Messages
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.weights import Checkpoint

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|NAME",
        help="Weights: a .safetensors file, or a name of shipped ones. Default: $QEEPS_WEIGHTS, then the shipped ones.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:N]", envvar="QEEPS_DEVICE", help="Where to compute; auto: a GPU if one works."
    ),
]
MaxPixels = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Refuse pictures of more pixels than this. Default: 120 million.")
]
Batch = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Frames that run together. Default: 1 on a CPU, 8 on a GPU.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only tell the plan: frames, mode, device, what is cached, and the time that it may take, for which up to "
        "three frames are tried. Nothing is written.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Progress = Annotated[bool, typer.Option(help="Say on stderr how far it is; a bar only on a terminal.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More on stderr, and tracebacks of unexpected errors.")]

# Where what was computed is kept, and how it is used: cli.loading.open_cache.
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="QEEPS_CACHE",
        help="Where to keep what was computed. Default: GALLERY.qeeps beside the gallery or set, else in your cache "
        "folder.",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Use no cache and leave none.")]
Refresh = Annotated[bool, typer.Option("--refresh", help="Compute again what the cache holds, and replace it.")]
RequireCache = Annotated[
    bool, typer.Option("--require-cache", help="Fail rather than run when nothing can be kept in the cache.")
]
Shortlist = Annotated[
    str | None,
    typer.Option(
        metavar="K|P%",
        help="Frames that the cascade compares exactly: a number or a share. Default: 5%, at least 50, at most 500.",
    ),
]
Expand = Annotated[
    bool,
    typer.Option(
        "--expand",
        help="Query expansion: half of each score comes by way of the best match, which finds more of the same person. "
        "It implies --mode cached.",
    ),
]

Proposals = Annotated[int, typer.Option(metavar="N", min=1, help="Regions of a frame that are looked at closely.")]
MinObjectness = Annotated[
    float,
    typer.Option(
        metavar="F", min=0, max=1, help="Drop proposals that are less probably anything; makes a search faster."
    ),
]
MinPersonScore = Annotated[
    float, typer.Option(metavar="F", min=0, max=1, help="Drop what is less probably a person, whatever its match.")
]
Nms = Annotated[
    float,
    typer.Option(
        metavar="F", min=0, max=1, help="Of two people that overlap by more (IoU), the lower score is dropped."
    ),
]
SecondPass = Annotated[bool, typer.Option(help="Score people again on their refined boxes.")]

_DEFAULTS = InferenceParams()


@dataclass(frozen=True)
class EngineOptions:
    """Which network computes, where, and what it does differently than usual; a group for `groups.flat`."""

    weights: Weights = None
    device: Device = "auto"
    batch: Batch = None
    proposals: Proposals = _DEFAULTS.proposals
    min_objectness: MinObjectness = _DEFAULTS.min_objectness
    min_person_score: MinPersonScore = _DEFAULTS.min_person_score
    nms: Nms = _DEFAULTS.nms
    second_pass: SecondPass = _DEFAULTS.second_pass

    def params(self) -> InferenceParams:
        return InferenceParams(
            proposals=self.proposals,
            min_objectness=self.min_objectness,
            min_person_score=self.min_person_score,
            nms=self.nms,
            second_pass=self.second_pass,
        )

    def load(self, messages: "Messages", device: str | None = None) -> "tuple[Engine, Checkpoint]":
        """device: instead of the one that was asked for. Raises WeightsError, DeviceError, UsageError."""
        from qeeps_cli.cli.loading import load

        return load(self.weights, device or self.device, self.params(), messages)


@dataclass(frozen=True)
class CacheOptions:
    """Where what was computed is kept; a group for `groups.flat`."""

    cache: Cache = None
    no_cache: NoCache = False

    def open(
        self, roots: Sequence[Path], messages: "Messages", **how: Any
    ) -> "AbstractContextManager[OpenCache | None]":
        """The cache of a gallery or set, None with --no-cache. how: as `loading.open_cache` has it."""
        from qeeps_cli.cli.loading import open_cache

        return open_cache(roots, self.cache, messages, use=not self.no_cache, **how)
