"""The verbs for many photographs and for other programs: batch and export."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylenorm import __version__
from stylenorm.catalog import network_file, style_entries
from stylenorm.cli_parts import AsJson, Backend, Device, Weights, complain, show_table, verbs
from stylenorm.errors import StyleError, StylenormError
from stylenorm.jobs import weighted_file, weighted_names
from stylenorm.manifest import NAME, Manifest
from stylenorm.metadata import read_metadata
from stylenorm.progress import duration
from stylenorm.tree import find_tree

app = verbs()

# ---- batch -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A style as it was given: named ones with their weights, or a painting. folder: what to call it."""

    label: str
    folder: str
    names: tuple[tuple[str, float], ...] = ()
    painting: Path | None = None


@app.command(
    epilog="""\b
Examples:
  stylenorm batch photos/ painted/ --style starry-night
  stylenorm batch photos/ painted/ --style kiss:2,scream:1 --style great-wave
  stylenorm batch photos/ painted/ --style kiss --format jpeg --size 2048
  stylenorm batch photos/ painted/ --style kiss --json-lines > log.jsonl
"""
)
def batch(
    photos: Annotated[Path, typer.Argument(metavar="IN", help="A folder of photographs.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the paintings; made if need be.")],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style", "-s", metavar="NAME:W,...", help="A named style, or a blend of several. Repeated: each by itself."
        ),
    ] = None,
    style_image: Annotated[
        list[str] | None, typer.Option(metavar="PAINTING", help="A picture of any painting. Repeated: each by itself.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Folders in IN as well.")] = True,
    format: Annotated[
        Literal["keep", "jpeg", "png", "webp", "tiff"], typer.Option(help="What to write; keep: what the photograph is.")
    ] = "keep",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP.")] = 95,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 is the photograph, 1 the painting.")] = 1.0,
    preserve_color: Annotated[bool, typer.Option("--preserve-color", help="Keep the photographs' colours.")] = False,
    size: Annotated[
        int | None, typer.Option(min=16, max=30000, metavar="PX", help="Longer side of the results, else the photographs'.")
    ] = None,
    style_size: Annotated[
        int | None, typer.Option(min=32, max=2048, metavar="PX", help="Shorter side that paintings are read at.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Paint everything again, over what is in OUT.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many photographs that were not done yet.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Threads that decode, and as many that encode; else by the machine.")
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    weights: Weights = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_lines: Annotated[bool, typer.Option("--json-lines", help="Print a JSON object a painting, and nothing else.")] = False,
) -> None:
    """Paint a folder of photographs, with all folders in it, into another.

    Stop it with Ctrl-C, or in any other way: the same command does what is
    missing. No painting is ever half-written, and no photograph overwritten.
    A photograph that has changed since is painted again.

    A painting has its photograph's name and place. With several styles each
    has a folder of its own in OUT. Where two photographs would become one
    file, the one that has its name already keeps it, else the first by name;
    the other's suffix goes into its name: with --format jpeg, a.jpg stays
    a.jpg and a.png becomes a-png.jpg.

    OUT/stylenorm-manifest.jsonl holds settings, hashes, times, sizes and
    errors. Exit code 1 if anything failed: it is named, and the rest goes on.
    """
    if math.isnan(strength):
        raise StylenormError("the strength must be a number from 0 to 1")
    wanted = wanted_styles(style or (), style_image or (), weights)
    options = {"strength": strength, "preserve_color": preserve_color, "size": size}
    settings = settings_of(wanted, weights, style_size, options | {"format": format, "quality": quality})
    tree = find_tree(photos, output, recursive)
    if not tree.photos and not tree.unread:
        raise StylenormError(f"the folder {photos} holds no photograph")
    show = Show(quiet=quiet, as_lines=as_lines)
    asked = Batch(photos, output, wanted, settings, options, style_size, workers, limit, overwrite)
    try:
        with Manifest(output) as manifest, show:
            check_settings(manifest, settings, output, overwrite)
            code = run_batch(asked, tree, manifest, show, lambda: painter(weights, device, backend))
    except KeyboardInterrupt:  # before painting began, or a second one
        complain("stopped; the same command goes on")
        code = 130
    if code:
        raise typer.Exit(code)


@dataclass(frozen=True)
class Batch:
    """What was asked for."""

    photos: Path
    output: Path
    wanted: Sequence[Wanted]
    settings: dict
    options: dict
    style_size: int | None
    workers: int | None
    limit: int | None
    overwrite: bool


def wanted_styles(styles: Sequence[str], paintings: Sequence[str], weights: Path | None) -> list[Wanted]:
    """The styles by what their folders are called, which must differ."""
    wanted = []
    for text in styles:
        parts = weighted_names([text], weights)
        total = sum(w for _, w in parts)
        if not total > 0:
            raise StyleError(f"--style {text} needs a weight above 0")
        if len(parts) == 1:
            wanted.append(Wanted(parts[0][0], parts[0][0], ((parts[0][0], 1.0),)))
        else:
            shares = tuple((name, round(w / total, 6)) for name, w in parts)
            wanted.append(Wanted(*("+".join(f"{n}{c}{w:.3g}" for n, w in shares) for c in ":-"), shares))
    for text in paintings:
        path, _ = weighted_file(text)
        wanted.append(Wanted(path.name, path.stem, painting=path))
    if not wanted:
        known = [entry.name for entry in style_entries(weights)]
        more = ", ..." if len(known) > 6 else ""
        raise StyleError(f"give --style NAME, one of {', '.join(known[:6]) or 'none'}{more}, or --style-image PAINTING")
    folders = [w.folder.casefold() for w in wanted]
    for w in wanted:
        if folders.count(w.folder.casefold()) > 1:
            raise StyleError(f"two styles are called {w.folder}; give one of them, or rename the painting's file")
    return wanted


def settings_of(wanted: Sequence[Wanted], weights: Path | None, style_size: int | None, options: dict) -> dict:
    """What sets the pixels of the results, told by content: two equal settings give equal paintings."""
    files = {entry.name: entry.file for entry in style_entries(weights)}
    styles = []
    for w in wanted:
        parts = [{"name": n, "weight": x, "sha256": hash_of(files[n])} for n, x in w.names]
        image = {"painting": hash_of(w.painting), "size": style_size} if w.painting else None
        styles.append({"label": w.label, "folder": folder_of(w, wanted), "parts": parts, "image": image})
    digest = read_metadata(network_file(weights), "network").get("hash")
    return json.loads(json.dumps(options | {"network": digest, "style": styles}))


def folder_of(w: Wanted, wanted: Sequence[Wanted]) -> str:
    return w.folder if len(wanted) > 1 else ""


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_settings(manifest: Manifest, settings: dict, output: Path, overwrite: bool) -> None:
    from stylenorm.batch import differences

    if manifest.settings is None or manifest.settings == settings or not manifest.done or overwrite:
        return
    told = "; ".join(differences(manifest.settings, settings))
    raise StylenormError(
        f"the paintings in {output} were made with {told}; "
        "give the same settings, another folder, or --overwrite to paint all again"
    )


def painter(weights: Path | None, device: str, backend: str):
    from stylenorm.engine import Stylizer

    return Stylizer(weights, device=device, backend=backend)


def run_batch(asked: Batch, tree, manifest: Manifest, show: Show, load: Callable) -> int:
    """Find what is missing, paint it, tell. Returns the exit code."""
    from stylenorm.batch import Look, make_plan

    looks = [Look(w.label, folder_of(w, asked.wanted)) for w in asked.wanted]
    if manifest.settings not in (None, asked.settings):  # they came to nothing, or all is painted again
        manifest.done.clear()
    plan = make_plan(asked.photos, asked.output, tree.photos, looks, asked.settings["format"], manifest, asked.overwrite)
    tasks = plan.tasks[: asked.limit]
    show.plan(tree, plan, sum(len(t.targets) for t in tasks))
    started, stop, full = time.monotonic(), threading.Event(), False
    if tasks:
        with stopping(stop):
            full = not paint_missing(asked, tasks, looks, manifest, show, load, stop)
    end = {"kind": "end", "done": show.done, "skipped": plan.there, "failed": show.failed, "unread": tree.unread}
    end |= {"left": plan.paintings - show.done - show.failed, "seconds": round(time.monotonic() - started, 1)}
    end["interrupted"] = stop.is_set()
    if tasks and not full:
        note(manifest, end, asked.output)
    show.end(end, asked.output)
    return 130 if stop.is_set() else int(bool(full or show.failed or tree.unread))


def paint_missing(asked: Batch, tasks, looks, manifest: Manifest, show: Show, load: Callable, stop: threading.Event) -> bool:
    """Whether there was room for all of it."""
    from stylenorm.batch import NoRoom, paint_all

    stylizer = load()
    styles = {look.label: resolved(stylizer, w, asked.style_size) for look, w in zip(looks, asked.wanted)}
    if manifest.settings != asked.settings or asked.overwrite:
        begin(manifest, asked, stylizer.describe())

    def paint(picture, look):
        return stylizer.stylize(picture, styles[look.label], **asked.options)

    try:
        with show.bar():
            for line in paint_all(tasks, paint, asked.output, manifest, asked.settings["quality"], asked.workers, stop):
                show.line(line)
    except NoRoom as error:
        complain(error)
        return False
    return True


def resolved(stylizer, w: Wanted, style_size: int | None):
    return stylizer.style_from(w.painting, size=style_size) if w.painting else stylizer.resolve(list(w.names))


def begin(manifest: Manifest, asked: Batch, description: str) -> None:
    from stylenorm.batch import now

    replacing = asked.overwrite or manifest.replacing
    about = {"stylenorm": __version__, "computed_by": description, "photographs": str(asked.photos.absolute()), "time": now()}
    try:
        manifest.begin(asked.settings, replacing, **about)
    except OSError as error:
        raise StylenormError(f"{asked.output} cannot be written ({error.strerror}); make room, then try again") from None


def note(manifest: Manifest, end: dict, output: Path) -> None:
    from stylenorm.batch import now

    try:
        manifest.append(end | {"time": now()})
    except OSError as error:
        complain(f"{output / NAME} cannot be written any more ({error.strerror}); the paintings are whole")


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets ``stop``, and the second does what it always does."""
    before = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread() and before is signal.default_int_handler

    def once(*_) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    if here:
        signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


class Show:
    """Tells people, or scripts, how a batch goes. done, failed: paintings so far."""

    def __init__(self, quiet: bool, as_lines: bool) -> None:
        self.quiet, self.as_lines = quiet, as_lines
        self.done = self.failed = self.total = 0
        self._out, self._redirected, self._draw = sys.stdout, redirect_stdout(sys.stderr), None
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Show:
        if self.as_lines:
            self._redirected.__enter__()  # whatever a library prints
        return self

    def __exit__(self, *trouble) -> None:
        if self.as_lines:
            self._redirected.__exit__(*trouble)

    def say(self, line: str) -> None:
        if not self.quiet and not self.as_lines:
            print(line, flush=True)

    def plan(self, tree, plan, total: int) -> None:
        self.total = total
        for sentence in tree.unread:
            complain(sentence)
        for sentence in tree.left_out:
            self.say(sentence)
        for name, output in plan.renamed[:10]:
            self.say(f"{name} becomes {output}, because another photograph has that name")
        if len(plan.renamed) > 10:
            self.say(f"and so do {len(plan.renamed) - 10} more, by the rule in stylenorm batch --help")
        there = f", {plan.there} are there already" if plan.there else ""
        self.say(f"{len(tree.photos)} photographs, {total} paintings to do{there}")

    @contextmanager
    def bar(self) -> Iterator[None]:
        """A bar with rate and time left on a terminal."""
        from rich.console import Console

        self._started = self._told = time.monotonic()
        console = Console(file=self._out, highlight=False, markup=False)
        if self.quiet or self.as_lines or not console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = TextColumn("{task.completed}/{task.total}"), BarColumn(None), TextColumn("{task.description}")
        with Progress(*columns, console=console, expand=True) as bar:
            task = bar.add_task("starting", total=self.total)
            self._draw = lambda: bar.update(task, completed=self.done + self.failed, description=self.pace())
            yield
        self._draw = None

    def pace(self) -> str:
        so_far, seconds = self.done + self.failed, time.monotonic() - self._started
        rate = so_far / max(seconds, 1e-9)
        failed = f"{self.failed} failed  " if self.failed else ""
        return f"{failed}{rate:.2f} paintings/s  {duration((self.total - so_far) / rate if rate else 0)} left"

    def line(self, line: dict) -> None:
        if line["kind"] == "done":
            self.done += 1
        else:
            self.failed += 1
            complain(line["error"])
        if self.as_lines:
            print(json.dumps(line), file=self._out, flush=True)
        elif self._draw:
            self._draw()
        elif time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            self.say(f"{self.done + self.failed}/{self.total}  {self.pace()}")

    def end(self, end: dict, output: Path) -> None:
        if self.as_lines:
            print(json.dumps(end), file=self._out, flush=True)
        elif not self.quiet:
            took = duration(end["seconds"])
            rows = [("done", str(end["done"]), took), ("skipped", str(end["skipped"]), "were there already")]
            rows += [("failed", str(end["failed"]), f"named in {output / NAME}" if end["failed"] else "")]
            rows += [("unread", str(len(end["unread"])), "folders")] if end["unread"] else []
            rows += [("left", str(end["left"]), "the same command goes on")] if end["left"] else []
            show_table(("paintings", "number", ""), rows)
        if end["interrupted"]:
            complain(f"stopped after {end['done']} paintings, {end['left']} are left; the same command goes on")


# ---- export ------------------------------------------------------------------------------------

ENDING = {"onnx": ".onnx", "torchscript": ".pt", "torch-export": ".pt2"}


@app.command(
    epilog="""\b
Examples:
  stylenorm export --format onnx -o stylenorm.onnx
  stylenorm export --format torchscript -o stylenorm.pt
  stylenorm export --format torch-export -o stylenorm.pt2 --weights mine/

\b
Using it elsewhere; photo is (1, 3, H, W), float32 from 0 to 1:
  styles = numpy.load("stylenorm.styles.npz")
  style = 0.7 * styles["kiss"] + 0.3 * styles["scream"]
  session = onnxruntime.InferenceSession("stylenorm.onnx")
  (painting,) = session.run(None, {"content": photo, "style": style})
  painting = torch.jit.load("stylenorm.pt")(photo, torch.tensor(style))
  program = torch.export.load("stylenorm.pt2").module()
  painting = program(photo, torch.tensor(style))
"""
)
def export(
    format: Annotated[Literal["onnx", "torchscript", "torch-export"], typer.Option(help="What to write.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file; ends in .onnx, .pt or .pt2.")],
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Write the network for use without stylenorm, for pictures of any size.

    It takes two inputs: content (1, 3, H, W), float32 from 0 to 1, and style
    (1, 2, T), the γ and then the β of all T channels. It gives the painting,
    (1, 3, H, W). The named styles are written beside it, FILE.styles.npz, an
    array (1, 2, T) for each name; a weighted mean of them is a blend. What was
    written is read again and compared with the original.
    """
    if output.suffix.lower() != ENDING[format]:
        raise StylenormError(f"{output} should end in {ENDING[format]}, as {format} files do; give such a name with -o")
    if not output.absolute().parent.is_dir():
        raise StylenormError(f"there is no folder {output.parent}; make it first")
    network_file(weights)
    if format == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise StylenormError('writing ONNX takes the packages onnx and onnxscript; pip install "stylenorm[export]"')
    with redirect_stdout(sys.stderr):
        from stylenorm.export import export_files

        report = export_files(format, output, weights, {"stylenorm": __version__})
    if as_json:
        return print(json.dumps(report))
    print(f"wrote {report['file']} ({report['bytes'] / 1e6:.1f} MB) and {report['styles']} ({report['count']} styles)")
    difference = report["difference"]
    if difference is None:
        print(f"{output.name} was not compared with the original; install onnxruntime to have that done")
    else:
        print(f"{output.name} differs from the original by {difference:.1e} at most")
