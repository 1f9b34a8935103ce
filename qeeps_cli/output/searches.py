"""Several searches of one run: as one JSON document, or as a folder with a folder for each.

- `results.json`: an overview, schema qeeps.overview/1
- `report.html`: all searches as one page, to look through and to judge (see `report`)
- `<id>/`: each search, as `folder` lays it out, without a page of its own
- `.qeeps-output`: marks the folder as ours and lists the above
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.output import json_writer
from qeeps_cli.output.folder import Written, write_folder
from qeeps_cli.output.names import folder_names
from qeeps_cli.output.own_folder import REPORT, RESULTS, OwnFolder
from qeeps_cli.output.report import SEARCHES, locate_result, make_report
from qeeps_cli.output.report_pictures import Located
from qeeps_cli.types import SearchResult


def encode_search(id: str, result: SearchResult, weights: Mapping[str, str], mode: str) -> bytes:
    """One of several searches: the document of `search_document`, with its id. Raises NotANumberError as that does."""
    return json_writer.dump({"id": id, **json_writer.search_document(result, weights, mode)})


def join_searches(documents: Iterable[bytes]) -> bytes:
    """What `encode_search` gave, as one document of schema `qeeps.searches/1`."""
    inner = b",\n".join(document.rstrip(b"\n") for document in documents)
    return b'{\n  "schema": "%s",\n  "searches": [\n%s\n  ]\n}\n' % (json_writer.SEARCHES_SCHEMA.encode("ascii"), inner)


class SearchesFolder:
    """Writes the layout above, a search at a time, into a folder that `check_folder` has accepted."""

    def __init__(self, out: Path, ids: Sequence[str]):
        self.out = Path(out)
        self._ids = list(ids)
        self._names = folder_names(self._ids)
        self._entries: list[dict[str, Any]] = []
        self._located: list[Located] = []
        self._max_pixels = MAX_PIXELS
        self._folder = OwnFolder(self.out)
        self._folder.begin({RESULTS, REPORT, *(f"{name}/" for name in self._names)})

    def write(
        self,
        result: SearchResult,
        weights: Mapping[str, str],
        mode: str,
        *,
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> Written:
        """The next search, in the order of the ids. options: of `write_folder`; raises what that raises."""
        self._max_pixels = max_pixels
        number = len(self._entries)
        name = self._names[number]
        options |= {"report": False, "max_pixels": max_pixels}
        written = write_folder(self.out / name, result, weights, mode, **options)
        if number < SEARCHES:
            document = json_writer.search_document(result, weights, mode)
            self._located.append(locate_result(document, result, self._ids[number], len(self._ids)))
        self._folder.written.add(f"{name}/")
        self._entries.append(
            {
                "id": self._ids[number],
                "results": f"{name}/{RESULTS}",
                "query": json_writer.query_document(result.query),
                "frames_searched": result.frames_searched,
                "skipped": len(result.skipped),
                "matches": len(result.matches),
                **({} if result.sightings is None else {"sightings": len(result.sightings)}),
                "best_score": json_writer.best_score(result),
                "best": json_writer.match_document(result.matches[0]) if result.matches else None,
            }
        )
        return written

    def finish(self, weights: Mapping[str, str], mode: str) -> Path:
        """The overview; returns its path. What an earlier run left in the folder is removed."""
        document = {
            "schema": json_writer.OVERVIEW_SCHEMA,
            "weights": {"name": weights["name"], "digest": weights["digest"]},
            "mode": mode,
            "searches": self._entries,
        }
        self._folder.write(RESULTS, json_writer.dump(document))
        report = make_report(self._located, total=len(self._entries), max_pixels=self._max_pixels)
        self._folder.write(REPORT, report.html)
        self._folder.finish()
        return self.out / RESULTS
