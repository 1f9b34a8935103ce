"""Who is drawn: the numbering of identities over sets, pairs, absent people, crops, and who is held out."""

from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from test_datasets_prw import TRAIN as PRW_TRAIN
from test_datasets_prw import write_prw
from training_sets import (
    CLOTHES,
    COLOURS,
    MODEL,
    VIEW,
    Standing,
    batches_of,
    colour_mask,
    crops_source,
    frames_source,
    is_mirrored,
    tiny_stage,
    write_crops,
    write_frames,
    write_scene,
)

from qeeps_cli.errors import DataError
from qeeps_cli.images import read_image
from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.training.config import DataSource
from qeeps_cli.training.crop_bank import CropSampler
from qeeps_cli.training.detector_losses import People
from qeeps_cli.training.oim import OIMLoss
from qeeps_cli.training.oim_stage import OIMStage
from qeeps_cli.training.pair_batches import draw_pair
from qeeps_cli.training.population import UNKNOWN, Person, gather
from qeeps_cli.training.qeeps_stage import QEEPSStage
from qeeps_cli.training.trainer import to_device


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders of sets whose own numbers collide: two scenes (0-5, 0-3), crops (0-4), crops (2-6), nobody named."""
    folder = tmp_path_factory.mktemp("sampling")
    write_scene(folder / "scene")
    write_scene(folder / "street", identities=4)
    write_crops(folder / "crops")
    write_crops(folder / "more", first=2)
    write_frames(folder / "crowd", [("c9", [Standing(-1, 20, 20), Standing(-1, 80, 40, ignore=True)])] * 3)
    return folder


def test_identities_of_all_sets_are_numbered_apart(sets):
    population = gather(
        [
            frames_source(sets / "scene"),
            crops_source(sets / "crops"),
            frames_source(sets / "crowd"),
            frames_source(sets / "street"),
            crops_source(sets / "more", holdout=2),
        ]
    )
    folders = {}
    for label, rows in population.by_label.items():
        (folders[label],) = {population.people[i].path.relative_to(sets).parts[0] for i in rows}
        assert len({CLOTHES.index(dressed(population.people[i])) for i in rows}) == 1
    assert folders == (
        dict.fromkeys(range(6), "scene")
        | dict.fromkeys(range(6, 11), "crops")
        | dict.fromkeys(range(11, 15), "street")
        | dict.fromkeys(range(15, 18), "more")
    )
    assert population.num_identities == 18
    assert [len(population.by_label[label]) for label in (0, 6, 11, 15)] == [6, 4, 6, 4]
    labels = np.concatenate([frame.labels for frame in population.frames])
    assert set(labels.tolist()) == {UNKNOWN, *range(6), *range(11, 15)}
    assert len(population.frames) == 12 + 3 + 8
    for person in population.people:
        if person.frame >= 0:
            frame = population.frames[person.frame]
            assert frame.path == person.path and frame.labels[person.row] == person.label
            assert tuple(frame.boxes[person.row]) == person.box and frame.camera == person.camera


def dressed(person):
    """The clothes in which the tests' sets drew a person, seen in the picture."""
    rgb = read_image(person.path).rgb
    x1, y1, x2, y2 = (round(v) for v in person.box or (0, 8, rgb.shape[1], rgb.shape[0] - 4))
    middle = (x1 + x2) // 2
    halves = rgb[y1:y2, x1:middle], rgb[y1:y2, middle:x2]
    return tuple(max(COLOURS, key=lambda c: colour_mask(half, c).sum()) for half in halves)


def test_sets_and_identities_are_weighted(sets):
    population = gather([frames_source(sets / "scene", weight=3.0), frames_source(sets / "street", weight=1.0)])
    assert population.frame_weights.sum() == pytest.approx(1)
    assert population.frame_weights[:12].sum() == pytest.approx(0.75)
    assert sum(population.label_weights[label] for label in range(6)) == pytest.approx(3)
    assert sum(population.label_weights[label] for label in range(6, 10)) == pytest.approx(1)
    config = tiny_stage()
    _, frames, crops = batches_of([frames_source(sets / "scene", weight=9.0), frames_source(sets / "street")], config)
    rng = np.random.default_rng(0)
    drawn = [frames.population.frames[frames.draw_pair(rng)[0][0]].source for _ in range(300)]
    assert drawn.count(0) == pytest.approx(270, abs=20)
    drawn = [frames.population.frames[frames.draw_frame(rng)].source for _ in range(300)]
    assert drawn.count(0) == pytest.approx(270, abs=20)


@pytest.mark.parametrize(("use", "frames", "crops"), [("frames", 12, 0), ("crops", 0, 6), ("both", 12, 6)])
def test_a_set_of_frames_is_used_as_the_recipe_says(sets, use, frames, crops):
    population = gather([frames_source(sets / "scene", use=use)])
    assert len(population.frames) == frames
    sampler = CropSampler(population.people, population.by_label, population.label_weights)
    assert len(sampler.labels) == crops


def test_people_without_identity_are_drawn_each_as_somebody_where_the_recipe_says_so(sets):
    """Not those that are to be ignored; and who they are in their frames stays unknown."""
    sources = [frames_source(sets / "crowd", unnamed=True, weight=3.0), frames_source(sets / "scene")]
    population = gather(sources)
    unnamed = [person for person in population.people if person.unnamed]
    assert [(p.frame, p.row, p.label) for p in unnamed] == [(0, 0, 0), (1, 0, 1), (2, 0, 2)]
    assert all((population.frames[p.frame].labels == UNKNOWN).all() for p in unnamed)
    sampler = CropSampler(population.people, population.by_label, population.label_weights)
    assert sampler.labels.tolist() == list(range(9))
    assert sampler.weights == pytest.approx([0.25] * 3 + [0.25 / 6] * 6)
    assert len(set(sampler.draw(np.random.default_rng(0), 9, 2))) == 3 + 6 * 2
    frames, crops = batches_of(sources, tiny_stage())[1:]
    assert not {int(label) for label in frames.labels} & {0, 1, 2}  # nobody has seen them twice
    assert not set(crops.across_cameras()) & {0, 1, 2}


@pytest.mark.parametrize(("holdout", "kept"), [(0, 5), (2, 3), (5, 0), (9, 0)])
def test_held_out_identities_are_the_last_ones(sets, holdout, kept):
    population = gather([frames_source(sets / "scene"), crops_source(sets / "crops", holdout=holdout)])
    assert population.num_identities == 6 + kept
    numbers = {int(person.path.name[1]) for person in population.holdout}
    assert numbers == set(range(kept, 5))
    assert len(population.holdout) == 4 * (5 - kept)
    assert not numbers & {int(person.path.name[1]) for person in population.people if person.frame < 0}


def test_held_out_identities_are_never_drawn(sets):
    sources = [frames_source(sets / "scene", holdout=2), crops_source(sets / "crops", holdout=2)]
    config = tiny_stage(identities=4, losses={"contrastive": 1.0})
    population, frames, crops = batches_of(sources, config)
    oim = OIMLoss(population.num_identities, MODEL.embedding_dim)
    stages = [OIMStage(config, frames, crops, oim, 1), QEEPSStage(config, frames, crops, oim, 1)]
    files, labels = set(), set()
    for step in range(12):
        for stage in stages:
            batch = stage.batch(step)
            files |= set(batch["files"])
            labels |= {label for people in batch["people"] for label in people.labels.tolist()}
            labels |= set(batch["crops"]["labels"].tolist()) | set(batch.get("query_labels", torch.empty(0)).tolist())
    crops_drawn = {Path(file).stem for file in files if "/crops/" in file}
    assert crops_drawn == {f"p{i}_{camera}{number}" for i in range(3) for camera in "AB" for number in "01"}
    assert labels == {UNKNOWN, *range(4), *range(4, 7)}  # identities 4 and 5 of the scene are people without a name
    assert {int(person.path.name[1]) for person in population.holdout} == {3, 4}


def test_held_out_people_of_two_sets_do_not_share_a_number(sets):
    population = gather([crops_source(sets / "crops", holdout=4), crops_source(sets / "more", holdout=4)])
    numbers = {}
    for person in population.holdout:
        numbers.setdefault(person.label, set()).add((person.path.parent.name, person.path.name[:2]))
    assert len(numbers) == 8 and all(len(people) == 1 for people in numbers.values())


@pytest.fixture(scope="module")
def scene(sets):
    return batches_of([frames_source(sets / "scene"), frames_source(sets / "crowd")], tiny_stage())


def test_the_second_sighting_is_from_another_camera(scene):
    population, frames, _ = scene
    rng = np.random.default_rng(0)
    drawn = Counter()
    for _ in range(200):
        (one, row), (other, other_row) = frames.draw_pair(rng)
        assert population.frames[one].labels[row] == population.frames[other].labels[other_row] >= 0
        assert {population.frames[one].camera, population.frames[other].camera} == {"c0", "c1"}
        drawn[int(population.frames[one].labels[row])] += 1
    assert set(drawn) == set(range(6)) and min(drawn.values()) > 15


def test_without_another_camera_it_is_another_frame_and_without_that_the_same(tmp_path):
    stands = (
        [Standing(0, 20, 20)],
        [Standing(0, 90, 40)],
        [Standing(1, 20, 20), Standing(1, 90, 40), Standing(2, 60, 10)],
    )
    write_frames(tmp_path / "one", [("c0", people) for people in stands])
    _, frames, _ = batches_of([frames_source(tmp_path / "one")], tiny_stage())
    rng = np.random.default_rng(0)
    pairs = {tuple(frame for frame, _ in frames.draw_pair(rng)) for _ in range(60)}
    assert pairs == {(0, 1), (1, 0), (2, 2)}  # identity 2 is seen once: no pair


@pytest.mark.parametrize("absent", [0.0, 0.3, 1.0])
def test_pairs_hold_the_person_or_do_not(scene, absent):
    population, frames, _ = scene
    rng = np.random.default_rng(0)
    absences = 0
    for _ in range(60):
        pair = draw_pair(frames, absent, rng)
        query, gallery = population.frames[pair.query_frame], population.frames[pair.gallery_frame]
        assert query.labels[pair.query_row] == pair.label
        assert pair.query.rgb.shape == pair.gallery.rgb.shape == (*VIEW, 3)
        assert (pair.box[2:] - pair.box[:2] > 8).all() and (pair.box >= 0).all() and (pair.box <= [128, 96] * 2).all()
        counted = ~pair.gallery.ignore
        if pair.person is None:
            absences += 1
            assert pair.label not in gallery.labels
            assert pair.label not in pair.gallery.labels
        else:
            assert gallery.camera != query.camera
            assert pair.gallery.labels[counted][pair.person] == pair.label
    assert absences == pytest.approx(60 * absent, abs=10 * (0 < absent < 1))


def test_where_everybody_is_everywhere_no_pair_claims_an_absence(tmp_path):
    write_frames(tmp_path / "pair", [("c0", [Standing(0, 20, 20)]), ("c1", [Standing(0, 90, 40)])])
    population, frames, _ = batches_of([frames_source(tmp_path / "pair")], tiny_stage(identities=0))
    rng = np.random.default_rng(0)
    for _ in range(10):
        pair = draw_pair(frames, 1.0, rng)
        seen = pair.gallery.labels[~pair.gallery.ignore].tolist()
        assert (pair.person is not None) == (0 in seen)


def test_both_images_of_a_pair_are_mirrored_together(scene):
    """The clothes' left and right colours tell; a person whom the gallery shows hardly cannot be asked."""
    population, frames, _ = scene
    rng = np.random.default_rng(1)
    mirrored = Counter()
    bare = 0
    for _ in range(60):
        pair = draw_pair(frames, 0.0, rng)
        clothes = CLOTHES[pair.label]  # labels of the first set are its own numbers
        box = pair.query.boxes[pair.query.rows == pair.query_row][0]
        in_gallery = pair.gallery.boxes[~pair.gallery.ignore][pair.person]
        flags = is_mirrored(pair.query.rgb, box, clothes), is_mirrored(pair.gallery.rgb, in_gallery, clothes)
        mirrored[flags] += 1
        bare += len(pair.query.rows) == 1 and box[0] == box[1] == 0
    assert set(mirrored) == {(False, False), (True, True)} and min(mirrored.values()) > 15
    assert 2 <= bare <= 20  # some queries come as a crop without a frame


def test_the_query_person_of_a_batch(scene):
    """The box that QRPN and QSimNet learn from is the person's; absent people have none; the file list is complete."""
    population, frames, crops = scene
    stage = QEEPSStage(tiny_stage(absent=0.4), frames, crops, OIMLoss(6, 16), seed=5)
    absences = 0
    for step in range(15):
        batch = stage.batch(step)
        assert batch["images"].shape == batch["query_images"].shape == (2, 3, *VIEW)
        assert len(batch["files"]) >= 4 and batch["count"] == 2
        for label, box, people in zip(batch["query_labels"], batch["query_people"], batch["people"], strict=True):
            holders = people.boxes[people.labels == label]
            assert torch.equal(box, holders)
            absences += len(box) == 0
            assert len(people.jittered) == 3 * len(people.boxes) and len(people.targets) == len(people.labels)
    assert 6 <= absences <= 18


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_self_paired_steps(scene, share):
    _, frames, crops = scene
    stage = QEEPSStage(tiny_stage(images=1, self_pairs=share, identities=0), frames, crops, OIMLoss(6, 16), seed=2)
    drawn = sum(stage.batch(step)["self_paired"] for step in range(100))
    assert drawn == pytest.approx(100 * share, abs=12 * (0 < share < 1))


def test_frames_without_names_are_drawn_too(scene):
    _, frames, crops = scene
    stage = OIMStage(tiny_stage(images=3, identities=0), frames, crops, OIMLoss(6, 16), seed=0)
    batches = [stage.batch(step) for step in range(30)]
    assert all(batch["images"].shape == (3, 3, *VIEW) for batch in batches)
    files = Counter("crowd" in file for batch in batches for file in batch["files"])
    assert 5 <= files[True] <= 45  # a quarter of the draws are frames, half of them of this set


def test_a_batch_is_a_function_of_the_seed_and_the_step(scene):
    _, frames, crops = scene
    config = tiny_stage()
    one, same, other = (QEEPSStage(config, frames, crops, OIMLoss(6, 16), seed=seed) for seed in (1, 1, 2))
    later = one.batch(7)
    assert torch.equal(one.batch(3)["images"], same.batch(3)["images"])
    assert torch.equal(later["images"], same.batch(7)["images"])
    assert not torch.equal(later["images"], same.batch(3)["images"])
    assert not torch.equal(later["images"], other.batch(7)["images"])


@pytest.mark.parametrize(("identities", "each"), [(1, 1), (3, 2), (5, 4), (9, 2)])
def test_crops_come_as_people_times_crops(sets, identities, each):
    population = gather([crops_source(sets / "crops"), crops_source(sets / "more")])
    sampler = CropSampler(population.people, population.by_label, population.label_weights)
    rng = np.random.default_rng(0)
    for _ in range(40):
        labels = [population.people[i].label for i in sampler.draw(rng, identities, each)]
        assert Counter(labels) == dict.fromkeys(labels, each)
        assert len(set(labels)) == identities
        assert [labels[i * each] for i in range(identities)] == list(dict.fromkeys(labels))  # identity by identity


@pytest.mark.parametrize("groups", [1, 30])
def test_half_of_the_draws_hold_people_of_one_scene(groups):
    """Who stood in one place and light is harder to tell apart; by chance 3 of 6 people seldom share a scene of 30."""
    people = [Person(Path("x.png"), None, i // 2, "AB"[i % 2], f"scene {i // 2 % groups}") for i in range(360)]
    by_label = {label: [2 * label, 2 * label + 1] for label in range(180)}
    sampler = CropSampler(people, by_label, dict.fromkeys(range(180), 1.0))
    rng = np.random.default_rng(0)
    alike = 0
    for _ in range(200):
        shared = Counter(people[i].group for i in sampler.draw(rng, 6, 1))
        alike += max(shared.values()) >= 3
    assert alike == 200 if groups == 1 else 80 <= alike <= 130


def test_more_identities_than_there_are(sets):
    population = gather([crops_source(sets / "crops")])
    sampler = CropSampler(population.people, population.by_label, population.label_weights)
    rows = sampler.draw(np.random.default_rng(0), 50, 3)
    assert Counter(population.people[i].label for i in rows) == dict.fromkeys(range(5), 3)


def test_cameras_take_turns(tmp_path):
    write_crops(tmp_path / "crops", identities=3, cameras="ABC", each=3)
    population = gather([crops_source(tmp_path / "crops")])
    sampler = CropSampler(population.people, population.by_label, population.label_weights)
    rng = np.random.default_rng(0)
    first = Counter()
    for _ in range(30):
        rows = sampler.draw(rng, 2, 6)
        for one in (rows[:6], rows[6:]):
            cameras = [population.people[i].camera for i in one]
            assert set(cameras[:3]) == set("ABC") and cameras[:3] == cameras[3:]
            assert len(set(one)) == 6  # no crop twice while others are left
            first[cameras[0]] += 1
    assert min(first[camera] for camera in "ABC") > 8
    assert len(set(sampler.draw(rng, 1, 20))) == 9  # more than there are: some serve twice


def test_small_people_and_single_crops_are_no_crops(tmp_path):
    write_frames(
        tmp_path / "frames",
        [(f"c{c}", [Standing(0, 20, 20), Standing(1, 60, 20, h=23), Standing(2 + c, 100, 20)]) for c in range(2)],
    )
    population = gather([frames_source(tmp_path / "frames")])
    sampler = CropSampler(population.people, population.by_label, population.label_weights)
    assert sampler.labels.tolist() == [0]


def test_a_batch_moves_to_the_device_whole(scene):
    """On the device `meta`, which every machine has."""
    _, frames, crops = scene
    batch = QEEPSStage(tiny_stage(), frames, crops, OIMLoss(6, 16), seed=1).batch(0)

    def tensors(value):
        if isinstance(value, torch.Tensor):
            return [value]
        if isinstance(value, dict):
            return [t for v in value.values() for t in tensors(v)]
        if isinstance(value, People):
            return [t for f in fields(value) for t in tensors(getattr(value, f.name))]
        return [t for v in value for t in tensors(v)] if isinstance(value, list) else []

    moved = to_device(batch, torch.device("meta"))
    assert len(tensors(moved)) == len(tensors(batch)) > 20
    assert {t.device.type for t in tensors(moved)} == {"meta"}
    assert moved["files"] == batch["files"] and moved["self_paired"] == batch["self_paired"]
    kept = to_device({"maps": FeatureMaps(None, None, torch.zeros(2))}, torch.device("meta"))["maps"]
    assert isinstance(kept, FeatureMaps) and kept.images is None and kept.conv4.device.type == "meta"


def test_no_identities_at_all(sets):
    with pytest.raises(DataError, match="no identities"):
        gather([frames_source(sets / "crowd")])


def test_prw_gives_its_training_split(tmp_path):
    source = DataSource("prw", write_prw(tmp_path / "PRW-v16.04.20"))
    assert sorted(frame.path.stem for frame in gather([source]).frames) == sorted(PRW_TRAIN)
