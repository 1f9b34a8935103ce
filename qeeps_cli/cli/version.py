"""`qeeps --version`: what a result depends on besides its inputs."""

from importlib.metadata import PackageNotFoundError, version

_SHORT = 12  # digits of a digest


def describe_versions() -> str:
    """One line: qeeps, torch, torchvision, and the weights that a search takes that names none."""
    import torch  # its package's version does not tell builds for a CPU and for CUDA apart

    torchvision = _version("torchvision")
    return f"qeeps {_version('qeeps-cli')}, torch {torch.__version__}, torchvision {torchvision}, weights {_weights()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _weights() -> str:
    from qeeps_cli.cli.messages import visible_name
    from qeeps_cli.errors import WeightsError
    from qeeps_cli.weights import find_weights, read_checkpoint

    try:
        checkpoint = read_checkpoint(find_weights())
    except (WeightsError, OSError):
        return "(none usable: `qeeps weights list` tells why)"
    return f"{visible_name(checkpoint.name)} ({checkpoint.digest[:_SHORT]})"
