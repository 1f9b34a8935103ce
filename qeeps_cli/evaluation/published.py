"""Published results to read one's own beside: the rows of Tables 1 to 3 of the QEEPS paper, by protocol.

A row stands beside a run only if the protocol is the same: data set, gallery size, and the size that frames are scaled
to. All numbers are as Munjal et al. (CVPR 2019) print them; `year` is that of the method's own paper.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Protocol(NamedTuple):
    """dataset: as in `qeeps benchmark --dataset`. gallery_size: CUHK-SYSU's, else None. shorter_side: of the frames, in
    pixels, after scaling; the longer one is at most 1000 at 600 and at most 1500 at 900 ("‡" in the paper).
    """

    dataset: str
    gallery_size: int | None
    shorter_side: int


@dataclass(frozen=True)
class PublishedRow:
    """Per cent. None: not given in the paper."""

    method: str
    year: int
    mean_ap: float
    top1: float | None
    max_recall: float | None = None
    source: str = ""

    def to_json(self) -> dict:
        return {
            "method": self.method,
            "year": self.year,
            "mAP": self.mean_ap,
            "top1": self.top1,
            "max_recall": self.max_recall,
            "source": self.source,
        }


_TABLE_1 = "QEEPS paper (CVPR 2019), Table 1"
_TABLE_2 = "QEEPS paper (CVPR 2019), Table 2"
_TABLE_3 = "QEEPS paper (CVPR 2019), Table 3"

PUBLISHED: dict[Protocol, tuple[PublishedRow, ...]] = {
    Protocol("cuhk-sysu", 50, 600): (
        PublishedRow("OIM", 2017, 80.0, None, None, _TABLE_1),
        PublishedRow("OIM + QRPN", 2019, 82.1, 82.7, 96.6, _TABLE_1),
        PublishedRow("OIM + QSimNet", 2019, 85.1, 85.6, 98.1, _TABLE_1),
        PublishedRow("OIM + QRPN + QSimNet", 2019, 86.2, 86.7, 98.2, _TABLE_1),
        PublishedRow("QEEPS", 2019, 87.0, 87.1, 98.8, _TABLE_1),
    ),
    Protocol("cuhk-sysu", 100, 600): (
        PublishedRow("OIM", 2017, 75.5, 78.7, None, _TABLE_1),
        PublishedRow("IAN", 2017, 76.3, 80.1, None, _TABLE_2),
        PublishedRow("NPSM", 2017, 77.9, 81.2, None, _TABLE_2),
        PublishedRow("OIM + QRPN", 2019, 79.6, 80.4, 96.6, _TABLE_1),
        PublishedRow("OIM + QSimNet", 2019, 82.6, 83.0, 98.1, _TABLE_1),
        PublishedRow("OIM + QRPN + QSimNet", 2019, 83.1, 83.3, 98.2, _TABLE_1),
        PublishedRow("QEEPS", 2019, 84.4, 84.4, 98.8, _TABLE_1),
    ),
    Protocol("cuhk-sysu", 100, 900): (
        PublishedRow("Mask-G", 2018, 83.0, 83.7, None, _TABLE_2),
        PublishedRow("OIM‡", 2019, 83.3, 84.2, None, _TABLE_2),
        PublishedRow("QEEPS", 2019, 88.9, 89.1, None, _TABLE_2),
    ),
    Protocol("prw", None, 600): (
        PublishedRow("OIM", 2017, 21.3, 49.9, None, _TABLE_3),
        PublishedRow("IAN", 2017, 23.0, 61.9, None, _TABLE_3),
        PublishedRow("NPSM", 2017, 24.2, 53.1, None, _TABLE_3),
    ),
    Protocol("prw", None, 900): (
        PublishedRow("Mask-G", 2018, 32.6, 72.1, None, _TABLE_3),
        PublishedRow("OIM‡", 2019, 36.9, 75.7, None, _TABLE_3),
        PublishedRow("QEEPS", 2019, 37.1, 76.7, None, _TABLE_3),
    ),
    Protocol("prw-mini", None, 900): (
        PublishedRow("Mask-G", 2018, 33.1, 70.0, None, _TABLE_3),
        PublishedRow("OIM‡", 2019, 38.3, 70.0, None, _TABLE_3),
        PublishedRow("QEEPS", 2019, 39.1, 80.0, None, _TABLE_3),
    ),
}


def published_rows(protocol: Protocol) -> tuple[PublishedRow, ...]:
    """The published rows of exactly this protocol, as the paper orders them; none for most protocols."""
    return PUBLISHED.get(protocol, ())


def published_sides(protocol: Protocol) -> tuple[int, ...]:
    """The shorter sides at which the same data set and gallery size have published rows."""
    return tuple(sorted(p.shorter_side for p in PUBLISHED if p[:2] == protocol[:2]))
