"""The command `robust-manifold`: what it lists, what it runs, and what it refuses."""

import importlib
import importlib.util
import pathlib
import runpy
import subprocess
import sys

import pytest

import robust_manifold
from robust_manifold import __main__ as console


@pytest.fixture
def called(monkeypatch, capsys):
    """Returns how a command line ends: its code, what it prints, what it runs."""

    def call(*arguments):
        ran = []

        def run_module(name, **options):
            ran.append((name, sys.argv[1:], options))

        monkeypatch.setattr(runpy, "run_module", run_module)
        monkeypatch.setattr(sys, "argv", ["robust-manifold", *arguments])
        try:
            code = console.main()
        except SystemExit as ending:
            code = ending.code
        return code or 0, *capsys.readouterr(), ran

    return call


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_has_a_line_for_each_command(arguments, called):
    code, out, error, ran = called(*arguments)
    assert (code, error, ran) == (0, "", [])
    for name, (_, meaning) in console.COMMANDS.items():
        assert f"  {name:<11} {meaning}\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_version(called):
    told = f"robust-manifold {robust_manifold.__version__}\n"
    assert called("--version") == (0, told, "", [])


@pytest.mark.parametrize("name", console.COMMANDS)
def test_a_command_is_a_module_that_is_run_with_what_follows(name, called):
    code, out, error, ran = called(name, "--a=1", "--help")
    module = f"robust_manifold.{console.COMMANDS[name][0]}"
    options = {"run_name": "__main__", "alter_sys": True}
    assert (code, out, error) == (0, "", "")
    assert ran == [(module, ["--a=1", "--help"], options)]
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("name", [n for n in console.COMMANDS if n != "run"])
def test_the_help_of_a_command_has_its_name_as_it_is_typed(name, capsys):
    module = importlib.import_module(f"robust_manifold.{console.COMMANDS[name][0]}")
    if name == "results":
        module = importlib.import_module("robust_manifold.results.command")
    with pytest.raises(SystemExit) as ending:
        module.main(["--help"])
    out, _ = capsys.readouterr()
    lines = out.splitlines()
    assert ending.value.code == 0
    assert out.startswith(f"usage: robust-manifold {name} ")
    # In what follows, too.
    assert f"\n  robust-manifold {name}" in out and "python -m" not in out
    assert max(map(len, lines)) <= 88


def test_the_help_of_a_run_has_its_name_as_it_is_typed():
    origin = importlib.util.find_spec("robust_manifold.main").origin
    text = pathlib.Path(origin).read_text()
    assert "\n  robust-manifold run --config=" in text and "python -m" not in text


def test_an_unknown_command_is_one_sentence(called):
    code, out, error, ran = called("prject", "--help")
    assert (code, out, ran) == (2, "", [])
    assert error == (
        "robust_manifold: Unknown command 'prject'; known: collect, evaluate, "
        "leaderboard, project, results, run, sweep, weights. Did you mean 'project'?\n"
    )


def test_a_command_s_own_sentence_and_code_are_those_of_the_call():
    # Not `python -m robust_manifold.collect`, which the call stands for.
    command = [sys.executable, "-m", "robust_manifold", "collect", "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("robust_manifold: nowhere is no folder; allowed: ")
