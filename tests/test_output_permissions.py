"""What a user without root's rights meets: closed folders and full devices.

Each case runs in a forked child that has given up root. So the tests mean something when root runs them, and a mistake
in the code under test cannot replace a device of the machine.
"""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from qeeps_cli.errors import OutputError
from qeeps_cli.output.atomic import check_file, write_file, write_stream
from qeeps_cli.output.folder import check_folder

NOBODY = 65534
needs_full_device = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full on this system")


def output_error(action):
    """What the OutputError says that the action raises in an unprivileged child, up to the advice; "" if none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            action()
            status = 0
        except OutputError as error:
            os.write(writer, str(error).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as stream:
        message = stream.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return message.partition(". Free some space")[0]


@pytest.fixture
def closed_folder():
    """A folder that nobody may write to; not in tmp_path, whose parents are closed to other users altogether."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        yield Path(name)
        Path(name).chmod(0o755)


def test_a_closed_folder_is_refused_before_anything_is_written(closed_folder):
    assert output_error(lambda: check_folder(closed_folder)) == f"cannot write {closed_folder}: Permission denied"
    new = closed_folder / "new"
    assert output_error(lambda: check_folder(new)) == f"cannot write {new}: Permission denied"
    assert output_error(lambda: check_file(new)) == f"cannot write {new}: Permission denied"
    assert output_error(lambda: write_file(new, b"x")) == f"cannot write {new}: Permission denied"


@needs_full_device
def test_a_full_device_is_an_output_error_and_stays_a_device():
    assert output_error(lambda: write_file("/dev/full", b"x")) == "cannot write /dev/full: No space left on device"
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@needs_full_device
def test_full_standard_output_is_an_output_error():
    def print_to_full_device():
        with open("/dev/full", "wb", buffering=0) as stream:
            write_stream(stream, b"x")

    assert output_error(print_to_full_device) == "cannot write standard output: No space left on device"
