"""The pages of the documentation, and the commands and programs in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = ROOT / "docs" / "cli.md"

# What a line of the shell begins with here; a paragraph of anything else is what a command prints, or a file.
PROGRAMS = frozenset("qeeps make python python3 pip pytest find ls jq mkdir".split())
_OPERATORS = frozenset("| || & && ;".split())


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def shell_paragraphs(page: Path) -> list[list[str]]:
    """Commands that stand together: indented, or in a block of ```console; each with its continuation lines."""
    text = page.read_text()
    indented = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"(?:^    .+\n)+", indented, re.MULTILINE)
    found += re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [lines for paragraph in found if (lines := _commands(paragraph))]


def _commands(paragraph: str) -> list[str]:
    plain = re.sub(r"^(    |\$ )", "", paragraph, flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*|(?<=[|&])\n\s*", " ", plain)
    lines = [line.strip() for line in joined.splitlines() if not line.startswith("#")]
    return lines if lines and all(line.split()[0] in PROGRAMS for line in lines) else []


def simple_commands(line: str) -> list[list[str]]:
    """The programs of a line with their arguments, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    tokens = iter(lexer)
    for token in tokens:
        if token in _OPERATORS:
            commands.append([])
        elif token in (">", ">>", "<"):
            next(tokens)
        else:
            commands[-1].append(token)
    return [command for command in commands if command]
