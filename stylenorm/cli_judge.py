"""The verbs that look at what there is: painted pictures, and the styles."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from stylenorm.catalog import (
    add_style,
    describe_style,
    find_style,
    left_behind,
    network_file,
    remove_style,
    renew_style,
    style_entries,
    style_thumbnail,
    told_of_left_behind,
    vgg_file,
)
from stylenorm.cli_parts import AsJson, Device, Weights, as_word, check_file, complain, show_table, verbs
from stylenorm.compat import import_torch
from stylenorm.errors import ImageError, StyleError, StylenormError, counted
from stylenorm.jobs import style_named
from stylenorm.progress import duration

app = verbs()

# ---- score -------------------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  stylenorm score photo.jpg painting.jpg painted.jpg
  stylenorm score photo.jpg painting.jpg a.jpg b.jpg --no-optimize --json
"""
)
def score(
    context: typer.Context,
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="The photograph.")],
    style: Annotated[Path, typer.Argument(metavar="STYLE", help="A picture of the painting.")],
    outputs: Annotated[list[Path], typer.Argument(metavar="OUTPUT...", help="What was made of them, by whatever program.")],
    size: Annotated[
        int, typer.Option(min=64, max=4096, metavar="PX", help="Longer side of the pictures, shorter side of the painting.")
    ] = 512,
    optimize: Annotated[bool, typer.Option(help="Also judge what direct optimization reaches; takes minutes.")] = True,
    steps: Annotated[int, typer.Option(min=1, help="Steps of direct optimization.")] = 200,
    device: Device = "auto",
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Judge painted pictures: how much of the photograph they kept, and how near they came to the painting.

    content, style: the distances that networks are trained on; total is content + 10 style.
    wasserstein: a distance to the painting that they are not trained on. Of all these, less is better.
    ssim: likeness to the photograph's light and dark, 1 for equal.
    """
    if not optimize and context.get_parameter_source("steps").name == "COMMANDLINE":
        raise StylenormError("--steps is of direct optimization, which --no-optimize leaves out; give one of them")
    for path, what in ((content, "photograph"), (style, "painting"), *((path, "picture") for path in outputs)):
        check_file(path, what)
    if weights:  # of which VGG-16's features are taken, if they are there: a slip of the pen went without a word
        network_file(weights)
    import_torch()
    from stylenorm.device import choose_device
    from stylenorm.perceptual import VGGFeatures
    from stylenorm.scoring import Yardstick

    where = choose_device(device)
    yardstick = Yardstick.of(VGGFeatures.from_file(vgg_file(weights)).to(where), content, style, size)
    rows = [{"picture": "unchanged photograph", "file": None} | yardstick.unchanged().to_dict()]
    rows += [judged(yardstick, path) for path in outputs]
    if optimize:
        rows.append({"picture": f"{counted(steps, 'step')} of direct optimization", "file": None} | optimized(yardstick, steps))
    show_rows(rows, as_json)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def judged(yardstick, path: Path) -> dict:
    """A row of the table; one that cannot be read is told, and the others go on."""
    row = {"picture": path.name, "file": str(path)}
    try:
        judgement, note = yardstick.judged(path)
    except ImageError as error:
        complain(error)
        return row | {"error": str(error)}
    if note:
        complain(note)
    return row | judgement.to_dict() | ({"note": note} if note else {})


def optimized(yardstick, steps: int) -> dict:
    """Judge direct optimization, telling on standard error how far it is."""
    started = last = time.monotonic()

    def tell(step: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 5 and sys.stderr.isatty():
            last = now
            left = duration((now - started) * (steps - step) / step)
            print(f"step {step}/{steps}  loss {loss:.2f}  {left} left", file=sys.stderr)

    print(f"optimizing the pixels, {counted(steps, 'step')}; --no-optimize leaves this out", file=sys.stderr)
    return yardstick.optimized(steps, tell).to_dict()


def show_rows(rows: list[dict], as_json: bool) -> None:
    keys = ("content", "style", "total", "wasserstein", "ssim")
    if as_json:
        return print(json.dumps(rows, indent=2))
    show_table(
        ("picture", *keys), [(row["picture"], *(f"{row[key]:.4f}" for key in keys)) for row in rows if "error" not in row]
    )


# ---- styles ------------------------------------------------------------------------------------

styles = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
app.add_typer(
    styles,
    name="styles",
    invoke_without_command=True,
    epilog="""\b
Examples:
  stylenorm styles
  stylenorm styles --json
  stylenorm styles show starry-night
  stylenorm styles add friends-style.safetensors --name aunt-ada
  stylenorm styles remove aunt-ada
  stylenorm styles renew
""",
)


@styles.callback()
def listing(context: typer.Context, weights: Weights = None, as_json: AsJson = False) -> None:
    """List the named styles: painting, artist, year and file. Or show, add, remove and renew one."""
    if context.invoked_subcommand:
        context.obj = weights, as_json
        return
    entries = style_entries(weights)
    if as_json:
        return print(json.dumps([entry.to_dict() for entry in entries], indent=2))
    show_table(
        ("name", "painting", "artist", "year", "file"),
        [(e.name, e.title or "", e.artist or "", str(e.year or ""), e.file.name) for e in entries],
    )
    if told := told_of_left_behind(weights):
        complain(told)


@styles.command(
    epilog="""\b
Examples:
  stylenorm styles show starry-night
  stylenorm styles show my-style --json
  stylenorm styles show my-style -o painting.png
"""
)
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A style.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Write the thumbnail in the style file to this picture.")
    ] = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of a style: painting, licence, file, network and training."""
    weights, as_json = weights or context.obj[0], as_json or context.obj[1]
    entry = find_style(style_named(name, [entry.name for entry in style_entries(weights)]), weights)
    about = describe_style(entry)
    if output:
        write_thumbnail(style_thumbnail(entry), entry, output)
    if as_json:
        return print(json.dumps(about | ({"output": str(output)} if output else {}), indent=2))
    show_table(("what", "is"), [(key, shown(value)) for key, value in about.items()])
    if output:
        print(f"wrote {output}")


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return "" if value is None else str(value)


def write_thumbnail(jpeg: bytes, entry, output: Path) -> None:
    from io import BytesIO

    from stylenorm.images import read_picture, write_picture

    try:
        picture = read_picture(BytesIO(jpeg))
    except ImageError:
        raise StyleError(f"the thumbnail in {entry.file} is damaged") from None
    write_picture(picture.rgb, output)


@styles.command(
    epilog="""\b
Examples:
  stylenorm styles add friends-style.safetensors
  stylenorm styles add friends-style.safetensors --name aunt-ada
"""
)
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A style file, of the network that you use.")],
    name: Annotated[str | None, typer.Option(help="What to call it, else as it calls itself.")] = None,
    weights: Weights = None,
) -> None:
    """Copy a style file to your own styles; it is usable by its name at once."""
    weights = weights or context.obj[0]
    network_file(weights)
    import_torch()
    entry = add_style(file, name, weights)
    more = f" --weights {as_word(weights)}" if weights else ""
    print(f"added {entry.file}; use it with: --style {as_word(entry.name)}{more}")


@styles.command(
    epilog="""\b
Examples:
  stylenorm styles remove aunt-ada
"""
)
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A style of your own.")],
    weights: Weights = None,
) -> None:
    """Remove a style of your own. Those that came with the network stay."""
    print(f"removed {remove_style(name, weights or context.obj[0])}")


@styles.command(
    epilog="""\b
Examples:
  stylenorm styles renew
  stylenorm styles renew aunt-ada
"""
)
def renew(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="A style of your own, else all that were left behind.")] = None,
    weights: Weights = None,
) -> None:
    """Bring styles of your own that were made for another network, such as before an update, to this one.

    Their gamma and beta are predicted anew from what the style file keeps of the
    painting. To come as near to it as before, train the style again.
    """
    weights, failed = weights or context.obj[0], False
    names = names or list(left_behind(weights))
    if not names:
        print("every style belongs to this network")
    else:
        import_torch()
    for name in names:
        try:
            print(f"renewed {renew_style(name, weights).file}")
        except StylenormError as error:
            complain(str(error))
            failed = True
    if failed:
        raise typer.Exit(1)
