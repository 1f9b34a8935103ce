"""Seconds until `qeeps --help` has answered, against an empty Python; and until a search has what it needs to begin,
against PyTorch and torchvision alone.

python benchmarks/startup.py
"""

import subprocess
import sys

from timing import interleaved, table


def main() -> None:
    commands = {
        "qeeps --help": [sys.executable, "-m", "qeeps_cli", "--help"],
        "qeeps search --help": [sys.executable, "-m", "qeeps_cli", "search", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "what a search imports": [sys.executable, "-c", "import qeeps_cli.searching.loading"],
        "torch": [sys.executable, "-c", "import torch"],
        "torch and torchvision": [sys.executable, "-c", "import torch, torchvision"],
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
