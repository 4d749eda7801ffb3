"""The commands: what they write, what they print, what they refuse, and what they import."""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import unicodedata
from contextlib import suppress
from dataclasses import fields, replace
from importlib.machinery import ModuleSpec
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import tifffile
from conftest import add_generation, make_photo
from PIL import Image
from typer.main import get_command

from stylenorm import Stylizer, __version__, engine, formats, jobs
from stylenorm.__main__ import run
from stylenorm.checkpoint import load_style, save_network, save_style
from stylenorm.cli import add_the_others, app, main, shell_words
from stylenorm.cli_parts import show_table, write_out
from stylenorm.cli_train import SETTINGS, parsed
from stylenorm.config import TrainConfig
from stylenorm.errors import StyleError, StylenormError
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.images import read_picture, rewrap, write_picture
from stylenorm.jobs import PHOTOGRAPHS, plan, style_named, weighted, weighted_file
from stylenorm.plots import BAND, GAP, largest_tile, sheet, sheet_size
from stylenorm.progress import duration, watching
from stylenorm.tensors import fitted

ROOT = Path(__file__).parent.parent
VERBS = (
    "stylize", "styles", "sheet", "bench", "train", "train-style", "optimize", "batch", "export", "score", "compare", "lab", "generate",
    "train-generate", "app", "video", "mask",
)  # fmt: skip


PAINT = ["stylize", "PHOTO", "--style", "red-hill", "-o", "-"]


@pytest.fixture
def cli(capsys, weights, monkeypatch):
    """Runs a command in this process, on the small weights; gives its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words) -> SimpleNamespace:
        words = [str(w) for w in words]
        if words and words[0] in ("stylize", "styles", "sheet") and "--weights" not in words:
            words += ["--weights", str(weights)]
        if words and words[0] in ("stylize", "sheet") and "--backend" not in words:
            words += ["--backend", "torch", "--device", "cpu"]
        code = main(words)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def python(*arguments, **options) -> subprocess.CompletedProcess:
    """A fresh interpreter, with the package in reach whether it is installed or not."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, timeout=300, check=False, **options
    )


def refused(result, *words: str) -> None:
    """Exit code 2, and one line on stderr that holds ``words``."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("stylenorm: ") and result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err, result.err


# ---- help, version, imports --------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_examples(cli, verb):
    result = cli(verb, "--help") if verb not in ("stylize", "styles", "sheet") else cli(verb, "--help", "--weights", "x")
    assert result.code == 0
    assert "Examples:" in result.out and f"stylenorm {verb} " in result.out


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_not_broken_by_a_terminal_of_80_columns(cli, verb, monkeypatch):
    """Else what is copied from there is two commands."""
    monkeypatch.setenv("COLUMNS", "80")
    add_the_others()
    examples = get_command(app).commands[verb].epilog.replace("\b", "").splitlines()
    shown = (cli(verb, "--help") if verb not in ("stylize", "styles", "sheet") else cli(verb, "--help", "--weights", "x")).out
    assert set(filter(None, map(str.strip, examples))) <= set(map(str.strip, shown.splitlines()))


def test_help_lists_every_verb(cli):
    result = cli("--help")
    assert result.code == 0 and all(verb in result.out for verb in VERBS)


def test_no_words_at_all_are_wrong_use_and_shown_the_help(cli):
    result = cli()
    assert result.code == 2 and "Usage: stylenorm" in result.out


def test_version(cli):
    assert cli("--version").out == f"stylenorm {__version__}\n"


COMPLETING = {"COMP_CWORD": "1", "_STYLENORM_COMPLETE": "complete_bash"}


@pytest.fixture
def answer(monkeypatch, capsys):
    """What a shell that asks by these variables is told."""

    def run(**env) -> str:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            [patch.setenv(name, value) for name, value in env.items()]
            main([])
        out, err = capsys.readouterr()
        assert not ended.value.code and not err, err
        return out

    return run


@pytest.fixture
def completed(answer):
    """What bash is given for the last of some words, which may have been begun."""

    def run(weights, *words, **env) -> list[str]:
        line = "\n".join(str(word).replace(os.sep, "/") for word in ("stylenorm", *words))  # as bash has paths on Windows
        env |= COMPLETING | {"COMP_WORDS": line, "COMP_CWORD": str(len(words)), "STYLENORM_WEIGHTS": str(weights)}
        return answer(**env).split()

    return run


def test_a_shell_completes_verbs_options_and_the_names_of_styles(completed, weights, tmp_path):
    (tmp_path / "styles").mkdir()
    for name in ("red hill", "redder"):
        save_style(tmp_path / "styles" / f"{name}.safetensors", replace(load_style(weights / "styles" / "red-hill.safetensors"), name=name))
    (tmp_path / "styles" / "broken.safetensors").write_bytes(b"no style")
    assert set(completed(weights, "")) == set(VERBS)
    level = logging.root.manager.disable
    assert completed(weights, "train", "--steps", "3", "--resu") == ["--resume"]
    names = completed(weights, "stylize", "photo.jpg", "--style", "")
    assert {"red-hill", "blue-tree"} <= set(names)
    for verb in ("stylize", "batch", "generate", "video"):
        assert completed(weights, verb, "a", "-s", "blue-tree,re") == ["blue-tree,red-hill"]
    assert completed("none", "stylize", "--weights", weights, "--style", "red") == ["red-hill"]
    assert completed("none", "stylize", "--style", "") == [], "what is wrong is told when the command runs"
    assert logging.root.manager.disable == level, "what is told is told again"
    mine = completed(weights, "stylize", "--style", "red", STYLENORM_HOME=str(tmp_path))
    assert mine == ["red-hill", "redder"], "red hill would be two words, and nothing is said of the broken one"


@pytest.mark.parametrize(
    "parts, told",
    [
        (["--style", "blue-tree", ":", "2,"], ["2,blue-tree", "2,red-hill", "2,tall-grass"]),
        (["--style", "blue-tree", ":", "2,red-hill", ":", "1,ta"], ["1,tall-grass"]),
        (["--style", "=", "re"], ["red-hill"]),
        (["--style", "="], ["blue-tree", "red-hill", "tall-grass"]),
        (["--style", "=", "blue-tree", ":", "2,re"], ["2,red-hill"]),
        (["--style", "blue-tree", ":"], []),
        (["--style", "blue-tree", ":", "2", "--preserve-c"], ["--preserve-color"]),
        (["--style", "blue-tree:2,re"], ["blue-tree:2,red-hill"]),  # who has taken : from COMP_WORDBREAKS
    ],
)
def test_bash_takes_words_apart_and_is_told_the_last_part(completed, weights, parts, told):
    assert completed(weights, "stylize", "photo.jpg", *parts) == told


def test_what_comes_after_the_cursor_is_not_asked_about(answer, weights):
    line = "\n".join("stylenorm stylize --style blue-tree : 2,re : 3 --size 9".split())
    assert answer(**COMPLETING | {"COMP_WORDS": line, "COMP_CWORD": "5", "STYLENORM_WEIGHTS": str(weights)}) == "2,red-hill\n"


def test_zsh_and_fish_replace_all_of_the_word(answer, weights):
    def told(shell, line, **env):
        return answer(_STYLENORM_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_ARGS=line, STYLENORM_WEIGHTS=str(weights), **env).rstrip()

    line = "stylenorm stylize photo.jpg --style"
    assert told("zsh", f"{line}=blue-tree:2,re") == """compset -P '*='; _arguments '*: :(("blue-tree\\\\:2,red-hill"))'"""
    assert told("zsh", f"{line} re") == """_arguments '*: :(("red-hill"))'"""
    assert told("zsh", "stylenorm stylize --output=ph") == "compset -P '*='; _files"
    fish = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert told("fish", f"{line}=blue-tree:2,re", **fish) == "--style=blue-tree:2,red-hill"
    assert told("fish", f"{line} blue-tree:2,re", **fish) == "blue-tree:2,red-hill"


@pytest.mark.parametrize("shell", ["powershell", "pwsh"])
@pytest.mark.parametrize("quotes", ["", "'", '"'])
def test_to_powershell_a_backslash_is_a_letter(answer, weights, tmp_path, shell, quotes):
    """As in its paths on Windows; elsewhere a name may have one."""
    folder = tmp_path / "it\\nets"
    shutil.copytree(weights, folder)
    line = f"stylenorm stylize photo.jpg --weights {quotes}{folder}{quotes} --style re"
    told = answer(_STYLENORM_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_ARGS=line, _TYPER_COMPLETE_WORD_TO_COMPLETE="re", STYLENORM_WEIGHTS="none")
    assert [row.partition(":::")[0] for row in told.split()] == ["red-hill"]


def test_a_program_that_asks_as_a_shell_does_is_told_verbs_and_nothing_else():
    result = python("-m", "stylenorm", env=COMPLETING | {"COMP_WORDS": "stylenorm\n"})
    assert result.returncode == 0 and not result.stderr, result.stderr.decode()
    assert set(result.stdout.decode().split()) == set(VERBS)


def test_on_windows_names_are_looked_for_and_brackets_are_letters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a1.jpg", "a[1].jpg", "b.png"):
        Path(name).touch()
    words = ["stylize", "a[1].jpg", "*.jpg", "a[1*", "?.png", "none*.jpg", "--style", "kiss"]
    assert shell_words(words) == words
    monkeypatch.setattr("stylenorm.cli.os.name", "nt")
    assert shell_words(words) == ["stylize", "a[1].jpg", "a1.jpg", "a[1].jpg", "a[1].jpg", "b.png", "none*.jpg", "--style", "kiss"]


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="there is no bash, or another system's")
@pytest.mark.parametrize("words, told", [("--style re", "red-hill"), ("--style blue-tree : 2,re", "2,red-hill"), ("--style = re", "red-hill")])
def test_what_bash_is_told_completes_in_bash(weights, tmp_path, words, told):
    command = tmp_path / "stylenorm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stylenorm "$@"\n')
    command.chmod(0o755)
    script = """eval "$(stylenorm --show-completion)"
        COMP_WORDS=(stylenorm stylize photo.jpg BEGUN); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        "$(complete -p stylenorm | sed 's/.*-F \\([^ ]*\\).*/\\1/')" stylenorm; echo "${COMPREPLY[@]}" """
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "STYLENORM_WEIGHTS": str(weights)}
    run = subprocess.run(["bash", "-c", script.replace("BEGUN", words)], env=env, capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == told, run.stderr


def test_completion_is_for_the_help_of_the_whole_alone(cli):
    assert "--install-completion" in cli("--help").out and "--install-completion" not in cli("stylize", "--help").out
    assert "--install-completion" not in cli("batch", "--help").out


def test_python_m_and_the_entry_point():
    result = python("-m", "stylenorm", "--version")
    assert (result.returncode, result.stdout.decode().strip()) == (0, f"stylenorm {__version__}")
    assert 'stylenorm = "stylenorm.__main__:run"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_ctrl_c_while_the_verbs_are_imported_is_no_traceback(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("stylenorm.cli.add_the_others", interrupted)
    monkeypatch.setattr(sys, "argv", ["stylenorm", "train"])
    assert run() == 130


def test_a_ctrl_c_that_an_import_loses_stops_a_training(tmp_path, monkeypatch, capsys):
    def losing(name):
        with suppress(KeyboardInterrupt):  # as parts of torch do
            signal.raise_signal(signal.SIGINT)
        return SimpleNamespace(train=lambda *_: pytest.fail("it trains for hours"))

    monkeypatch.setattr("stylenorm.cli_train.import_module", losing)
    assert main(["train", "--photos", str(tmp_path), "--styles", str(tmp_path), "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "stylenorm: stopped; there was no checkpoint yet\n"


def imports(*commands: list[str], code: int, absent: tuple[str, ...]) -> None:
    """Runs the commands in one fresh interpreter and fails if a package of ``absent`` has been imported."""
    program = textwrap.dedent(
        """
        import json, sys
        from stylenorm.cli import add_the_others, app, main
        commands, code, absent = json.loads(sys.argv[1])
        for words in commands:
            got = main(words)
            assert got == code, (words, got)
            found = [name for name in absent if name in sys.modules]
            assert not found, (words, found)
        """
    )
    result = python("-c", program, json.dumps([[[str(w) for w in c] for c in commands], code, absent]))
    assert result.returncode == 0, result.stderr.decode()


HEAVY = ("torch", "torchvision", "gradio", "openvino", "av", "matplotlib", "onnxruntime", "pandas")


def test_help_and_listing_do_not_import_torch(weights):
    commands = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]
    listing = [["styles", "--weights", weights], ["styles", "--json", "--weights", weights]]
    imports(*commands, *listing, code=0, absent=HEAVY)


def test_wrong_use_does_not_import_torch(weights, photo, tmp_path):
    (tmp_path / "empty").mkdir()
    stylize = ["stylize", photo, "--weights", weights, "-o", tmp_path / "out.jpg"]
    train = ["train", "--photos", tmp_path, "--out", tmp_path / "run"]
    imports(
        ["no-such-verb"],
        ["--no-such-option"],
        ["stylize"],
        ["stylize", photo],
        [*stylize],
        [*stylize, "--style", "no-such-style"],
        [*stylize, "--style", "red-hill", "--no-such-option"],
        [*stylize, "--style", "red-hill", "--strength", "1.5"],
        [*stylize, "--style", "red-hill", "--strength", "nan"],
        [*stylize, "--style", "red-hill", "--strength", "much"],
        [*stylize, "--style", "red-hill", "--size", "0"],
        [*stylize, "--style", "red-hill", "--paint-at", "15"],
        [*stylize, "--style", "red-hill", "--memory", "-1"],
        [*stylize, "--style", "red-hill", "--memory", "nan"],
        [*stylize, "--style", "red-hill", "--quality", "101"],
        [*stylize, "--style", "red-hill", "--device", "tpu"],
        [*stylize, "--style", "red-hill", "--backend", "tensorflow"],
        [*stylize, "--style", "red-hill", "--format", "bmp"],
        [*stylize, "--style", "red-hill", tmp_path / "missing.jpg"],
        [*stylize, "--style", "red-hill:-1"],
        [*stylize, "--style", "red-hill:0"],
        [*stylize, "--style", "red-hill", "--style-size", "64"],
        [*stylize, "--style-image", tmp_path / "missing.jpg"],
        [*stylize, "--style", "red-hill", "--weights", tmp_path / "missing"],
        ["stylize", tmp_path / "empty", "--weights", weights, "--style", "red-hill", "-o", tmp_path / "out/"],
        ["sheet", photo],
        ["sheet", tmp_path / "missing.jpg", "-o", tmp_path / "sheet.png", "--weights", weights],
        ["sheet", photo, "-o", tmp_path / "sheet.png", "--weights", weights, "--tile", "1"],
        ["styles", "--weights", tmp_path / "missing"],
        ["bench", "--weights", tmp_path / "missing"],
        ["bench", "--size", "3"],
        ["video"],
        ["video", tmp_path / "missing.mp4", tmp_path / "out.mp4", "--style", "red-hill", "--weights", weights],
        ["video", photo, tmp_path / "out.avi", "--style", "red-hill", "--weights", weights],
        ["video", photo, tmp_path / "out.mp4", "--weights", weights],
        ["video", photo, tmp_path / "out.mp4", "--weights", weights, "--style", "red-hill", "--style-size", "64"],
        ["batch", tmp_path, tmp_path / "out", "--weights", weights, "--style", "red-hill", "--style-size", "64"],
        ["bench", "--film", tmp_path / "missing.jpg"],
        ["train"],
        [*train],
        [*train, "--styles", tmp_path / "missing"],
        [*train, "--styles", tmp_path, "--steps", "0"],
        [*train, "--styles", tmp_path, "--norm", "spectral"],
        [*train, "--styles", tmp_path, "--resume"],
        [*train, "--styles", tmp_path, "--widths", "8,many"],
        [*train, "--styles", tmp_path, "--learning-rate", "1e9"],
        [*train, "--styles", tmp_path, "--learning-rate", "nan"],
        [*train, "--styles", tmp_path, "--encoder-learning-rate=-1"],
        code=2,
        absent=HEAVY,
    )
    assert not (tmp_path / "out.jpg").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_stylizing_imports_no_torchvision_gradio_or_matplotlib(weights, photo, tmp_path, backend):
    command = ["stylize", photo, "--style", "red-hill", "--weights", weights, "--backend", backend, "--device", "cpu"]
    sheet = ["sheet", photo, "--weights", weights, "--backend", backend, "--device", "cpu", "-o", tmp_path / "sheet.png"]
    imports([*command, "-o", tmp_path / "out.jpg"], sheet, code=0, absent=("torchvision", "gradio", "matplotlib", "pandas"))


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_a_named_style_on_a_cpu_takes_no_torch(weights, photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in (1, 2):
        make_photo(folder / f"{seed}.jpg", seed=seed)
    common = ["--weights", weights, "--device", "cpu"]
    one = ["stylize", photo, "--style", "red-hill:2,blue-tree", "--preserve-color", "--size", "50", "-o", tmp_path / "out.png"]
    several = ["stylize", folder, "--style", "red-hill", "--backend", "openvino", "-o", tmp_path / "out"]
    small = ["stylize", photo, "--style", "red-hill", "--paint-at", "30", "--strength", "0.5", "-o", tmp_path / "small.png"]
    imports([*one, *common], [*several, *common], [*small, *common], code=0, absent=("torch", "torchvision"))


# ---- stylize: one photograph -------------------------------------------------------------------


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_photograph_becomes_what_the_stylizer_makes_of_it(cli, stylizer, photo, tmp_path):
    out = tmp_path / "painted.png"
    result = cli("stylize", photo, "--style", "red-hill", "-o", out)
    assert result.code == 0 and result.err == ""
    assert re.fullmatch(rf"{re.escape(str(photo))} -> {re.escape(str(out))} \(60 x 44, \d+\.\d\d s\)\n", result.out)
    np.testing.assert_array_equal(pixels(out), np.asarray(stylizer.stylize(photo, "red-hill")))
    assert abs(pixels(out) - pixels(photo)).mean() > 5


def test_options_reach_the_stylizer(cli, stylizer, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "STYLE_SIZE", 64)  # short side of a photograph, which at strength 0.5 is read as a painting is
    out = tmp_path / "painted.png"
    options = ["--strength", "0.5", "--preserve-color", "--size", "40"]
    assert cli("stylize", photo, "--style", "red-hill", "-o", out, *options).code == 0
    wanted = stylizer.stylize(photo, "red-hill", strength=0.5, preserve_color=True, size=40)
    assert wanted.size == (40, 29)
    np.testing.assert_array_equal(pixels(out), np.asarray(wanted))


def test_strips_are_told_in_one_line(cli, stylizer, photo, tmp_path):
    out = tmp_path / "out.png"
    words = ("stylize", photo, "--style", "red-hill", "-o", out, "--memory", "0")
    notice, row = cli(*words).out.splitlines()
    assert notice.startswith(f"{photo}: ") and "painting in strips" in notice and "->" in row
    assert np.abs(pixels(out).astype(int) - np.asarray(stylizer.stylize(photo, "red-hill"))).max() <= 1
    assert "painting in strips" not in cli(*words[:-1], "1").out
    assert cli(*words, "--quiet").out == "" and len(json.loads(cli(*words, "--json").out)) == 1


def test_that_a_tiff_has_more_pages_is_told_in_one_line(cli, photo, tmp_path):
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "red")]
    pages[0].save(several := tmp_path / "several.tif", save_all=True, append_images=pages[1:])
    tifffile.imwrite(thumb := tmp_path / "thumb.tif", np.zeros((20, 20, 3), np.uint16), photometric="rgb")
    tifffile.imwrite(thumb, np.zeros((5, 5, 3), np.uint8), photometric="rgb", append=True, subfiletype=1)
    pages[0].save(moving := tmp_path / "moving.gif", save_all=True, append_images=pages[1:])
    words = ("stylize", several, thumb, moving, photo, "--style", "red-hill", "-o", tmp_path / "out")
    assert cli(*words).err == f"stylenorm: {several}: only the first of its 3 pages is painted; save each as a file of its own\n"
    result = cli(*words, "--json")
    assert len(json.loads(result.out)) == 4 and result.err.count("\n") == 1
    assert cli(*words, "--quiet").err == ""


def test_that_an_avif_moves_and_is_painted_as_a_still_is_told(cli, tmp_path):
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "red")]
    pages[0].save(moving := tmp_path / "moving.avif", save_all=True, append_images=pages[1:])
    words = ("stylize", moving, "--style", "red-hill", "-o")
    told = f"stylenorm: {moving}: only the first of its 3 frames is painted; write a .webp, .png or .gif to paint all\n"
    assert cli(*words, tmp_path / "out.avif").err == told
    assert cli(*words, tmp_path / "out.webp").err == "" and Image.open(tmp_path / "out.webp").n_frames == 3


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_what_a_pipe_holds_more_of_is_told(cli, photo, tmp_path, monkeypatch):
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "red")]
    os.mkfifo(pipe := tmp_path / "pipe")
    for name, word in (("several.tif", "pages"), ("moving.gif", "frames"), ("moving.png", "frames"), ("one.png", None)):
        pages[0].save(file := tmp_path / name, save_all=True, append_images=pages[1:] if word else [])
        for source in ("-", pipe):
            words = ("stylize", source, "--style", "red-hill", "-o", tmp_path / "out.png")
            thread = threading.Thread(target=pipe.write_bytes, args=[file.read_bytes()], daemon=True)
            thread.start() if source == pipe else monkeypatch.setattr("sys.stdin", open(file))
            result = cli(*words)
            assert result.code == 0 and result.err.count("\n") == bool(word), result
            assert word is None or f"only the first of its 3 {word} is painted" in result.err
    monkeypatch.setattr("sys.stdin", open(file))
    assert cli("stylize", "-", "--style", "red-hill", "-o", tmp_path / "out.jpg").err == ""
    refused(cli("stylize", pipe, "--style", "red-hill", "-o", tmp_path / "out.gif"), f"in place of {pipe}")


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_a_pipe_is_not_emptied_to_refine_on_it(cli, photo, tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    threading.Thread(target=pipe.write_bytes, args=[photo.read_bytes()], daemon=True).start()
    assert cli("stylize", pipe, "--style-image", photo, "--style-size", "64", "--refine", "1", "-o", tmp_path / "out.png").code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_paintings_come_through_pipes_as_well(cli, photo, tmp_path):
    """One is read once, also where its style is refined."""
    painting = make_photo(tmp_path / "painting.jpg", (70, 90), seed=3)
    for more in ([], ["--refine", "1"]):
        results = []
        for number, source in enumerate((painting, tmp_path / "pipe")):
            if source != painting:
                os.mkfifo(source)
                threading.Thread(target=source.write_bytes, args=[painting.read_bytes()], daemon=True).start()
            words = ["--style-image", f"{source}:2", "--style", "red-hill", "--style-size", "64", *more]
            result = cli("stylize", photo, *words, "-o", out := tmp_path / f"{number}.png")
            assert result.code == 0, result.err
            results.append(pixels(out))
        source.unlink()
        np.testing.assert_array_equal(*results)


@pytest.fixture
def left(tmp_path) -> Path:
    """A mask for `photo`: its left half."""
    mask = Image.new("L", (60, 44))
    mask.paste(255, (0, 0, 30, 44))
    mask.save(tmp_path / "left=half.png")
    return tmp_path / "left=half.png"


def test_a_mask_says_where_to_paint_and_where_not(cli, photo, tmp_path, left):
    for name, *more in (("all.png",), ("mask.png", "--mask", left), ("keep.png", "--keep", left)):
        assert cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / name, *more).code == 0
    all_of_it, inside, outside, before = (pixels(tmp_path / name) for name in ("all.png", "mask.png", "keep.png", photo.name))
    assert np.array_equal(inside, np.concatenate([all_of_it[:, :30], before[:, 30:]], 1))
    assert np.array_equal(outside, np.concatenate([before[:, :30], all_of_it[:, 30:]], 1))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_a_mask_through_a_pipe_is_for_all_photographs(tmp_path, left):
    os.mkfifo(pipe := tmp_path / "pipe")
    threading.Thread(target=pipe.write_bytes, args=[left.read_bytes()], daemon=True).start()
    masks = jobs.Masks.of(str(pipe), "--mask")
    pipe.unlink()  # what would read it once more would wait for ever
    for source in (Path("a.png"), Path("b.png"), None):
        assert np.array_equal(masks.mask_for(source).rgb, Image.open(left).convert("RGB")) and masks.content_for(source) == left.read_bytes()


def test_regions_have_styles_of_their_own(cli, stylizer, photo, tmp_path, left):
    painting = make_photo(tmp_path / "a=b.png", (70, 90), seed=3)
    words = ["--region", f"{left}=blue-tree:2,red-hill:1", "--region", f"{left}={painting}", "--style-size", "64"]
    assert cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "out.png", *words).code == 0
    regions = [({"blue-tree": 2, "red-hill": 1}, left), (stylizer.style_from(painting, 64), left)]
    np.testing.assert_array_equal(pixels(tmp_path / "out.png"), np.asarray(stylizer.stylize(photo, "red-hill", regions=regions)))


def test_each_photograph_has_its_mask_and_one_without_is_named(cli, photo, tmp_path, left):
    folder, masks = tmp_path / "photos", tmp_path / "masks"
    folder.mkdir(), masks.mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png"):
        shutil.copy(photo, folder / name)
    shutil.copy(left, masks / "a.png"), Image.open(left).rotate(90, expand=True).save(masks / "b.png")
    shutil.copy(left, masks / "d.png"), Image.open(left).save(masks / "d.webp")
    result = cli("stylize", folder, "--style", "red-hill", "-o", tmp_path / "out", "--mask", masks)
    told = result.err.splitlines()
    assert result.code == 1 and len(told) == 3 and [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]
    assert "b.png: the mask is 44 x 60 px and the picture 60 x 44: one of them lies on its side" in told[0]
    assert "has no mask for" in told[1] and "c.png; one is called like what it is for, as in c.png" in told[1]
    assert "has 2 masks (d.png, d.webp) for" in told[2]


def test_a_mask_is_called_like_its_photograph_as_file_systems_compare_names(tmp_path, left):
    for name in ("caf\u00e9.png", "IMG_1.png", "b.png"):
        shutil.copy(left, tmp_path / name)
    masks = jobs.Masks(tmp_path)
    assert masks.file_for(Path("cafe\u0301.jpg")).name == "caf\u00e9.png" and masks.file_for(Path("img_1.JPG")).name == "IMG_1.png"
    shutil.copy(left, tmp_path / "B.PNG")
    if (tmp_path / "b.png").samefile(tmp_path / "B.PNG"):
        return
    assert masks.file_for(Path("b.jpg")).name == "b.png" and masks.file_for(Path("B.jpg")).name == "B.PNG", "its own, where both are"


def test_a_mask_lies_over_every_frame(cli, tmp_path, left):
    frames = [Image.open(make_photo(tmp_path / f"{k}.png", (60, 44), seed=k)) for k in range(2)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:], duration=100)
    words = ["--keep", left, "--region", f"{left}=blue-tree"]
    assert cli("stylize", tmp_path / "moving.png", "--style", "red-hill", "-o", tmp_path / "out.png", *words).code == 0
    with Image.open(tmp_path / "out.png") as image:
        for k, frame in enumerate(frames):
            image.seek(k)
            shown = np.asarray(image.convert("RGB")).astype(int) - np.asarray(frame.convert("RGB"))
            assert not shown[:, :30].any() and np.abs(shown[:, 30:]).mean() > 5


@pytest.mark.parametrize(
    "words, told",
    [
        (["--mask", "none.png"], "there is no mask none.png"), (["--keep", ""], "--keep is empty"), (["--mask", "left=half.png", "--keep", "left=half.png"], "the other way round"),
        (["--region", "kiss"], "give MASK=STYLE"), (["--region", "=kiss"], "give MASK=STYLE"), (["--region", "left=half.png="], "give MASK=STYLE"),
        (["--region", "none.png=kiss"], "there is no mask none.png"), (["--region", "left=half.png=red-hil"], "did you mean red-hill"),
        (["--mask", "left=half.png", "-o", "left=half.png"], "is an input"), (["--region", "left=half.png=red-hill", "-o", "left=half.png"], "is an input"),
        (["--mask", ".", "-o", "left=half.png"], "is an input"), (["--region", ".=red-hill", "-o", "left=half.png"], "is an input"),
    ],
)  # fmt: skip
def test_masks_that_are_none_are_refused(cli, photo, tmp_path, left, words, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = left.read_bytes()
    refused(cli("stylize", photo, "--style", "red-hill", "-o", "out.png", *words), told)
    assert left.read_bytes() == before and not (tmp_path / "out.png").exists()


def test_the_size_to_paint_at_is_for_animations_as_well(cli, photo, tmp_path):
    for name, *more in (("plain.gif",), ("coarse.gif", "--paint-at", "30")):
        assert cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / name, *more).code == 0
    assert Image.open(tmp_path / "coarse.gif").size == Image.open(photo).size
    assert not np.array_equal(pixels(tmp_path / "coarse.gif"), pixels(tmp_path / "plain.gif"))


def test_the_size_to_paint_at_reaches_the_stylizer(cli, stylizer, photo, tmp_path):
    out = tmp_path / "out.png"
    assert cli("stylize", photo, "--style", "red-hill", "-o", out, "--paint-at", "30").code == 0
    np.testing.assert_array_equal(pixels(out), np.asarray(stylizer.stylize(photo, "red-hill", paint_at=30)))


@pytest.mark.parametrize(
    "words",
    [
        ["--style", "red-hill:3,blue-tree"],
        ["--style", "red-hill:3", "--style", "blue-tree:1"],
        ["-s", " red-hill:0.75 , blue-tree:.25"],
        ["-s", "Red-Hill :3", "-s", "BLUE-TREE: 1"],
    ],
)
def test_styles_blend_by_weight(cli, stylizer, photo, tmp_path, words):
    out = tmp_path / "painted.png"
    assert cli("stylize", photo, *words, "-o", out).code == 0
    np.testing.assert_array_equal(pixels(out), np.asarray(stylizer.stylize(photo, {"red-hill": 0.75, "blue-tree": 0.25})))


def test_a_painting_is_a_style_and_blends_with_named_ones(cli, stylizer, photo, tmp_path):
    painting = make_photo(tmp_path / "painting.jpg", (70, 90), seed=3)
    out = tmp_path / "painted.png"
    words = ["--style-image", f"{painting}:2", "--style", "blue-tree", "--style-size", "64"]
    assert cli("stylize", photo, *words, "-o", out).code == 0
    style = stylizer.style_from(painting, size=64)
    wanted = stylizer.stylize(photo, [("blue-tree", 1), (style, 2)])
    np.testing.assert_array_equal(pixels(out), np.asarray(wanted))


@pytest.mark.parametrize(
    "suffix, words, format",
    [
        (".jpg", [], "JPEG"), (".JPEG", [], "JPEG"), (".png", [], "PNG"), (".webp", [], "WEBP"), (".tif", [], "TIFF"),
        ("", ["--format", "webp"], "WEBP"), (".painted", ["--format", "png"], "PNG"), (".tiff", ["--format", "tiff"], "TIFF"),
    ],
)  # fmt: skip
def test_formats(cli, photo, tmp_path, suffix, words, format):
    out = tmp_path / f"painted{suffix}"
    assert cli("stylize", photo, "--style", "red-hill", "-o", out, *words).code == 0
    with Image.open(out) as image:
        assert (image.format, image.size) == (format, (60, 44))


def test_quality(cli, tmp_path):
    photo = make_photo(tmp_path / "photo.png", (200, 150))
    sizes = []
    for quality in (20, 95):
        cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "out.jpg", "--quality", quality)
        sizes.append((tmp_path / "out.jpg").stat().st_size)
    assert sizes[0] < 0.7 * sizes[1]


def test_quiet_prints_nothing(cli, photo, tmp_path):
    result = cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "out.jpg", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_json_of_one(cli, photo, tmp_path):
    out = tmp_path / "out.jpg"
    result = cli("stylize", photo, "--style", "red-hill", "-o", out, "--json")
    (row,) = json.loads(result.out)
    assert row.pop("seconds") > 0
    assert row == {"input": str(photo), "output": str(out), "width": 60, "height": 44, "style": "red-hill"}


# ---- stylize: refusals -------------------------------------------------------------------------


def test_without_a_style_some_are_named(cli, photo, tmp_path):
    refused(cli("stylize", photo, "-o", tmp_path / "out.jpg"), "--style NAME", "blue-tree, red-hill, tall-grass", "--style-image")


def test_an_unknown_style_is_told_its_neighbours(cli, photo, tmp_path):
    refused(cli("stylize", photo, "--style", "red-hil", "-o", tmp_path / "out.jpg"), "'red-hil'", "did you mean red-hill")


def test_an_unknown_option_is_told_its_neighbours(cli, photo):
    refused(cli("stylize", photo, "--stile", "red-hill"), "--stile", "--style", "stylenorm stylize --help")


@pytest.mark.parametrize("weight", ["-1", "inf", "nan", "0"])
def test_weights_of_a_blend_are_checked(cli, photo, tmp_path, weight):
    refused(cli("stylize", photo, "--style", f"red-hill:{weight}", "-o", tmp_path / "out.jpg"), "weight")


def test_a_missing_photograph_is_named_and_nothing_is_done(cli, photo, tmp_path):
    missing = tmp_path / "missing.jpg"
    refused(cli("stylize", photo, missing, "--style", "red-hill", "-o", tmp_path / "out"), str(missing))
    assert not (tmp_path / "out").exists()


def test_an_empty_name_is_not_the_folder_one_is_in(cli, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(cli("stylize", "", "--style", "red-hill", "-o", "out/"), "a photograph's name is empty")
    refused(cli("stylize", photo, "", "--style", "red-hill", "-o", "out/"), "a photograph's name is empty")
    refused(cli("train", "--photos", "", "--styles", tmp_path, "--out", "out"), "--photos is empty")
    refused(cli("train", "--photos", tmp_path, "--styles", tmp_path, "--out", ""), "--out is empty")
    refused(cli("train", "--photos", tmp_path, "--styles", tmp_path, "--out", "out", "--init", ""), "--init is empty")
    refused(cli("train", "--photos", tmp_path, "--styles", tmp_path, "--out", "out", "--init", tmp_path), "is a folder; give the file in it")
    for words in (
        ("train-style", "fresh", photo, "--photos"),
        ("train-style", "fresh", photo, "--folder"),
        ("bench", "--styles", tmp_path, "--photos"),
        ("bench", "--photos", tmp_path, "--styles"),
        ("bench", "--photos", tmp_path, "--paintings"),
        ("compare", photo, "--style", "udnie", "--networks"),
        ("compare", "--train", "--photos", tmp_path, "--styles"),
        ("compare", "--train", "--styles", tmp_path, "--photos"),
        ("lab", "momentum", "--out"),
        ("styles", "--weights"),
    ):
        refused(cli(*words, ""), f"{words[-1]}': it is empty; give a folder")
    assert list(tmp_path.iterdir()) == [photo]


def test_a_missing_painting_is_named(cli, photo, tmp_path):
    refused(cli("stylize", photo, "--style-image", tmp_path / "no.jpg:2", "-o", tmp_path / "out.jpg"), str(tmp_path / "no.jpg"))


def test_a_broken_painting_is_wrong_use(cli, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    refused(cli("stylize", photo, "--style-image", tmp_path / "broken.jpg", "-o", tmp_path / "out.jpg"), "broken.jpg")


def test_other_weights_styles_are_not_known(cli, weights, other_weights, photo, tmp_path):
    strange = tmp_path / "mixed"
    (strange / "styles").mkdir(parents=True)
    (strange / "network.safetensors").write_bytes((weights / "network.safetensors").read_bytes())
    (strange / "styles" / "red-hill.safetensors").write_bytes((other_weights / "styles" / "red-hill.safetensors").read_bytes())
    refused(cli("stylize", photo, "--style", "red-hill", "--weights", strange, "-o", tmp_path / "out.jpg"), "red-hill")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 100])
def test_broken_weights_are_refused(cli, photo, tmp_path, content):
    (tmp_path / "network.safetensors").write_bytes(content)
    words = ["--style", "red-hill", "--weights", tmp_path, "-o", tmp_path / "out.jpg"]
    refused(cli("stylize", photo, *words), "network.safetensors")


@pytest.mark.parametrize(
    "out, word",
    [
        ("painted", "does not end in a format"),
        ("painted.bmp", "does not end in a format"),
        ("no/painted.jpg", "there is no folder"),
    ],
)
def test_places_that_cannot_be_written(cli, photo, tmp_path, out, word):
    refused(cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / out), word)


@pytest.mark.skipif(os.name == "nt", reason="a folder that something runs in stays there")
@pytest.mark.parametrize("verb", ["stylize", "batch", "video"])
def test_a_folder_to_run_in_that_is_gone_is_named(cli, photo, tmp_path, verb, monkeypatch):
    """It was told as "No such file or directory", and everything that was given is there."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    words = {"stylize": [photo, "-o", "out.png"], "batch": [photo.parent, "out"], "video": [photo, "out.mp4"]}[verb]
    refused(cli(verb, *words, "--style", "red-hill" if verb == "stylize" else "kiss"), "the folder that this runs in is gone; change to another one")


def test_a_format_and_a_suffix_that_disagree_are_refused(cli, photo, tmp_path):
    refused(cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "a.png", "--format", "jpeg"), "png", "jpeg")


def test_heic_without_its_package_is_refused_before_the_work(photo, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    style = ["--style", "red-hill", "--weights", str(weights)]
    out = str(tmp_path / "o.heic")
    for words in (
        ["stylize", str(photo), *style, "-o", out],
        ["stylize", str(photo), *style, "-o", "-", "--format", "heic"],
        ["batch", str(photo.parent), str(tmp_path / "out"), *style, "--format", "heic"],
        ["optimize", str(photo), str(photo), "-o", out],
    ):
        assert main(words) == 2
        assert 'pip install "stylenorm[heic]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_film_is_told_to_be_one(cli, photo, tmp_path):
    (tmp_path / "in.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    words = "--style", "red-hill", "-o"
    refused(cli("stylize", photo, *words, tmp_path / "out.mp4"), "stylenorm video")
    result = cli("stylize", tmp_path / "in.mp4", photo, *words, tmp_path / "out/")
    assert result.code == 1 and "in.mp4 is a film" in result.err and [p.name for p in (tmp_path / "out").iterdir()] == [photo.name]


def test_several_photographs_do_not_go_into_one_file(cli, photo, tmp_path):
    other = make_photo(tmp_path / "other.jpg")
    for name in ("out.jpg", "out.gif"):
        refused(cli("stylize", photo, other, "--style", "red-hill", "-o", tmp_path / name), "2 photographs", "folder")
    refused(cli("stylize", photo, other, "--style", "red-hill", "-o", "-"), "folder")


@pytest.mark.parametrize("words", [["sheet"], ["compare", "--style", "udnie"], ["optimize", "PAINTING"]], ids=lambda w: w[0])
def test_a_folder_where_one_photograph_is_meant_is_told_to_be_one(cli, photo, tmp_path, words):
    """Whatever -o is: told that two photographs do not fit into a file, one would give a folder."""
    make_photo(photo.parent / "other.jpg")
    verb, *more = [photo if word == "PAINTING" else word for word in words]
    for out in (tmp_path / "out.png", f"{tmp_path}/out/"):
        refused(cli(verb, photo.parent, *more, "-o", out), "is a folder; give one photograph")


def test_an_input_is_never_overwritten_through_another_mount_of_its_folder(cli, photo, tmp_path, monkeypatch):
    mounted, stat = tmp_path / "mounted", os.stat
    mounted.mkdir()
    monkeypatch.setattr(os, "stat", lambda path, **k: stat(photo.parent if str(path) == str(mounted) else path, **k))
    for out in (mounted / photo.name, f"{mounted}/"):
        refused(cli("stylize", photo, "--style", "red-hill", "-o", out), "is an input and would be overwritten")


def test_an_input_is_never_overwritten(cli, photo, tmp_path):
    before = photo.read_bytes()
    links = [tmp_path / "link.jpg"] if os.name != "nt" else []  # where links need rights
    for link in links:
        link.symlink_to(photo)
    for out in (photo, *links, f"{tmp_path}/", f"{tmp_path}/../{tmp_path.name}/photo.jpg"):
        refused(cli("stylize", photo, "--style", "red-hill", "-o", out), "would be overwritten")
    other = make_photo(tmp_path / "other" / "photo.jpg", seed=1)
    refused(cli("stylize", other, photo, "--style", "red-hill", "-o", tmp_path), "would be overwritten")
    painting = make_photo(tmp_path / "painting.jpg", seed=2)
    refused(cli("stylize", photo, "--style-image", painting, "-o", painting), "would be overwritten")
    refused(cli("sheet", photo, "-o", photo), "would be overwritten")
    assert photo.read_bytes() == before
    # beside the photograph, in another format, there is room
    assert cli("stylize", photo, "--style", "red-hill", "-o", tmp_path, "--format", "png").code == 0
    assert (tmp_path / "photo.png").exists() and photo.read_bytes() == before


# ---- stylize: several photographs --------------------------------------------------------------


def test_several_go_to_a_folder_and_keep_their_kind(cli, tmp_path):
    names = ["a.jpg", "b.png", "c.bmp", "d.WEBP"]
    photos = [make_photo(tmp_path / name) for name in names]
    result = cli("stylize", *photos, "--style", "red-hill", "-o", tmp_path / "new" / "out")
    assert result.code == 0
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == ["a.jpg", "b.png", "c.png", "d.WEBP"]
    assert [line.split()[0] for line in result.out.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]


def test_a_folder_means_the_pictures_right_in_it(cli, tmp_path):
    folder = tmp_path / "photos"
    make_photo(folder / "b.png"), make_photo(folder / "a.jpg"), make_photo(folder / "deeper" / "c.jpg")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.jpg").write_text("not a picture either")
    result = cli("stylize", folder, "--style", "red-hill", "-o", tmp_path / "out", "--json")
    assert [Path(row["input"]).name for row in json.loads(result.out)] == ["a.jpg", "b.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg", "b.png"]


def test_films_and_raw_files_of_a_folder_are_told_to_be_left_out(cli, tmp_path):
    make_photo(tmp_path / "photos" / "a.jpg")
    for name in ("clip.mp4", "b.NEF", "notes.txt"):
        (tmp_path / "photos" / name).write_bytes(b"")
    words = "stylize", tmp_path / "photos", "--style", "red-hill", "-o", tmp_path / "out"
    result = cli(*words)
    raw, film = result.err.splitlines()
    assert result.code == 0 and "1 raw file (.nef) left out" in raw and "1 film (.mp4) left out; stylenorm video" in film
    assert cli(*words, "--quiet").err == ""


def test_a_folder_holds_every_kind_of_photograph_that_is_read(cli, tmp_path):
    folder, skipped = tmp_path / "photos", {".heic", ".heif", ".hif", ".psd"}  # Pillow writes none of them
    for suffix in sorted(PHOTOGRAPHS - skipped):
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM"}.get(suffix)
        make_photo(folder / f"{suffix[1:]}{suffix}", format=kind or Image.registered_extensions()[suffix])
    (folder / "psd.PSD").write_bytes(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 9, 8, 3) + bytes(14 + 3 * 8 * 9))
    result = cli("stylize", folder, "--style", "red-hill", "-o", tmp_path / "out", "--json")
    rows = json.loads(result.out)
    assert result.code == 0 and len(rows) == len(PHOTOGRAPHS) - len(skipped) + 1
    kinds = {path.name: Image.open(path).format for path in (tmp_path / "out").iterdir()}
    assert kinds["jfif.jfif"] == kinds["jpe.jpe"] == "JPEG" and kinds["psd.png"] == kinds["j2k.png"] == "PNG"


def test_one_photograph_goes_into_a_folder_that_is_there_or_ends_in_a_slash(cli, photo, tmp_path):
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "there", f"{tmp_path}/new/"):
        assert cli("stylize", photo, "--style", "red-hill", "-o", out).code == 0
        assert (Path(out) / "photo.jpg").exists()


def test_results_of_one_name_all_survive(cli, tmp_path):
    photos = [
        make_photo(tmp_path / where, seed=i) for i, where in enumerate(["x/a.jpg", "y/a.jpg", "x/a.png", "x/a-2.jpg", "z/A.jpg"])
    ]
    result = cli("stylize", *photos, "--style", "red-hill", "-o", tmp_path / "out", "--format", "png", "--json")
    rows = json.loads(result.out)
    assert [Path(r["output"]).name for r in rows] == ["a.png", "a-2.png", "a-3.png", "a-2-2.png", "A-4.png"]
    painted = {pixels(r["output"]).tobytes() for r in rows}
    assert len(painted) == len(photos), "each holds a photograph of its own"


def test_thousands_of_photographs_are_planned_in_a_moment(tmp_path):
    """20,000 took a minute and a half, for each had all names before it put together anew."""

    class Names(set):
        def __or__(self, other):
            raise AssertionError("all names are gone through for each photograph")

    inputs, taken = Names(), Names()
    names = [jobs.free_name(tmp_path, Path(folder, "a.jpg"), None, inputs, taken).name for folder in ("x", "y", "z")]
    assert names == ["a.jpg", "a-2.jpg", "a-3.jpg"]


def test_names_that_differ_in_how_an_accent_is_composed_are_one(tmp_path):
    """On a Mac they are: the second painting would be written over the first one, or over the photograph."""
    composed, decomposed = (unicodedata.normalize(form, "Café.jpg") for form in ("NFC", "NFD"))
    photos = [str(make_photo(tmp_path / where)) for where in (f"x/{composed}", f"y/{decomposed}")]
    first, second = (job.target.name for job in plan(photos, f"{tmp_path}/out/", None))
    assert (first, second) == (composed, decomposed.replace(".jpg", "-2.jpg"))
    with pytest.raises(StylenormError, match="is an input and would be overwritten"):
        plan(photos[:1], str(tmp_path / "x" / decomposed), None)


def test_numbered_results_are_told(cli, tmp_path):
    photos = [make_photo(tmp_path / where) for where in ("x/a.jpg", "y/a.jpg")]
    assert "a-2.jpg" in cli("stylize", *photos, "--style", "red-hill", "-o", tmp_path / "out").out


def test_a_broken_photograph_is_named_and_the_rest_goes_on(cli, tmp_path):
    photos = [make_photo(tmp_path / f"{i}.jpg") for i in range(3)]
    photos[1].write_bytes(b"no picture")
    result = cli("stylize", *photos, "--style", "red-hill", "-o", tmp_path / "out")
    assert result.code == 1
    assert result.err.startswith(f"stylenorm: {photos[1]}") and result.err.count("\n") == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.jpg", "2.jpg"]
    assert [line.split()[0] for line in result.out.splitlines()] == ["1/3", "3/3"]


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 half a JPEG"])
def test_one_broken_photograph_fails_in_one_line(cli, tmp_path, content):
    (tmp_path / "broken.jpg").write_bytes(content)
    result = cli("stylize", tmp_path / "broken.jpg", "--style", "red-hill", "-o", tmp_path / "out.jpg")
    assert (result.code, result.out) == (1, "")
    assert "broken.jpg" in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "out.jpg").exists()


def test_what_readers_log_of_a_picture_is_not_told_beside_the_sentence(cli, tmp_path, caplog):
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((20, 20, 7), np.uint8), photometric="minisblack", planarconfig="contig")
    result = cli("stylize", tmp_path / "bands.tif", "--style", "red-hill", "-o", tmp_path / "out.jpg")
    assert result.code == 1 and result.err.count("\n") == 1
    assert not caplog.records


def test_json_of_several_tells_what_failed(cli, tmp_path):
    good = make_photo(tmp_path / "good.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = cli("stylize", tmp_path / "broken.jpg", good, "--style", "red-hill:2,blue-tree", "-o", tmp_path / "out", "--json")
    broken, fine = json.loads(result.out)
    assert result.code == 1
    assert "broken.jpg" in broken["error"] and broken["output"] is None
    assert "error" not in fine and Path(fine["output"]).exists() and "red-hill" in fine["style"] and "blue-tree" in fine["style"]


@pytest.mark.skipif(os.name == "nt", reason="file names there are characters")
@pytest.mark.skipif(os.name == "nt", reason="there are no such names")
def test_a_file_name_is_told_in_one_line_and_moves_no_cursor(cli, tmp_path):
    for name in ("a\x1b[31m\nb.jpg", "at 3\u202fPM.jpg"):
        make_photo(tmp_path / "in" / name)
    (tmp_path / "in" / "c\x1b[31m\u202f  d.jpg").write_bytes(b"no picture")
    result = cli("stylize", tmp_path / "in", "--style", "red-hill", "-o", f"{tmp_path}/out/")
    assert len(result.out.splitlines()) == 2 and "\x1b" not in result.out + result.err and result.err.count("\n") == 1
    assert "a?[31m?b.jpg -> " in result.out and "at 3\u202fPM.jpg" in result.out and "c?[31m\u202f  d.jpg" in result.err
    assert "a?[31m?b" in cli("score", *[tmp_path / "in" / "a\x1b[31m\nb.jpg"] * 3, "--no-optimize", "--size", "64").out


def test_a_file_name_that_is_no_text(cli, tmp_path):
    photo = make_photo(tmp_path / "photo.jpg")
    try:
        strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.jpg"))
        photo.rename(strange)
    except (OSError, UnicodeError):
        pytest.skip("this file system wants text")
    result = cli("stylize", strange, "--style", "red-hill", "-o", f"{tmp_path}/out/")
    assert result.code == 0 and len(list((tmp_path / "out").iterdir())) == 1
    strange.write_bytes(b"no picture")
    result = cli("stylize", strange, "--style", "red-hill", "-o", f"{tmp_path}/out/")
    assert result.code == 1 and result.err.count("\n") == 1


# ---- standard input and output -----------------------------------------------------------------


def test_a_pipe_takes_and_gives_bytes_and_nothing_else(weights, stylizer, photo):
    words = ["stylize", "-", "--style", "red-hill", "-o", "-", "--weights", weights, "--backend", "torch", "--device", "cpu"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # on some processors sums depend on them
    result = python("-m", "stylenorm", *words, input=photo.read_bytes(), env=threads)
    assert (result.returncode, result.stderr) == (0, b"")
    image = Image.open(BytesIO(result.stdout))
    assert image.format == "PNG"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(stylizer.stylize(photo, "red-hill")))
    assert result.stdout.endswith(b"IEND\xaeB`\x82"), "the picture's last byte is the last byte"


def piped(weights, source, monkeypatch, capfdbinary, *words) -> tuple[int, bytes, bytes]:
    """The exit code of a command in a pipe, and all that this process writes meanwhile."""
    with monkeypatch.context() as patch, open(source) as file:
        patch.setattr("sys.stdin", file)
        words = ["stylize", "-", "--style", "red-hill", "-o", "-", "--weights", weights, "--backend", "torch", "--device", "cpu", *words]
        return main([str(word) for word in words]), *capfdbinary.readouterr()


def test_a_pipe_gives_the_format_that_it_is_asked_for(weights, photo, monkeypatch, capfdbinary):
    code, out, err = piped(weights, photo, monkeypatch, capfdbinary, "--format", "jpeg")
    assert (code, err) == (0, b"")
    assert Image.open(BytesIO(out)).format == "JPEG" and out.endswith(b"\xff\xd9")


def test_a_library_that_prints_does_not_spoil_the_picture(weights, photo, monkeypatch, capfdbinary):
    paint = Stylizer.stylize
    monkeypatch.setattr(Stylizer, "stylize", lambda *a, **k: print("a word from a library") or paint(*a, **k))
    code, out, err = piped(weights, photo, monkeypatch, capfdbinary)
    assert code == 0 and err == b"a word from a library\n"
    assert out.startswith(b"\x89PNG") and out.endswith(b"IEND\xaeB`\x82")


def test_a_pipe_of_nonsense_fails_in_one_line(weights, tmp_path, monkeypatch, capfdbinary):
    (tmp_path / "nonsense").write_bytes(b"no picture")
    code, out, err = piped(weights, tmp_path / "nonsense", monkeypatch, capfdbinary)
    assert (code, out) == (1, b"")
    assert err.startswith(b"stylenorm: standard input") and err.count(b"\n") == 1


def test_a_picture_and_json_do_not_share_standard_output(cli, photo):
    refused(cli("stylize", photo, "--style", "red-hill", "-o", "-", "--json"), "--json")


@pytest.mark.skipif(os.name == "nt", reason="the shell closes nothing there")
@pytest.mark.parametrize(
    "close, words, told",
    [
        ("<&-", ["stylize", "-", "--style", "red-hill", "-o", "out.png"], b"standard input is closed; send a photograph to it"),
        (">&-", ["stylize", "PHOTO", "--style", "red-hill", "-o", "-"], b"standard output is closed; send it to a file"),
        (">&-", ["generate", "--style", "red-hill", "-o", "-"], b"standard output is closed; send it to a file"),
    ],
)
def test_what_is_closed_is_not_called_a_terminal(weights, photo, tmp_path, close, words, told):
    add_generation(folder := shutil.copytree(weights, tmp_path / "w"))
    words = [str(photo) if word == "PHOTO" else word for word in words]
    command = ["sh", "-c", f'exec "$@" {close}', "sh", sys.executable, "-m", "stylenorm", *words, "--weights", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert ended.returncode == 2 and ended.stderr.startswith(b"stylenorm: " + told) and ended.stderr.count(b"\n") == 1, ended.stderr


def test_standard_streams_that_are_terminals_are_told_to_be(cli, photo, tmp_path, monkeypatch):
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    refused(cli("stylize", "-", "--style", "red-hill", "-o", tmp_path / "out.png"), "standard input is a terminal")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    refused(cli("stylize", photo, "--style", "red-hill", "-o", "-"), "nothing for a terminal")


def test_standard_input_can_be_given_once(cli, tmp_path):
    refused(cli("stylize", "-", "-", "--style", "red-hill", "-o", f"{tmp_path}/out/"), "once")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing is full there")
@pytest.mark.parametrize(
    "unbuffered, words", [("", ["styles"]), ("1", ["styles"]), ("", PAINT), ("1", PAINT), ("", ["sheet", "PHOTO", "-o", "-"])]
)
def test_a_full_disk_behind_standard_output_is_one_sentence(weights, photo, unbuffered, words):
    command = [str(photo) if word == "PHOTO" else word for word in words]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "stylenorm", *command, "--weights", weights], cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert ended.stderr == b"stylenorm: standard output cannot be written (the disk is full); send it to another place\n"
    assert ended.returncode == 1


def test_a_disk_that_takes_a_part_is_given_the_rest(monkeypatch):
    """As where Python does not buffer: what is written is told, and the rest would be missing without a word."""
    got = bytearray()

    def write(data) -> int:
        got.extend(data[:7])
        return len(data[:7])

    monkeypatch.setattr("sys.__stdout__", SimpleNamespace(buffer=SimpleNamespace(write=write, flush=lambda: None)))
    write_out(bytes(range(100)))
    assert got == bytes(range(100))


@pytest.mark.skipif(os.name == "nt", reason="the shell closes nothing there")
def test_closed_standard_streams_are_no_drama(weights):
    command = [sys.executable, "-m", "stylenorm", "styles", "--weights", str(weights)]
    ended = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=ROOT, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    ended = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command, "--no-such"], cwd=ROOT, capture_output=True)
    assert (ended.returncode, ended.stdout) == (2, b""), "an error does not go to standard output instead"


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_drama(weights, unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "stylenorm", "styles", "--json", "--weights", str(weights)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [["styles"], ["stylize", "PHOTO", "--style", "red-hill", "-o", "-"]])
def test_a_reader_that_goes_away_is_no_drama_on_windows_either(cli, photo, monkeypatch, capsys, words):
    """Which calls it an invalid argument."""

    def write(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    gone = SimpleNamespace(buffer=SimpleNamespace(write=write, flush=write), write=write, flush=write, isatty=lambda: False, fileno=lambda: 1)
    monkeypatch.setattr("stylenorm.cli_parts.ON_WINDOWS", True)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone), patch.setattr(sys, "__stdout__", gone)
        result = cli(*(photo if word == "PHOTO" else word for word in words))
    assert (result.code, result.err) == (1, "")


# ---- words to meanings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, meaning",
    [
        ("kiss", ("kiss", 1)), ("kiss:0.5", ("kiss", 0.5)), ("kiss:2", ("kiss", 2)), ("kiss:1e-2", ("kiss", 0.01)),
        ("a:b:3", ("a:b", 3)), ("kiss:", ("kiss:", 1)), ("kiss:much", ("kiss:much", 1)), (":2", (":2", 1)), ("2", ("2", 1)),
        (r"C:\art\kiss.jpg", (r"C:\art\kiss.jpg", 1)), (r"C:\art\kiss.jpg:0.5", (r"C:\art\kiss.jpg", 0.5)),
    ],
)  # fmt: skip
def test_weights_in_words(text, meaning):
    assert weighted(text) == meaning


def test_case_does_not_count_in_a_style_s_name_where_one_alone_is_meant():
    known = ["Kiss", "kiss", "scream"]
    assert [style_named(name, known) for name in ("Kiss", "kiss", "Scream")] == ["Kiss", "kiss", "scream"]
    assert style_named(unicodedata.normalize("NFD", "été"), ["ete", "été"]) == "été", "as it comes from a file's name on a Mac"
    with pytest.raises(StyleError, match="did you mean"):
        style_named("KISS", known[:2] + ["KIss"])


@pytest.mark.skipif(os.name == "nt", reason="no colons in file names there")
def test_a_painting_with_a_colon_in_its_name(tmp_path):
    make_photo(tmp_path / "night.jpg"), make_photo(tmp_path / "plain.jpg")
    (tmp_path / "night.jpg").rename(tmp_path / "night:2")
    assert weighted_file(f"{tmp_path}/night:2") == (tmp_path / "night:2", 1)
    assert weighted_file(f"{tmp_path}/night:2:3") == (tmp_path / "night:2", 3)
    assert weighted_file(f"{tmp_path}/plain.jpg:3") == (tmp_path / "plain.jpg", 3)
    with pytest.raises(StyleError, match="no painting"):
        weighted_file(f"{tmp_path}/plain:3")
    for text, told in ((str(tmp_path), "is a folder;"), (os.devnull, "is neither a file nor a pipe;"), ("", "is empty;")):
        with pytest.raises(StyleError, match=told):
            weighted_file(text)


def test_a_plan_for_a_file_whose_format_cannot_be_written(tmp_path):
    gif = make_photo(tmp_path / "a.gif")
    assert plan([str(gif)], f"{tmp_path}/out/", None)[0].target == tmp_path / "out" / "a.png"


# ---- styles, sheet, bench ----------------------------------------------------------------------


def test_styles_in_a_table(cli, capsys):
    lines = cli("styles").out.splitlines()
    assert lines[0].split() == ["name", "painting", "artist", "year", "file"]
    assert lines[2].split() == ["red-hill", "Red", "Hill", "Jānis", "Krāsa", "1888", "red-hill.safetensors"]
    assert lines[3].split() == ["tall-grass", "tall-grass.safetensors"] and len(lines) == 4


@pytest.mark.parametrize("columns", [40, 24])
def test_a_name_is_told_whole_on_a_narrow_terminal(monkeypatch, capsys, columns):
    """It is there to be typed; 'birch-farmho…' is no style."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show_table(("name", "painting", "file"), [("birch-farmhouse", "Farmhouse with Birch Trees", "birch-farmhouse.safetensors")])
    first = [line.split("  ")[0].strip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines()[1:]]
    assert "".join(first) == "birch-farmhouse" and (columns < 30 or first[0] == "birch-farmhouse")


def test_styles_as_json(cli, weights):
    rows = json.loads(cli("styles", "--json").out)
    file = str(weights / "styles" / "red-hill.safetensors")
    assert rows[1] == {"name": "red-hill", "title": "Red Hill", "artist": "Jānis Krāsa", "year": 1888, "file": file}
    assert [row["name"] for row in rows] == ["blue-tree", "red-hill", "tall-grass"]


def test_styles_where_nothing_but_ascii_prints(weights):
    result = python("-m", "stylenorm", "styles", "--weights", weights, env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0 and b"J\\u0101nis" in result.stdout
    result = python("-m", "stylenorm", "styles", "--json", "--weights", weights, env={"PYTHONIOENCODING": "ascii"})
    assert json.loads(result.stdout)[1]["artist"] == "Jānis Krāsa"


def test_sheet(cli, stylizer, photo, tmp_path):
    result = cli("sheet", photo, "-o", tmp_path / "sheet.png", "--tile", "48", "--columns", "2")
    assert result.code == 0 and "sheet.png" in result.out
    np.testing.assert_array_equal(pixels(tmp_path / "sheet.png"), np.asarray(stylizer.sheet(photo, tile=48, columns=2)))


@pytest.mark.parametrize("side", [32, 96, 300])
def test_a_label_stays_above_its_own_picture(side):
    """And is there, however long it is."""
    tiles = [Image.new("RGB", (side, 40), "red") for _ in range(4)]
    made = sheet(tiles, ["photograph", "a", "portrait-of-somebody-with-a-long-name", "water-lilies"], 4)
    dark = (np.asarray(made.convert("L"))[:BAND] < 128).any(0)
    assert made.size == (4 * (side + GAP) - GAP, 40 + BAND)
    for i in range(4):
        left = i * (side + GAP)
        assert dark[left : left + side].any() and not dark[left + side : left + side + GAP + 3].any()


def test_stills_are_all_that_a_sheet_and_optimize_write(cli, photo, tmp_path):
    for words in (["sheet", photo], ["optimize", photo, make_photo(tmp_path / "painting.png")]):
        result = cli(*words, "-o", tmp_path / "out.gif")
        refused(result, "out.gif does not end in a format (.jpg, .jpeg, .png", "or end a folder in a slash")
        assert ".gif," not in result.err and "--format" not in result.err
    frames = [Image.new("RGB", (60, 44), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert plan([f"{tmp_path}/a.gif"], f"{tmp_path}/out/", None, stills=True)[0].target == tmp_path / "out" / "a.png"


def unpainted(*_, **__):
    raise AssertionError("it was painted")


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_a_sheet_that_its_format_cannot_hold_is_refused_before_it_is_painted(cli, photo, tmp_path, monkeypatch, columns):
    monkeypatch.setitem(formats.LONGEST_SIDE, "jpeg", 106)
    words = "sheet", photo, "-o", tmp_path / "s.jpg", "--columns", columns
    with monkeypatch.context() as patch:
        patch.setattr(Stylizer, "sheet", unpainted)
        result = cli(*words, "--tile", 48)
    assert (result.code, result.out) == (1, "") and result.err.count("\n") == 1
    assert "s.jpg: jpeg holds at most 106 pixels a side, and the picture would have" in result.err
    fitting = [tile for tile in range(1, 107) if max(sheet_size(fitted((60, 44), tile), 4, columns)) <= 106]
    assert result.err.endswith(f"; give --tile {fitting[-1]} or less, other --columns, or write a PNG\n")
    assert fitting == list(range(1, largest_tile((60, 44), 4, columns, 106) + 1))
    if columns == 2:
        assert cli(*words, "--tile", fitting[-1]).code == 0 and max(Image.open(tmp_path / "s.jpg").size) <= 106


def test_a_photograph_too_wide_for_the_format_is_refused_before_it_is_painted(cli, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(formats.LONGEST_SIDE, "webp", 50)
    monkeypatch.setattr(Stylizer, "stylize", unpainted)
    for words in ([], ["--size", 70]):
        result = cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "o.webp", *words)
        assert (result.code, result.out) == (1, "") and "o.webp: webp holds at most 50 pixels a side" in result.err
        assert result.err.endswith("; give --size 50 or less, or write a PNG\n") and result.err.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.setitem(formats.LONGEST_SIDE, "webp", 50)
    assert cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "o.webp", "--size", 50).code == 0


def test_sheet_of_a_broken_photograph(cli, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = cli("sheet", tmp_path / "broken.jpg", "-o", tmp_path / "sheet.png")
    assert (result.code, result.out) == (1, "") and "broken.jpg" in result.err


@pytest.fixture
def fake_bench(monkeypatch):
    """`stylenorm.bench` measured elsewhere: what it was asked, and two rows."""
    asked = {}

    def run_bench(sizes, repeats, **options):
        asked.update(options, sizes=sizes, repeats=repeats)
        return [{"what": "a style", "size": 512, "milliseconds": 12.345, "ratio": 0.5, "reference": "torch"}] * 2

    def run_quality(photos, *options):
        asked.update(quality=(photos, *options[:4]))
        return [{"what": "a style", "size": 512, "content": 1.234, "style": 0.2, "total": 3.234}]

    monkeypatch.setitem(sys.modules, "stylenorm.bench", SimpleNamespace(run_bench=run_bench, run_quality=run_quality))
    return asked


def test_bench(cli, weights, fake_bench):
    result = cli("bench", "--weights", weights, "--size", "64", "--size", "32", "--repeats", "2")
    assert result.code == 0 and "12.3" in result.out and "0.50" in result.out
    assert (fake_bench["sizes"], fake_bench["repeats"], fake_bench["weights"]) == ((64, 32), 2, weights)


def test_bench_as_json(cli, weights, fake_bench):
    rows = json.loads(cli("bench", "--weights", weights, "--json").out)
    assert rows[0]["milliseconds"] == 12.345 and len(rows) == 2
    assert fake_bench["sizes"] == (512, 1024)


def test_bench_of_quality(cli, weights, fake_bench, tmp_path):
    words = ("bench", "--weights", weights, "--photos", tmp_path, "--styles", tmp_path, "--pictures", "2")
    result = cli(*words)
    assert result.code == 0 and "1.23" in result.out and "3.23" in result.out
    assert fake_bench["quality"] == (tmp_path, tmp_path, None, 2, 36)
    assert json.loads(cli(*words, "--json").out)[0]["total"] == 3.234
    assert cli("bench", "--weights", weights, "--photos", tmp_path).code == 2
    assert cli(*words, "--refine", "3").code == 2  # it is about other paintings


def test_bench_measures_one_thing_and_takes_no_option_that_would_do_nothing(cli, weights, fake_bench, photo, tmp_path):
    photos, styles, paintings = (("--" + name, tmp_path) for name in ("photos", "styles", "paintings"))
    for words, told in (
        (("--film", photo, "--plain"), "--film and --plain are measured each by itself; give one of them"),
        (("--each", "--faces", *photos), "--faces and --each"),
        (("--generate", *styles, "--film", photo), "--generate and --film"),
        (("--film", photo, *photos, *styles), "bench takes --styles for --generate or --each or --new-style or quality, not for --film; leave it out"),
        (("--plain", *photos), "takes --photos"),
        (("--generate", *styles, "--peer", sys.executable), "takes --peer for .*, not for --generate"),
        (("--generate", *styles, "--size", "64"), "takes --size for speed, not for --generate"),
        ((*photos, *styles, "--repeats", "9"), "takes --repeats for speed, not for quality"),
        ((*photos, *styles, "--new-style", "--peer", sys.executable), "not for --new-style"),
        ((*photos, *styles, "--names", "red-hill"), "takes --names for --generate or --faces or --new-style, not for quality"),
        ((*photos, *styles, *paintings, "--each"), "takes --paintings for quality, not for --each"),
        (("--pairs", "5"), "takes --pairs for quality, not for speed"),
        ((*photos, *styles, "--pairs", "5"), "--pairs is about --paintings; give a folder of them, or leave it out"),
        ((*photos, *paintings, "--pictures", "5"), "--pictures is about --styles"),
        (("--each", *photos), "give --styles beside --each"),
        (("--faces",), "give --photos beside --faces"),
        (styles, "quality needs --photos"),
    ):
        result = cli("bench", "--weights", weights, *words)
        refused(result)
        assert re.search(told, result.err), result.err
    assert not fake_bench


# ---- train -------------------------------------------------------------------------------------


def words_of(config: TrainConfig) -> list[str]:
    words = []
    for f in fields(TrainConfig):
        value = getattr(config, f.name)
        if value is not None and value != ():
            words += [f"--{f.name.replace('_', '-')}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words


@pytest.fixture
def folders(tmp_path):
    for name in ("photos", "styles"):
        for i in range(2):
            make_photo(tmp_path / name / f"{name}-{i}.jpg", (96, 80), seed=i)
    return tmp_path


def test_a_folder_is_no_painting_and_there_are_pictures_in_it(cli, folders, tmp_path):
    refused(cli("train-style", "mine", folders / "styles"), "is a folder; give the picture")
    refused(cli("optimize", folders / "photos" / "photos-0.jpg", folders / "styles", "-o", tmp_path / "o.png"), "is a folder; give the picture")


def test_a_name_whose_accents_are_apart_as_those_of_files_on_a_mac_is_composed(cli, folders):
    (folders / "own").mkdir()
    (folders / "own" / "café.safetensors").touch()
    words = "train-style", unicodedata.normalize("NFD", "café"), folders / "styles" / "styles-0.jpg", "--folder", folders / "own"
    refused(cli(*words), "there is a style named 'café' already")


def test_a_disk_too_full_for_a_style_is_told_before_minutes_of_training(cli, folders):
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # of a file, as if the disk had no more
    try:
        result = cli("train-style", "mine", folders / "styles" / "styles-0.jpg", "--folder", folders / "new" / "own", "--steps", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused(result, "no style can be written to", "give another --folder")
    assert not (folders / "new").exists()


@pytest.fixture
def fake_train(monkeypatch):
    """`stylenorm.training` that takes no time: what it was asked, and three steps told."""
    asked = {}

    def train(config, resume, progress):
        asked.update(config=config, resume=resume)
        for step in (1, 2, 3):
            progress(
                SimpleNamespace(
                    step=step,
                    steps=3,
                    content=1.0,
                    style=0.25,
                    total=3.5,
                    learning_rate=0.001,
                    images_per_second=4.0,
                    seconds_left=3700.0,
                    broken=("a.jpg is broken",) if step > 1 else (),
                )
            )
            if asked.get("stop") == step:
                raise KeyboardInterrupt
        return Path(config.out) / "network.safetensors"

    monkeypatch.setitem(sys.modules, "stylenorm.training", SimpleNamespace(train=train))
    return asked


def test_every_setting_has_an_option_with_its_default_and_help(cli, folders, fake_train):
    names = [f.name for f in fields(TrainConfig)]
    assert set(SETTINGS) == set(names), "every setting is described, and nothing else is"
    text = cli("train", "--help").out
    for name in names:
        assert f"--{name.replace('_', '-')}" in text
    photos, styles, out = str(folders / "photos"), str(folders / "styles"), str(folders / "run")
    cli("train", "--photos", photos, "--styles", styles, "--out", out)
    assert fake_train["config"] == TrainConfig(photos=photos, styles=styles, out=out)
    assert fake_train["resume"] is False


def test_every_setting_is_passed_on(cli, folders, fake_train):
    save_network(folders / "group.safetensors", Generator(GeneratorConfig((8, 16), (0, 2), "group", 4)), None)
    config = TrainConfig(
        photos=str(folders / "photos"), out=str(folders / "run"), styles=str(folders / "styles"), paintings=str(folders / "styles"),
        vgg="torchvision", init=str(folders / "group.safetensors"), names=("styles-0", "styles-1"), steps=7, batch=3, size=128,
        photo_scales=(130, 140), norm="group", num_groups=4, widths=(8, 16), blocks=(0, 2), seed=5, device="cpu", style_weight=2.5,
    )  # fmt: skip
    done = cli("train", *words_of(config))
    assert done.code == 0 and "--paintings" not in done.out
    assert fake_train["config"] == config


@pytest.mark.parametrize(
    "option, other, told",
    [("--widths", "8,8", "--widths 8,16, not 8,8; leave --widths out, or make it larger with --widen"), ("--blocks", "0,3", "--grow"),
     ("--norm", "instance", "has --norm group, not instance; leave --norm out"), ("--num-groups", "2", "--num-groups 4, not 2")],
)  # fmt: skip
def test_another_shape_than_that_of_init_is_refused(option, other, told, cli, folders, fake_train):
    save_network(folders / "group.safetensors", Generator(GeneratorConfig((8, 16), (0, 2), "group", 4)), None)
    words = ["train", "--photos", folders / "photos", "--styles", folders / "styles", "--out", folders / "run"]
    refused(cli(*words, "--init", folders / "group.safetensors", option, other), told)
    assert not fake_train and cli(*words, "--init", folders / "group.safetensors").code == 0


@pytest.mark.parametrize("text", ["1", "1,2,3", "a,b", ","])
def test_a_pair_of_numbers_is_a_pair_of_numbers(text):
    settings = {f.name: f.default for f in fields(TrainConfig)} | {"photos": "p", "out": "o", "photo_scales": text}
    settings |= {k: ",".join(map(str, v)) for k, v in settings.items() if isinstance(v, tuple)}
    with pytest.raises(StylenormError, match="--photo-scales cannot be"):
        parsed(settings)


def test_lines_of_progress(cli, folders, fake_train):
    result = cli("train", "--photos", folders / "photos", "--styles", folders / "styles", "--out", folders / "run")
    lines = result.out.splitlines()
    assert lines[0] == "step 1/3  loss 3.50 (content 1.00, style 0.250)  4.0 images/s  1 h 02 min left"
    assert lines[1].startswith("step 3/3") and "network.safetensors" in lines[2]
    assert lines[3:] == ["it has learned its named styles alone, at full strength; any painting as the style, and strengths in between, take --paintings"]
    assert result.err == "stylenorm: passed over: a.jpg is broken\n", "each file is named once"


def test_json_lines_of_progress(cli, folders, fake_train):
    result = cli("train", "--photos", folders / "photos", "--styles", folders / "styles", "--out", folders / "run", "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row.get("step") for row in rows] == [1, 2, 3, None]
    assert rows[0]["total"] == 3.5 and rows[-1] == {"network": str(folders / "run" / "network.safetensors")}


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    record = SimpleNamespace(
        step=2, steps=4, content=1.0, style=0.2, total=3.0, images_per_second=5.0, seconds_left=30.0, broken=()
    )
    with watching(False) as watch:
        watch(record)
    out = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "step 2/4" in out and "loss 3.00" in out and "5.0 images/s" in out and "30 s left" in out


def test_the_losses_of_a_line_are_means_over_the_same_steps_of_one_run(capsys):
    with watching(False) as watch:
        for step, content, style in ((1, 4.0, 0.9), (2, 2.0, 0.1), (1, 1.0, 0.3), (2, 3.0, 0.1)):  # of two runs
            record = {"step": step, "steps": 2, "content": content, "style": style, "total": content + 10 * style}
            watch(SimpleNamespace(**record, images_per_second=5.0, seconds_left=30.0, broken=()))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step 2/2")]
    assert "loss 8.00 (content 3.00, style 0.500)" in lines[0] and "loss 4.00 (content 2.00, style 0.200)" in lines[1]


@pytest.mark.parametrize(
    "seconds, text", [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h 00 min"), (9000, "2 h 30 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_ctrl_c_tells_how_to_go_on(cli, folders, fake_train):
    words = ["train", "--photos", folders / "photos", "--styles", folders / "styles", "--out", folders / "run"]
    fake_train["stop"] = 2
    result = cli(*words)
    assert result.code == 130 and result.err.splitlines()[-1] == "stylenorm: stopped; there was no checkpoint yet"
    (folders / "run").mkdir()
    (folders / "run" / "resume.safetensors").write_bytes(b"")
    result = cli(*words, "--resume")
    assert fake_train["resume"] is True
    assert result.code == 130 and "--resume" in result.err.splitlines()[-1] and "Traceback" not in result.err


SMALL = (
    "--steps 4 --batch 1 --size 64 --style-size 64 --photo-scales 64,80 --widths 8,16 --blocks 0,1 "
    "--checkpoint-every 2 --sample-every 4 --device cpu"
).split()  # fmt: skip


def test_a_real_run_gives_weights_that_stylize(cli, folders, photo, tmp_path):
    words = ["train", "--photos", folders / "photos", "--styles", folders / "styles", "--out", folders / "run", *SMALL]
    result = cli(*words, "--json")
    assert result.code == 0, result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row.get("step") for row in rows] == [1, 2, 3, 4, None]
    assert Path(rows[-1]["network"]).exists()
    refused(cli(*words), "--resume")  # a run is never begun over another
    result = cli(*words, "--resume", "--steps", "2")
    assert result.code == 0 and "is done already, after 4 steps" in result.out and "wrote" not in result.out
    result = cli("stylize", photo, "--weights", folders / "run", "--style", "styles-1", "-o", tmp_path / "out.jpg")
    assert result.code == 0, result.err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent differently there")
def test_a_real_ctrl_c_and_a_real_resume(cli, folders):
    words = ["train", "--photos", folders / "photos", "--styles", folders / "styles", "--out", folders / "run", *SMALL]
    words[words.index("--steps") + 1] = "100000"
    process = subprocess.Popen(
        [sys.executable, "-m", "stylenorm", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    state = folders / "run" / "resume.safetensors"
    for _ in range(600):
        if state.exists() or process.poll() is not None:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert err.decode().splitlines()[-1].endswith("--resume goes on from the last checkpoint") and b"Traceback" not in err


# ---- what stops everything ---------------------------------------------------------------------


def test_ctrl_c_elsewhere_is_quiet(cli, photo, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("stylenorm.engine.Stylizer.stylize", stop)
    result = cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "out.jpg")
    assert result.code == 130 and "Traceback" not in result.err


@pytest.mark.parametrize("verb", ["train-style", "optimize", "compare"])
def test_ctrl_c_while_torch_is_imported_is_quiet(verb, cli, folders, monkeypatch):
    """Of one in the midst of its import, it makes a RecursionError."""

    def taken(name):
        if name == "__path__":
            raise AttributeError
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RecursionError from None

    words, module = {
        "train-style": (["mine", folders / "styles" / "styles-0.jpg", "--folder", folders / "own"], "new_style"),
        "optimize": ([folders / "photos" / "photos-0.jpg", folders / "styles" / "styles-0.jpg", "-o", folders / "o.png"], "optimizing"),
        "compare": (["--train", "--photos", folders / "photos", "--styles", folders / "styles", "-o", folders / "c"], "compare_training"),
    }[verb]
    half = ModuleType("half")
    half.__getattr__ = taken
    monkeypatch.setitem(sys.modules, f"stylenorm.{module}", half)
    result = cli(verb, *words)
    assert (result.code, result.out) == (130, "") and "Error" not in result.err
    assert sorted(p.name for p in folders.iterdir()) == ["photos", "styles"]


@pytest.mark.parametrize("verb", ["bench", "compare", "export", "generate", "lab", "score", "styles", "stylize"])
def test_a_ctrl_c_that_torch_makes_something_else_of_is_quiet(verb, cli, folders, weights, monkeypatch):
    class Torch:
        """Finds a torch in whose import somebody presses Ctrl-C."""

        def find_spec(self, name, path, target=None):
            return ModuleSpec(name, self) if name == "torch" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RecursionError from None

    photo, painting = folders / "photos" / "photos-0.jpg", folders / "styles" / "styles-0.jpg"
    words = {
        "bench": [],
        "compare": [photo, "--style", "kiss", "-o", folders / "o.png"],
        "export": ["--format", "torchscript", "-o", folders / "o.pt"],
        "generate": ["--style", "kiss", "-o", folders / "o.png"],
        "lab": ["--out", folders / "lab"],
        "score": [photo, painting, photo],
        "styles": ["add", weights / "styles" / "red-hill.safetensors", "--name", "mine"],
        "stylize": [photo, "--style", "red-hill", "-o", folders / "o.png"],
    }[verb]
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Torch(), *sys.meta_path])
    result = cli(verb, *words)
    assert (result.code, result.out) == (130, "") and "Error" not in result.err
    assert not list(folders.glob("o.*"))


def test_ctrl_c_before_the_command_line_is_there_is_quiet(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "stylenorm", "styles"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


BUSY = """
import sys, threading, time
from stylenorm import cli, plain
def stop(*_):
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise KeyboardInterrupt
plain.plain_stylizer = stop
sys.exit(cli.main())
"""


@pytest.mark.parametrize("verb", ["stylize", "sheet", "batch"])
def test_ctrl_c_waits_for_no_thread(photo, weights, tmp_path, verb):
    places = [photo.parent, tmp_path / "out", "--quiet"] if verb == "batch" else [photo, "-o", tmp_path / "out.jpg"]
    words = [verb, *places, "--weights", weights, *([] if verb == "sheet" else ["--style", "red-hill"])]
    command = [sys.executable, "-c", BUSY, *map(str, words)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=40)
    told = "stylenorm: stopped; the same command goes on\n" if verb == "batch" else ""
    assert (done.returncode, done.stdout, done.stderr) == (130, "", told)


def test_ctrl_c_while_a_class_is_made_is_quiet(cli, photo, tmp_path, monkeypatch):
    """What a module is imported for: Python before 3.12 calls it a RuntimeError."""

    def stop(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error

    monkeypatch.setattr("stylenorm.cli.lean_stylizer", stop)
    result = cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "out.jpg")
    assert (result.code, result.err) == (130, "")


def test_ctrl_c_while_the_verbs_are_read_is_quiet(cli, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("stylenorm.cli.add_the_others", stop)
    assert cli("batch").code == 130


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")])
def test_too_little_memory_is_told(cli, photo, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("stylenorm.engine.Stylizer.stylize", fail)
    result = cli("stylize", photo, "--style", "red-hill", "-o", tmp_path / "out.jpg")
    assert result.code == 1 and str(photo) in result.err and "memory" in result.err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(cli, photo, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    refused(cli("stylize", photo, "--style", "red-hill", "-o", f"{locked}/new/"), str(locked))


@pytest.mark.parametrize("words", [["stylize", "--style", "red-hill"], ["sheet"]])
def test_what_may_not_be_written_is_told_before_the_work(cli, photo, tmp_path, monkeypatch, words):
    """Also where the user may write, as root may, but the file system is read-only."""
    locked, file = tmp_path / "locked", make_photo(tmp_path / "old.png")
    locked.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **k: Path(path) not in (locked, file) and access(path, mode, **k))
    monkeypatch.setattr("stylenorm.cli.lean_stylizer", unpainted)
    for out in (locked / "a.png", f"{locked}/", file):
        result = cli(words[0], photo, *words[1:], "-o", out)
        refused(result, "may not be written; change the permissions or the place")


@pytest.mark.skipif(os.name == "nt", reason="names are counted otherwise there")
@pytest.mark.parametrize(
    "words",
    ["stylize LONG --style red-hill -o o.jpg", "stylize PHOTO --style-image LONG -o o.jpg", "stylize PHOTO --style red-hill --mask LONG -o o.jpg",
     "stylize PHOTO --style red-hill -o LONG/o.jpg", "styles --weights LONG", "batch LONG out --style kiss", "video LONG o.mp4 --style kiss",
     "train --photos LONG --styles LONG --out o", "train-style new LONG", "score LONG PHOTO PHOTO", "sheet LONG -o o.png"],
)  # fmt: skip
def test_what_the_system_does_not_let_look_at_is_not_said_to_be_missing(cli, photo, words, tmp_path, monkeypatch):
    """As in a folder that one may not look into: Python 3.14 takes all of it for missing. (Root may look anywhere.)"""
    monkeypatch.chdir(tmp_path)
    result = cli(*({"LONG": "x" * 300, "PHOTO": photo}.get(word, word.replace("LONG", "x" * 300)) for word in words.split()))
    assert result.code == 2 and result.err.count("\n") == 1
    assert "File name too long" in result.err and "there is no" not in result.err and "not exist" not in result.err


@pytest.mark.skipif(os.name == "nt", reason="names are counted otherwise there")
def test_a_name_that_is_too_long_with_the_suffix_of_a_format_is_told_and_the_rest_goes_on(cli, tmp_path):
    long, _ = (make_photo(tmp_path / "in" / name) for name in (f"{'a' * 251}.jpg", "b.jpg"))
    paint = ("--style", "red-hill", "--format", "webp", "-o", f"{tmp_path}/out/")
    result = cli("stylize", tmp_path / "in", *paint)
    assert result.code == 1 and "File name too long" in result.err and result.err.count("\n") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.webp"]
    refused(cli("stylize", long, *paint), "File name too long", "another name")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there are no such devices")
def test_a_device_is_written_where_its_folder_may_not_be(monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **k: str(path) != "/dev" and access(path, mode, **k))
    assert jobs.may_be_written(Path("/dev/null")) and not jobs.may_be_written(Path("/dev/new.png"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_anywhere_is_one_sentence(cli, photo, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("stylenorm.cli.style_entries", fail)
    refused(cli("sheet", photo, "-o", tmp_path / "s.png"), "more memory than there is")
    monkeypatch.setattr("stylenorm.cli.style_entries", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("sheet", photo, "-o", tmp_path / "s.png")


def test_a_verb_of_this_module_reads_no_other():
    code = """
import sys
from stylenorm.cli import add_the_others, app, main
words = sys.argv[1:]
main(words)
found = [name for name in sys.modules if name.startswith("stylenorm.cli_") and name != "stylenorm.cli_parts"]
sys.exit(f"{words}: {found}" if found else 0)
"""
    result = python("-c", code, "stylize", "--help")
    assert result.returncode == 0, result.stderr


def test_a_command_that_ends_its_process_does_not_look_for_garbage_first():
    asks = (
        "import gc, sys; from stylenorm.cli import main; n = gc.get_freeze_count(); {} "
        "sys.argv = ['stylenorm', '--version']; main({}); print(gc.get_freeze_count() > n)"
    )
    loaded = "sys.modules['triton'] = sys;"  # which writes thirty lines about what it was not asked to give back
    another = "['--version']"  # another program's arguments, whose process goes on
    for before, arguments, frozen in (("", "", "True"), ("", another, "False"), (loaded, "", "False")):
        run = subprocess.run([sys.executable, "-c", asks.format(before, arguments)], capture_output=True, text=True, check=True)
        assert run.stdout.split()[-1] == frozen


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_without_torch_photographs_are_painted_and_all_else_says_what_is_missing(weights, photo, tmp_path):
    def run(*commands) -> subprocess.CompletedProcess:
        """The last of ``commands`` as the process that it ends, the others before it."""
        code = """
import json, sys
sys.modules["torch"] = None
from stylenorm import predicting
predicting.STYLE_SIZE = 64  # px, at which a photograph is read as a painting is, which at 384 takes far longer than to paint it
from stylenorm.cli import add_the_others, app, main
*before, sys.argv[1:] = json.loads(sys.argv[1])
for words in before:
    assert main(words) == 0, words
sys.exit(main())
"""
        words = json.dumps([[str(word) for word in command] for command in commands])
        return subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True)

    def painting(name, *words) -> list:
        return ["stylize", photo, "-o", tmp_path / name, "--style", "red-hill", "--weights", weights, *words]

    (folder := tmp_path / "folder").mkdir()
    Image.new("RGB", (40, 30), (20, 60, 160)).save(folder / "sky.png")
    shutil.copy(photo, folder)
    deep = np.linspace(0, 65535, 40 * 30 * 3).astype(np.uint16).reshape(30, 40, 3)
    for name in ("deep.png", "deep.tif"):
        write_picture(rewrap(read_picture(deep), deep), folder / name)
    frames = [Image.open(photo).convert("RGB").rotate(angle) for angle in (0, 2, 4)]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=80)
    half = painting("b.png", "--strength", "0.5")
    any_style = painting("c.png", "--style-image", f"{photo}:2", "--style-size", "64", "--preserve-color")
    several = ["stylize", folder, "-o", tmp_path / "all", "--style", "red-hill", "--weights", weights]
    done = run(half, ["sheet", photo, "-o", tmp_path / "s.png", "--weights", weights], several, any_style)
    assert done.returncode == 0 and (tmp_path / "s.png").is_file(), done.stderr
    assert all(Image.open(tmp_path / "all" / f"moving.{suffix}").n_frames == 3 for suffix in ("gif", "webp", "png"))
    assert all(read_picture(tmp_path / "all" / name).deep is not None for name in ("deep.png", "deep.tif"))
    many = ["batch", folder, tmp_path / "many", "--style", "red-hill", "--style-image", photo, "--strength", "0.5", "--weights", weights]
    assert run(many).returncode == 0
    assert sum(p.is_file() for p in (tmp_path / "many").rglob("*.*")) == 2 * len(list(folder.iterdir())) + 1, "and the manifest"
    assert run(painting("a.png")).returncode == 0
    for name in ("a.png", "b.png", "c.png"):
        assert Image.open(tmp_path / name).size == Image.open(photo).size
    ended = run(painting("d.png", "--refine", "1", "--style-image", photo))
    assert ended.returncode == 2 and ended.stderr.startswith("stylenorm: this needs torch, which is not installed")
    assert len(ended.stderr.splitlines()) == 1 and not (tmp_path / "d.png").exists()


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_without_torch_a_photograph_for_strips_is_named_and_the_rest_goes_on(weights, photo, tmp_path):
    (folder := tmp_path / "folder").mkdir()
    make_photo(folder / "a-large.jpg", (600, 400))
    shutil.copy(photo, folder / "b.jpg")
    code = "import sys; sys.modules['torch'] = None; from stylenorm.cli import main; sys.exit(main())"
    words = ["stylize", folder, "-o", tmp_path / "out", "--style", "red-hill", "--weights", weights, "--memory", "0.01"]
    ended = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1
    assert "a-large.jpg has 0 megapixels" in ended.stderr and "in strips it takes PyTorch, which is not installed" in ended.stderr
    side = int(ended.stderr.split("--paint-at ")[1].split()[0])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.jpg"] and 100 < side < 600
    assert subprocess.run([sys.executable, "-c", code, *map(str, words), "--paint-at", str(side)]).returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
@pytest.mark.parametrize("file", ["vgg16.safetensors", "network.safetensors", "styles/red-hill.safetensors"])
def test_without_torch_a_damaged_file_is_told_to_be_damaged(tmp_path, weights, photo, file):
    shutil.copytree(weights, tmp_path / "w")
    if file == "vgg16.safetensors":
        (tmp_path / "w" / file).write_bytes(b"nothing")
    else:
        data = bytearray((tmp_path / "w" / file).read_bytes())
        data[-1] ^= 1
        (tmp_path / "w" / file).write_bytes(data)
    code = "import sys; sys.modules['torch'] = None; from stylenorm.cli import main; sys.exit(main())"
    words = ["stylize", photo, "-o", tmp_path / "a.png", "--style", "red-hill", "--weights", tmp_path / "w"]
    words += ["--style-image", photo] if file == "vgg16.safetensors" else []
    ended = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    told = "does not hold VGG-16's features" if file == "vgg16.safetensors" else "is damaged"
    assert f"{tmp_path / 'w' / file} {told}" in ended.stderr
