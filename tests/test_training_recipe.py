"""Recipes: what a TOML file means, and which mistakes are named."""

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY

from qeeps_cli.errors import UsageError
from qeeps_cli.training.config import STAGES, DataSource, StageConfig, read_recipe
from qeeps_cli.training.population import gather

FILES = [path for name in ("weights", "benchmarks") for path in sorted((REPOSITORY / name).glob("*.toml"))]
RECIPES = [path for path in FILES if not path.name.endswith("_sets.toml")]
DATA = '[[data]]\nkind = "coco"\nroot = "set"\n'
STAGE = "[stages.oim]\nsteps = 7\n"
EMBED = "teacher = 'a'\n[stages.embed]\nlosses = {teacher = 1.0}\n"
UNNAMED = '[[data]]\nkind = "coco"\nroot = "set"\nteacher = true\nunnamed = true\n'

FULL = """
seed = 9
init = "start/resnet18.safetensors"
teacher = "/models/teacher.xml"
validate_every = 50
validation_queries = 10
save_minutes = 0.5
[card]
terms = "research only"
[model]
backbone = "resnet34"
variant = "oim+qrpn"
anchor_scales = [2, 4]
[[data]]
kind = "coco"
root = "scene"
weight = 2
teacher = true
use = "frames"
annotations = "train.json"
[[data]]
kind = "crops"
root = "/sets/crops"
holdout = 60
[validation]
kind = "prw"
root = "PRW"
[stages.qeeps]
size = [96, 128]
losses = {oim = 0.3, contrastive = 1}
[stages.embed]
lr = 1
optimizer = "sgd"
"""


def read(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(text)
    return read_recipe(tmp_path / "recipe.toml")


def test_the_smallest_recipe(tmp_path):
    recipe = read(tmp_path, DATA + STAGE)
    assert recipe.data == (DataSource("coco", tmp_path / "set"),)
    assert recipe.stages == {"oim": StageConfig(steps=7)}
    assert (recipe.model.backbone, recipe.model.variant) == ("resnet50", "qeeps")
    assert recipe.init is recipe.teacher is recipe.validation is None


def test_a_full_recipe(tmp_path):
    recipe = read(tmp_path, FULL)
    assert (recipe.seed, recipe.validate_every, recipe.validation_queries, recipe.save_minutes) == (9, 50, 10, 0.5)
    assert recipe.init == tmp_path / "start" / "resnet18.safetensors"
    assert recipe.teacher == Path("/models/teacher.xml")  # absolute paths stay
    assert (recipe.model.backbone, recipe.model.variant, recipe.model.anchor_scales) == ("resnet34", "oim+qrpn", (2, 4))
    scene, crops = recipe.data
    assert scene == DataSource("coco", tmp_path / "scene", 2, 0, True, "frames", {"annotations": "train.json"})
    assert crops == DataSource("crops", Path("/sets/crops"), holdout=60)
    assert recipe.validation == DataSource("prw", tmp_path / "PRW")
    assert list(recipe.stages) == ["embed", "qeeps"]  # in the order of training, not of the file
    assert recipe.stages["qeeps"].size == (96, 128)
    assert recipe.card == {"terms": "research only"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_the_documentation_names(path):
    recipe = read_recipe(path, Path("/sets"))
    assert recipe.stages and recipe.init.is_relative_to("/sets")


def test_paths_may_be_relative_to_another_folder(tmp_path):
    (tmp_path / "recipe.toml").write_text(DATA + STAGE)
    assert read_recipe(tmp_path / "recipe.toml", Path("/sets")).data[0].root == Path("/sets/set")


def test_the_weight_of_a_loss():
    stage = StageConfig(losses={"oim": 0.3, "contrastive": 2.0, "sim": 0.0})
    expected = {"cls": 1, "reg": 1, "rpn_cls": 1, "rpn_reg": 1, "qrpn": 1, "oim": 0.3, "sim": 0}
    expected |= {"contrastive": 2, "teacher": 0, "sim_crops": 0}
    assert {name: stage.weight_of(name) for name in expected} == expected


def test_people_without_identity_may_be_drawn_where_the_teacher_alone_trains(tmp_path):
    recipe = read(tmp_path, EMBED + DATA + UNNAMED)
    assert [source.unnamed for source in recipe.data] == [False, True]
    assert [source["unnamed"] for source in recipe.to_dict()["data"]] == [False, True]


def test_a_card_names_no_folder_of_this_machine(tmp_path):
    text = json.dumps(read(tmp_path, FULL).to_dict())
    assert str(tmp_path) not in text and "/sets" not in text and "/models" not in text
    assert json.loads(text)["data"][0]["root"] == "scene" and json.loads(text)["init"] == "resnet18.safetensors"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "stages"),
        (DATA, "embed, oim, qeeps, detect"),
        (STAGE, r"\[\[data\]\]"),
        (DATA + "[stages.search]\nsteps = 1\n", "search"),
        ("seeed = 1\n" + DATA + STAGE, "seeed"),
        (DATA + STAGE + "stepz = 3\n", "stages.stepz"),
        (DATA + STAGE + "losses = {simm = 1.0}\n", "simm"),
        (DATA + STAGE + "[model]\nvariant = 'qeep'\n", "variant.*qeep"),
        (DATA + STAGE + "[model]\nbackbone = 'vgg16'\n", "backbone.*vgg16"),
        (DATA + STAGE + "[model]\ndepth = 18\n", "depth"),
        ('[[data]]\nkind = "coco"\n' + STAGE, "root"),
        ('[[data]]\nroot = "set"\n' + STAGE, "kind"),
        (DATA + 'use = "all"\n' + STAGE, "data.use.*frames, crops, both.*'all'"),
        (DATA + 'unnamed = true\nuse = "frames"\n' + STAGE, "unnamed = true draws people .*one of frames"),
        ('[[data]]\nkind = "crops"\nroot = "c"\nunnamed = true\n' + STAGE, "unnamed = true .*root = 'c' does not"),
        (DATA + STAGE + UNNAMED, "unnamed = true of set is for .*the stage embed alone.*got the stages oim"),
        (EMBED + UNNAMED.replace("teacher = true", ""), "unnamed = true of set .*and teacher = false"),
        (
            EMBED + UNNAMED + UNNAMED.replace("set", "more").replace("teacher = true", ""),
            "unnamed = true of more .*and teacher = false",
        ),
        (EMBED.replace("{", "{classify = 0.5, ") + UNNAMED, "unnamed = true of set .*embed with classify and"),
        (EMBED + DATA + '[validation]\nkind = "coco"\nroot = "v"\nunnamed = true\n', r"no use in \[validation\]"),
        (DATA + STAGE + 'optimizer = "adam"\n', "stages.optimizer.*adamw, sgd.*'adam'"),
        (DATA + STAGE + 'teacher_sees = "canvases"\n', "stages.oim.teacher_sees.*needs a teacher"),
        (DATA + STAGE + "losses = {teacher = 2.0}\n", "stages.oim.losses.teacher has no teacher"),
        (DATA + STAGE + 'id_net = "new"\n', "stages.id_net.*init, teacher.*'new'"),
        (DATA + '[stages.embed]\nid_net = "teacher"\n', "stages.embed.id_net.*needs a teacher"),
        ("teacher = 'a'\n" + DATA + STAGE + 'id_net = "teacher"\n', "stages.oim.id_net.*for the stage embed"),
        (
            "init = 'a'\nteacher = 'b'\nkeep_of_init = 0.3\n" + DATA + '[stages.embed]\nid_net = "teacher"\n',
            "keep_of_init = 0.3 averages ID Net",
        ),
        (DATA + STAGE + "novel = 1.5\n", "stages.novel.*from 0 to 1"),
        (DATA + STAGE + "smallest = 1.0\n", "stages.smallest.*below 0.96, got 1"),
        (DATA + STAGE + "discriminant = -1.0\n", "stages.discriminant.*from 0 on, got -1"),
        (DATA + STAGE + "discriminant = inf\n", "stages.discriminant.*finite.*got inf"),
        (DATA + STAGE + "discriminant = 3.0\n", "stages.oim.discriminant.*embed alone"),
        (DATA + STAGE + "[stages.embed]\ndiscriminant = 3.0\n", "stages.embed.discriminant.*embed alone"),
        (DATA + STAGE + "guidance_only = true\n", "stages.oim.guidance_only.*stage qeeps.*nothing would be trained"),
        (
            DATA + "[model]\nvariant = 'oim'\n[stages.qeeps]\nguidance_only = true\n",
            "stages.qeeps.guidance_only.*got the variant oim",
        ),
        (DATA + "[stages.qeeps]\nguidance_only = true\n", "guidance_only needs a trained network.*init"),
        (
            "init = 'a'\n" + DATA + "[model]\nvariant = 'oim+qrpn'\n"
            "[stages.qeeps]\nguidance_only = true\nself_pairs = 1.0\n",
            "self_pairs = 1 shows QRPN no pairs",
        ),
        (DATA + STAGE + "repeat = -1\n", "stages.repeat a number of steps or 0"),
        ("keep_of_init = 0.3\n" + DATA + STAGE, "keep_of_init.*needs an init.*0.3"),
        ("init = 'a'\nkeep_of_init = 1.0\n" + DATA + STAGE, "keep_of_init must be from 0 to below 1.*got 1"),
        (DATA + STAGE + 'teacher_sees = "frames"\n', "stages.teacher_sees.*crops, canvases.*'frames'"),
        ("seed = 'one'\n" + DATA + STAGE, "seed.*integer.*'one'"),
        ("save_minutes = true\n" + DATA + STAGE, "save_minutes.*number.*True"),
        (DATA + "holdout = 1.5\n" + STAGE, "data.holdout.*integer.*1.5"),
        (DATA + 'teacher = "yes"\n' + STAGE, "data.teacher.*true or false.*'yes'"),
        (DATA + STAGE + "lr = '1e-3'\n", "stages.lr.*number.*'1e-3'"),
        (DATA + STAGE + "size = 600\n", "stages.size.*list of two integers.*600"),
        (DATA + STAGE + "size = [600]\n", "stages.size"),
        (DATA + STAGE + "losses = {oim = 'much'}\n", "stages.losses.*much"),
        ("seed = \n" + DATA + STAGE, "not a TOML file.*line 1"),
    ],
)
def test_mistakes_are_named(tmp_path, text, named):
    with pytest.raises(UsageError, match=named) as error:
        read(tmp_path, text)
    assert "recipe.toml" in str(error.value)


def test_a_recipe_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UsageError, match="cannot read the recipe.*absent.toml.*No such file"):
        read_recipe(tmp_path / "absent.toml")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UsageError, match="picture.toml is not a TOML file"):
        read_recipe(tmp_path / "picture.toml")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (DataSource("cocoo", Path("set")), "cocoo"),
        (DataSource("coco", Path("set"), options={"wieght": 2}), "wieght"),
        (DataSource("crops", Path("set"), options={"wieght": 2}), "wieght"),
    ],
)
def test_mistakes_in_a_set_are_named_before_it_is_read(source, named):
    with pytest.raises(UsageError, match=named):
        gather([source])


def test_stages_come_in_the_order_of_the_paper_and_detection_alone_last():
    assert STAGES == ("embed", "oim", "qeeps", "detect")
