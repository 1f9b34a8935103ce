"""`python -m qeeps_cli` is `qeeps`."""

from qeeps_cli.cli import main

main()
