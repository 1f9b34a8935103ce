"""`qeeps completion`: the scripts, and a real bash that completes with one."""

import os
import shutil
import subprocess
import sys

import pytest
from command_line import ROOT, environment

from qeeps_cli.cli.completion import Shell, completion
from qeeps_cli.errors import ExitCode


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
