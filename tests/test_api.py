"""The Python API."""

import inspect
import math
import shutil
from pathlib import Path

import pytest
from command_line import FRAMES, SIZE
from PIL import Image

import qeeps_cli
from qeeps_cli.errors import ImageError, NothingToSearchError, UsageError, WeightsError
from qeeps_cli.keywords import SearchKeywords
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.galleries import list_galleries

pytest_plugins = ["cli_fixtures"]

BOX = (80, 40, 120, 130)
FEW = InferenceParams(proposals=20)


@pytest.fixture(scope="module")
def model(weights) -> qeeps_cli.Engine:
    return qeeps_cli.load_model(weights, device="cpu")


def test_what_is_exported_is_there():
    assert all(getattr(qeeps_cli, name) is not None for name in set(qeeps_cli.__all__) - {"__version__"})
    assert set(qeeps_cli.__all__) <= set(dir(qeeps_cli))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = qeeps_cli.nonsense
    assert (Path(qeeps_cli.__file__).parent / "py.typed").is_file()


def test_a_search_as_in_the_readme(model, frames):
    result = qeeps_cli.search(frames / FRAMES[0], frames, box=BOX, model=model, params=FEW, top_k=5)
    assert result.query.box == BOX and result.frames_searched == 3 and not result.skipped
    assert [match.rank for match in result.matches] == [1, 2, 3, 4, 5]
    x1, y1, x2, y2 = result.matches[0].box
    assert 0 <= x1 < x2 <= SIZE[0] and 0 <= y1 < y2 <= SIZE[1]
    assert result.parameters["proposals"] == 20
    again = qeeps_cli.search(str(frames / FRAMES[0]), [str(frames)], BOX, model=model, params=FEW, top_k=5)
    assert again.matches == result.matches


def test_signatures_are_spelled_out():
    """For help() and editors, although the keywords are defined once."""
    one, many = (inspect.signature(function).parameters for function in (qeeps_cli.search, qeeps_cli.search_many))
    assert list(one)[:4] == ["query", "gallery", "box", "person"] and list(many)[:2] == ["queries", "gallery"]
    keywords = list(one)[4:]
    assert keywords == list(many)[2:] == list(SearchKeywords.__annotations__)
    assert all(one[name].kind is inspect.Parameter.KEYWORD_ONLY and one[name] == many[name] for name in keywords)
    assert one["mode"].default == "auto" and one["top_k"].default is None and one["recursive"].default is True
    assert one["params"].annotation == "InferenceParams | None" and one["query"].annotation == "str | PathLike[str]"


def test_keywords_that_do_not_exist(frames):
    with pytest.raises(TypeError, match="boxes"):
        qeeps_cli.search(frames / FRAMES[0], frames, boxes=[])
    with pytest.raises(TypeError, match="gallery"):
        qeeps_cli.search_many([])


def test_a_gallery_of_patterns_and_of_paths(model, frames):
    given = {"model": model, "params": FEW, "cache": False}
    found = qeeps_cli.search(frames / FRAMES[0], f"{frames}/**/*.jpg", BOX, every=2, limit=2, **given)
    assert found.frames_searched == 2 and found.parameters["every"] == found.parameters["limit"] == 2
    paths = (path for path in [frames / FRAMES[1], frames / FRAMES[0]])
    assert qeeps_cli.search(frames / FRAMES[0], paths, BOX, **given).frames_searched == 2


def test_the_device_may_come_from_the_environment(weights, monkeypatch):
    monkeypatch.setenv("QEEPS_DEVICE", "tpu")
    with pytest.raises(UsageError, match="got 'tpu'"):
        qeeps_cli.load_model(weights)
    assert qeeps_cli.load_model(weights, device="cpu").device.type == "cpu"


def test_the_query_decides(model, frames):
    """Another person of the same picture gets other scores."""
    one, other = (
        qeeps_cli.search(frames / FRAMES[0], frames / FRAMES[1], box, model=model, params=FEW)
        for box in (BOX, (200, 100, 260, 280))
    )
    assert [match.score for match in one.matches] != [match.score for match in other.matches]


def test_a_whole_crop(model, frames, tmp_path):
    with Image.open(frames / FRAMES[0]) as image:
        image.crop(BOX).save(tmp_path / "crop.png")
    result = qeeps_cli.search(tmp_path / "crop.png", frames / FRAMES[1], model=model, params=FEW)
    assert result.query.box is None and result.matches


def test_an_exif_turned_query_is_the_same_person(model, frames, tmp_path):
    """Orientation 6: stored lying on its side. The box lies outside the stored pixels, inside the upright picture."""
    box = (300, 60, 350, 180)
    with Image.open(frames / FRAMES[0]) as image:
        image.save(tmp_path / "upright.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = image.transpose(Image.Transpose.ROTATE_90)
        assert turned.size == (SIZE[1], SIZE[0]) and box[2] > turned.width
        turned.save(tmp_path / "turned.png", exif=exif)
    upright, turned = (
        qeeps_cli.search(tmp_path / name, frames / FRAMES[1], box, model=model, params=FEW)
        for name in ("upright.png", "turned.png")
    )
    assert turned.query.box == box and turned.matches == upright.matches


def test_a_person_by_number(model, frames):
    result = qeeps_cli.search(frames / FRAMES[0], frames / FRAMES[1], person=1, model=model, params=FEW)
    assert not any("has no box" in note for note in result.notes)
    whole = qeeps_cli.search(frames / FRAMES[0], frames / FRAMES[1], model=model, params=FEW)
    assert any("has no box" in note for note in whole.notes)
    x1, y1, x2, y2 = result.query.box
    assert 0 <= x1 < x2 <= SIZE[0] and 0 <= y1 < y2 <= SIZE[1]
    with pytest.raises(UsageError, match=r"from 1 to \d+ for .*, got 10000"):
        qeeps_cli.search(frames / FRAMES[0], frames, person=10_000, model=model)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((), "four numbers"),
        ((1, 2, 3), "four numbers"),
        ((1, 2, 3, "x"), "four numbers"),
        ((1, 2, math.nan, 4), "finite"),
        ((5, 2, 3, 4), "x1 < x2"),
        ((1000, 2, 1010, 40), "outside the query image"),
    ],
)
def test_boxes_that_are_none(model, frames, box, told):
    with pytest.raises(UsageError, match=told):
        qeeps_cli.search(frames / FRAMES[0], frames, box, model=model)


def test_weights_that_are_not_there(frames, monkeypatch):
    monkeypatch.setenv("QEEPS_WEIGHTS", "absent")
    with pytest.raises(WeightsError, match=r"\$QEEPS_WEIGHTS(.|\n)*absent.safetensors") as caught:
        qeeps_cli.search(frames / FRAMES[0], frames)
    assert caught.value.exit_code == 5


def test_other_mistakes(model, frames, tmp_path):
    with pytest.raises(UsageError, match="got both"):
        qeeps_cli.search(frames / FRAMES[0], frames, BOX, 1, model=model)
    with pytest.raises(ImageError, match="absent"):
        qeeps_cli.search("absent.jpg", frames, model=model)
    with pytest.raises(NothingToSearchError):
        qeeps_cli.search(frames / FRAMES[0], tmp_path, model=model)
    with pytest.raises(UsageError, match="top_k"):
        qeeps_cli.search(frames / FRAMES[0], frames, model=model, top_k=0)
    with pytest.raises(UsageError, match="max_pixels"):
        qeeps_cli.search(frames / FRAMES[0], frames, model=model, max_pixels=0)


def test_an_overhanging_box_is_cut_with_a_note(model, frames):
    result = qeeps_cli.search(frames / FRAMES[0], frames / FRAMES[1], (-9, -5, 60, 90), model=model, params=FEW)
    assert result.query.box == (0, 0, 60, 90) and any("was cut" in note for note in result.notes)


def test_several_galleries_keep_their_names_apart(frames, tmp_path):
    for camera in ("a", "b"):
        (tmp_path / camera).mkdir()
        shutil.copy(frames / FRAMES[0], tmp_path / camera / "1.jpg")
    (tmp_path / "empty").mkdir()
    roots = [tmp_path / "b", tmp_path / "a", tmp_path / "a" / "1.jpg", tmp_path / "empty"]
    gallery = list_galleries(roots)
    assert [frame.name for frame in gallery.frames] == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/1.jpg"]
    assert len(gallery.notes) == 1 and "empty holds no image" in gallery.notes[0]
    assert [frame.name for frame in list_galleries([tmp_path]).frames] == ["a/1.jpg", "b/1.jpg"]
    with pytest.raises(UsageError, match="at least one gallery"):
        list_galleries([])
