"""How a search goes about its work, decided from its size alone: what a cache holds must not change a result."""

from dataclasses import dataclass

from qeeps_cli.searching.cascade import shortlist_size
from qeeps_cli.searching.request import SearchOptions

# An exact pair takes about half a second on two CPU cores (docs/performance.md) and should take some milliseconds on a
# GPU: a few minutes at most.
EXACT_PAIRS = {"cpu": 200, "cuda": 10_000}


@dataclass(frozen=True)
class Plan:
    """mode: "exact", "cached" or "cascade". reason: why "auto" chose it; None where it was asked for. shortlist: frames
    that the cascade re-scores for each query, None in the other modes."""

    mode: str
    reason: str | None = None
    shortlist: int | None = None

    def to_dict(self) -> dict:
        """As JSON types, without the mode."""
        return {"mode_reason": self.reason, "shortlist": self.shortlist}


def plan_search(options: SearchOptions, frames: int, queries: int, device: str) -> Plan:
    """The mode of a search over so many frames for so many queries. device: "cpu" or "cuda".

    "auto" is exact up to EXACT_PAIRS pairs of query and frame, and where the shortlist would hold every frame; beyond
    that it is the cascade. With `expand` it is cached.
    """
    listed = shortlist_size(options.shortlist, frames)
    if options.mode != "auto":
        return Plan(options.mode, None, listed if options.mode == "cascade" else None)
    if options.expand:
        return Plan("cached", "--expand ranks people who were found without the query")
    pairs, most = frames * queries, EXACT_PAIRS.get(device, EXACT_PAIRS["cpu"])
    count = f"{pairs} pair{'s' if pairs != 1 else ''} of query and frame"
    if pairs <= most:
        return Plan("exact", f"{count}, at most {most}")
    if listed == frames:
        return Plan("exact", f"the shortlist would hold all {frames} frames")
    return Plan("cascade", f"{count}, more than {most}", listed)
