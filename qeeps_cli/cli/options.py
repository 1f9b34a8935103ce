"""Options that several commands have, once."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from qeeps_cli.model.config import InferenceParams

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
        help="Only tell the plan: frames, mode, device, what is cached, a rough time. Nothing is run or written.",
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
class NetworkOptions:
    """What the network may do differently without other weights; a group for `groups.flat`."""

    proposals: Proposals = _DEFAULTS.proposals
    min_objectness: MinObjectness = _DEFAULTS.min_objectness
    min_person_score: MinPersonScore = _DEFAULTS.min_person_score
    nms: Nms = _DEFAULTS.nms
    second_pass: SecondPass = _DEFAULTS.second_pass

    def params(self) -> InferenceParams:
        return InferenceParams(**asdict(self))
