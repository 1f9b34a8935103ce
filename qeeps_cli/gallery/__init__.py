"""What is to be searched: folders, patterns and lists, to the names of frames in natural order."""

from qeeps_cli.gallery.folder import list_gallery
from qeeps_cli.gallery.frames import FrameList, unite
from qeeps_cli.gallery.lists import read_names, usable_names
from qeeps_cli.gallery.names import CACHE_SUFFIX, IMAGE_EXTENSIONS, OUTPUT_MARKER, is_uri, is_video_name, natural_key
from qeeps_cli.gallery.patterns import expand_pattern, is_pattern

__all__ = [
    "CACHE_SUFFIX",
    "IMAGE_EXTENSIONS",
    "OUTPUT_MARKER",
    "FrameList",
    "expand_pattern",
    "is_pattern",
    "is_uri",
    "is_video_name",
    "list_gallery",
    "natural_key",
    "read_names",
    "unite",
    "usable_names",
]
