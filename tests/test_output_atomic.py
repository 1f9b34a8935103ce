"""Files are wholly written or not at all, whatever interrupts them."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qeeps_cli.errors import OutputError
from qeeps_cli.output.atomic import atomic_file, check_file, write_file, write_stream

ROOT = Path(__file__).parents[1]


def run_python(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("data", [b"", b"new"])
def test_a_new_file_is_written_with_the_permissions_of_the_umask(tmp_path, data):
    write_file(tmp_path / "out.json", data)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "out.json").read_bytes() == data
    assert (tmp_path / "out.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["out.json", "plain"]


def test_an_old_file_keeps_its_permissions_and_a_link_its_target(tmp_path):
    (tmp_path / "real.json").write_bytes(b"old")
    (tmp_path / "real.json").chmod(0o640)
    (tmp_path / "link.json").symlink_to("real.json")
    write_file(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real.json").stat().st_mode) == 0o640


def test_the_longest_name_that_the_file_system_takes(tmp_path):
    write_file(tmp_path / ("n" * 255), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_mid_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with pytest.raises(error):
        with atomic_file(path) as stream:
            stream.write(b"half")
            stream.flush()
            raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_an_error_that_is_not_of_the_file_is_not_blamed_on_it(tmp_path):
    (tmp_path / "out.json").write_bytes(b"old")
    with pytest.raises(FileNotFoundError, match="absent"):
        with atomic_file(tmp_path / "out.json") as stream:
            stream.write(b"half")
            open(tmp_path / "absent")
    assert (tmp_path / "out.json").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    code = (
        "import sys, time\n"
        "from qeeps_cli.output.atomic import atomic_file\n"
        "with atomic_file(sys.argv[1]) as stream:\n"
        "    stream.write(b'half'); stream.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    with run_python(code, path) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_no_room_in_mid_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys\n"
        "from qeeps_cli.errors import OutputError\n"
        "from qeeps_cli.output.atomic import write_file\n"
        "before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))\n"
        "try:\n"
        "    write_file(sys.argv[1], b'x' * 100_000)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, before)\n"  # what measures coverage writes at the end
    )
    with run_python(code, path) as process:
        message, errors = process.communicate()
    assert errors == ""
    assert str(path) in message and "File too large" in message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(path, b"x")
        assert os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_stream_that_has_no_path_of_its_own(tmp_path):
    """What a shell makes of `>(...)`."""
    reader, writer = os.pipe()
    check_file(f"/dev/fd/{writer}")
    write_file(f"/dev/fd/{writer}", b"x")
    os.close(writer)
    assert os.read(reader, 10) == b"x"
    os.close(reader)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_is_checked_before_it_is_needed(tmp_path, overwrite):
    (tmp_path / "old.csv").write_bytes(b"old")
    (tmp_path / "link.csv").symlink_to("new.csv")
    (tmp_path / "folder").mkdir()
    for name in ("new.csv", "link.csv"):
        check_file(tmp_path / name, overwrite)
    if overwrite:
        check_file(tmp_path / "old.csv", overwrite)
    else:
        with pytest.raises(OutputError, match="old.csv exists. Use --overwrite"):
            check_file(tmp_path / "old.csv")
    with pytest.raises(OutputError, match="folder is a folder"):
        check_file(tmp_path / "folder", overwrite)
    with pytest.raises(OutputError, match="absent/out.csv: there is no folder .*absent. Make it"):
        check_file(tmp_path / "absent" / "out.csv", overwrite)
    (tmp_path / "dangling.csv").symlink_to("absent/out.csv")
    with pytest.raises(OutputError, match="dangling.csv: No such file"):
        check_file(tmp_path / "dangling.csv", overwrite)
    (tmp_path / "dangling.csv").unlink()
    assert sorted(os.listdir(tmp_path)) == ["folder", "link.csv", "old.csv"]
    assert (tmp_path / "old.csv").read_bytes() == b"old"


@pytest.mark.parametrize(
    "name, reason", [("no/such/folder.json", "there is no folder"), ("file/out.json", "Not a directory")]
)
def test_a_place_that_does_not_exist_is_named(tmp_path, name, reason):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=f"{name}: {reason}"):
        write_file(tmp_path / name, b"x")


def test_a_folder_in_the_files_place_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "out.json").mkdir()
    with pytest.raises(OutputError, match="out.json: Is a directory"):
        write_file(tmp_path / "out.json", b"x")
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_reader_that_left_is_no_output_error():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        with open(writer, "wb", buffering=0) as stream:
            write_stream(stream, b"x")
