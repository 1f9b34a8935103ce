"""What a measurement of Table 4 says, and the paper's own rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from qeeps_cli.model.config import InferenceParams, ModelConfig

NEW_QUERY = "new query"  # a query and a frame, both met for the first time: what the paper times
NEXT_FRAME = "next frame"  # further frames of a query
NEXT_QUERY = "next query"  # a new query for a frame that was prepared before: many queries search one gallery


class Published(NamedTuple):
    """A row of the paper's Table 4. parameters: millions. seconds: per pair. gpu_tflops: the GPU's peak."""

    method: str
    parameters: float
    seconds: float
    gpu: str
    gpu_tflops: float


PUBLISHED = (Published("Mask-G", 209, 1.3, "K80", 8.7), Published("QEEPS", 49, 0.3, "P6000", 12.0))


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(float(np.median(values)), min(values), max(values))


@dataclass(frozen=True)
class Timing:
    """Seconds a pair for one job: NEW_QUERY, NEXT_FRAME with `batch` frames at once, or NEXT_QUERY."""

    job: str
    batch: int
    seconds: Spread


@dataclass(frozen=True)
class EngineRuntime:
    """What one engine cost.

    proposals: RoIs of the frame that was timed. people: those kept of them, which a second pass pools again.
    operations: two for each multiply-add of the layers that ran for a NEW_QUERY pair. memory: bytes at the peak of the
    first pair, the network's included.
    """

    name: str
    precision: str
    params: InferenceParams
    proposals: int
    people: int
    operations: int
    memory: int
    timings: tuple[Timing, ...]

    def seconds(self, job: str = NEW_QUERY, batch: int = 1) -> Spread:
        return next(timing.seconds for timing in self.timings if (timing.job, timing.batch) == (job, batch))

    @property
    def tflop_per_second(self) -> float:
        """Of a NEW_QUERY pair, at its median time."""
        return self.operations / self.seconds().median / 1e12

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "precision": self.precision,
            "parameters": self.params.to_dict(),
            "proposals": self.proposals,
            "people": self.people,
            "tflop": self.operations / 1e12,
            "tflop_per_second": self.tflop_per_second,
            "memory_bytes": self.memory,
            "seconds_per_pair": [asdict(timing) for timing in self.timings],
        }


@dataclass(frozen=True)
class Ratio:
    """How many times the first engine's seconds another one takes for a job.

    times: the ratio of the medians, then the least and the greatest ratio inside one round.
    """

    engine: str
    job: str
    batch: int
    times: Spread


@dataclass(frozen=True)
class Runtime:
    """A measurement of Table 4.

    parameters: of the network. weights: what a checkpoint says of itself; None: random ones. size: (height, width) of
    the network's input. pictures, memory_is: what was searched, and what `memory` means, in words. operations_at_300:
    of one pair with the paper's 300 proposals and no second pass, whatever the picture.
    """

    config: ModelConfig
    parameters: int
    weights: dict[str, str] | None
    size: tuple[int, int]
    pictures: str
    device: str
    memory_is: str
    threads: int
    torch: str
    rounds: int
    operations_at_300: int
    engines: tuple[EngineRuntime, ...]
    ratios: tuple[Ratio, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types, with the paper's rows beside."""
        return {
            "variant": self.config.variant,
            "backbone": self.config.backbone,
            "network_parameters": self.parameters,
            "weights": self.weights,
            "size": list(self.size),
            "pictures": self.pictures,
            "timed": "preprocessing and network, without decoding",
            "device": self.device,
            "memory_is": self.memory_is,
            "threads": self.threads,
            "torch": self.torch,
            "rounds": self.rounds,
            "tflop_at_300_proposals": self.operations_at_300 / 1e12,
            "engines": [engine.to_json() for engine in self.engines],
            "ratios": [asdict(ratio) for ratio in self.ratios],
            "published": [row._asdict() for row in PUBLISHED],
        }
