"""What users are told: commands, files and options that the documents name are there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
import operator
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
from safetensors import safe_open

import stylenorm
from stylenorm import cli
from stylenorm.cli_parts import StyleSize
from stylenorm.errors import EXTRAS, how_to_install
from stylenorm.predicting import STYLE_SIZE
from stylenorm.style import StyleLike

ROOT = Path(__file__).parent.parent
DOCUMENTS = "README.md", "BENCHMARKS.md", "docs/normalization.md", "weights/README.md", "examples/README.md"
COMMAND = re.compile(r"^(?:\w+=\S+ )?(?:/usr/bin/time -v |time )?stylenorm (.+)")


def commands(text: str) -> list[str]:
    """The arguments of every whole command: lines of blocks, and what stands between backticks."""
    text = re.sub(r"\\\n\s*", " ", text)
    if start := re.search(r'^train="(.*)"$', text, re.M):
        text = text.replace("$train", start[1])
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [line for block in blocks for line in block.splitlines()] + [" ".join(span.split()) for span in spans]
    found = [match[1] for line in lines if (match := COMMAND.match(line))]
    return [words for words in found if " " in words and "..." not in words and "--help" not in words]


def problem(line: str) -> str | None:
    """What the command line would refuse of a command before it starts."""
    cli.add_the_others()
    command, words, name = typer.main.get_command(cli.app), shlex.split(line, comments=True), "stylenorm"
    if words[0].startswith("-"):
        return None
    while words and words[0] in getattr(command, "commands", ()):
        name = words.pop(0)
        command = command.commands[name]
    try:
        command.make_context(name, words)
    except typer.BadParameter.__base__ as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_the_documents_is_understood(document):
    told = {line: problem(line) for line in commands((ROOT / document).read_text(encoding="utf-8"))}
    assert not {line: wrong for line, wrong in told.items() if wrong}
    assert len(told) > 20 or document != "README.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_the_documents_leads_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https:")]
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def test_what_extras_bring_is_told_as_pyproject_has_it():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra, packages in EXTRAS.items():
        listed = re.search(rf"^{extra} = \[(.*)\]", text, re.M)[1]
        assert re.findall(r'"([\w-]+)', listed) == packages.split()


def test_an_extra_is_installed_where_stylenorm_is_and_without_torch_if_that_was_left_out(monkeypatch):
    """`pip install "stylenorm[video]"` would bring PyTorch, gigabytes of it, and another environment's pip knows no stylenorm."""
    beside = str(Path(sys.executable).parent / "pip")
    monkeypatch.setattr(shutil, "which", lambda name: beside)
    assert how_to_install("video") == 'pip install "stylenorm[video]"'
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert how_to_install("video") == "pip install av opencv-python-headless"
    monkeypatch.setattr(shutil, "which", lambda name: "/elsewhere/pip")
    assert how_to_install("heic").endswith("-m pip install pillow-heif") and sys.executable in how_to_install("heic")


def verbs(group, path: str = "") -> dict:
    """{path: command} of all that can be called."""
    found = {}
    for name, command in group.commands.items():
        found[f"{path} {name}".strip()] = command
        if hasattr(command, "commands"):
            found |= verbs(command, f"{path} {name}".strip())
    return found


def test_the_usage_shows_which_arguments_may_be_several():
    """A typer.Argument that has a metavar shows that alone."""
    cli.add_the_others()
    several = {}
    for path, command in verbs(typer.main.get_command(cli.app)).items():
        for argument in command.params:
            if argument.param_type_name == "argument":
                assert argument.metavar.endswith("...") == (argument.nargs == -1), path
                several |= {path: argument.metavar} if argument.nargs == -1 else {}
    assert {"stylize", "score", "lab", "train-style", "styles renew"} <= set(several)


def test_the_default_of_style_size_is_told():
    assert f"else {STYLE_SIZE}:" in StyleSize.__metadata__[0].help


@pytest.mark.parametrize("file", ["network.safetensors", "generate.safetensors", "compare/KIND/", "vgg16.safetensors"])
def test_the_model_card_tells_how_large_its_networks_are(file):
    row = next(line for line in (ROOT / "weights/README.md").read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{file}`"))
    path = ROOT / "weights" / (f"{file}network.safetensors".replace("KIND", "group") if file.endswith("/") else file)
    size = re.search(r"([\d.]+) MB", row)[1]
    assert float(size) == pytest.approx(path.stat().st_size / 1e6, abs=0.05 if "." in size else 0.5)
    counts = [float(number) for number in re.findall(r"([\d.]+) M\b", row)]
    with safe_open(path, "np") as tensors:
        held = {}
        for key in tensors.keys():
            part = key.partition(".")[0]
            held[part] = held.get(part, 0) + math.prod(tensors.get_slice(key).get_shape()) / 1e6
    assert counts in ([], pytest.approx([held[part] for part in ("generator", "encoder") if part in held], abs=0.051))


def test_the_pictures_of_all_stages_are_as_many_as_the_model_card_says():
    text = (ROOT / "weights/README.md").read_text(encoding="utf-8")
    stages = [int(number.replace(",", "")) for number in re.findall(r"^\| \d+ \| ([\d,]+) \|", text, re.M)]
    assert len(stages) == 16 and f"{sum(stages):,} pictures in all" in text


def test_the_examples_in_python_call_what_there_is():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for node in ast.walk(ast.parse("".join(blocks))):
        if isinstance(node, ast.ImportFrom) and node.module == "stylenorm":
            assert {alias.name for alias in node.names} <= set(stylenorm.__all__)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "stylizer":
            signature = inspect.signature(getattr(stylenorm.Stylizer, node.func.attr))
            signature.bind(None, *node.args, **{keyword.arg: keyword.value for keyword in node.keywords})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_of_the_package_in_the_documents_is_there(document):
    for name in set(re.findall(r"`stylenorm\.([a-z_]+(?:\.\w+)*)", (ROOT / document).read_text(encoding="utf-8"))):
        module, _, rest = name.partition(".")
        if not name.endswith("styles.npz"):
            operator.attrgetter(rest or "__name__")(importlib.import_module(f"stylenorm.{module}"))


def test_the_public_names_say_what_they_take():
    """The package tells type checkers that it is typed, and a strict one complains of each call of what is not."""
    for name in stylenorm.__all__:
        value = getattr(stylenorm, name)
        members = vars(value).items() if inspect.isclass(value) else [(name, value)]
        for member, found in members:
            function = getattr(found, "__func__", found)
            if not inspect.isfunction(function) or (member.startswith("_") and member not in ("__init__", "__call__")):
                continue
            parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
            assert [p.name for p in parameters if p.annotation is p.empty] == [], f"{name}.{member}"


def test_a_blend_may_hold_styles_and_names():
    """Of (Style, weight) and (name, weight) in one list mypy makes (Sequence[Any], weight), which only a type that names itself takes."""
    *_, pairs = get_args(StyleLike)
    assert get_args(get_args(pairs)[0]) == ("StyleLike", float)
