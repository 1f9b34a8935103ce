"""Kills, forks, several processes, closed folders and full disks."""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cache_samples import (
    FINGERPRINT,
    NOBODY,
    SIZE,
    digest,
    fill,
    found,
    in_child,
    read,
    refuse,
    same,
    same_frames,
    segments,
    unprivileged,
)
from command_line import environment

from qeeps_cli.cache import folder as disk
from qeeps_cli.cache import maintenance
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import CacheError, ExitCode

FRAMES = range(120)

# Caches frames and publishes every few of them; prints a line when the first segment is there.
WRITER = """
import sys
from pathlib import Path
from cache_samples import FINGERPRINT, SIZE, digest, found, refuse
from qeeps_cli.cache import table
from qeeps_cli.cache.store import Cache
table.PENDING_BYTES = int(sys.argv[2])
with Cache(Path(sys.argv[1]), warn=refuse) as cache:
    store = cache.frames(FINGERPRINT)
    for number in range(int(sys.argv[3])):
        if digest(number) not in store:
            store.add(digest(number), "x", SIZE, found(number))
        if number == 20:
            print("running", flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery.qeeps"


def python(program: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen:
    here = Path(__file__).parent
    return subprocess.Popen(
        [*before, sys.executable, "-c", program, *map(str, arguments)],
        env=environment(PYTHONPATH=f"{here}{os.pathsep}{here.parent}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == expected, stderr.decode()
    return stdout.decode()


def test_a_kill_loses_nothing_that_was_published(folder, tmp_path):
    clean = fill(tmp_path / "clean.qeeps", FRAMES)
    wait = random.Random(0)
    for _ in range(4):
        process = python(WRITER, folder, 500, 10_000_000)
        assert process.stdout.readline() == b"running\n"
        time.sleep(wait.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        found_there = maintenance.inspect(folder)
        assert len(found_there.segments) >= 3
        assert not (found_there.damaged or found_there.ignored or found_there.aside)
    kept = read(folder, FRAMES)
    assert len(kept) >= 20 and all(same(kept[name], clean[name]) for name in kept)
    finish(python(WRITER, folder, 500, len(FRAMES)))
    assert same_frames(read(folder, FRAMES), clean)
    maintenance.compact(folder)
    assert same_frames(read(folder, FRAMES), clean) and not list(folder.glob(".*"))


def test_two_processes_share_a_cache(folder, tmp_path):
    clean = fill(tmp_path / "clean.qeeps", FRAMES)
    writers = [python(WRITER, folder, 1000, len(FRAMES)) for _ in range(2)]
    for _ in range(5):
        if folder.exists():
            maintenance.compact(folder)
        time.sleep(0.05)
    for writer in writers:
        finish(writer)
    assert same_frames(read(folder, FRAMES), clean)
    maintenance.compact(folder)
    assert same_frames(read(folder, FRAMES), clean) and len(segments(folder)) == 1


def test_a_cache_survives_a_fork(folder):
    intact = fill(folder, range(10))
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)

        def all_there() -> bool:
            blocks = store.blocks([digest(name) for name in range(10)])
            detections = sum(len(block.boxes) for block in blocks)
            one_by_one = all(same(store.get(digest(name)), intact[name]) for name in range(10))
            return one_by_one and detections == sum(map(len, intact.values()))

        def child_adds() -> bool:
            with cache:
                store.add(digest("child"), "x", SIZE, found("child"))
                return all_there()

        assert all_there() and in_child(all_there) == 0 and in_child(child_adds) == 0
        store.add(digest("parent"), "x", SIZE, found("parent"))
        assert all_there()
    assert len(read(folder, [*range(10), "child", "parent"])) == 12


def test_a_fork_does_not_remove_what_its_parent_keeps_for_a_while():
    with Cache(None, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        store.add(digest("a"), "a", SIZE, found("a"))
        cache.flush()
        assert in_child(lambda: cache.__exit__(None, None, None) is None) == 0
        assert list(store.blocks([digest("a")]))


@pytest.fixture
def closed_folder():
    """A filled cache that nobody may write to; not in tmp_path, whose parents are closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "gallery.qeeps"
        fill(folder, "ab")
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_closed_folder_warns_and_serves(closed_folder):
    def search() -> bool:
        warnings: list[str] = []
        with Cache(closed_folder, warn=warnings.append) as cache:
            store = cache.frames(FINGERPRINT)
            assert len(warnings) == 1 and "cannot be written" in warnings[0] and not cache.writable
            store.add(digest("c"), "c", SIZE, found("c"))
            cache.flush()
            return all(digest(name) in store for name in "abc") and len(warnings) == 1

    before = sorted(closed_folder.iterdir())
    assert unprivileged(search) == 0
    assert sorted(closed_folder.iterdir()) == before


def test_a_folder_that_is_closed_in_mid_run(closed_folder):
    def search() -> bool:
        warnings: list[str] = []
        with Cache(closed_folder, warn=warnings.append) as cache:
            store = cache.frames(FINGERPRINT)
            assert cache.writable
            closed_folder.chmod(0o555)
            for name in "cd":
                store.add(digest(name), name, SIZE, found(name))
                cache.flush()
            return all(digest(name) in store for name in "abcd") and not cache.writable and len(warnings) == 1

    closed_folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(closed_folder, NOBODY, NOBODY)
    assert unprivileged(search) == 0


def test_a_closed_cache_cannot_be_compacted_or_cleared(closed_folder):
    def refused(action) -> bool:
        try:
            action(closed_folder)
        except CacheError as error:
            return "cannot be written" in str(error)
        return False

    assert unprivileged(lambda: refused(maintenance.compact)) == 0
    assert unprivileged(lambda: refused(maintenance.clear)) == 0


def test_a_folder_that_cannot_be_listed():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o700)
        folder = Path(name) / "gallery.qeeps"
        fill(folder, "a")
        folder.chmod(0o700)
        Path(name).chmod(0o755)

        def refused() -> bool:
            try:
                Cache(folder, warn=refuse)
            except CacheError as error:
                return "cannot be listed" in str(error)
            return False

        if os.geteuid() == 0:
            assert unprivileged(refused) == 0


# Fills the disk while it publishes; ends with the exit code of the error.
FULL = """
import resource, sys
from pathlib import Path
from cache_samples import FINGERPRINT, SIZE, digest, found
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import OutputError
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
warnings = []
try:
    with Cache(folder, warn=warnings.append) as cache:
        store = cache.frames(FINGERPRINT)
        store.add(digest("small"), "x", SIZE, found("small", 3))
        cache.flush()
        for number in range(100):
            store.add(digest(number), "x", SIZE, found(number, 2000))
            cache.flush()
except OutputError as error:
    assert warnings == [], warnings  # told once
    there = sorted(path.name[0] for path in folder.iterdir())
    print(error, there, sep="\\n")
    with Cache(folder, read_only=True, warn=warnings.append) as cache:
        store = cache.frames(FINGERPRINT)
        assert digest("small") in store and not warnings, warnings
    sys.exit(error.exit_code)
"""


def test_a_file_too_large_for_the_disk(folder):
    output = finish(python(FULL, folder, 50_000), expected=ExitCode.OUTPUT)
    assert os.strerror(errno.EFBIG) in output and "['f']" in output  # one segment, no temporary
    assert read(folder, ["small"]).keys() == {"small"}


def test_a_full_disk(tmp_path):
    alone = ("unshare", "--user", "--map-root-user", "--mount")
    mount = 'mount -t tmpfs -o size=300k none "$0" || exit 99; exec "$@"'
    process = python(FULL, tmp_path / "gallery.qeeps", 0, before=(*alone, "sh", "-c", mount, str(tmp_path)))
    stdout, stderr = process.communicate(timeout=60)
    if process.returncode == 99 or b"unshare" in stderr:
        pytest.skip("needs the right to mount a small file system")
    assert process.returncode == ExitCode.OUTPUT, stderr.decode()
    assert os.strerror(errno.ENOSPC) in stdout.decode() and "." not in stdout.decode().splitlines()[-1]


def test_a_full_disk_does_not_hide_what_went_wrong_before(folder):
    program = """
import resource, sys
from pathlib import Path
from cache_samples import FINGERPRINT, SIZE, digest, found
from qeeps_cli.cache.store import Cache
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
warnings = []
try:
    with Cache(Path(sys.argv[1]), warn=warnings.append) as cache:
        cache.frames(FINGERPRINT).add(digest("a"), "x", SIZE, found("a"))
        raise ZeroDivisionError
except ZeroDivisionError:
    assert len(warnings) == 1 and "cannot write to the cache" in warnings[0], warnings
"""
    finish(python(program, folder))


def test_temporaries_of_the_dead_are_removed_and_those_of_the_living_stay(folder):
    fill(folder, "a")
    ended = subprocess.Popen(["true"])
    ended.wait()
    sleeping = subprocess.Popen(["sleep", "60"])

    def temporary(machine: str, process: int, age: float = 0.0) -> Path:
        path = folder / f".qeeps-{machine}-{process}-00.tmp"
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
        return path

    here, day = disk._machine(), disk.STALE_SECONDS
    try:
        living = [
            temporary(here, os.getpid()),
            temporary(here, sleeping.pid, 2 * day),  # stopped over the weekend, perhaps
            temporary("0" * 8, ended.pid),  # the same number on another machine
        ]
        dead = [temporary(here, ended.pid), temporary("0" * 8, 1, 2 * day)]
        assert read(folder, "a").keys() == {"a"} and maintenance.inspect(folder).temporaries == sorted(living + dead)
        maintenance.compact(folder)
        assert [path.exists() for path in living] == [True] * 3 and [path.exists() for path in dead] == [False] * 2
    finally:
        sleeping.kill()
        sleeping.wait()
