"""Files that list labelled sets."""

import pytest
from training_sets import write_queries, write_scene

from qeeps_cli.datasets.listed import read_sets
from qeeps_cli.errors import DataError, UsageError

ONE = '[[set]]\nname = "one"\nkind = "coco"\nroot = "scene"\n'


@pytest.fixture
def sets(tmp_path):
    """Writes the list and gives its path; beside it is one set."""
    write_queries(write_scene(tmp_path / "scene", identities=3))

    def write(text):
        (tmp_path / "sets.toml").write_text(text)
        return tmp_path / "sets.toml"

    return write


def test_sets_in_their_order_with_the_options_of_their_readers(sets, tmp_path):
    (tmp_path / "scene" / "others.json").write_bytes((tmp_path / "scene" / "queries.json").read_bytes())
    (tmp_path / "scene" / "queries.json").unlink()  # the default
    listed = read_sets(sets(ONE + ONE.replace("one", "two") + 'queries = "others.json"\n'))
    assert [(each.name, len(each.frames.queries)) for each in listed] == [("one", 0), ("two", 3)]
    assert all(each.root == tmp_path / "scene" for each in listed)


def test_roots_are_relative_to_the_folder_that_is_given(sets, tmp_path):
    elsewhere = sets(ONE).rename(tmp_path / "scene" / "elsewhere.toml")
    assert read_sets(elsewhere, tmp_path)[0].root == tmp_path / "scene"
    with pytest.raises(DataError):
        read_sets(elsewhere)


@pytest.mark.parametrize(
    "text, message",
    [
        ('[[set]]\nkind = "coco"\nroot = "scene"\n', "name, kind and root"),
        ('[[set]]\nname = "one"\nkind = "coco"\nroot = 3\n', "three texts"),
        ("", "lists no sets"),
        ("set = 3", "lists no sets"),
        ("set = [3]", "name, kind and root"),
        (ONE + ONE, "two sets named 'one'"),
        (ONE.replace("coco", "cocoa"), "unknown dataset 'cocoa'"),
        (ONE + 'colour = "red"', "has no option colour"),
        ("[[set]", "is not a TOML file"),
        (ONE + "annotations = 3", "set 'one': dataset coco: expected annotations to be a text, got 3"),
        (ONE + 'queries = ["q.json"]', "expected queries to be a text"),
        (ONE + 'extra = "more.json"', "expected extra to be a list of texts"),
        (ONE + "extra = [3]", "expected extra to be a list of texts"),
    ],
)
def test_other_lists_are_refused(sets, text, message):
    with pytest.raises(UsageError, match=message):
        read_sets(sets(text))


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot read the list of sets .*absent.toml: No such file"):
        read_sets(tmp_path / "absent.toml")
