"""Box deltas: torchvision's coder with the weights of Faster R-CNN, in float32."""

from torch import Tensor

from qeeps_cli.model.torchvision_parts import BoxCoder

RPN_CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
ROI_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def encode(coder: BoxCoder, targets: Tensor, references: Tensor) -> Tensor:
    """Deltas (N, 4) that move references (N, 4) onto targets (N, 4), both xyxy."""
    return coder.encode_single(targets, references)


def decode(coder: BoxCoder, deltas: Tensor, references: Tensor) -> Tensor:
    """references (N, 4) xyxy moved by deltas (N, 4): (N, 4) xyxy float32, not cut to the image."""
    return coder.decode_single(deltas.float(), references.float())
