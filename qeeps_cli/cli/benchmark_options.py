"""The options of `qeeps benchmark` that no other command has, and those of a labelled set."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qeeps_cli.errors import UsageError

if TYPE_CHECKING:
    from qeeps_cli.datasets.frames import FrameSet
    from qeeps_cli.evaluation.document import Setup

Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="examples (shipped), prw, prw-mini, cuhk-sysu, or coco (your own labels). Default: examples.",
    ),
]
Root = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of the set; docs/benchmark.md shows it.")]
GallerySize = Annotated[
    str | None,
    typer.Option(
        metavar="N|all", help="cuhk-sysu: 50, 100, 500, 1000, 2000, 4000 or all frames a query. Default: 100."
    ),
]
CrossCamera = Annotated[
    bool,
    typer.Option(
        "--cross-camera", help="prw, prw-mini: search other cameras' frames only. Not the published protocol."
    ),
]
Annotations = Annotated[
    str | None, typer.Option(metavar="FILE", help="coco: the labels, under DIR. Default: annotations.json.")
]
QueriesFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="coco: the queries, under DIR. Default: queries.json.")
]
Extra = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="coco: more labels, under DIR, such as people to ignore; may be repeated."),
]
Queries = Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N queries. Not comparable.")]
Frames = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only N frames a query: those with the person, then others. Not comparable."),
]


@dataclass(frozen=True)
class SetOptions:
    """The labelled set; a group for `groups.flat`."""

    dataset: Dataset = None
    root: Root = None
    gallery_size: GallerySize = None
    cross_camera: CrossCamera = False
    annotations: Annotations = None
    queries_file: QueriesFile = None
    extra: Extra = None
    queries: Queries = None
    frames: Frames = None

    @property
    def name(self) -> str:
        return self.dataset or "examples"

    def read(self) -> "tuple[FrameSet, Setup]":
        """Raises UsageError for options of another set, DataError for an unusable set."""
        from qeeps_cli.cli.benchmark_set import Named, read_set

        if self.dataset is None and self.root is not None:
            raise UsageError(
                f"--root {self.root} needs --dataset, which says what is in the folder: --dataset coco for labels of "
                "your own, or prw, prw-mini, cuhk-sysu."
            )
        files = {"annotations": self.annotations, "queries": self.queries_file, "extra": self.extra}
        return read_set(
            Named(
                self.name, self.root, self.gallery_size, self.cross_camera, files, self.queries, self.frames
            )
        )


Method = Annotated[
    str | None,
    typer.Option(
        metavar="qeeps|oim",
        help="Rank by the network's score, or by the cosine of query-independent embeddings, as the baseline does. "
        "Default: oim for weights of the variant oim, else qeeps.",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        metavar="exact|cached|cascade",
        help="qeeps: each pair through the network (the paper's); each frame once; or that, and then the best frames "
        "of each query exactly. Default: exact; for the examples cascade.",
    ),
]
DetThresh = Annotated[
    float,
    typer.Option(metavar="F", min=0, max=1, help="oim: do not rank people less probable than this; papers differ."),
]
Variant = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Make sure that the weights are of this row of the paper's Table 1."),
]
Detection = Annotated[
    bool | None,
    typer.Option(
        "--detection/--no-detection",
        help="exact: score query-independent detections too, one more pass a frame. Default: where that is cheap.",
    ),
]
SaveRankings = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write each query's best detections, a line of JSON each.")
]
Keep = Annotated[int, typer.Option(metavar="K", min=1, help="How many of them for each query.")]
Figure = Annotated[
    Path | None, typer.Option(metavar="FILE.jpg", help="Draw queries with their best matches, right and wrong.")
]
FigureQueries = Annotated[int, typer.Option(metavar="N", min=1, help="How many queries the figure shows.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the files of --save-rankings and --figure.")]
Runtime = Annotated[
    bool,
    typer.Option("--runtime", help="Measure the time of a pair (the paper's Table 4) instead of scoring a set."),
]
Size = Annotated[str, typer.Option(metavar="HxW", help="--runtime: the size of the pictures, in pixels.")]
CompareEager = Annotated[
    bool, typer.Option("--compare-eager", help="--runtime: measure the plain float32 network beside it.")
]
Backbone = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="--runtime: random weights of this backbone, such as the paper's resnet50."),
]
