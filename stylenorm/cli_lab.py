"""The verb that shows the theory by numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stylenorm.catalog import vgg_file
from stylenorm.cli_parts import AsJson, path, show_table, verbs
from stylenorm.compat import import_torch
from stylenorm.drafts import remove, write_draft
from stylenorm.errors import StylenormError
from stylenorm.lab_names import CLAIMS, NEEDS_VGG, chosen

app = verbs()


@app.command(
    epilog="""\b
Examples:
  stylenorm lab --list
  stylenorm lab --quick
  stylenorm lab coupling momentum --out theory/
"""
)
def lab(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Experiments, else all of them.")] = None,
    out: Annotated[Path, typer.Option("--out", parser=path, metavar="DIR", help="Folder for index.html and the plots.")] = Path("lab"),
    quick: Annotated[bool, typer.Option("--quick", help="Smaller samples: some 20 s of CPU time instead of 2 to 3 min.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the experiments and stop.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=10**6, help="Seed of all random numbers.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The theory of normalization by numbers: predicted, measured, verdict.

    Each experiment predicts quantities by a formula and measures them on
    this package's layers, on the CPU. Exit code 1 means that one failed.
    """
    wanted = chosen(names or ())
    if listed:
        rows = [(name, CLAIMS[name]) for name in wanted]
        return print(json.dumps(dict(rows), indent=2)) if as_json else show_table(("name", "claim"), rows)
    check(wanted, out)
    import_torch()
    from stylenorm.lab import run_lab, write_lab

    results = []
    for result in run_lab(wanted, quick, seed):
        results.append(result)
        if not as_json:
            show(result)
    mode = "quick" if quick else "full"
    page = write_lab(results, out, f"Made by stylenorm lab in {mode} mode with seed {seed}, on the CPU.")
    failed = [result.name for result in results if not result.holds]
    if as_json:
        told = {"quick": quick, "seed": seed, "page": str(page), "results": [result.to_dict() for result in results]}
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        short = f"; failed: {', '.join(failed)}" if failed else ""
        print(f"{len(results) - len(failed)} of {len(results)} hold{short}; see {page}")
    if failed:
        raise typer.Exit(1)


def check(names: tuple[str, ...], out: Path) -> None:
    """What can be refused before torch is there."""
    if out.exists() and not out.is_dir():
        raise StylenormError(f"--out {out} is a file; give a folder")
    needy = [name for name in names if name in NEEDS_VGG]
    if needy and not vgg_file().is_file():
        raise StylenormError(f"the experiment {needy[0]} needs VGG-16's features, and {vgg_file()} does not exist")
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove(write_draft(out, b""))
    except OSError as error:
        raise StylenormError(f"--out {out} cannot be written to ({error.strerror or error}); give another folder") from None


def show(result) -> None:
    """The experiment's part of the table."""
    from stylenorm.lab_result import shown

    print(f"{result.name}: {result.claim}")
    print(f"formula: {result.formula}")
    rows = [(row.quantity, row.expectation, shown(row.measured), row.verdict) for row in result.rows]
    show_table(("  quantity", "predicted", "measured", "verdict"), [("  " + first, *rest) for first, *rest in rows])
    print(flush=True)
