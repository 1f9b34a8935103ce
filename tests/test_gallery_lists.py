"""Lists of frames: what `find`, editors and other systems write, and what is no list at all."""

import io
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qeeps_cli.errors import UsageError
from qeeps_cli.gallery import OUTPUT_MARKER, read_names, usable_names


def names(data: bytes, null: bool = False) -> list[str]:
    return list(read_names(io.BytesIO(data), "the list", null=null))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n \n\r\n\t\n", []),
        (b"a.jpg", ["a.jpg"]),
        (b"a.jpg\n\nb.jpg\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        (b" a b.jpg \n'q'\".jpg\n-x.jpg\n#c.jpg\n[x].jpg\n", [" a b.jpg ", "'q'\".jpg", "-x.jpg", "#c.jpg", "[x].jpg"]),
        ("jäger.jpg\n".encode(), ["jäger.jpg"]),
        (b"caf\xe9.jpg\n", ["caf\udce9.jpg"]),
    ],
)
def test_lines(data, expected):
    assert names(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\0\0", []),
        (b"a.jpg", ["a.jpg"]),
        (b"a.jpg\0b.jpg\0", ["a.jpg", "b.jpg"]),
        (b"new\nline.jpg\0 \0end\r\0", ["new\nline.jpg", " ", "end\r"]),
        (b"caf\xe9 \xff.jpg\0", ["caf\udce9 \udcff.jpg"]),
    ],
)
def test_names_that_end_in_nul(data, expected):
    assert names(data, null=True) == expected


@pytest.mark.parametrize(
    ("data", "null", "told"),
    [
        (b"a.jpg\0b.jpg\0", False, "give --null"),
        ("a.jpg\n".encode("utf-16"), False, "UTF-16"),
        (b"a.jpg\nb.jpg\n", True, "omit --null"),
        (b"a.jpg\n" * 20_000, True, "omit --null"),
        (b"x" * 70_000, False, "no list of files"),
        (b"x" * 200_000 + b"\0", True, "no list of files"),
    ],
)
def test_what_is_no_such_list(data, null, told):
    with pytest.raises(UsageError, match=told):
        names(data, null)


def test_a_list_that_cannot_be_read(tmp_path):
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(UsageError, match="the list cannot be read: Input/output error"):
        list(read_names(Broken(), "the list"))


BYTES = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name)


@given(st.lists(BYTES, max_size=20), st.integers(1, 9))
def test_any_name_survives_between_nuls(some, block):
    """However the stream is cut into blocks."""

    class Crumbs(io.BytesIO):
        def read(self, size: int = -1) -> bytes:
            return super().read(block)

    data = b"".join(name + b"\0" for name in some)
    read = list(read_names(Crumbs(data), "the list", null=True))
    assert [os.fsencode(name) for name in read] == some


LINE = BYTES.filter(lambda name: name.strip() and not set(b"\r\n") & set(name) and name[0] != 0xEF)


@given(st.lists(LINE, max_size=20), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_any_line_survives(some, end):
    assert [os.fsencode(name) for name in names(b"".join(name + end for name in some))] == some


@given(st.binary(max_size=2_000), st.booleans())
def test_any_bytes_are_a_list_or_refused(data, null):
    try:
        read = names(data, null)
    except UsageError:
        return
    assert all(read) and not any("\0" in name for name in read)


# Which of the names can be used


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Also the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("1.jpg", "a/2.jpg", f"out/{OUTPUT_MARKER}", "out/contact_sheet.jpg", "away/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def usable(some, **options):
    skipped, notes = [], []
    return list(usable_names(some, skipped=skipped, notes=notes, **options)), skipped, notes


def test_no_names():
    assert usable([]) == ([], [], [])


def test_names_become_tidy_paths(folder):
    assert usable(["./1.jpg", "a//2.jpg", "a/../1.jpg", str(folder / "1.jpg")])[0] == [
        "1.jpg",
        "a/2.jpg",
        "a/../1.jpg",
        f"{folder}/1.jpg",
    ]


def test_what_is_no_file_is_skipped_with_the_reason(folder):
    os.mkfifo(folder / "pipe.jpg")
    found, skipped, notes = usable(["absent.jpg", "1.jpg", "a", "pipe.jpg", "x" * 300, "1.jpg/x"])
    assert found == ["1.jpg"] and not notes
    reasons = {item.name: item.reason for item in skipped}
    assert reasons["absent.jpg"] == "cannot be read: No such file or directory"
    assert "is a folder" in reasons["a"] and "pipe" in reasons["pipe.jpg"]
    assert "too long" in reasons["x" * 300] and "Not a directory" in reasons["1.jpg/x"]


def test_own_results_and_excluded_folders_are_left_out(folder):
    """Row 36: `find` lists them too."""
    found, skipped, notes = usable(["out/contact_sheet.jpg", "away/3.jpg", "1.jpg"], exclude=[folder / "away"])
    assert (found, skipped) == (["1.jpg"], [])
    assert notes == ["2 of the listed files are results of qeeps and were left out"]


def test_a_long_list_takes_no_memory():
    class Endless(io.RawIOBase):
        left = 60

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"frames/000001.jpg\n" * 3_640 if self.left >= 0 else b""

    tracemalloc.start()
    count = sum(1 for _ in read_names(Endless(), "the list"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60 * 3_640 and peak < 3_000_000
