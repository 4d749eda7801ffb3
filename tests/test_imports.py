"""One-way imports: a module may import only modules of a lower level. Imports inside functions count, too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stylenorm

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "stylenorm"

# The main line is functional -> layers -> generator -> style -> checkpoint -> catalog -> engine -> training -> cli.
LEVELS = {
    "errors": 0, "compat": 0, "formats": 0,
    "architecture": 1, "machine": 1, "stored": 12, "compiled": 4, "graph": 5, "predicting": 15, "plain": 69,
    "metadata": 10, "config": 10, "device": 10, "masks": 11, "spill": 10, "progress": 10, "completing": 10, "fused": 8, "functional": 10, "scripted": 10,
    "bands": 3, "behind": 4, "tensors": 3, "exif": 3, "modes": 3, "profiles": 5, "colour": 6, "depth": 5, "psds": 5, "resources": 5, "stills": 6, "tiffs": 6, "xmp": 6, "composing": 7, "decode": 8, "encode": 9, "images": 10,
    "layers": 20, "swapping": 25, "perceptual": 20, "data": 20, "plots": 20, "detail": 20,
    "generator": 30,
    "style": 40, "ranges": 45,
    "checkpoint": 50,
    "catalog": 60, "backends": 60, "tiling": 60, "faces": 62, "poses": 62, "witnesses": 63, "people": 64, "jobs": 66,
    "grain": 5, "grain_traced": 10, "denoising": 10, "flow": 10, "bars": 10, "hdr": 4, "steady": 65, "flat": 65, "engine": 70,
    "drafts": 2, "kept": 12, "animation": 65, "places": 10, "manifest": 15, "tree": 68, "batch_steps": 70, "batch": 75, "batch_ray": 78, "export": 75, "video_files": 67, "mattes": 69, "video": 77,
    "settling": 35, "muon": 15, "noise": 11, "colors": 5, "layouts": 10, "noise_training": 81, "generating": 75, "walking": 66, "bench_generate": 90, "bench_style": 90, "refining": 55,
    "growing": 75, "training_model": 76, "training_state": 76, "training_logs": 76, "training": 80, "new_style": 80, "optimizing": 80,
    "scoring": 85,
    "bench": 90, "bench_table": 90, "bench_film": 90, "bench_plain": 90, "bench_faces": 90,
    "comparing": 75, "compare_training": 90,
    "lab_names": 5, "lab_result": 5, "lab_plots": 10, "lab_page": 10, "lab_layers": 25,
    "lab_moments": 30, "lab_epsilon": 30, "lab_gradients": 30, "lab_batch": 30, "lab_running": 30, "lab_descent": 30,
    "lab_style": 80, "lab": 90,
    "__init__": 100,  # its names are looked up when they are used, so it stands above what it names
    "cli_bench": 110, "cli_parts": 110, "cli_show": 115, "cli_train": 120, "cli_batch": 120, "cli_export": 120, "cli_judge": 120, "cli_compare": 120,
    "cli_generate": 125, "cli_lab": 120, "cli_mask": 127, "cli_video": 125, "cli": 130,
    "__main__": 140,
}  # fmt: skip


def imported(source: str, inside: bool = True) -> set[tuple[str, str]]:
    """(module, name) of everything that ``source`` imports from stylenorm; the package itself is "__init__".

    inside: the source lies in the package, so that its relative imports are imports of it.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "stylenorm":
                    found.add((rest.split(".")[0] or "__init__", ""))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level and not inside:
                continue
            if node.level:  # every module lies right in the package, so one dot is the package
                module = f"stylenorm.{module}".rstrip(".")
            top, _, rest = module.partition(".")
            if top != "stylenorm":
                continue
            for alias in node.names:
                if rest:
                    found.add((rest.split(".")[0], alias.name))
                else:
                    found.add((alias.name, "") if alias.name in LEVELS else ("__init__", alias.name))
    return found


def wrong_arrows(name: str, source: str) -> list[str]:
    return [
        f"{name} (level {LEVELS.get(name)}) imports {module} (level {LEVELS.get(module)})"
        for module in sorted({module for module, _ in imported(source)})
        if not LEVELS.get(module, 10**6) < LEVELS.get(name, 0)
    ]


def test_every_module_has_a_level():
    assert {p.stem for p in PACKAGE.glob("*.py")} <= set(LEVELS), (
        "give the new module a level, between what it uses and what uses it"
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.stem)
def test_imports_point_one_way(path):
    assert wrong_arrows(path.stem, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "name, source",
    [
        ("layers", "from stylenorm.generator import Generator"),
        ("functional", "from .layers import BatchNorm2d"),
        ("style", "def f():\n    from stylenorm import engine"),
        ("engine", "import stylenorm.cli"),
        ("images", "from stylenorm import Stylizer"),
        ("generator", "from . import style"),
        ("layers", "from stylenorm.layers import BatchNorm2d"),
        ("layers", "from stylenorm.no_such_module import x"),
    ],
)
def test_a_wrong_way_arrow_is_found(name, source):
    assert len(wrong_arrows(name, source)) == 1


def test_a_right_way_arrow_and_other_packages_are_not_found():
    source = (
        "import os, torch\nfrom stylenorm.errors import StyleError\nfrom .functional import moments\nfrom stylenormal import x"
    )
    assert wrong_arrows("layers", source) == []


def test_type_checkers_and_editors_know_every_public_name_and_where_it_is_from():
    told = imported((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    assert told == {(module, name) for module, names in stylenorm._HOME.items() for name in names}
    assert (PACKAGE / "py.typed").exists(), "without which they read no annotation of an installed package"


def not_public(source: str) -> list[str]:
    """What ``source`` imports from stylenorm that has an underscore, or that is in no list of public names."""
    return [
        f"{name or module} of stylenorm.{module}"
        for module, name in sorted(imported(source, inside=False))
        if module.strip("_") == "cli" or name.startswith("_") or (module == "__init__" and name not in {"", *stylenorm.__all__})
    ]


def test_the_app_uses_public_names_only():
    files = sorted((ROOT / "app").rglob("*.py"))
    if not files:
        pytest.skip("there is no app/ yet")
    assert [(path.name, name) for path in files for name in not_public(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source", ["from stylenorm.engine import _too_large", "from stylenorm import nothing", "import stylenorm.cli"]
)
def test_a_private_name_is_found(source):
    assert len(not_public(source)) == 1
    assert not_public("from stylenorm import Stylizer\nfrom stylenorm.images import read_picture\nimport stylenorm") == []
