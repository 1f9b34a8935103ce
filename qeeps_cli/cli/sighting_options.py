"""The options of `qeeps search` that group matches into sightings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from qeeps_cli.errors import UsageError

if TYPE_CHECKING:
    from qeeps_cli.sightings.of_result import SightingRules

WithSightings = Annotated[
    bool,
    typer.Option(
        "--sightings",
        help="Group matches into sightings: by which camera, from when to when. In json beside the matches, in csv and "
        "jsonl instead of them, in DIR as sightings.csv and a timeline in the report.",
    ),
]
Gap = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="The most that lies between two matches of a sighting; in frames where their time is not known. "
        "Default: 10.",
    ),
]
Score = Annotated[
    float | None,
    typer.Option(metavar="F", help="What the best match of a frame needs to be part of a sighting. Default: 0.5."),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Where names of frames or videos have camera and time, such as '{camera}_%Y-%m-%d_%H-%M-%S'. Default: the "
        "folder or video is the camera, EXIF data or the video says when.",
    ),
]


@dataclass(frozen=True)
class SightingOptions:
    """Whether there are sightings, and of what; a group for `groups.flat`."""

    sightings: WithSightings = False
    sighting_gap: Gap = None
    sighting_score: Score = None
    time_pattern: Pattern = None

    def rules(self) -> "SightingRules | None":
        """None where no sightings are asked for. Raises UsageError."""
        given = {"gap": self.sighting_gap, "score": self.sighting_score, "time_pattern": self.time_pattern}
        given = {name: value for name, value in given.items() if value is not None}
        if not self.sightings:
            if given:
                raise UsageError(
                    "--sighting-gap, --sighting-score and --time-pattern are of sightings: add --sightings."
                )
            return None
        from qeeps_cli.sightings.of_result import SightingRules

        return SightingRules(**given)
