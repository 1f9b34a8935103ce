"""The training loop: stages in order, each step reproducible, saved every few minutes, resumed exactly."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import torch
from torch import Tensor, nn

from qeeps_cli.device import autocast
from qeeps_cli.errors import DataError
from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import StageConfig, TrainConfig
from qeeps_cli.training.detector_losses import People
from qeeps_cli.training.initialise import GUIDED, fill
from qeeps_cli.training.prefetch import from_a_thread, from_processes
from qeeps_cli.training.run_state import Log, load_state, save_state
from qeeps_cli.training.stage import Batch, Stage

# Not QSimNet: it starts as the metric that ranks best so far, and Adam's fast steps would bury that in noise.
HEADS = ("rpn.", "qrpn.", "roi_head.cls_net", "roi_head.reg_net", "roi_head.id_net")
QSSE = "qsse"


@dataclass
class Progress:
    """What a reporter is told after each step. losses: by name, unweighted; seconds_left: of the stage."""

    stage: str
    step: int
    steps: int
    losses: dict[str, float]
    total: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    seconds_left: float


@dataclass
class Interrupted(Exception):
    """Training was asked to stop; everything up to `step` is saved."""

    stage: str
    step: int


@dataclass
class Trainer:
    """Runs the stages of a recipe in `out`.

    make_model: the network of a stage, empty or as the run starts. make_stage: called with (name, model, fresh) when a
    stage begins; fresh is false when it is resumed. finish_stage: called with (name, model) when it is done. validate:
    called with (model, stage, step), returns metrics to log. report: called with a Progress after each step. stop: set
    it to save and leave at the next step. workers: processes that prepare steps; 0: a thread of this one does.
    """

    config: TrainConfig
    make_model: Callable[[str], QEEPS]
    out: Path
    device: torch.device
    make_stage: Callable[[str, QEEPS, bool], Stage]
    finish_stage: Callable[[str, QEEPS], None]
    validate: Callable[[QEEPS, str, int], dict[str, float]]
    report: Callable[[Progress], None]
    stop: Event = field(default_factory=Event)
    workers: int = 0

    def run(self) -> QEEPS:
        """Train to the end, or raise Interrupted after saving. Raises DataError naming the term when a loss is NaN."""
        state = load_state(self.out, self.config)
        done = list(state["done"]) if state else []
        before: dict[str, Tensor] | None = state["model"] if state else None
        model = None
        for name, stage_config in self.config.stages.items():
            if name in done:
                continue
            model = self.make_model(name)
            resumed = state if state and state["stage"] == name else None
            if before is not None:
                fill(model, before, "the stage before")
            model.to(self.device, memory_format=torch.channels_last)
            self._run_stage(name, stage_config, model, resumed, done)
            done = [*done, name]
            self._save(name, stage_config.steps, model, None, {}, done)
            before = model.state_dict()
        if model is None:  # a finished run, started again
            model = self.make_model(done[-1])
            model.load_state_dict(before)
        return model.eval()

    def _run_stage(self, name: str, config: StageConfig, model: QEEPS, resumed: dict | None, done: list[str]) -> None:
        stage = self.make_stage(name, model, resumed is None)
        optimizer = make_optimizer(model, config, stage.parameters(), stage.keeps)
        first = 0
        if resumed:
            optimizer.load_state_dict(resumed["optimizer"])
            stage.load_state_dict(resumed["extra"])
            first = resumed["step"]
        log = Log(self.out, name, first)
        model.train()
        saved, began, seen = time.monotonic(), time.monotonic(), 0
        for step, batch in self._batches(stage, first, config.steps):
            factor = learning_rate_factor(step, config)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            losses, total, norm = self._step(stage, model, optimizer, config, batch, step)
            seen += batch["count"]
            elapsed = time.monotonic() - began
            left = elapsed / (step + 1 - first) * (config.steps - step - 1)
            progress = Progress(
                name, step + 1, config.steps, losses, total, norm, config.lr * factor, seen / elapsed, left
            )
            log.write(
                stage=name, step=step + 1, total=round(total, 5), **{k: round(v, 5) for k, v in losses.items()},
                gradient_norm=round(norm, 4), lr=config.lr * factor,
            )  # fmt: skip
            self.report(progress)
            every = self.config.validate_every
            if step + 1 == config.steps or (every and (step + 1) % every == 0):
                model.eval()
                log.write(stage=name, step=step + 1, validation=self.validate(model, name, step + 1))
                model.train()
            # after the validation: a run that resumes from here does not repeat it, and must not lack it either
            if self.stop.is_set() and step + 1 < config.steps:
                self._save(name, step + 1, model, optimizer, stage.state_dict(), done)
                raise Interrupted(name, step + 1)
            if time.monotonic() - saved > 60 * self.config.save_minutes:
                self._save(name, step + 1, model, optimizer, stage.state_dict(), done)
                saved = time.monotonic()
        self.finish_stage(name, model)

    def _batches(self, stage: Stage, first: int, steps: int) -> Iterator[tuple[int, Batch]]:
        if self.workers and stage.batch_is_stateless:
            return from_processes(stage, first, steps, self.workers, pinned=self.device.type == "cuda")
        return from_a_thread(stage, first, steps)

    def _step(
        self,
        stage: Stage,
        model: QEEPS,
        optimizer: torch.optim.Optimizer,
        config: StageConfig,
        batch: Batch,
        step: int,
    ) -> tuple[dict[str, float], float, float]:
        torch.manual_seed(self.config.seed * 1_000_003 + step)  # `assign.sample` draws from the global generator
        batch = to_device(batch, self.device)
        with autocast(self.device):
            losses = stage.losses(model, batch)
        total = sum(config.weight_of(name) * loss for name, loss in losses.items())
        optimizer.zero_grad(set_to_none=True)
        if total.requires_grad:  # a self-paired step has nothing for QRPN, which may be all that is trained
            total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        # Losses are read only now, all at once: a GPU whose processor waits for them before would idle meanwhile.
        numbers = torch.stack([x.detach().float().to(self.device) for x in (*losses.values(), total, norm)]).tolist()
        values = dict(zip(losses, numbers[:-2], strict=True))
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise DataError(
                f"the loss {' and '.join(bad)} became {values[bad[0]]} at step {step + 1} of stage {stage.name}. "
                "Expected a finite number. Lower lr or raise warmup; the pictures of the step were: "
                f"{', '.join(batch['files'])}."
            )
        return values, numbers[-2], numbers[-1]

    def _save(
        self,
        stage: str,
        step: int,
        model: QEEPS,
        optimizer: torch.optim.Optimizer | None,
        extra: dict[str, Tensor],
        done: list[str],
    ) -> None:
        save_state(
            self.out,
            {
                "recipe": json.dumps(self.config.to_dict(), sort_keys=True),
                "stage": stage,
                "step": step,
                "done": done,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict() if optimizer else {},
                "extra": extra,
            },
        )


def make_optimizer(
    model: QEEPS, config: StageConfig, beside: Sequence[nn.Parameter] = (), keeps: tuple[str, ...] = ()
) -> torch.optim.Optimizer:
    """AdamW or SGD (0.9); new heads at lr · head_lr, QSSE at qsse_lr times that, BaseNet at lr · trunk_lr.

    There is no weight decay on biases and norms.

    beside: parameters that are none of the model's, trained as new heads are, without weight decay. keeps: beginnings
    of names that have a rate of 0. What has a rate of 0 is frozen: it needs no gradient any more.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    if beside:
        groups[config.lr * config.head_lr, False] = list(beside)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = 0.0 if name.startswith(keeps) else config.lr * _rate_factor(name, config)
            if rate == 0:
                parameter.requires_grad_(False)
                continue
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    parameters = [
        {"params": members, "lr": rate, "base_lr": rate, "weight_decay": config.weight_decay if decays else 0.0}
        for (rate, decays), members in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr)
    raise DataError(f"the optimizer must be adamw or sgd, got {config.optimizer!r}.")


def _rate_factor(name: str, config: StageConfig) -> float:
    if config.guidance_only:
        if not name.startswith(GUIDED):
            return 0.0
    elif name.startswith("basenet.") and config.trunk_lr == 0:
        return 0.0  # QSSE too: it decides what the detector sees
    if QSSE in name:
        return config.head_lr * config.qsse_lr
    if any(part in name for part in HEADS):
        return config.head_lr
    return config.trunk_lr if name.startswith("basenet.") else 1.0


def learning_rate_factor(step: int, config: StageConfig) -> float:
    """Linear warm-up, then a cosine that would reach final_lr one step after the last."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors, also those in nested batches, lists and feature maps, on the device."""
    return {key: _move(value, device) for key, value in batch.items()}


def _move(value, device: torch.device):
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return to_device(value, device)
    if isinstance(value, list):
        return [_move(v, device) for v in value]
    if isinstance(value, FeatureMaps):
        return FeatureMaps(*(_move(v, device) for v in value))
    if isinstance(value, People):
        return People(**{name: _move(tensor, device) for name, tensor in vars(value).items()})
    return value
