"""What users type as the person to find (docs/reliability.md, rows 31 and 32)."""

import re

import pytest
from command_line import FEW, FRAMES, SIZE
from json_contract import check_search, parse
from PIL import Image

from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]

BOX = "80,40,40,90"


# Row 31


@pytest.mark.parametrize(
    "box",
    ["", "1,2,3", "1,2,3,4,5", "nan,2,30,40", "1,inf,30,40", "10,10,0,40", "10,10,40,-1"]
    + ["384,10,20,20", "-30,10,30,20", "10,288,20,20", "383.5,10,20,20"],
)
def test_a_box_that_is_none_is_a_usage_error(frames, preloaded, box):
    """Before weights are looked for: there are none. Whoever is outside of the picture is told how large it is."""
    arguments = ["--query", FRAMES[0], f"--box={box}", "--gallery", ".", "--weights", "absent"]
    done = preloaded.run("search", *arguments, cwd=frames)
    assert done.returncode == ExitCode.USAGE and done.stdout == b"" and done.stderr.count(b"\n") == 1
    if re.fullmatch(r"[-0-9.]+,[-0-9.]+,[0-9]+,[0-9]+", box) and not box.endswith(",0,40"):
        assert f"{SIZE[0]} pixels wide and {SIZE[1]} high".encode() in done.stderr
    else:
        assert b"--box expects" in done.stderr


def test_a_picture_wider_than_people_are_is_searched_for_with_a_note(frames, weights, preloaded):
    """Somebody forgot --box. A crop that is high enough says nothing."""
    with Image.open(frames / FRAMES[0]) as picture:
        picture.crop((80, 40, 120, 130)).save(frames.parent / "crop.png")
    whole = (frames / FRAMES[0], ["has no box", "384×288", "qeeps detect"])
    for query, told in (whole, (frames.parent / "crop.png", [])):
        done = preloaded.run(
            "search", "--query", query, "--gallery", frames / FRAMES[1], "--weights", weights, *FEW, "--no-cache"
        )
        assert done.returncode == ExitCode.OK and parse(done.stdout)["query"]["box"] is None
        stderr = done.stderr.decode()
        assert all(part in stderr for part in told) and ("has no box" in stderr) == bool(told)
    given = ["--query", whole[0], "--person", "1", "--gallery", frames / FRAMES[1], "--weights", weights, "--no-cache"]
    assert b"has no box" not in preloaded.run("search", *given, *FEW).stderr
    planned = preloaded.run("search", "--query", whole[0], "--gallery", frames, "--weights", weights, "--dry-run", *FEW)
    assert planned.returncode == ExitCode.OK and all(part in planned.stderr.decode() for part in whole[1])


def test_a_slight_overhang_is_cut_with_a_note(frames, weights, preloaded):
    arguments = ["--query", frames / FRAMES[0], "--box=-4,-3,60,90", "--gallery", frames / FRAMES[1]]
    done = preloaded.run("search", *arguments, "--weights", weights, *FEW, "--no-cache")
    results = check_search(parse(done.stdout))
    assert done.returncode == ExitCode.OK and results["query"]["box"] == [0, 0, 56, 87]
    [note] = [note for note in results["notes"] if "was cut" in note]
    assert "0,0,56,87" in note and f"note: {note}" in done.stderr.decode()


# Row 32


@pytest.mark.parametrize("exclude", [False, True])
def test_the_querys_own_frame_is_flagged_or_left_out(frames, weights, preloaded, exclude):
    arguments = ["--query", frames / FRAMES[0], "--box", BOX, "--gallery", frames, "--weights", weights, *FEW]
    done = preloaded.run("search", *arguments, "--no-cache", *(["--exclude-query"] if exclude else []))
    results = check_search(parse(done.stdout))
    assert done.returncode == ExitCode.OK and results["frames_searched"] == (2 if exclude else 3)
    assert (FRAMES[0] in {match["image"] for match in results["matches"]}) != exclude
    assert any(note.startswith(f"{FRAMES[0]} is the query's own picture") for note in results["notes"])
