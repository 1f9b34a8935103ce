"""`qeeps completion`: the scripts, and real shells that complete with them."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from command_line import ROOT, environment

from qeeps_cli.cli.completion import Shell, completion
from qeeps_cli.errors import ExitCode

WORDS = ("weights ver", "search --exclude-q", "search --query exa")


@pytest.mark.parametrize("shell", Shell)
def test_scripts_ask_qeeps(capsysbinary, shell):
    assert completion(shell) == ExitCode.OK
    script = capsysbinary.readouterr().out.decode()
    assert f"_QEEPS_COMPLETE=complete_{shell.value}" in script and "qeeps" in script


@pytest.fixture
def program(tmp_path):
    """`qeeps` on the PATH, and a torch that must not be started."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "qeeps"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qeeps_cli "$@"\n')
    script.chmod(0o755)
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was started')\n")
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    return environment(PATH=path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_leaves_files_to_itself(program):
    lines = ['eval "$(qeeps completion bash)"', "complete -p qeeps"]
    for words in ("we", "weights ver", "search --exclude-q", "completion z", "search --query exa"):
        count = len(words.split())
        lines.append(f"COMP_WORDS=(qeeps {words}) COMP_CWORD={count}; _qeeps_completion qeeps")
        lines.append('echo "${COMPREPLY[*]}"')
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, env=program, timeout=120)
    assert done.stderr == ""
    registered, *answers = done.stdout.split("\n")
    assert "-o default" in registered  # files, where there is no answer
    assert answers == ["weights", "verify", "--exclude-query", "zsh", "", ""]


ZSHRC = """
autoload -Uz compinit && compinit -u -D
eval "$(qeeps completion zsh)"
tell() { print -r -- "$BUFFER" >> "$TYPED"; BUFFER= }
zle -N tell
bindkey '^X' tell
PROMPT='ready> '
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes_commands_options_and_files_on_a_terminal(program, tmp_path):
    """Typed by hand: words, the tabulator, and ^X, at which the shell tells what then stands on its line."""
    typed = tmp_path / "typed"
    typed.touch()
    (tmp_path / ".zshrc").write_text(ZSHRC)
    variables = {"ZDOTDIR": os.fspath(tmp_path), "TYPED": os.fspath(typed), "TERM": "dumb"}
    keyboard, terminal = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    with subprocess.Popen(["zsh", "-d", "-i"], env=program | variables, cwd=ROOT, **streams) as shell:
        os.close(terminal)
        try:
            seen = read_until(keyboard, lambda seen: b"ready> " in seen)
            for number, words in enumerate(WORDS, start=1):
                os.write(keyboard, f"qeeps {words}\t\x18".encode())
                seen += read_until(keyboard, lambda _, number=number: typed.read_text().count("\n") == number)
        finally:
            shell.kill()
            os.close(keyboard)
    answers = ["weights verify ", "search --exclude-query ", "search --query examples/"]
    assert typed.read_text().splitlines() == [f"qeeps {answer}" for answer in answers], seen


def read_until(terminal: int, is_done: Callable[[bytes], bool]) -> bytes:
    """What appears on a terminal until then, or for a minute."""
    seen, deadline = b"", time.monotonic() + 60
    while not is_done(seen) and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            seen += os.read(terminal, 4096)
    return seen


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_commands_options_and_files(program):
    lines = ["qeeps completion fish | source"]
    for words in WORDS:
        lines.append(f"complete -C 'qeeps {words}'")
    line = ["fish", "--no-config", "-c", "\n".join(lines)]
    done = subprocess.run(line, capture_output=True, text=True, env=program, cwd=ROOT, timeout=120)
    assert done.stderr == "" and done.returncode == 0
    answers = [line.split("\t")[0] for line in done.stdout.splitlines() if line]
    assert answers == ["verify", "--exclude-query", "examples/"]
