import subprocess
import sys

import pytest

from slipstream.app import commands
from slipstream.app.help import COMMANDS, TRACEBACK, WIDTH, overview, page
from slipstream.app.main import main

QUIET = """
import sys
from slipstream.app.main import main
code = main(sys.argv[1:])
heavy = {"torch", "numpy", "rich", "yaml", "jsonargparse", "zarr", "xarray", "matplotlib", "scipy"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words", [["--help"], [], ["build", "--help"], ["list", "problems", "-h"], ["--version"], ["bild"]]
)
def test_help_imports_nothing_heavy(words):
    result = subprocess.run([sys.executable, "-c", QUIET, *words], capture_output=True, text=True)
    assert result.returncode == (2 if words == ["bild"] else 0)
    assert result.stderr.splitlines()[-1] == "[]"


def test_the_module_is_the_command():
    result = subprocess.run([sys.executable, "-m", "slipstream", "--help"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, overview() + "\n")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda c: c.name)
def test_every_command_has_a_function_and_a_page_that_tells_everything(command, capsys):
    assert callable(getattr(commands, command.function))
    assert main([command.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text == page(command) + "\n"
    for option in (*command.options, TRACEBACK):
        assert f"  {option.flag}" in text
    for line, _ in command.examples:
        assert f"  {line}\n" in text
    assert command.summary in overview()
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda c: c.name)
def test_every_example_in_the_help_is_understood(command):
    import shlex

    from slipstream.app.help import parse

    for line, _ in command.examples:
        program, name, *rest = shlex.split(line)
        assert (program, name) == ("slipstream", command.name)
        parse(command, rest)
