"""`ezflow completion`: what shells complete, by asking the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import Terminal, needs_a_terminal, terminal

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
# Each command line as far as it was typed, and as Tab leaves it.
COMPLETED = {
    "ezflow ch": "ezflow check",
    "ezflow models pu": "ezflow models pull",
    "ezflow run v": "ezflow run voice.py",
    "ezflow run my": r"ezflow run my\ flow.py",
    "ezflow run voice.py --inp": "ezflow run voice.py --input",
    "ezflow run voice.py --input q": "ezflow run voice.py --input question.wav",
    "ezflow serve voice.py --tokens k": "ezflow serve voice.py --tokens keys.txt",
    "ezflow graph voice.py --format me": "ezflow graph voice.py --format mermaid",
    "ezflow completion z": "ezflow completion zsh",
}


def script(shell: str) -> str:
    command = [sys.executable, "-m", "ezflow", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command lines are typed."""
    for name in ("voice.py", "my flow.py", "voice.txt", "my.txt", "question.wav", "question.txt", "keys.txt"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_script_for_each_shell(shell):
    assert "ezflow" in script(shell)


def test_another_shell_is_refused():
    command = [sys.executable, "-m", "ezflow", "completion", "cobol"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "'cobol'" in done.stderr


async def typed(person: Terminal, begin: str) -> str:
    """A command line after Tab, as it stands on the screen; it is not run."""
    await person.type("clear\n")
    while person.rows() != ["$"]:  # what is typed before the shell reads is not read as keys
        await person.read()
    await person.type(f"{begin}\t")
    await person.type("\x01: \n")  # to the beginning of the line, where `:` makes nothing of it
    (row,) = [row for row in await person.until_row(f": {begin.rpartition(' ')[0]}") if ": ezflow" in row]
    return row.partition(": ")[2]


@needs_a_terminal
@needs("bash")
async def test_bash_completes_commands_options_and_files(folder):
    (folder / "ezflow.bash").write_text(script("bash"))
    async with terminal("bash", "--norc", "--noprofile") as person:
        await person.type(f"cd {folder}; PS1='$ '; . ./ezflow.bash; echo rea''dy\n")
        await person.until_row("ready")
        for begin, completed in COMPLETED.items():
            assert await typed(person, begin) == completed
        await person.type("exit\n")
        await person.left()


@needs_a_terminal
@needs("zsh")
async def test_zsh_completes_commands_options_and_files(folder):
    (folder / "functions").mkdir()
    (folder / "functions" / "_ezflow").write_text(script("zsh"))
    async with terminal("zsh", "-f") as person:
        begin = "fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D"
        await person.type(f"cd {folder}; PS1='$ '; {begin}; echo rea''dy\n")
        await person.until_row("ready")
        for begin, completed in COMPLETED.items():
            assert await typed(person, begin) == completed
        await person.type("exit\n")
        await person.left()


@needs("fish")
def test_fish_completes_commands_options_and_files(folder):
    (folder / "ezflow.fish").write_text(script("fish"))
    asked = "; ".join(f"echo '{begin}'; complete -C '{begin}'" for begin in COMPLETED)
    command = ["fish", "--no-config", "-c", f"source ezflow.fish; {asked}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    said = iter(done.stdout.splitlines())
    for begin, completed in COMPLETED.items():
        assert next(said) == begin
        # It tells the word, and behind a tab what that is for.
        word = completed.removeprefix(begin.rpartition(" ")[0] + " ").replace("\\", "")
        assert next(said).partition("\t")[0] == word
    assert list(said) == []
