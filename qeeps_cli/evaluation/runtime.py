"""Table 4 of the paper on this machine: what a pair of query and gallery frame costs.

Every engine (the one that searches; for comparison the plain float32 network) does the same jobs on the same pictures,
in turns, so that whatever else the machine does meets all of them. Times are those of `Engine.search`: scaling,
normalisation, the network, and the way back to numpy; decoding is left out.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from qeeps_cli.device import describe
from qeeps_cli.errors import UsageError
from qeeps_cli.evaluation.flops import PAPER_PROPOSALS, count_operations, pair_operations
from qeeps_cli.evaluation.memory import MEMORY_IS, PeakMemory
from qeeps_cli.evaluation.pictures import Pictures, example_pictures
from qeeps_cli.evaluation.runtime_result import (
    NEW_QUERY,
    NEXT_FRAME,
    NEXT_QUERY,
    EngineRuntime,
    Ratio,
    Runtime,
    Spread,
    Timing,
)
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.engine import Engine, QueryPerson

PAPER_SIZE = (900, 1500)  # height, width of Table 4
SMALLEST_SIDE = 64
MIN_ROUNDS = 3
CPU_BATCHES, GPU_BATCHES = (1,), (1, 4, 16)
CPU_WARM_UP, GPU_WARM_UP = 1, 3  # runs of each job; cuDNN settles later than oneDNN
SEED = 0

FAST, PLAIN, PLAIN_PAPER = "qeeps", "plain float32", "plain float32, paper's settings"

Progress = Callable[[int, int, str], None]


def random_model(backbone: str, variant: str = "qeeps") -> QEEPS:
    """A network without weights, the same at every call.

    Good for what an architecture costs; how much it proposes and keeps is not what a trained one would. Raises
    UsageError for an unknown name.
    """
    config = ModelConfig(backbone=backbone, variant=variant)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return QEEPS(config).eval()


def measure_runtime(
    model: QEEPS,
    device: torch.device,
    params: InferenceParams | None = None,
    *,
    size: tuple[int, int] = PAPER_SIZE,
    pictures: Pictures | None = None,
    batches: Sequence[int] = (),
    compare_eager: bool = False,
    rounds: int = 9,
    seconds: float = 120.0,
    weights: dict[str, str] | None = None,
    progress: Progress = lambda done, total, what: None,
) -> Runtime:
    """Time the network on pairs that it sees at size (height, width) pixels; `model` itself stays as it is.

    pictures: a query, and a frame of that size; default: example frames. batches: how many frames of a query to run at
    once; default: CPU_BATCHES or GPU_BATCHES. compare_eager: measure beside it the plain float32 network, once with the
    same params and once with the paper's (§5.3: 300 proposals, the unlikely among them, and one pass). rounds:
    measurements of each job, 3 at least; once `seconds` are over, no further round begins. weights: what to say of the
    model's origin. progress: called with (done, total, what).

    Raises UsageError for a size or batch that is too small, NotANumberError for a network that gives no numbers.
    """
    batches = tuple(batches) or (GPU_BATCHES if device.type == "cuda" else CPU_BATCHES)
    if min(size) < SMALLEST_SIDE or min(batches) < 1:
        raise UsageError(
            f"expected a size of {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels or more and batches of 1 or more, got "
            f"{size[0]}x{size[1]} and {', '.join(map(str, batches))}."
        )
    pictures = pictures or example_pictures(size)
    params = params or InferenceParams()
    sized = _at_size(model, size)
    subjects = [_subject(FAST, sized, device, params, pictures, batches)]
    if compare_eager:
        paper = InferenceParams(
            proposals=PAPER_PROPOSALS, min_objectness=0.0, min_person_score=0.01, second_pass=False
        )
        for name, own_params in ((PLAIN, params), (PLAIN_PAPER, paper)):
            subjects.append(_subject(name, sized, device, own_params, pictures, batches, plain=True))
    done = _run_rounds(subjects, max(rounds, MIN_ROUNDS), seconds, progress)
    return Runtime(
        config=sized.config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights=weights,
        size=(size[0], size[1]),
        pictures=pictures.what,
        device=describe(device),
        memory_is=MEMORY_IS[device.type],
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        rounds=done,
        operations_at_300=pair_operations(sized.config, size),
        engines=tuple(_summary(subject) for subject in subjects),
        ratios=tuple(ratio for other in subjects[1:] for ratio in _ratios(subjects[0], other)),
    )


class _Job(NamedTuple):
    """run: answers `batch` pairs. samples: seconds a pair, one of each round."""

    name: str
    batch: int
    run: Callable[[], list]
    samples: list[float]


@dataclass
class _Subject:
    """An engine under measurement, with what its first pair told."""

    name: str
    engine: Engine
    proposals: int
    people: int
    operations: int
    memory: int
    jobs: list[_Job]


def _at_size(model: QEEPS, size: tuple[int, int]) -> QEEPS:
    """A copy that neither enlarges nor shrinks frames of that size."""
    model = copy.deepcopy(model)
    model.config = replace(model.config, shorter_side=min(size), longest_side=max(size))
    return model


def _subject(
    name: str,
    model: QEEPS,
    device: torch.device,
    params: InferenceParams,
    pictures: Pictures,
    batches: Sequence[int],
    plain: bool = False,
) -> _Subject:
    """The engine, after a first pair under the counters and a warm-up of all jobs."""
    memory = PeakMemory(device)
    # the plain engine works with the model that it is given, the other one with a copy of its own
    engine = Engine(copy.deepcopy(model) if plain else model, device, params, plain=plain)
    query = QueryPerson(pictures.query, pictures.box)
    (found,), operations = count_operations(lambda: engine.search(query, [pictures.frame], proposals=True))
    peak = memory.read()
    jobs = _jobs(engine, pictures, batches)
    for _ in range(GPU_WARM_UP if device.type == "cuda" else CPU_WARM_UP):
        for job in jobs:
            job.run()
    return _Subject(name, engine, len(found.proposals), len(found), operations, peak, jobs)


def _jobs(engine: Engine, pictures: Pictures, batches: Sequence[int]) -> list[_Job]:
    def person() -> QueryPerson:
        return QueryPerson(pictures.query, pictures.box)

    known = person()  # encoded in the warm-up
    prepared = engine.prepare([pictures.frame])
    frames = [pictures.frame]
    return [
        _Job(NEW_QUERY, 1, lambda: engine.search(person(), frames), []),
        *(_Job(NEXT_FRAME, batch, lambda batch=batch: engine.search(known, frames * batch), []) for batch in batches),
        _Job(NEXT_QUERY, 1, lambda: engine.search(person(), prepared), []),
    ]


def _run_rounds(subjects: list[_Subject], rounds: int, seconds: float, progress: Progress) -> int:
    """Fills the jobs' samples, all subjects in turns; returns the number of rounds."""
    began = time.perf_counter()
    total = rounds * len(subjects) * len(subjects[0].jobs)
    done = 0
    for number in range(rounds):
        if number >= MIN_ROUNDS and time.perf_counter() - began > seconds:
            return number
        for same_job in zip(*(subject.jobs for subject in subjects), strict=True):
            for subject, job in zip(subjects, same_job, strict=True):
                job.samples.append(_time(job.run, subject.engine.device) / job.batch)
                done += 1
                progress(done, total, "measurements")
    return rounds


def _time(run: Callable[[], list], device: torch.device) -> float:
    """Seconds until all of it is done, on a GPU too, which works on after a call returns."""
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(subject: _Subject) -> EngineRuntime:
    return EngineRuntime(
        name=subject.name,
        precision=str(subject.engine.dtype).removeprefix("torch."),
        params=subject.engine.params,
        proposals=subject.proposals,
        people=subject.people,
        operations=subject.operations,
        memory=subject.memory,
        timings=tuple(Timing(job.name, job.batch, Spread.of(job.samples)) for job in subject.jobs),
    )


def _ratios(first: _Subject, other: _Subject) -> list[Ratio]:
    ratios = []
    for own, its in zip(first.jobs, other.jobs, strict=True):
        medians = Spread.of(its.samples).median / Spread.of(own.samples).median
        by_round = [b / a for a, b in zip(own.samples, its.samples, strict=True)]
        ratios.append(Ratio(other.name, own.name, own.batch, Spread(medians, min(by_round), max(by_round))))
    return ratios
