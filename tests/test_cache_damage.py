"""What a cache folder may hold besides whole segments of this version."""

import os
import random
import subprocess
import sys

import h5py
import numpy as np
import pytest
from cache_samples import FINGERPRINT, SIZE, digest, fill, found, read, refuse, reseal, same_frames, segments
from command_line import environment

from qeeps_cli.cache import maintenance
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import CacheError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery.qeeps"


def check_damage(folder, intact) -> None:
    """The damaged segment is noticed, set aside and computed again; the others serve."""
    warnings: list[str] = []
    with Cache(folder, warn=warnings.append) as cache:
        store = cache.frames(FINGERPRINT)
        assert [name for name in "ab" if digest(name) in store] == ["b"]
        store.add(digest("a"), "a.jpg", SIZE, found("a"))
    assert len(warnings) == 1 and "damaged" in warnings[0] and "set aside" in warnings[0]
    assert same_frames(read(folder, "ab"), intact)
    assert len(list(folder.glob("*.h5.damaged"))) == 1 and len(segments(folder)) == 2


@pytest.mark.parametrize("size", [0, 96, -1])
def test_a_segment_cut_short(folder, size):
    intact = fill(folder, "a")
    [path] = segments(folder)
    intact |= fill(folder, "b")
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    check_damage(folder, intact)


def test_any_byte_flipped(folder):
    intact = fill(folder, "a")
    [path] = segments(folder)
    intact |= fill(folder, "b")
    content = path.read_bytes()
    places = [0, 8, len(content) - 1, *random.Random(0).sample(range(len(content)), 40)]
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert maintenance.inspect(folder).damaged == [path]
    check_damage(folder, intact)


def test_damaged_bytes_are_never_parsed(folder):
    """A file that libhdf5 would read without complaint is left alone when its name does not vouch for its bytes."""
    fill(folder, "a")
    [path] = segments(folder)
    with h5py.File(path, "r+") as hdf5:
        hdf5["person_scores"][...] = 0.5
    assert maintenance.inspect(folder).damaged == [path]
    warnings: list[str] = []
    assert read(folder, "a", warn=warnings.append) == {}
    assert len(warnings) == 1 and "not used" in warnings[0] and path.exists()  # it was opened only for reading


def write_foreign(folder) -> dict[str, str]:
    """Everything that does not belong there, with a word of the reason."""
    (folder / "notes.txt").write_text("text")
    (folder / "folder").mkdir()
    (folder / f"frames-{'0' * 32}.h5").mkdir()
    (folder / f"pairs-{'0' * 32}.h5").symlink_to("nowhere")
    os.mkfifo(folder / f"files-{'0' * 32}.h5")
    (folder / f"tracks-{'0' * 32}.h5").write_text("of a kind that this version does not have")
    reasons = dict.fromkeys(("notes.txt", "folder", f"tracks-{'0' * 32}.h5"), "not named like")
    reasons |= dict.fromkeys((f"{kind}-{'0' * 32}.h5" for kind in ("frames", "pairs", "files")), "not a file")

    def add(reason: str, name: str = "frames") -> None:
        before = set(folder.iterdir())
        reseal(draft)
        [new] = set(folder.iterdir()) - before
        reasons[new.name] = reason

    draft = folder / "frames-draft"
    draft.write_text("text under the name of a segment")
    add("no HDF5")
    with h5py.File(draft, "w") as hdf5:
        hdf5["results"] = np.arange(3)
    add("another program")
    with h5py.File(draft, "w") as hdf5:
        hdf5.attrs.update({"format": np.bytes_("qeeps.cache"), "schema": 1, "kind": np.bytes_("frames")})
    add("not as a segment should be")
    with h5py.File(draft, "w") as hdf5:
        hdf5.attrs.update({"format": np.bytes_("qeeps.cache"), "schema": 1, "kind": np.bytes_("pairs")})
    add("name does not say")
    return reasons


def test_what_is_no_segment_is_ignored_with_the_reason(folder):
    intact = fill(folder, "ab")
    reasons = write_foreign(folder)
    assert same_frames(read(folder, "ab"), intact)
    ignored = {item.name: item.reason for item in maintenance.inspect(folder).ignored}
    assert ignored.keys() == reasons.keys()
    assert [name for name in reasons if reasons[name] not in ignored[name]] == []


def rewrite(path, change) -> None:
    with h5py.File(path, "r+") as hdf5:
        change(hdf5)
    reseal(path)


def replace_array(name, values):
    def change(hdf5):
        del hdf5[name]
        hdf5.create_dataset(name, data=values)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda hdf5: hdf5.pop("boxes"), "boxes"),
        (replace_array("boxes", np.zeros((1, 4), np.float64)), "float32"),
        (replace_array("boxes", np.zeros((1, 4), np.float32)), "shape"),
        (replace_array("sizes", np.zeros((7, 2), np.int32)), "shape"),
        (replace_array("features", np.zeros(9, np.float16)), "shape"),
        (replace_array("offsets", np.array([0, 9, 4, 8], np.int64)), "does not fit"),
        (replace_array("offsets", np.array([0, 1, 2, 9], np.int64)), "does not fit"),
        (lambda hdf5: hdf5.attrs.pop("fingerprint"), "not as a segment"),
    ],
)
def test_a_segment_that_is_not_as_documented_is_ignored(folder, change, reason):
    with Cache(folder, warn=refuse) as cache:
        for name, people in (("a", 1), ("b", 3), ("c", 4)):
            cache.frames(FINGERPRINT).add(digest(name), name, SIZE, found(name, people))
    [path] = segments(folder)
    rewrite(path, change)
    found_there = maintenance.inspect(folder)
    assert found_there.segments == [] and reason in found_there.ignored[0].reason
    assert read(folder, "abc") == {}


def test_an_older_schema_is_computed_again(folder):
    intact = fill(folder, "ab")
    rewrite(segments(folder)[0], lambda hdf5: hdf5.attrs.modify("schema", 0))
    assert read(folder, "ab") == {} and len(maintenance.inspect(folder).older) == 1
    fill(folder, "ab")
    assert same_frames(read(folder, "ab"), intact)
    assert maintenance.compact(folder).files_after == 1


def test_a_newer_schema_is_refused(folder):
    fill(folder, "ab")
    rewrite(segments(folder)[0], lambda hdf5: hdf5.attrs.modify("schema", 2))
    with pytest.raises(CacheError, match="newer"):
        read(folder, "ab")
    maintenance.compact(folder)
    assert len(maintenance.inspect(folder).newer) == 1  # what a newer version made stays


def test_few_file_descriptors_are_enough(folder):
    for name in range(30):
        fill(folder, [name])
    program = f"""
import resource
from pathlib import Path
from cache_samples import digest, read
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
assert len(read(Path({str(folder)!r}), range(30))) == 30
"""
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here)])
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(PYTHONPATH=path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
