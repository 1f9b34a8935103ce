"""The training recipe: a small TOML file. Everything that decides the result is in it; nothing else is.

See docs/training.md for a commented example; every key has the default below.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from qeeps_cli.errors import UsageError
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.toml_files import read_toml

STAGES = ("embed", "oim", "qeeps", "detect")
USES = ("frames", "crops", "both")
OPTIMIZERS = ("adamw", "sgd")
TEACHER_SEES = ("crops", "canvases")
ID_NETS = ("init", "teacher")
LARGEST = 0.96  # of a canvas's height and width: the largest person on it

# The seven terms of Eq. 3, then the auxiliary ones of docs/decisions.md, which are off unless a recipe asks for them.
PAPER_LOSSES = ("cls", "reg", "rpn_cls", "rpn_reg", "oim", "qrpn", "sim")
AUXILIARY_LOSSES = ("contrastive", "teacher", "classify", "sim_crops", "qrpn_people")
DETECTION_LOSSES = ("cls", "reg", "rpn_cls", "rpn_reg", "qrpn", "qrpn_people")  # those of the stage `detect`


@dataclass(frozen=True)
class DataSource:
    """One set of the mix.

    kind: a reader of qeeps_cli.datasets, or "crops". weight: its share of the sampled frames or crops. holdout: this
    many identities (the last ones) are kept out of training, for choosing. teacher: the teacher sets targets for this
    set's people. use: "frames", "crops" (people cut from the frames) or "both": what is drawn from a set of frames.
    unnamed: people without identity (-1) are drawn as crops, too, each as somebody of their own, for a recipe in which
    the teacher alone trains: nobody knows who they are in another frame, which other losses would hold against them.
    """

    kind: str
    root: Path
    weight: float = 1.0
    holdout: int = 0
    teacher: bool = False
    use: str = "both"
    options: dict[str, Any] = field(default_factory=dict)
    unnamed: bool = False


@dataclass(frozen=True)
class StageConfig:
    """One stage. lr decays by a cosine to lr · final_lr after a linear warm-up; new heads train at lr · head_lr,
    BaseNet at lr · trunk_lr; 0 freezes it, with its QSSE blocks. QSSE, a new head too, trains at lr · head_lr ·
    qsse_lr: its gradient is a small part of few pairs a step, so that a short stage leaves it where it began.

    images: frames a step ("oim"), pairs a step ("qeeps"), or either ("detect"). identities × crops_each: crops a step.
    size: (height, width) of training views. absent, self_pairs: shares of pairs without the person, and of steps in
    which both images are paired with themselves (the cached search; of "detect": steps of frames without a query).
    rois: RoIs sampled in an image.

    smallest: people on canvases are at least this share of the canvas high.

    teacher_sees: people as their pictures show them, computed once ("crops"), or each canvas as the network sees it
    ("canvases"). novel: share of canvases with people who do not exist. repeat: the canvases of `embed` come again
    after so many steps; 0: never.

    id_net: of the stage `embed`, ID Net goes on from what init has ("init"; anew where it has none), or from the
    regression to the teacher's targets ("teacher"), and QSimNet anew.

    guidance_only: of the stage `qeeps`, QSSE, QRPN and QSimNet are trained, whatever trunk_lr is, and all else stays as
    it was before the stage.

    discriminant: at the end of `embed`, ID Net is turned to what tells the training people apart (discriminant.py),
    with this shrinkage; 0: it is not. With steps = 0 that is all that the stage does.
    """

    steps: int = 1000
    lr: float = 1e-4
    head_lr: float = 5.0
    trunk_lr: float = 1.0
    qsse_lr: float = 1.0
    final_lr: float = 0.02
    warmup: int = 100
    weight_decay: float = 1e-4
    optimizer: str = "adamw"
    clip_norm: float = 10.0
    images: int = 2
    size: tuple[int, int] = (384, 640)
    identities: int = 8
    crops_each: int = 3
    canvas: tuple[int, int] = (192, 96)
    smallest: float = 0.42
    rois: int = 32
    absent: float = 0.25
    self_pairs: float = 0.3
    guidance_only: bool = False
    oim_scale: float = 10.0
    contrastive_scale: float = 16.0
    classify_scale: float = 16.0
    teacher_sees: str = "crops"
    novel: float = 0.0
    repeat: int = 0
    id_net: str = "init"
    discriminant: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)

    def weight_of(self, loss: str) -> float:
        """λ of a loss: 1 for the paper's terms and 0 for auxiliary ones, unless the recipe says otherwise."""
        return self.losses.get(loss, 1.0 if loss in PAPER_LOSSES else 0.0)


@dataclass(frozen=True)
class TrainConfig:
    """A whole recipe. init: safetensors with torchvision's ResNet names, or a qeeps checkpoint. keep_of_init: the
    checkpoints of stages are averages of what was trained and of init, which has this share; training goes on from what
    was trained."""

    model: ModelConfig
    data: tuple[DataSource, ...]
    stages: dict[str, StageConfig]
    init: Path | None = None
    keep_of_init: float = 0.0
    teacher: Path | None = None
    validation: DataSource | None = None
    validate_every: int = 0
    validation_queries: int = 0
    validation_frames: int = 0
    seed: int = 1
    save_minutes: float = 3.0
    card: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for the checkpoint's card; without the paths, which mean nothing elsewhere."""
        values = asdict(self)
        del values["card"]
        for source in [*values["data"], values["validation"] or {}]:
            if "root" in source:
                source["root"] = Path(source["root"]).name
        values["init"] = self.init.name if self.init else None
        values["teacher"] = self.teacher.name if self.teacher else None
        return values


def read_recipe(path: Path, data_root: Path | None = None) -> TrainConfig:
    """A recipe from TOML. Relative paths in it are relative to data_root, or to the recipe's folder.

    Raises UsageError with the key for anything unknown or of the wrong type.
    """
    values = read_toml(path, "the recipe")
    base = Path(data_root) if data_root else Path(path).parent
    try:
        return _parse(values, base)
    except (UsageError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def _parse(values: dict[str, Any], base: Path) -> TrainConfig:
    stages = values.pop("stages", {})
    unknown = sorted(set(stages) - set(STAGES))
    if unknown or not stages:
        raise UsageError(f"expected tables [stages.NAME] with a name of {', '.join(STAGES)}, got {sorted(stages)}.")
    parsed = {
        "model": ModelConfig.from_dict(values.pop("model", {})),
        "data": tuple(_source(source, base) for source in values.pop("data", [])),
        "stages": {name: _stage(stages[name]) for name in STAGES if name in stages},
    }
    if not parsed["data"]:
        raise UsageError("expected at least one [[data]] table with kind and root.")
    if "validation" in values:
        parsed["validation"] = _source(values.pop("validation"), base)
    for key in ("init", "teacher"):
        if key in values:
            parsed[key] = base / values.pop(key)
    _refuse_unknown(TrainConfig, values, "")
    _check_types(TrainConfig, values, "")
    kept = values.get("keep_of_init", 0.0)
    if not 0 <= kept < 1 or (kept and "init" not in parsed):
        raise UsageError(f"keep_of_init must be from 0 to below 1, and needs an init to keep it of, got {kept:g}.")
    misplaced = [name for name, stage in parsed["stages"].items() if stage.discriminant]
    if misplaced and list(parsed["stages"]) != ["embed"]:
        raise UsageError(
            f"stages.{misplaced[0]}.discriminant: only a recipe of the stage embed alone may have one, because other "
            "stages go on from ID Net as it was trained."
        )
    guidance = [name for name, stage in parsed["stages"].items() if stage.guidance_only]
    if guidance and (guidance != ["qeeps"] or parsed["model"].variant == "oim"):
        raise UsageError(
            f"stages.{guidance[0]}.guidance_only: expected it in the stage qeeps of a variant that a query guides, got "
            f"the variant {parsed['model'].variant}; nothing would be trained."
        )
    if guidance and "init" not in parsed and next(iter(parsed["stages"])) == "qeeps":
        raise UsageError("stages.qeeps.guidance_only needs a trained network to guide: name one as init, at the top.")
    if guidance and parsed["model"].variant == "oim+qrpn" and parsed["stages"]["qeeps"].self_pairs >= 1:
        raise UsageError("stages.qeeps.self_pairs = 1 shows QRPN no pairs, and guidance_only trains nothing else here.")
    _require_pairs_for_qrpn(parsed)
    _require_detection_alone(parsed)
    canvases = [name for name, stage in parsed["stages"].items() if stage.teacher_sees == "canvases"]
    if canvases and "teacher" not in parsed:
        raise UsageError(f'stages.{canvases[0]}.teacher_sees = "canvases" needs a teacher: name one at the top.')
    alone = [name for name, stage in parsed["stages"].items() if stage.losses.get("teacher")]
    if alone and "teacher" not in parsed:
        raise UsageError(
            f"stages.{alone[0]}.losses.teacher has no teacher to go by: name one at the top, or take the loss out."
        )
    taught = [name for name, stage in parsed["stages"].items() if stage.id_net == "teacher"]
    if taught and ("teacher" not in parsed or taught != ["embed"]):
        raise UsageError(
            f'stages.{taught[-1]}.id_net = "teacher" is for the stage embed, and needs a teacher: name one at the top.'
        )
    if taught and kept:
        raise UsageError(
            f'keep_of_init = {kept:g} averages ID Net with that of init, from which id_net = "teacher" does not start: '
            "leave one of them out."
        )
    _require_unnamed_are_taught(parsed)
    return TrainConfig(**parsed, **values)


def _require_detection_alone(parsed: dict[str, Any]) -> None:
    """The stage `detect` trains what finds people, which may change nothing of what identifies them."""
    stage, head = parsed["stages"].get("detect"), parsed["model"].roi_head
    if stage is None:
        return
    if head != "pixels":
        raise UsageError(
            f'the stage detect leaves identification as it is, which only roi_head = "pixels" allows, got "{head}", '
            "whose identification would read feature maps that change. Train with the stages oim or qeeps, or choose "
            "pixels."
        )
    before = [name for name in parsed["stages"] if name != "detect"]
    if not before and "init" not in parsed:
        raise UsageError("stages.detect needs a trained network to go on from: name one as init, at the top.")
    if before[-1:] == ["oim"] and parsed["model"].variant != "oim":
        raise UsageError(
            f"stages.detect trains what a query guides in {parsed['model'].variant}, which comes with the stage qeeps; "
            "got oim before it. Put [stages.qeeps] between them, or choose the variant oim."
        )
    others = sorted(set(stage.losses) - set(DETECTION_LOSSES))
    if others:
        raise UsageError(
            f"stages.detect.losses: {others[0]} trains identification, which this stage leaves as it is; expected "
            f"weights of {', '.join(DETECTION_LOSSES)}."
        )
    shows_pairs = parsed["model"].has_qrpn and stage.self_pairs < 1
    if not any(stage.weight_of(loss) for loss in DETECTION_LOSSES if loss != "qrpn" or shows_pairs):
        raise UsageError("stages.detect.losses: all that has something to learn from is 0: nothing would be trained.")


def _require_pairs_for_qrpn(parsed: dict[str, Any]) -> None:
    """`qrpn_people` has something to learn from."""
    for name, stage in parsed["stages"].items():
        shows_pairs = name in ("qeeps", "detect") and stage.self_pairs < 1
        if stage.weight_of("qrpn_people") and not (shows_pairs and parsed["model"].has_qrpn):
            raise UsageError(
                f"stages.{name}.losses.qrpn_people trains QRPN on pairs: expected it in the stage qeeps or detect of a "
                f"variant with QRPN, with self_pairs below 1; got the variant {parsed['model'].variant} with "
                f"self_pairs = {stage.self_pairs:g}. Take it out, or change that."
            )


def _require_unnamed_are_taught(parsed: dict[str, Any]) -> None:
    """Other losses would hold somebody unnamed to be a stranger to themselves in the next frame."""
    if "validation" in parsed and parsed["validation"].unnamed:
        raise UsageError("unnamed = true is for [[data]]: it has no use in [validation]. Leave it out there.")
    stages = parsed["stages"]
    trained = {loss for stage in stages.values() for loss in AUXILIARY_LOSSES if stage.weight_of(loss)}
    others = sorted(trained - {"teacher"})
    for source in parsed["data"]:
        if source.unnamed and (list(stages) != ["embed"] or others or not source.teacher):
            raise UsageError(
                f"unnamed = true of {source.root.name} is for a recipe of the stage embed alone, with teacher = true "
                "at the set and no loss but the teacher's, because only a teacher can say anything of people whom "
                f"nobody has named; got the stages {', '.join(stages)}"
                + (f" with {', '.join(others)}" if others else "")
                + f" and teacher = {str(source.teacher).lower()}."
            )


def _source(values: dict[str, Any], base: Path) -> DataSource:
    own = {f.name for f in fields(DataSource)}
    missing = [key for key in ("kind", "root") if key not in values]
    if missing:
        raise UsageError(f"a [[data]] table lacks {' and '.join(missing)}: {values}.")
    _check_types(DataSource, values, "data.")
    _require_one_of(values.get("use", "both"), USES, "data.use")
    if values.get("unnamed") and (values["kind"] == "crops" or values.get("use") == "frames"):
        raise UsageError(
            f"unnamed = true draws people from frames as crops, which data.root = {values['root']!r} does not give: "
            'leave it out, or make the set one of frames (with a use other than "frames").'
        )
    options = {key: value for key, value in values.items() if key not in own}
    return DataSource(
        **{k: v for k, v in values.items() if k in own} | {"root": base / values["root"], "options": options}
    )


def _stage(values: dict[str, Any]) -> StageConfig:
    _refuse_unknown(StageConfig, values, "stages.")
    _check_types(StageConfig, values, "stages.")
    _require_one_of(values.get("optimizer", "adamw"), OPTIMIZERS, "stages.optimizer")
    _require_one_of(values.get("teacher_sees", "crops"), TEACHER_SEES, "stages.teacher_sees")
    _require_one_of(values.get("id_net", "init"), ID_NETS, "stages.id_net")
    if not 0 <= values.get("novel", 0.0) <= 1 or values.get("repeat", 0) < 0:
        raise UsageError("expected stages.novel to be a share from 0 to 1, and stages.repeat a number of steps or 0.")
    smallest, discriminant = values.get("smallest", StageConfig.smallest), values.get("discriminant", 0.0)
    if not 0 < smallest < LARGEST:
        raise UsageError(f"expected stages.smallest to be above 0 and below {LARGEST}, got {smallest:g}.")
    if not 0 <= discriminant < math.inf:
        raise UsageError(f"expected stages.discriminant to be a finite number from 0 on, got {discriminant:g}.")
    unknown = sorted(set(values.get("losses", {})) - set(PAPER_LOSSES) - set(AUXILIARY_LOSSES))
    if unknown:
        raise UsageError(f"unknown losses {unknown}; known are {', '.join(PAPER_LOSSES + AUXILIARY_LOSSES)}.")
    return StageConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _refuse_unknown(cls: type, values: dict[str, Any], where: str) -> None:
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"unknown key {where}{unknown[0]}; known are {', '.join(sorted(known))}.")


def _require_one_of(value: Any, allowed: tuple[str, ...], key: str) -> None:
    if value not in allowed:
        raise UsageError(f"{key} must be one of {', '.join(allowed)}, got {value!r}.")


_NAMES = {
    int: "an integer",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
    tuple: "a list of two integers",
    dict: "a table",
}


def _check_types(cls: type, values: dict[str, Any], where: str) -> None:
    for f in fields(cls):
        if f.name in values and not _has_type(values[f.name], f.type):
            expected = _NAMES[get_origin(f.type) or f.type]
            raise UsageError(f"expected {where}{f.name} to be {expected}, got {values[f.name]!r}.")


def _has_type(value: Any, kind: Any) -> bool:
    """Whether a value out of TOML can stand for a field annotated with kind."""
    if kind is Any:
        return True
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        return isinstance(value, list) and len(value) == len(parts) and all(map(_has_type, value, parts))
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_has_type(v, get_args(kind)[1]) for v in value.values())
    if kind in (int, float):  # to Python, a bool is an int too
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, str if kind is Path else kind)
