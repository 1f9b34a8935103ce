"""RoIAlign, twice: torchvision's, and as matrix products, which a CPU does several times faster."""

import torch
from torch import Tensor

from qeeps_cli.model.basenet import STRIDE
from qeeps_cli.model.torchvision_parts import roi_align

SAMPLES = 2  # bilinear samples along each side of a bin
ADAPTIVE = 0  # as many as the bin has cells
_CHUNK = 1 << 24  # elements of an intermediate product: bounds the memory


Size = int | tuple[int, int]  # bins of a RoI: along both sides, or (rows, columns)


def pool(
    feature_map: Tensor, rois: list[Tensor], size: Size, stride: int = STRIDE, samples: int = SAMPLES
) -> Tensor:
    """RoIAlign of (B, C, H, W) on one (R_i, 4) list of xyxy input pixels per image: (R, C, rows, columns), map's dtype.

    stride: input pixels from one cell of the map to the next. samples: along each side of a bin. Coordinates are
    float32 whatever the map's dtype: a bfloat16 coordinate is off by pixels.
    """
    boxes = [r.float() for r in rois]
    pooled = roi_align(feature_map.float(), boxes, size, 1 / stride, sampling_ratio=samples, aligned=True)
    return pooled.to(feature_map.dtype)


def pool_by_products(
    feature_map: Tensor, rois: list[Tensor], size: Size, stride: int = STRIDE, every: int = 1
) -> Tensor:
    """The same as two products a RoI, rows · map · columnsᵀ; the result is channels-last.

    every: only each so-manyth bin along both sides, which is what a strided 1×1 convolution would look at.

    Bilinear interpolation is separable, and so is the mean over a bin's samples: a bin is Σ_h Σ_w rows[h] columns[w]
    map[h, w]. The weights are mostly zeros, but dense products at the processor's full speed beat a gather.
    """
    channels, height, width = feature_map.shape[-3:]
    down, across = size if isinstance(size, tuple) else (size, size)
    pooled = []
    for one_map, boxes in zip(feature_map, [r.float() for r in rois], strict=True):
        flat = one_map.permute(1, 2, 0).reshape(height, -1)  # no copy of a channels-last map
        rows = interpolation(boxes[:, 1], boxes[:, 3], down, height, stride)[:, ::every].to(flat.dtype)
        columns = interpolation(boxes[:, 0], boxes[:, 2], across, width, stride)[:, ::every].to(flat.dtype)
        bins_down, bins_across = rows.shape[1], columns.shape[1]
        at_once = max(1, _CHUNK // (bins_down * width * channels))
        for some_rows, some_columns in zip(rows.split(at_once), columns.split(at_once), strict=True):
            lines = (some_rows.flatten(0, 1) @ flat).reshape(-1, width, channels)
            bins = some_columns.repeat_interleave(bins_down, dim=0) @ lines
            pooled.append(bins.reshape(-1, bins_down, bins_across, channels).permute(0, 3, 1, 2))
    return torch.cat(pooled) if len(pooled) > 1 else pooled[0]


def interpolation(low: Tensor, high: Tensor, bins: int, length: int, stride: int = STRIDE) -> Tensor:
    """Weights (R, bins, length) of a map's cells in each bin along one axis; RoIs span low to high input pixels (R,).

    As `roi_align(aligned=True)`: samples further than one cell outside of the map count as 0, others are clamped to it.
    """
    step = (high - low) / stride / bins
    offsets = (torch.arange(bins * SAMPLES, device=low.device) + 0.5) / SAMPLES
    positions = (low / stride - 0.5)[:, None] + offsets * step[:, None]
    inside = (positions >= -1) & (positions <= length)
    clamped = positions.clamp(0, length - 1)
    distance = (clamped[:, :, None] - torch.arange(length, device=low.device)).abs()
    weights = (1 - distance).clamp(min=0) * inside[:, :, None]
    return weights.reshape(len(low), bins, SAMPLES, length).mean(dim=2)
