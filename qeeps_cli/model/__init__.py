"""The network of QEEPS: torch, torchvision and the floors below, nothing else."""
