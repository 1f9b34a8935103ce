"""Videos: when their frames are shown, which of them are searched, and their pixels."""

from qeeps_cli.videos.decoder import VideoDecoder
from qeeps_cli.videos.sampling import DEFAULT_EVERY, Every, Sampling, parse_every, parse_sampling
from qeeps_cli.videos.timeline import Moments, Timeline, read_timeline

__all__ = [
    "DEFAULT_EVERY",
    "Every",
    "Moments",
    "Sampling",
    "Timeline",
    "VideoDecoder",
    "parse_every",
    "parse_sampling",
    "read_timeline",
]
