"""`qeeps benchmark` on small sets in the original layouts, with a small random network."""

import json
import re

import pytest
from benchmark_sets import write_cuhk, write_prw
from PIL import Image
from training_sets import write_scene

from qeeps_cli.cli.benchmark import benchmark
from qeeps_cli.datasets.prw_mini import PRW_MINI
from qeeps_cli.errors import DataError, ExitCode, OutputError, UsageError, WeightsError

pytest_plugins = ["cli_fixtures", "preloaded"]

FEW = {"proposals": 20, "no_cache": True}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    root = write_scene(tmp_path_factory.mktemp("set") / "scene", identities=3)
    labels = json.loads((root / "annotations.json").read_text())["annotations"]
    named = [label for label in labels if label["person_id"] >= 0][:2]
    queries = [{"image": f"f{q['image_id']}.png", "bbox": q["bbox"], "person_id": q["person_id"]} for q in named]
    (root / "test_queries.json").write_text(json.dumps(queries))
    return root


@pytest.fixture(scope="module")
def prw(tmp_path_factory):
    return write_prw(tmp_path_factory.mktemp("prw") / "PRW-v16.04.20")


@pytest.fixture(scope="module")
def cuhk(tmp_path_factory):
    return write_cuhk(tmp_path_factory.mktemp("cuhk") / "CUHK-SYSU")


@pytest.fixture
def run(weights, capsysbinary):
    """The document of a benchmark."""

    def run(*set_, **given):
        named = dict(zip(("dataset", "root"), set_, strict=False))
        assert benchmark(**named, weights=str(weights), as_json=True, **(FEW | given)) == ExitCode.OK
        return json.loads(capsysbinary.readouterr().out)

    return run


@pytest.fixture
def text(weights, capsysbinary):
    """The text of a benchmark."""

    def text(*set_, **given):
        named = dict(zip(("dataset", "root"), set_, strict=False))
        assert benchmark(**named, weights=str(weights), **(FEW | given)) == ExitCode.OK
        return capsysbinary.readouterr().out.decode()

    return text


def test_the_document_of_prw(run, prw):
    document = run("prw", prw)
    assert (document["schema"], document["comparable"], document["mode"]) == ("qeeps.benchmark/1", True, "exact")
    assert document["counts"] == {"queries": 4, "frames": 8, "pairs": 28, "pairs_exact": 28}
    search = document["search"]
    assert set(search) >= {"mAP", "top1", "top5", "top10", "max_recall"} and search["queries"] == 4
    assert 0 < search["max_recall"] <= 1  # 20 proposals of a random network cover somebody
    assert document["detection"] is None  # eight more passes are not cheap beside 28
    assert document["weights"]["digest"].startswith("sha256:") and set(document["versions"]) == {"qeeps", "torch"}
    assert document["parameters"]["proposals"] == 20 and document["parameters"]["nms"] == 0.4
    how = document["run"]
    assert (how["pairs_computed"], how["pairs_cached"]) == (28, 0)
    assert how["pairs_per_second"] > 0 and how["peak_memory"] > 10**8 and how["device"]
    assert [query["query"].split()[0] for query in document["queries"]] == ["1", "2", "3", "4"]
    assert all(query["gallery"] == 7 and query["frames_covered"] is not None for query in document["queries"])


def test_across_cameras(run, prw):
    document = run("prw", prw, cross_camera=True, mode="cached")
    assert document["counts"]["pairs"] == 16 and document["dataset"]["cross_camera"] is True
    assert document["published"] == [] == document["other_sides"]


def test_expanded_by_the_best_match(run, text, prw, tmp_path):
    """Half of each score comes by way of it, and it stays the best."""
    ranked = {}
    for name, given in {"plain": {"mode": "cached"}, "expanded": {"expand": True}}.items():
        document = run("prw", prw, **given, save_rankings=tmp_path / name, keep=100)
        assert (document["mode"], document["expand"]) == ("cached", name == "expanded")
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        queries = dict.fromkeys(line["query"] for line in lines)
        ranked[name] = [[line for line in lines if line["query"] == query] for query in queries]
    for plain, expanded in zip(*ranked.values(), strict=True):
        assert len(plain) == len(expanded) > 2 and plain != expanded
        assert (plain[0]["frame"], plain[0]["box"]) == (expanded[0]["frame"], expanded[0]["box"])
        scores = {(each["frame"], *each["box"]): each["score"] for each in plain}
        for each in expanded:  # from half of what it was to that and half of what the best is believed
            own = scores[each["frame"], *each["box"]] / 2
            assert own <= each["score"] <= own + plain[0]["score"] / 2 + 1e-6
    shown = text("prw", prw, expand=True)
    assert "without the query; expanded by each query's best match" in shown and "random, cached, expanded" in shown


def test_prw_mini_needs_nothing_but_the_root(run, tmp_path):
    root = write_prw(tmp_path / "PRW-v16.04.20", frames=3, queries=PRW_MINI)
    document = run("prw-mini", root, mode="cached")
    assert document["counts"] == {"queries": 30, "frames": 33, "pairs": 30 * 32, "pairs_exact": 0}
    assert document["search"]["frames_with_person"] == 3 and document["search"]["queries_without_person"] == 27


@pytest.mark.parametrize(("given", "gallery", "pairs"), [({}, 100, 20), ({"gallery_size": "50"}, 50, 20),
                                                          ({"gallery_size": "all"}, "all", 20)])  # fmt: skip
def test_cuhk_sysu_and_its_galleries(run, cuhk, given, gallery, pairs):
    document = run("cuhk-sysu", cuhk, mode="cached", **given)
    assert document["dataset"]["gallery_size"] == gallery and document["counts"]["pairs"] == pairs


def test_exact_and_cascade_of_all_frames_agree(run, prw):
    exact, cascade = run("prw", prw, queries=2), run("prw", prw, queries=2, mode="cascade", shortlist="100%")
    assert cascade["queries"] == exact["queries"] and cascade["search"] == exact["search"]
    few = run("prw", prw, queries=2, mode="cascade", shortlist="2")
    assert few["counts"]["pairs_exact"] == 4 and few["shortlist"] == "2"
    assert few["queries"] != exact["queries"]


def test_the_baselines_method(run, prw):
    strict, loose = (run("prw", prw, method="oim", det_thresh=score) for score in (0.5, 0.0))
    assert strict["mode"] is None and strict["det_thresh"] == 0.5
    count = [sum(query["detections"] for query in document["queries"]) for document in (strict, loose)]
    assert count[0] < count[1]
    assert strict["detection"]["all"] == loose["detection"]["all"]
    assert strict["detection"]["confident"]["detections"] < loose["detection"]["confident"]["detections"]


def test_weights_of_the_baseline(prw, tmp_path, capsysbinary):
    from networks import small_network

    from qeeps_cli.weights import save_checkpoint

    path = tmp_path / "oim.safetensors"
    save_checkpoint(path, small_network("oim", shorter_side=128, longest_side=192), {"data": "none"})
    given = FEW | {"weights": str(path), "variant": "oim", "queries": 1}
    benchmark(dataset="prw", root=prw, **given)
    shown = capsysbinary.readouterr().out.decode()
    assert "method oim: cosine, person score 0.5 or more\n" in shown  # nothing said of a network that is another's
    benchmark(dataset="prw", root=prw, **given, mode="exact", as_json=True)  # the same network, pair by pair
    document = json.loads(capsysbinary.readouterr().out)
    assert (document["method"], document["mode"], document["counts"]["pairs_exact"]) == ("qeeps", "exact", 7)
    with pytest.raises(UsageError, match="the variant oim has no QSimNet.*--method oim"):
        benchmark(dataset="prw", root=prw, **given, mode="cached")


def test_detection_beside_the_exact_mode(run, prw):
    given = {"queries": 1, "frames": 3}
    assert run("prw", prw, **given)["detection"] is None
    measured = run("prw", prw, detection=True, **given)
    assert measured["detection"] and measured["run"]["frames_computed"] == 3
    assert measured["detection"]["all"] == run("prw", prw, mode="cached", **given)["detection"]["all"]


def test_the_text_is_plain_where_nobody_looks(text, cuhk):
    lines = text("cuhk-sysu", cuhk, mode="cached").splitlines()
    assert lines[0] == "cuhk-sysu: gallery 100, 4 queries, 6 frames, 20 pairs"
    assert lines[1].startswith("random: qeeps on resnet18, frames of 128 to 192 pixels; cached")
    head = next(number for number, line in enumerate(lines) if "mAP" in line)
    assert lines[head].split() == ["mAP", "top-1", "top-5", "top-10", "max", "recall"]
    assert re.fullmatch(r"random, cached( +[\d.]+){5}", lines[head + 1])
    everything = "\n".join(lines)
    assert "\x1b" not in everything and "detection at IoU 0.5 of 18 people" in everything
    assert "peak memory" in everything and "weights     sha256:" in everything and "pairs/s" in everything
    assert "The published results of this set are for frames of 600 and 900 pixels" in everything


def test_limited_runs_say_so_loudly(run, text, prw):
    document = run("prw", prw, queries=2, frames=3, mode="cached")
    assert document["comparable"] is False and "NOT comparable" in document["warnings"][0]
    assert document["limits"] == {"queries": 2, "frames_per_query": 3} and document["counts"]["pairs"] == 6
    assert document["published"] == []
    shown = text("prw", prw, queries=2, mode="cached")
    assert "WARNING: limited run (only the first 2 queries): NOT comparable" in shown and "(limited)" in shown
    whole = run("prw", prw, queries=99, frames=99, mode="cached")
    assert whole["comparable"] and whole["limits"] == {"queries": None, "frames_per_query": None}


def test_rankings_and_figure(run, prw, tmp_path):
    rankings, figure = tmp_path / "rankings.jsonl", tmp_path / "figure.jpg"
    document = run("prw", prw, mode="cached", save_rankings=rankings, keep=3, figure=figure, figure_queries=2)
    entries = [json.loads(line) for line in rankings.read_text().splitlines()]
    assert [entry["rank"] for entry in entries] == [1, 2, 3] * 4
    assert {entry["query"] for entry in entries} == {query["query"] for query in document["queries"]}
    for query in document["queries"]:
        own = [entry for entry in entries if entry["query"] == query["query"]]
        assert query["top1"] == own[0]["correct"]
        assert own[0]["score"] >= own[1]["score"] and len(own[0]["box"]) == 4
        assert (prw / "frames" / own[0]["frame"]).exists()
    with Image.open(figure) as picture:
        assert picture.format == "JPEG" and picture.width > picture.height
    with pytest.raises(OutputError, match="--overwrite"):
        run("prw", prw, mode="cached", save_rankings=rankings)
    with pytest.raises(UsageError, match=r"\.jpg"):
        run("prw", prw, figure=tmp_path / "figure.png")
    with pytest.raises(OutputError, match="no folder"):
        run("prw", prw, figure=tmp_path / "nowhere" / "figure.jpg")


def test_a_coco_set_with_files_of_other_names(run, scene):
    document = run("coco", scene, queries_file="test_queries.json", mode="cached", frames=3)
    assert document["mode"] == "cached" and document["dataset"]["files"] == {"queries": "test_queries.json"}
    assert document["counts"]["pairs"] == 6 and len(document["queries"]) == 2
    assert document["detection"]["all"]["people"] > 0


def test_extra_labels(run, scene):
    labels = json.loads((scene / "annotations.json").read_text())["annotations"]
    one_each = {label["image_id"]: label for label in labels}.values()
    extra = [{**label, "id": 10_000 + label["id"], "bbox": [1, 1, 9, 20], "person_id": -1} for label in one_each]
    (scene / "extra.json").write_text(json.dumps({"annotations": extra}))
    people = []
    for more in (None, ["extra.json"]):
        document = run("coco", scene, queries_file="test_queries.json", mode="cached", frames=3, extra=more)
        people.append(document["detection"]["all"]["people"])
    assert people[1] > people[0]


def test_the_examples_are_the_default(run):
    document = run(queries=1, frames=2)
    assert document["dataset"]["name"] == "examples" and document["mode"] == "cascade"
    assert document["shortlist"] == "10%" and document["counts"]["pairs_exact"] == 1


def test_the_variant_is_checked(run, prw):
    assert run("prw", prw, variant="qeeps", mode="cached")["variant"] == "qeeps"
    with pytest.raises(WeightsError, match="expects weights with QRPN, got .*random.*QSSE and QRPN and QSimNet"):
        run("prw", prw, variant="oim+qrpn")
    with pytest.raises(WeightsError, match="no query-guided block.*--method oim"):
        run("prw", prw, variant="oim")
    with pytest.raises(UsageError, match="--variant expects one of"):
        run("prw", prw, variant="nonsense")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "nonsense"}, "unknown dataset"),
        ({"dataset": "prw"}, "--dataset prw needs --root DIR: the folder PRW-v16.04.20"),
        ({"root": "my_set"}, "--root my_set needs --dataset.*--dataset coco for labels of your own"),
        ({"dataset": "prw", "annotations": "train.json"}, "belong to --dataset coco"),
        ({"dataset": "prw", "gallery_size": "50"}, "belongs to --dataset cuhk-sysu"),
        ({"dataset": "cuhk-sysu", "cross_camera": True}, "belongs to --dataset prw"),
        ({"method": "oim", "mode": "exact"}, "--mode belongs to --method qeeps"),
        ({"mode": "exact", "shortlist": "5"}, "--shortlist belongs to --mode cascade"),
        ({"shortlist": "some"}, "--shortlist expects"),
        ({"mode": "exact", "expand": True}, "--expand belongs to --mode cached"),
        ({"method": "oim", "expand": True}, "--expand ranks by QSimNet's scores"),
        ({"mode": "quick"}, "a mode of exact, cached, cascade"),
        ({"compare_eager": True}, "belong to --runtime"),
        ({"runtime": True, "size": "900"}, "--size expects HEIGHTxWIDTH"),
        ({"runtime": True, "weights": "w", "backbone": "resnet50"}, "got both"),
    ],
)
def test_options_that_do_not_go_together(weights, given, message):
    with pytest.raises(UsageError, match=message):
        benchmark(**{"weights": str(weights), **given})


def test_mistakes_in_the_folder_are_told(weights, tmp_path):
    def fails(*set_, **given):
        with pytest.raises(DataError) as caught:
            named = dict(zip(("dataset", "root"), set_, strict=False))
            benchmark(**named, weights=str(weights), **(FEW | {"mode": "cached"} | given))
        assert caught.value.exit_code == ExitCode.USAGE
        return str(caught.value)

    told = fails("prw", tmp_path / "nowhere")
    assert "nowhere" in told and "PRW-v16.04.20" in told
    told = fails("cuhk-sysu", tmp_path)
    assert str(tmp_path) in told and "Image" in told and "annotation" in told
    root = write_prw(tmp_path / "PRW-v16.04.20")
    frame = root / "frames" / "c1s1_000002.jpg"
    frame.unlink()
    told = fails("prw", root)
    assert "c1s1_000002.jpg" in told and str(root / "frames") in told
    frame.write_bytes(b"no picture")
    for mode in ("cached", "exact"):
        told = fails("prw", root, mode=mode)
        assert str(frame) in told and "expected a" in told
    (root / "query_info.txt").unlink()
    told = fails("prw", root)
    assert "query_info.txt" in told and "holds: annotations" in told


def test_a_query_outside_its_picture_is_told(weights, tmp_path):
    root = write_prw(tmp_path / "PRW-v16.04.20")
    lines = (root / "query_info.txt").read_text().splitlines()
    (root / "query_info.txt").write_text("\n".join([*lines, "1 500 500 20 40 c1s1_000000"]))
    with pytest.raises(DataError, match="query 1 c1s1_000000 of prw, .*lies outside"):
        benchmark(dataset="prw", root=root, weights=str(weights), **FEW, mode="cached")


def test_an_installation_without_examples_says_what_is_missing(tmp_path):
    from qeeps_cli.datasets.examples import load_examples

    with pytest.raises(DataError, match=r"queries\.json in .*checkout.*--root"):
        load_examples(tmp_path)


def test_results_on_stdout_and_the_rest_on_stderr(weights, prw, preloaded):
    arguments = ["--dataset", "prw", "--root", prw, "--weights", weights, "--no-cache", "--queries", "1"]
    done = preloaded.run("benchmark", *arguments, "--proposals", "5", TERM="xterm", FORCE_COLOR="1")
    assert done.returncode == ExitCode.OK
    assert done.stdout.startswith(b"prw: 1 query, 7 frames, 7 pairs\n") and b"\x1b" not in done.stdout
    assert b"7 pairs of query and frame to compare" in done.stderr
    done = preloaded.run("benchmark", "--dataset", "prw", "--weights", weights)
    assert done.returncode == ExitCode.USAGE and done.stdout == b"" and b"needs --root DIR" in done.stderr


def test_runtime_measures_instead_of_scoring(weights, capsysbinary):
    given = {"runtime": True, "size": "64x96", "proposals": 5, "weights": str(weights), "device": "cpu"}
    assert benchmark(**given, as_json=True) == ExitCode.OK
    document = json.loads(capsysbinary.readouterr().out)
    assert document["schema"] == "qeeps.runtime/1" and document["weights"]["name"] == weights.stem
    benchmark(**given)
    assert b"64x96 pixels" in capsysbinary.readouterr().out
