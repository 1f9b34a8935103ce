"""The options of `qeeps search` that say where its results go and as what."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from qeeps_cli.errors import UsageError

# The same stream under its other names: it is not to be replaced by a file.
STDOUT = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="A folder for results.json, a contact sheet, a report and pictures of the matches."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|-",
        help="One file in --format; -: standard output, which is the default without --out. A file is written whole "
        "or not at all.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        metavar="json|jsonl|csv|coco",
        help="Format of --output. Default: that of FILE's ending; json where it has none. jsonl: a match a line, as "
        "frames are finished, without ranks; ranked at the end with --top-k. csv: for spreadsheets. coco: a COCO "
        "dataset. Of several queries each match has its id: `searches` in json, `query` in jsonl and csv, a category "
        "in coco.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace FILE; write into DIR although it holds other files.")
]
Annotate = Annotated[bool, typer.Option(help="Draw the matches into copies of their frames, in DIR/annotated.")]
Crops = Annotated[
    bool,
    typer.Option(
        "--crops",
        help="Cut the matches out of their frames, into DIR/crops: those of --top-k or --min-score, else the 50 best.",
    ),
]


@dataclass(frozen=True)
class OutputOptions:
    """Where results go, and as what; a group for `groups.flat`."""

    out: Out = None
    output: Output = None
    format: Format = None
    overwrite: Overwrite = False
    annotate: Annotate = True
    crops: Crops = False

    @property
    def file(self) -> Path | None:
        """The file of `format`; None where there is none, or it is standard output."""
        return None if self.output is None or str(self.output) in STDOUT else self.output

    @property
    def needs_frames(self) -> bool:
        """Whether the frames are opened once more, for pictures of the matches or for their sizes."""
        return self.out is not None or self.format_name == "coco"

    @property
    def to_stdout(self) -> bool:
        return self.file is None and (self.output is not None or self.out is None)

    @property
    def format_name(self) -> str:
        """`format`, or what the file's ending says. Raises UsageError where they do not say one thing."""
        from qeeps_cli.output.writers import choose_format

        return choose_format(self.format, self.file)

    def check(self, *, sightings: bool = False) -> None:
        """Whatever can be known of the output before there is any; writes nothing. sightings: whether it holds them.

        Raises UsageError for options that do not go together, OutputError for a place that cannot be written.
        """
        from qeeps_cli.cli.stdout import check_stdout
        from qeeps_cli.output.atomic import check_file
        from qeeps_cli.output.folder import check_folder
        from qeeps_cli.output.own_folder import FILES
        from qeeps_cli.output.writers import WRITERS, check_format, ending_of

        if self.out and ending_of(self.out) in WRITERS and not os.path.exists(self.out):
            raise UsageError(
                f"--out expects a folder, but {self.out} is named as a file. Use -o for a file, or give the folder a "
                "name without that ending."
            )
        if self.format is not None and self.out and self.output is None:
            raise UsageError(
                "--format is that of --output, and --out gets its own set of files: add -o FILE, or -o - for standard "
                "output."
            )
        if self.crops and not self.out:
            raise UsageError("--crops writes into the folder of --out: add --out DIR.")
        if self.out and self.file and self.file.name in FILES and self.file.parent.resolve() == self.out.resolve():
            raise UsageError(f"--output {self.file} is a file that --out writes itself. Give it another name.")
        check_format(self.format_name, sightings=sightings)
        if self.to_stdout:
            check_stdout()
        if self.file:
            check_file(self.file, self.overwrite)
        if self.out:
            check_folder(self.out, self.overwrite)
