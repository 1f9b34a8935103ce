"""`qeeps train` as a function: from a recipe to a checkpoint."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.datasets.files import require_folder
from qeeps_cli.errors import DataError, WeightsError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsimnet import QSimNet
from qeeps_cli.output.atomic import reporting
from qeeps_cli.training.classifier import IdentityClassifier
from qeeps_cli.training.config import TrainConfig
from qeeps_cli.training.crop_bank import Crop, load_crops
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.crop_validation import crop_retrieval, embed_plain, features_plain
from qeeps_cli.training.detect_stage import DetectStage
from qeeps_cli.training.discriminant import fold_discriminant
from qeeps_cli.training.embed_stage import EmbedStage
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.initialise import (
    average_with_start,
    has_query_guidance,
    id_stride_of,
    identifies_alike,
    initialise,
    regress_id_net,
    start_qsimnet,
    terms_of,
    whiten_id_net,
)
from qeeps_cli.training.oim import OIMLoss
from qeeps_cli.training.oim_stage import OIMStage
from qeeps_cli.training.population import Population, gather
from qeeps_cli.training.prefetch import default_workers, require_workers
from qeeps_cli.training.qeeps_stage import QEEPSStage
from qeeps_cli.training.search_validation import require_queries, search_validation
from qeeps_cli.training.stage import Stage, step_rng
from qeeps_cli.training.teacher import load_teacher
from qeeps_cli.training.trainer import Progress, Trainer
from qeeps_cli.weights import save_checkpoint

WHITENING_CROPS = 1500  # from which ID Net's start is computed
REGRESSION_CROPS = 5000  # from which a teacher's is, at least, where there are as many
PAIRED_IDENTITIES = 300  # at most, from which QSimNet's start is computed


def train(
    config: TrainConfig,
    out: Path,
    device: torch.device,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
    stop: Event | None = None,
    workers: int | None = None,
) -> Path:
    """Run a recipe in the folder `out`, resuming what is there; returns the path of the checkpoint.

    report: called after each step. say: called with a line for people (data found, validation). stop: set to save and
    leave. workers: processes that prepare steps, beside this one; None: `default_workers`. Raises DataError for
    unusable data or a loss that is not finite, OutputError where `out` cannot be made, Interrupted when stopped.
    """
    workers = default_workers(device) if workers is None else workers
    require_workers(workers)
    _require_inputs(config)
    with reporting(out):
        out.mkdir(parents=True, exist_ok=True)
    identifies = set(config.stages) != {"detect"}  # otherwise frames are all that is needed
    population = gather(config.data, named=identifies)
    unnamed = sum(person.unnamed for person in population.people)
    say(
        f"data: {len(population.frames)} frames, {len(population.people) - unnamed} people with a name, "
        f"{len(population.by_label) - unnamed} identities, {unnamed} people without one to draw, "
        f"{len(population.holdout)} crops held out"
    )
    crops = load_crops(population.people, threads=max(2, workers)) if identifies else []
    holdout = load_crops(population.holdout)
    teacher = load_teacher(config.teacher, device) if config.teacher and identifies else None
    if teacher:
        targets = teacher.of_crops(population.people, crops, out)
        if targets.shape[1] != config.model.embedding_dim:
            raise DataError(f"the teacher has {targets.shape[1]} dimensions, the model {config.model.embedding_dim}.")
    else:
        targets = np.full((len(population.people), config.model.embedding_dim), np.nan, np.float32)

    # Query guidance comes with the stage qeeps, which starts from a trained OIM (§5.2); the embedding and the detector
    # of a network that has it already go on with it.
    has_guidance = config.init is not None and has_query_guidance(config.init, config.model)
    guided = {"qeeps"} | ({"embed"} if has_guidance else set())
    guided |= {"detect"} if has_guidance or "qeeps" in config.stages else set()
    if "detect" in config.stages and config.model.variant != "oim" and "detect" not in guided:
        raise DataError(
            f"the stage detect trains what a query guides in {config.model.variant}, and {config.init} does not hold "
            "all of it. Name its own variant as model.variant, or put [stages.qeeps] before this stage."
        )
    id_net_is_trained = False
    terms = terms_of(config.init) if config.init else None
    inherited = {"terms": f"Trained from {config.init.name}, whose terms are: {terms}"} if terms else {}

    def make_model(stage: str) -> QEEPS:
        nonlocal id_net_is_trained
        is_first = stage == next(iter(config.stages))
        torch.manual_seed(config.seed)
        model = QEEPS(config.model if stage in guided else replace(config.model, variant="oim"))
        if config.init:
            id_net_is_trained = initialise(model, config.init)
            if not id_net_is_trained and is_first:
                say(f'ID Net starts anew: {config.init.name} has none for roi_head = "{config.model.roi_head}"')
            stride, own = id_stride_of(config.init), config.model.id_stride
            if stride not in (None, own) and is_first:
                say(
                    f"id_stride is {own} here and {stride} in {config.init.name}: identification goes on from its "
                    "weights, and sees other cells with them"
                )
        if config.stages[stage].guidance_only and is_first and not id_net_is_trained:
            raise DataError(f"guidance_only needs a trained network, and {config.init} has no ID Net that fits.")
        if stage == "detect" and is_first and not (id_net_is_trained and identifies_alike(config.init, config.model)):
            raise DataError(
                f"the stage detect leaves identification as it is, and that of {config.init} is none for "
                f'roi_head = "{config.model.roi_head}" with id_stride = {config.model.id_stride}. Name a network that '
                "was trained with these as init, or train identification first."
            )
        return model

    def make_stage(name: str, model: QEEPS, fresh: bool) -> Stage:
        stage_config = config.stages[name]
        if name == "detect":
            stage = DetectStage(stage_config, FrameBatches(population, targets, stage_config), model, config.seed)
            if model.qrpn is not None and not stage.is_guided:
                say("QRPN stays as it is: pairs that show one person twice would train it, and the data has none")
            return stage
        sees_canvases = stage_config.teacher_sees == "canvases"
        batches = CropBatches(population, crops, targets, stage_config, teacher if sees_canvases else None)
        if name == "embed" and fresh and stage_config.id_net == "teacher":
            known = np.flatnonzero(~np.isnan(targets).any(axis=1))
            known = known[:: max(1, len(known) // REGRESSION_CROPS)]
            features = features_plain(model.eval(), [crops[i] for i in known], stage_config.canvas)
            regress_id_net(model, torch.from_numpy(features).to(device), torch.from_numpy(targets[known]))
            if model.qsimnet is not None:  # what it has learnt is of other directions
                model.qsimnet = QSimNet(config.model.embedding_dim).to(device)
        elif name == "embed" and fresh and not id_net_is_trained:
            sample = crops[:: max(1, len(crops) // WHITENING_CROPS)]
            features = features_plain(model.eval(), sample, stage_config.canvas)
            whiten_id_net(model, torch.from_numpy(features).to(device))
        if fresh and model.qsimnet is not None and model.qsimnet.is_new:
            pairs = first_embeddings(model, population, crops, stage_config.canvas, most=PAIRED_IDENTITIES)
            start_qsimnet(model, *pairs)
        if name == "embed":
            classifier = None
            if stage_config.weight_of("classify"):
                dim = config.model.embedding_dim
                classifier = IdentityClassifier(population.num_identities, dim, stage_config.classify_scale).to(device)
                if fresh:
                    classifier.start_from(*first_embeddings(model, population, crops, stage_config.canvas))
            return EmbedStage(stage_config, batches, config.seed, classifier)
        frames = FrameBatches(population, targets, stage_config)
        oim = OIMLoss(
            population.num_identities, config.model.embedding_dim, momentum=0.5, scale=stage_config.oim_scale
        ).to(device)
        if fresh and stage_config.weight_of("oim"):
            oim.update(*first_embeddings(model, population, crops, stage_config.canvas))
        return (OIMStage if name == "oim" else QEEPSStage)(stage_config, frames, batches, oim, config.seed)

    def validate(model: QEEPS, stage: str, step: int) -> dict[str, float]:
        metrics = {}
        if holdout:
            metrics |= crop_retrieval(model, population.holdout, holdout, config.stages[stage].canvas)
        if config.validation and stage != "embed":
            say(f"{stage} step {step}: validating on {config.validation.root.name}")
            metrics |= search_validation(model, config.validation, config.validation_queries, config.validation_frames)
        if metrics:
            say(f"{stage} step {step}: {_listed(metrics)}")
        return metrics

    def finish_stage(name: str, model: QEEPS) -> None:
        card = {"recipe": config.to_dict(), "stage": name, **inherited, **config.card}
        shrinkage = config.stages[name].discriminant
        if config.keep_of_init or shrinkage:
            model = copy.deepcopy(model).eval()  # training goes on from what was trained
        if config.keep_of_init:
            average_with_start(model, config.init, config.keep_of_init)
        if shrinkage:
            batches = CropBatches(population, crops, targets, config.stages[name])
            fold_discriminant(model, batches, shrinkage, step_rng(config.seed, "discriminant", 0))
            if model.qsimnet is not None:
                say("QSimNet was trained with ID Net as it was before: run qeeps calibrate --spread 0 on the result")
            if holdout:
                metrics = crop_retrieval(model, population.holdout, holdout, config.stages[name].canvas)
                say(f"{name} with the discriminant: {_listed(metrics)}")
        save_checkpoint(out / f"{name}.safetensors", model, card)
        say(f"stage {name} is done: {out / name}.safetensors")

    stop = stop or Event()
    trainer = Trainer(config, make_model, out, device, make_stage, finish_stage, validate, report, stop, workers)
    trainer.run()
    return out / f"{list(config.stages)[-1]}.safetensors"


def _require_inputs(config: TrainConfig) -> None:
    """What the recipe names is there, the validation set too, which is wanted only when a stage is done. Raises
    DataError, and WeightsError for init."""
    relative = "Paths in a recipe are relative to --data-root, and without it to the recipe's folder"
    if config.init is not None and not config.init.is_file():
        raise WeightsError(f"init: {config.init} does not exist; expected a file of weights. {relative}.")
    for source in (*config.data, *([config.validation] if config.validation else [])):
        require_folder(source.root, f"the folder of a set of the recipe. {relative}")
    if config.validation and set(config.stages) != {"embed"}:
        require_queries(config.validation)


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in metrics.items())


def first_embeddings(
    model: QEEPS,
    population: Population,
    crops: list[Crop],
    canvas: tuple[int, int],
    each: int = 2,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of a few crops of each identity, and their labels (N,), on the model's device.

    OIM's table and the classifier start from them, instead of from nothing: with thousands of identities and two images
    a step, rows would otherwise wait for hundreds of steps to mean anything (docs/decisions.md). most: so many
    identities, evenly chosen; None: all.
    """
    identities = list(population.by_label.values())
    identities = identities[:: max(1, -(-len(identities) // most))] if most else identities
    rows = [index for indices in identities for index in indices[:: max(1, len(indices) // each)][:each]]
    model.eval()
    embeddings = torch.from_numpy(embed_plain(model, [crops[i] for i in rows], canvas))
    labels = torch.tensor([population.people[i].label for i in rows])
    device = next(model.parameters()).device
    return embeddings.to(device), labels.to(device)
