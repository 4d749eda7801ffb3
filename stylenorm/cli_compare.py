"""The verb that puts the kinds of normalization side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stylenorm.catalog import compared_networks, require_compared_networks
from stylenorm.cli_parts import AsJson, Backend, Device, as_word, check_sheet, complain, do, names_known, path, verbs
from stylenorm.compat import ctrl_c_later, import_torch
from stylenorm.config import TrainConfig
from stylenorm.errors import StylenormError
from stylenorm.jobs import make_folder, plan_one
from stylenorm.progress import watching

app = verbs()
TRAINING = "With --train"
CHANGES = ("half contrast", "darker", "brighter", "warm cast")


def small(photos: Path, styles: Path, out: Path, names: tuple[str, ...], steps: int, device: str, vgg: Path | None) -> TrainConfig:
    """A training of minutes on a CPU: a network of a third of the shipped one's width, small squares."""
    return TrainConfig(
        photos=str(photos), styles=str(styles), out=str(out), names=names, steps=steps, device=device, vgg=vgg and str(vgg),
        widths=(24, 48, 80), blocks=(0, 1, 4), num_groups=8, size=192, photo_scales=(208, 288), style_size=256, named_share=1.0,
        optimizer="muon", style_learning_rate=1e-2, learning_rate=2e-3, decay_start=0.4, ema=0.99, warmup=30,
        checkpoint_every=100, sample_every=steps,
    )  # fmt: skip


def names_of_all(context: typer.Context, incomplete: str) -> list[str]:
    """What a shell completes a name to: those that `stylenorm.comparing.Comparison` knows."""
    networks = context.params.get("networks")
    known = [set(names_known(file)) for file in compared_networks(networks).values()]
    return [name for name in sorted(set.intersection(*known)) if name.startswith(incomplete)] if known else []


@app.command(
    epilog="""\b
Examples:
  stylenorm compare photo.jpg --style starry-night -o compare.png
  stylenorm compare photo.jpg --style udnie --change "warm cast" -o both.png
  stylenorm compare --train --photos photos/ --styles art/ -o mine/
  stylenorm compare photo.jpg --networks mine/ --style udnie -o compare.png
"""
)
def compare(
    context: typer.Context,
    photo: Annotated[str | None, typer.Argument(metavar="PHOTO", help="A photograph.")] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The picture to write; with --train, a folder.")
    ] = "compare.png",
    style: Annotated[
        str | None,
        typer.Option("--style", "-s", metavar="NAME", autocompletion=names_of_all, help="A style that all the networks know."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANGE", help=f"A further row, of the photograph changed: {', '.join(CHANGES)}. May be repeated."),
    ] = None,
    networks: Annotated[
        Path | None, typer.Option(parser=path, metavar="DIR", help="A folder that --train has written, else the shipped networks.")
    ] = None,
    tile: Annotated[int, typer.Option(min=16, max=8192, metavar="PX", help="Longer side of each picture.")] = 512,
    train: Annotated[bool, typer.Option("--train", help="Train and judge the networks.", rich_help_panel=TRAINING)] = False,
    photos: Annotated[Path | None, typer.Option(parser=path, help="Folder of photographs to learn on.", rich_help_panel=TRAINING)] = None,
    styles: Annotated[Path | None, typer.Option(parser=path, help="Folder of paintings.", rich_help_panel=TRAINING)] = None,
    names: Annotated[str, typer.Option(help="Which of --styles, with commas between; else all.", rich_help_panel=TRAINING)] = "",
    steps: Annotated[int, typer.Option(min=1, help="Steps of each run.", rich_help_panel=TRAINING)] = 640,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each kind.", rich_help_panel=TRAINING)] = 3,
    vgg: Annotated[Path | None, typer.Option(help="VGG-16's features, else the shipped ones.", rich_help_panel=TRAINING)] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Paint a photograph by networks that differ in their normalization alone.

    Instance, layer, group and batch norm, trained on the same pictures in
    the same order. --train repeats that training and writes networks,
    plots and tables into OUT; stopped, the same command goes on.
    """
    if not output:
        raise StylenormError("-o is empty; give a file, or with --train a folder")
    check_options(context, train)
    if train:
        return repeat(photo, Path(output), photos, styles, names, steps, seeds, device, vgg, as_json)
    if photo is None or style is None:
        raise StylenormError("give a photograph and --style NAME, or --train")
    if unknown := [name for name in change or () if name not in CHANGES]:
        raise StylenormError(f"there is no change {unknown[0]!r}; choose from {', '.join(CHANGES)}")
    require_compared_networks(networks)
    if "-" in (photo, output):
        raise StylenormError("compare reads a file and writes one; give their names in place of -")
    job = plan_one(photo, output)
    make_folder([job])
    import_torch()
    from stylenorm.comparing import Comparison

    comparison = Comparison(networks, device, backend)
    comparison.check(style)
    kinds = list(comparison.stylizers)

    def paint(picture):
        check_sheet(job, picture.size, tile, (1 + len(kinds)) * (1 + len(change or ())), 1 + len(kinds))
        return comparison.sheet(picture, style, tuple(change or ()), tile)

    done = do(job, paint)
    if "error" in done:
        complain(done["error"])
        raise typer.Exit(1)
    row = {"output": str(job.target), "style": style, "kinds": kinds}
    print(json.dumps(row) if as_json else f"wrote {job.target}: {', '.join(kinds)}")


def check_options(context: typer.Context, train: bool) -> None:
    """Refuse what would do nothing: options of the training without it, and those of painting with it."""
    told = "for painting; leave it out of --train" if train else "for training; give --train as well, or leave it out"
    for option in ("style", "change", "networks", "tile", "backend") if train else ("photos", "styles", "names", "steps", "seeds", "vgg"):
        if context.get_parameter_source(option).name == "COMMANDLINE":
            raise StylenormError(f"--{option} is {told}")


def repeat(photo, out: Path, photos, styles, names: str, steps: int, seeds: int, device: str, vgg, as_json: bool) -> None:
    if photo is not None:
        raise StylenormError("--train takes no photograph; give one afterwards, with --networks OUT")
    for option, folder in (("photos", photos), ("styles", styles)):
        if folder is None or not folder.is_dir():
            raise StylenormError(f"--train needs --{option}, a folder of pictures" + (f"; {folder} is none" if folder else ""))
    if out.is_file() or (out.suffix and not out.is_dir()):
        raise StylenormError(f"with --train, -o is a folder for networks, plots and tables, and {out} looks like a file")
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    with ctrl_c_later():  # of one in the midst of it, torch makes a RecursionError, or nothing
        from stylenorm.compare_training import CompareConfig, compare_kinds, tables

    config = CompareConfig(small(photos, styles, out, chosen, steps, device, vgg), tuple(range(seeds)))
    with watching(as_json) as watch:
        shown = None

        def tell(kind: str, seed: int, record) -> None:
            nonlocal shown
            if shown != (kind, seed) and not as_json:  # and not at step 1, which a run that goes on is beyond
                print(f"{kind} norm, seed {seed}", flush=True)
            shown = kind, seed
            watch(record)

        try:
            report = compare_kinds(config, tell)
        except KeyboardInterrupt:
            complain("stopped; the same command goes on")
            raise typer.Exit(130) from None
    if as_json:
        return print(json.dumps(report))
    print(tables(report))
    name = as_word(chosen[0]) if chosen else "NAME"
    print(f"wrote {out}; see it with: stylenorm compare photo.jpg --networks {as_word(out)} --style {name}")
