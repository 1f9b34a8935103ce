"""QSSE: the query-guided Siamese squeeze-and-excitation block (§4.1, Eq. 1–2)."""

import torch
from torch import Tensor, nn

# With FC2's weights at 0 the excitation starts at σ(0) = 1/2 for every pair: where the sigmoid's gradient is largest.
# Pretrained residuals survive because `absorb_initial_excitation` doubles them (docs/decisions.md).
INITIAL_EXCITATION = 0.5


class QSSE(nn.Module):
    """s = σ(W2 δ(W1 [z_q, z_g])): one weight per channel, computed from both images and applied to both (Eq. 1)."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.fc1 = nn.Linear(2 * channels, 2 * channels // reduction)
        self.fc2 = nn.Linear(2 * channels // reduction, channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, z_query: Tensor, z_gallery: Tensor) -> Tensor:
        """Channel descriptors (B, C) of query and gallery to excitations (B, C, 1, 1) in (0, 1)."""
        squeezed = torch.cat([z_query, z_gallery], dim=1)
        return self.fc2(self.fc1(squeezed).relu()).sigmoid()[:, :, None, None]


def squeeze(residual: Tensor) -> Tensor:
    """Global average pooling of a residual branch, (B, C, H, W) to (B, C), summed in float32."""
    return residual.mean(dim=(2, 3), dtype=torch.float32)


@torch.no_grad()
def absorb_initial_excitation(last_norm: nn.BatchNorm2d) -> None:
    """Divide a residual branch's last affine map by the initial s, so that s ⊙ U starts as the pretrained U."""
    last_norm.weight.div_(INITIAL_EXCITATION)
    last_norm.bias.div_(INITIAL_EXCITATION)
