"""README and docs/: their commands are understood, their links lead somewhere, and docs/cli.md is current."""

import os
import re
import subprocess
import sys

import pytest
import typer
from command_line import environment
from docs_pages import GENERATED, PAGES, README, ROOT, shell_paragraphs, simple_commands
from typer.testing import CliRunner

from qeeps_cli.cli.app import app

MAKE = ROOT / "docs" / "make_cli.py"
WITHOUT_COMMANDS = {"decisions", "limits", "performance", "python", "reliability"}
COMMANDS = typer.main.get_command(app)


def in_root(path) -> str:
    return str(path.relative_to(ROOT))


def find_command(arguments: list[str]) -> tuple:
    """The command of `qeeps`'s arguments, and what is left for it."""
    command = COMMANDS
    while hasattr(command, "commands"):
        assert arguments and arguments[0] in command.commands, f"no such command: {' '.join(arguments)}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@pytest.mark.parametrize("page", PAGES, ids=in_root)
def test_every_command_is_one_that_qeeps_understands(page):
    lines = [line for paragraph in shell_paragraphs(page) for line in paragraph]
    commands = [command[1:] for line in lines for command in simple_commands(line) if command[0] == "qeeps"]
    for arguments in commands:
        if "[OPTIONS]" in arguments:  # cli.md's usage
            continue
        command, rest = find_command([argument for argument in arguments if argument not in ("...", "…")])
        command.make_context("qeeps", list(rest))  # raises a usage error
    assert commands or page.stem in WITHOUT_COMMANDS


def test_a_command_that_qeeps_does_not_understand_is_noticed():
    command, rest = find_command(["search", "--quer", "q.jpg", "--galery", "frames"])
    with pytest.raises(Exception, match="No such option"):
        command.make_context("qeeps", rest)


def test_all_of_the_readme_is_read():
    """A command that is written in another way than the others would not be tested."""
    text = re.sub(r"^```python.*?^```", "", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for paragraph in shell_paragraphs(README) for line in paragraph]
    read = sum(command[0] == "qeeps" for line in lines for command in simple_commands(line))
    assert read == len(re.findall(r"^ {4,}(?:.*\| )?qeeps [a-z]", text, re.MULTILINE)) > 15


@pytest.mark.parametrize("page", PAGES, ids=in_root)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place.read_text()), target


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page():
    text = README.read_text()
    assert [page for page in PAGES if page != README and f"({in_root(page)})" not in text] == []


def test_the_reference_is_current_whatever_the_terminal_is(tmp_path):
    """Otherwise: make docs."""
    copy = tmp_path / "make_cli.py"
    copy.write_bytes(MAKE.read_bytes())
    odd = environment(COLUMNS="40", LC_ALL="C", TERM="dumb", QEEPS_DEVICE="cuda", QEEPS_CACHE="x", FORCE_COLOR="1")
    subprocess.run([sys.executable, os.fspath(copy)], env=odd, check=True)
    assert (tmp_path / "cli.md").read_bytes() == GENERATED.read_bytes()


def all_commands(command=COMMANDS, name=()):
    for child, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, (*name, child))
    if not hasattr(command, "commands"):
        yield name


@pytest.mark.parametrize("name", list(all_commands()), ids=" ".join)
def test_the_reference_has_what_the_help_has(name):
    """The page is written from declarations; this is the help that a user sees."""
    shown = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200"}, prog_name="qeeps").stdout
    page = GENERATED.read_text().split(f"\n## qeeps {' '.join(name)}\n")[1].split("\n## ")[0]
    of_help = {option for line in re.findall(r"^  (-.*?)(?:  |$)", shown, re.MULTILINE) for option in options(line)}
    of_page = {option for cell in re.findall(r"^\| `(-.*?)` \|", page, re.MULTILINE) for option in options(cell)}
    assert of_page == of_help - {"-h", "--help"} and of_page


def options(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--?[a-z0-9][a-z0-9-]*", text)
