"""`--engine ray`: two workers find, byte for byte, what one process finds; also when one of them is killed."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cache_samples import unprivileged
from command_line import FEW, FRAMES
from docs_samples import make_samples_video
from PIL import Image
from typer.testing import CliRunner, Result

from qeeps_cli.cache.maintenance import inspect
from qeeps_cli.cli.app import app
from qeeps_cli.distributed.stdout import divert
from qeeps_cli.errors import CacheError, ClusterError, ExitCode, UsageError

pytest_plugins = ["cli_fixtures", "preloaded"]
# Not importorskip: once it is imported, Ray keeps its token in the user's home folder.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'qeeps-cli[ray]'"),
]

MANY = 16
WORKERS = ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def cluster():
    """A Ray of two processors in this process, which the commands of this file then use: to start one takes seconds.
    Gives its address, for commands in processes of their own."""
    from qeeps_cli.distributed.cluster import Cluster, load_ray

    with pytest.MonkeyPatch.context() as patch, Cluster() as cluster:
        patch.setattr("qeeps_cli.distributed.cluster.usable_cores", lambda: 2)
        patch.setenv("RAY_worker_niceness", "0")  # Ray's own 15 would leave nothing for workers beside other tests
        cluster.connect()
        yield load_ray().get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, frames) -> Path:
    """MANY different small pictures, and a file that is none."""
    folder = tmp_path_factory.mktemp("ray") / "gallery"
    folder.mkdir()
    with Image.open(frames / FRAMES[0]) as image:
        for i in range(MANY):
            image.crop((i, i, i + 192, i + 128)).save(folder / f"{i}.png", compress_level=1)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def given(gallery, weights):
    """The options of every command here."""

    def given(cache: Path, *more) -> list[str]:
        options = ["--weights", weights, *FEW, "--cache", cache, *more]
        return [os.fspath(option) for option in options]

    return given


class ResultsRunner(CliRunner):
    """Captures what the command itself prints. The Ray of this file tells of its workers on standard output at any
    time, also while a command runs that has no Ray and so keeps nothing apart."""

    @contextmanager
    def isolation(self, *arguments, **options):
        with super().isolation(*arguments, **options) as streams:
            restore = divert(lambda text: None)
            try:
                yield streams
            finally:
                restore()


def invoke(*arguments) -> Result:
    """A command in this process, finished."""
    return ResultsRunner().invoke(app, [os.fspath(argument) for argument in arguments])


def run(*arguments, code: ExitCode = ExitCode.SKIPPED) -> bytes:
    """stdout of a command in this process."""
    done = invoke(*arguments)
    assert done.exit_code == code, done.stderr
    return done.stdout_bytes


def query(gallery: Path) -> list[str]:
    return ["--query", os.fspath(gallery / "3.png"), "--box", "10,10,50,90"]


@pytest.fixture(scope="module")
def index(tmp_path_factory, cluster, gallery, given) -> Path:
    """The cache that two workers have filled."""
    cache = tmp_path_factory.mktemp("cache") / "c.qeeps"
    found = json.loads(run("index", "--gallery", gallery, *given(cache), *WORKERS, "--json"))
    assert (found["computed"], found["cached"], found["frames"]) == (MANY, 0, MANY) and found["people"] > MANY
    assert [item["image"] for item in found["skipped"]] == ["broken.jpg"]
    return cache


def test_an_index_of_two_workers_serves_an_ordinary_search(index, gallery, given, tmp_path):
    assert len(list(index.glob("frames-*.h5"))) >= 2 and not list(index.glob(".*"))
    again = json.loads(run("index", "--gallery", gallery, *given(index), "--json"))
    assert (again["computed"], again["cached"]) == (0, MANY)
    search = ["search", *query(gallery), "--gallery", gallery, "--mode", "cached"]
    assert run(*search, *given(index)) == run(*search, *given(tmp_path / "alone"))


def pairs_in(cache: Path) -> int:
    return sum(len(segment.map()["keys"]) for segment in inspect(cache).segments if segment.kind.name == "pairs")


@pytest.mark.slow
def test_an_expanded_search_by_workers_is_that_of_one_process(index, gallery, given, tmp_path):
    """The best match of the whole gallery is asked, whoever scored it."""
    search = ["search", *query(gallery), "--gallery", gallery, "--expand"]
    assert run(*search, *given(index), *WORKERS) == run(*search, *given(tmp_path / "alone"))


@pytest.mark.slow
def test_a_cascade_by_workers_is_that_of_one_process(index, gallery, given, tmp_path):
    """It goes on from the index."""
    search = ["search", *query(gallery), "--gallery", gallery, "--mode", "cascade", "--shortlist", "12"]
    cache = tmp_path / "c"
    shutil.copytree(index, cache)
    assert run(*search, *given(cache), *WORKERS) == run(*search, *given(tmp_path / "alone"))
    assert pairs_in(cache) == 12


@pytest.mark.slow
def test_a_video_that_workers_indexed_is_that_of_one_process(cluster, frames, given, tmp_path):
    """Of its moments, too, nothing is left to compute, and the results are the same bytes."""
    video = make_samples_video(tmp_path / "video.mp4", frames)
    index = json.loads(run("index", "--gallery", video, *given(tmp_path / "c"), *WORKERS, "--json", code=ExitCode.OK))
    assert (index["computed"], index["frames"], index["skipped"]) == (4, 4, [])
    query = ["--query", frames / FRAMES[1], "--box", "80,40,40,90"]
    search = ["search", *query, "--gallery", video, "--mode", "cached"]
    done = invoke(*search, *given(tmp_path / "c"))
    assert "0 frames computed, 4 from the cache" in done.stderr
    assert done.stdout_bytes == run(*search, *given(tmp_path / "alone"), code=ExitCode.OK)
    moments = {(match["image"], match["time"], match["frame"]) for match in json.loads(done.stdout)["matches"]}
    assert moments == {(f"video.mp4@00:00:0{i}.000", f"00:00:0{i}.000", i) for i in range(4)}


def test_a_video_is_looked_at_once_for_all_its_frames(frames, tmp_path, monkeypatch):
    """Whether it has changed since it was indexed; no worker is needed for that."""
    from qeeps_cli.cache.store import Cache
    from qeeps_cli.distributed.cluster import Cluster
    from qeeps_cli.distributed.crew import RayCrew
    from qeeps_cli.searching.galleries import list_galleries

    looks = []
    monkeypatch.setattr(Cache, "digest_of", lambda self, path: looks.append(path))
    found = list_galleries([make_samples_video(tmp_path / "video.mp4", frames)]).frames
    with Cache(tmp_path / "c", warn=print) as cache:
        crew = RayCrew(Cluster(), None, "d", None, cache, found, fingerprint={})
        assert crew.index(found) == 0 and looks == [tmp_path / "video.mp4"]
        assert crew.compare([], {place: () for place in range(4)}) == 0 and len(looks) == 2


def workers_of(name: str) -> list[int]:
    """Those of this process' Ray: children of a child of it."""
    parents, titles = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "stat").read_text().rpartition(")")[2].split()
            parents[int(place.name)] = int(status[1])
            titles[int(place.name)] = (place / "cmdline").read_text(errors="replace")
        except OSError:  # it has ended
            pass
    ours = {pid for pid, parent in parents.items() if parents.get(parent) == os.getpid()}
    return sorted(pid for pid in ours if pid in titles and titles[pid].startswith("ray::") and name in titles[pid])


def test_a_worker_that_is_killed_costs_only_its_batch(cluster, gallery, given, tmp_path, monkeypatch):
    monkeypatch.setattr("qeeps_cli.distributed.pool.SEGMENT_FRAMES", 2)
    cache, killed = tmp_path / "c", []

    def kill_one() -> None:
        deadline = time.monotonic() + 300
        while not list(cache.glob("frames-*.h5")) and time.monotonic() < deadline:
            time.sleep(0.005)
        killed.extend((pid, len(list(cache.glob("frames-*.h5")))) for pid in workers_of("Indexer")[:1])
        for pid, _ in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = json.loads(run("index", "--gallery", gallery, *given(cache), *WORKERS, "--json"))
    killer.join()
    assert killed and killed[0][1] < MANY // 2, "it was over before anybody was killed"
    assert found["frames"] == MANY
    search = ["search", *query(gallery), "--gallery", gallery, "--mode", "cached"]
    assert run(*search, *given(cache)) == run(*search, *given(tmp_path / "alone"))
    again = json.loads(run("index", "--gallery", gallery, *given(cache), "--json"))
    assert (again["computed"], again["cached"]) == (0, MANY)


@pytest.mark.slow
def test_frames_of_an_object_store_are_those_of_files(cluster, index, gallery, given, tmp_path):
    """Known by their content: what was indexed as files is not computed again. Only their names differ."""
    root, cache, listed = gallery.as_uri(), tmp_path / "c", tmp_path / "list"
    shutil.copytree(index, cache)
    listed.write_text("".join(f"{root}/{path.name}\n" for path in gallery.iterdir()) + f"{root}/gone.png\n")
    search = ["search", *query(gallery), "--mode", "cached"]
    done = invoke(*search, "--files-from", listed, *given(cache), *WORKERS)
    assert f"0 frames computed, {MANY} from the cache" in done.stderr and done.exit_code == ExitCode.SKIPPED
    found, alone = json.loads(done.stdout), json.loads(run(*search, "--gallery", gallery, *given(cache)))
    for item in (*alone["matches"], *alone["skipped"]):
        item["image"] = f"{root}/{item['image']}"
    *broken, gone = found["skipped"]
    assert found["matches"] == alone["matches"] and broken == alone["skipped"]
    assert gone["image"] == f"{root}/gone.png" and "No such file" in gone["reason"]


def test_a_process_of_its_own_says_nothing_but_results(cluster, gallery, given, preloaded, tmp_path):
    """It finds the cluster by its address, and all its pairs come from workers. stdout is the JSON alone, and with -q
    stderr is empty."""
    search = ["search", *query(gallery), "--gallery", gallery, "--mode", "exact"]
    done = preloaded.run(*search, *given(tmp_path / "c"), "--engine", "ray", "--address", cluster, "-q", seconds=600)
    assert (done.returncode, done.stderr) == (ExitCode.SKIPPED, b"")
    assert done.stdout == run(*search, *given(tmp_path / "alone"))
    assert pairs_in(tmp_path / "c") == MANY


def test_cached_people_are_scored_in_shares(cluster, tmp_path):
    from cache_samples import DIMENSIONS, FINGERPRINT, digest, fill, refuse

    from qeeps_cli.cache.store import Cache
    from qeeps_cli.distributed.cluster import Cluster
    from qeeps_cli.distributed.scoring import SharedGallery
    from qeeps_cli.gallery import FrameList
    from qeeps_cli.searching.ranking import Ranking
    from qeeps_cli.searching.request import SearchOptions
    from qeeps_cli.searching.scoring import CachedGallery, Scorer
    from qeeps_cli.types import Query

    names = [str(number) for number in range(40)]
    fill(tmp_path / "c", names[:10])
    fill(tmp_path / "c", names[10:])
    digests, scorer = list(map(digest, names)), Scorer(np.eye(2, DIMENSIONS), None)
    results = []
    with Cache(tmp_path / "c", warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        shared = SharedGallery(Cluster(workers=2), cache, FINGERPRINT, digests, None)
        assert len(shared.shares) == 2
        for people in (CachedGallery(store, digests, None), shared):
            rankings = [Ranking(Query(Path(), None), FrameList(Path(), names), SearchOptions(top_k=9)) for _ in "12"]
            people.rank(scorer, rankings, np.arange(40), np.ones((2, 40), bool))
            for ranking in rankings:
                ranking.searched = 40
            results.append((people.best(scorer).tolist(), [ranking.result() for ranking in rankings]))
    assert results[0] == results[1]


def test_frames_reach_workers_as_they_are():
    """Pictures, moments of videos with all that is needed to decode them, and names that are no text."""
    from qeeps_cli.distributed.task import frame_columns, frames_of
    from qeeps_cli.types import GalleryFrame, VideoMoment

    moment = VideoMoment(12.5, 300, pts=153_600, keyframe=-2048)
    work = [
        (0, GalleryFrame(Path("g/1.jpg"), "1.jpg"), [0, 2]),
        (7, GalleryFrame(Path("g/v.mp4"), f"v.mp4@{moment.clock}", moment), []),
        (8, GalleryFrame(Path("g/\udce9.jpg"), "\udce9.jpg"), [1]),
    ]
    columns = {name: np.array(column) for name, column in frame_columns(work).items()}
    assert frames_of(columns) == work


# Whatever stands in the way is said in a sentence.


def test_errors_of_workers_have_the_exit_code_that_they_have_here(cluster, weights, tmp_path):
    """A cache folder that is another one on the worker's machine, and a machine that computes differently."""
    from qeeps_cli.cache.pairs import PAIR_COMPUTATION
    from qeeps_cli.distributed.cluster import load_ray
    from qeeps_cli.distributed.task import Task, WorkerError, frame_columns, parse_answer
    from qeeps_cli.distributed.worker import Indexer
    from qeeps_cli.model.config import InferenceParams
    from qeeps_cli.weights import load_model, read_checkpoint

    network = load_model(read_checkpoint(weights))
    for fingerprint, pairs, code, text in (
        (None, PAIR_COMPUTATION, ExitCode.CACHE, "share"),
        ({}, PAIR_COMPUTATION, ExitCode.USAGE, "precision"),
        (None, 99, ExitCode.USAGE, f"others do .pair_computation {PAIR_COMPUTATION}, expected 99"),
    ):
        task = Task(
            network, "d", InferenceParams(), "cpu", fingerprint, tmp_path, "mark", {}, None, 10**6, False, (), pairs
        )  # fmt: skip
        (failure,) = Indexer(load_ray().put(task))(frame_columns([]))["answer"]
        with pytest.raises(WorkerError, match=text) as caught:
            parse_answer(failure)
        assert caught.value.exit_code == code


def test_what_the_workers_depend_on_is_what_this_process_does(cluster, weights):
    from qeeps_cli.distributed.cluster import Cluster
    from qeeps_cli.distributed.pool import fingerprint_of_workers
    from qeeps_cli.distributed.task import Task
    from qeeps_cli.searching.loading import load_engine
    from qeeps_cli.weights import load_model

    engine, checkpoint = load_engine(weights, "cpu")
    network = load_model(checkpoint)
    task = Task(
        network, checkpoint.digest, engine.params, "cpu", None, Path("/"), "", {}, None, 10**6, False
    )  # fmt: skip
    assert fingerprint_of_workers(Cluster(), task) == engine.fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "belong to --engine ray"),
        (["--engine", "spark"], "expects local or ray"),
        ([*WORKERS, "--address", "nowhere"], "expects host:port"),
        ([*WORKERS, "--address", "127.0.0.1:1"], "no Ray answers at 127.0.0.1:1"),
        ([*WORKERS, "--device", "cuda"], "--gpus-per-worker"),
        (["--engine", "ray", "--gpus-per-worker", "1.5"], "a share of a GPU"),
        (["--engine", "ray", "--gpus-per-worker", "1", "--workers", "3"], "has 0 GPUs"),
        (["--engine", "ray", "--workers", "99"], "99 workers"),
    ],
)
def test_what_cannot_be_is_refused(options, message, cluster, gallery, given, tmp_path):
    done = invoke("index", "--gallery", gallery, *given(tmp_path / "c"), *options)
    assert done.exit_code == ExitCode.USAGE and message in done.stderr, done.stderr


@pytest.fixture
def locked():
    """A folder that nobody but root may write to; not in tmp_path, whose parents are closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "c.qeeps"
        folder.mkdir()
        folder.chmod(0o555)
        Path(name).chmod(0o755)
        yield folder


def test_without_a_cache_that_can_be_written_workers_are_not_started(locked, gallery, given, monkeypatch):
    """The user is told who needs it and what to do, and of no option that nobody gave."""
    monkeypatch.setattr("qeeps_cli.cache.folder.is_writable", lambda folder: False)  # as if this were not root
    for command in (["search", *query(gallery)], ["index"]):
        done = invoke(*command, "--gallery", gallery, *given(locked), *WORKERS)
        assert done.exit_code == ExitCode.CACHE
        told = f"--engine ray needs a cache folder that can be written, and {locked} cannot. Change its permissions, or"
        assert f"error: {told} name another place with --cache." in done.stderr and "note: " not in done.stderr


def test_a_cache_that_turns_out_to_be_closed_is_no_bug(locked, frames):
    """Network file systems may say that a folder can be written, and then refuse it."""
    from qeeps_cli.cache.store import Cache
    from qeeps_cli.distributed.cluster import Cluster
    from qeeps_cli.distributed.crew import RayCrew
    from qeeps_cli.searching.galleries import list_galleries

    gallery = list_galleries([frames])

    def refused() -> bool:
        with Cache(locked, warn=lambda text: None) as cache:
            crew = RayCrew(Cluster(), None, "d", None, cache, gallery.frames, fingerprint={})
            with pytest.raises(CacheError, match="--engine ray needs a cache folder .* cannot .Permission denied"):
                crew.index_gallery(gallery)
        return True

    assert unprivileged(refused) == 0


def test_a_ray_that_cannot_be_shut_down_costs_no_results(cluster, frames, given, tmp_path, monkeypatch):
    """And what went wrong before it is told as ever."""
    from qeeps_cli.distributed.cluster import Cluster, load_ray

    def fail() -> None:
        raise RuntimeError("the raylet is gone\nand more")

    def enter(self) -> Cluster:
        self._started = True
        return self

    monkeypatch.setattr(load_ray(), "shutdown", fail)
    monkeypatch.setattr(Cluster, "__enter__", enter)
    search = ["search", "--query", frames / FRAMES[0], "--box", "80,40,40,90", "--gallery", frames, "--mode", "cached"]
    done = invoke(*search, *given(tmp_path / "c"), *WORKERS, "-o", tmp_path / "found.json")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert len(json.loads((tmp_path / "found.json").read_bytes())["matches"]) > 3
    assert "note: Ray could not be shut down: the raylet is gone. Nothing that was found is lost." in done.stderr
    told = []
    with pytest.raises(KeyError, match="the search's own"), Cluster(warn=told.append):
        raise KeyError("the search's own")
    assert len(told) == 1


@pytest.mark.parametrize("kind", [RuntimeError, Exception])
def test_a_ray_that_does_not_start_is_no_bug_of_ours(kind, cluster, monkeypatch):
    """Ray raises plain exceptions where a slow machine keeps it waiting."""
    from qeeps_cli.distributed.cluster import Cluster, load_ray

    def fail(**options) -> None:
        raise kind("The current node timed out during startup.\nand more")

    monkeypatch.setattr(load_ray(), "init", fail)
    monkeypatch.setattr(load_ray(), "is_initialized", lambda: False)
    told = "no Ray that can be used on this machine: The current node timed out during startup. Try again, or"
    with Cluster() as own, pytest.raises(ClusterError, match=told):
        own.connect()
    assert own._scratch and not os.path.exists(own._scratch)


def test_what_ray_prints_is_no_result(capsys):
    """It tells of workers that died on standard output, in a thread of its own."""
    told = []
    restore = divert(told.append)
    thread = threading.Thread(target=print, args=["a worker died"], name="ray_listen_error_messages")
    thread.start()
    thread.join()
    print("a result")
    restore()
    print("another")
    assert told == ["a worker died"] and capsys.readouterr().out == "a result\nanother\n"


def test_without_ray_one_is_told_how_to_get_it(monkeypatch):
    from qeeps_cli.distributed.cluster import check_installed

    monkeypatch.setattr("qeeps_cli.distributed.cluster.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'qeeps-cli\[ray\]'"):
        check_installed()
