"""Seconds until `qeeps --help` has answered, against an empty Python; and until the shipped network is ready to search,
against importing PyTorch and torchvision alone.

python benchmarks/startup.py
"""

import subprocess
import sys

from timing import interleaved, table

READY = "from qeeps_cli.searching.loading import load_engine; load_engine(device='cpu')"


def main() -> None:
    commands = {
        "qeeps --help": [sys.executable, "-m", "qeeps_cli", "--help"],
        "qeeps search --help": [sys.executable, "-m", "qeeps_cli", "search", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "the network, ready to search": [sys.executable, "-c", READY],
        "import torch": [sys.executable, "-c", "import torch"],
        "import torch, torchvision": [sys.executable, "-c", "import torch, torchvision"],
    }
    seconds = interleaved(
        {
            name: lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for name, command in commands.items()
        },
        rounds=9,
    )
    print(table(["", "s"], [[name, f"{value:.2f}"] for name, value in seconds.items()]))


if __name__ == "__main__":
    main()
