"""The hyper-parameters of the network and of its inference, and the five variants of Table 1 of the paper."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from qeeps_cli.errors import UsageError

ROI_HEADS = ("shared", "separate", "fine", "pixels")
ID_STRIDES = (32, 16)
HEADS_WITH_ID_STRIDE = ("fine", "pixels")
ADDED_SINCE = (("id_stride", 32),)  # settings with what was done before there were caches that name them
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")

# Table 1: which query-guided blocks each ablation has: (QSSE, QRPN, QSimNet).
VARIANTS: dict[str, tuple[bool, bool, bool]] = {
    "oim": (False, False, False),
    "oim+qrpn": (False, True, False),
    "oim+qsimnet": (False, False, True),
    "oim+qrpn+qsimnet": (False, True, True),
    "qeeps": (True, True, True),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the network; stored with each checkpoint, and part of every cache key.

    shorter_side, longest_side: frames are scaled so that the shorter side has this many pixels, unless the longer side
    would then pass longest_side (§5.2; "‡" is 900 and 1500). crop_height: the height in pixels, after scaling, that the
    person of a bare crop is brought to. stride_in_1x1: the ResNet-50/101 blocks have their stride in the first 1×1
    convolution, as in the original Caffe and Keras ResNets, instead of in the 3×3. roi_head: "shared" is the paper's
    ClsIdenNet, "separate" gives detection and identification a conv5 each, "fine" lets identification look at conv3's
    map with a conv4 and conv5 of its own, "pixels" at the picture with a whole ResNet of its own. id_stride: of the
    conv5 that fine and pixel heads identify by: 32, ResNet's, or 16, which keeps conv4's cells (deviations,
    docs/decisions.md).
    """

    backbone: str = "resnet50"
    variant: str = "qeeps"
    embedding_dim: int = 256
    reduction: int = 16  # r of QSSE and QRPN (§4.1, §4.2)
    pool_size: int = 14
    anchor_scales: tuple[int, ...] = (2, 4, 8, 16, 32)  # × the stride of 16 pixels
    anchor_ratios: tuple[float, ...] = (1.0, 2.0, 3.0)  # height / width
    max_rpn_channels: int = 512
    shorter_side: int = 600
    longest_side: int = 1000
    crop_height: int = 200
    stride_in_1x1: bool = False
    roi_head: str = "shared"
    id_stride: int = 32

    def __post_init__(self):
        for field in fields(self):
            if not _fits(getattr(self, field.name), field.default):
                raise UsageError(
                    f"the model setting {field.name} expects something like {field.default!r}, got "
                    f"{getattr(self, field.name)!r}."
                )
        if self.backbone not in BACKBONES:
            raise UsageError(f"the backbone must be one of {', '.join(BACKBONES)}, got {self.backbone!r}.")
        if self.variant not in VARIANTS:
            raise UsageError(f"the variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")
        if self.roi_head not in ROI_HEADS:
            raise UsageError(f"the RoI head must be one of {', '.join(ROI_HEADS)}, got {self.roi_head!r}.")
        if self.id_stride not in ID_STRIDES:
            raise UsageError(f"id_stride must be {' or '.join(map(str, ID_STRIDES))}, got {self.id_stride}.")
        if self.id_stride != ID_STRIDES[0] and self.roi_head not in HEADS_WITH_ID_STRIDE:
            raise UsageError(
                f"id_stride = {self.id_stride} is for the RoI heads fine and pixels, got {self.roi_head!r}. Leave it "
                "out, or choose one of them."
            )

    @property
    def has_qsse(self) -> bool:
        return VARIANTS[self.variant][0]

    @property
    def has_qrpn(self) -> bool:
        return VARIANTS[self.variant][1]

    @property
    def has_qsimnet(self) -> bool:
        return VARIANTS[self.variant][2]

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_scales) * len(self.anchor_ratios)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def cache_key(self) -> dict[str, Any]:
        """`to_dict` without the settings that caches of earlier versions had no word for, where they say what was done
        then: those caches stay valid."""
        return {name: v for name, v in self.to_dict().items() if (name, v) not in ADDED_SINCE}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Raises UsageError on a name that this version does not know."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"unknown model settings {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _fits(value: Any, default: Any) -> bool:
    """Whether a setting that comes from a file can stand for the default: its type, and numbers above 0."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and len(value) > 0 and all(_fits(item, default[0]) for item in value)
    if isinstance(default, bool | str):
        return type(value) is type(default)
    numbers = (int,) if isinstance(default, int) else (int, float)
    return type(value) in numbers and 0 < value < 2**31


@dataclass(frozen=True)
class InferenceParams:
    """What a search may change without another network; all of it is part of every cache key.

    proposals: how many survive NMS (§5.3: 300). min_objectness: proposals to which neither RPN's logit nor its sum with
    QRPN's gives this probability are dropped before the RoI head (0 in the paper). min_person_score: detections below
    it are dropped (10⁻² in the paper, §4.3; docs/decisions.md). nms: IoU above which the lower-scored of two detections
    is dropped. second_pass: pool the embedding again on the box that RegNet refined (deviation, docs/decisions.md);
    separate heads always do.
    """

    proposals: int = 300
    pre_nms: int = 2000
    proposal_nms: float = 0.7
    min_objectness: float = 0.2
    min_person_score: float = 0.2
    nms: float = 0.4
    second_pass: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
