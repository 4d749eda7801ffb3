"""The verb for many photographs, batch."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylenorm import __version__
from stylenorm.catalog import network_file, style_entries
from stylenorm.cli_parts import (
    ON_WINDOWS,
    Backend,
    Device,
    Faces,
    Grain,
    Keep,
    Mask,
    Memory,
    PaintAt,
    PreserveColor,
    Quality,
    Quiet,
    RegionsOf,
    Size,
    Strength,
    Strip,
    StyleSize,
    Weights,
    check_style_size,
    complain,
    lean_stylizer,
    masks_of,
    need_a_style,
    style_names,
    stylizer_of,
    verbs,
)
from stylenorm.cli_show import Show, stopping
from stylenorm.drafts import file_id
from stylenorm.errors import ImageError, StyleError, StylenormError, how_to_install
from stylenorm.formats import FACES, FULL
from stylenorm.jobs import Masks, Region, check_limit, check_writable, folded, identity, region_of, weighted_file, weighted_names
from stylenorm.manifest import NAME, Manifest, manifest_in
from stylenorm.metadata import read_metadata
from stylenorm.places import UrlFolder, place
from stylenorm.tree import Photo, find_tree, lies_in

LONGEST_NAME = 255  # bytes of a file's or a folder's, nearly everywhere

app = verbs()


@dataclass(frozen=True)
class Wanted:
    """A style as it was given: named ones with their weights, or a painting. folder: what to call it.

    data: what has come of the painting through a pipe, which gives it once.
    """

    label: str
    folder: str
    names: tuple[tuple[str, float], ...] = ()
    painting: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    @property
    def content(self) -> bytes:
        """The painting's bytes."""
        return self.painting.read_bytes() if self.data is None else self.data


@app.command(
    epilog="""\b
Examples:
  stylenorm batch photos/ painted/ --style starry-night
  stylenorm batch photos/ painted/ --style kiss:2,scream:1 --style great-wave
  stylenorm batch photos/ painted/ --style kiss --format jpeg --size 2048
  stylenorm batch photos/ painted/ --style kiss --keep people
  stylenorm batch photos/ painted/ --style kiss --json-lines > log.jsonl
"""
)
def batch(
    photos: Annotated[str, typer.Argument(metavar="IN", help="A folder of photographs, or its URL.")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="Folder for the paintings, or its URL; made if need be.")],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style", "-s", metavar="NAME:W,...", autocompletion=style_names,
            help="A named style, or a blend of several. Repeated: each by itself.",
        ),
    ] = None,
    style_image: Annotated[
        list[str] | None, typer.Option(metavar="PAINTING", help="A picture of any painting. Repeated: each by itself.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Folders in IN as well.")] = True,
    format: Annotated[
        Literal["keep", "jpeg", "png", "webp", "tiff", "avif", "heic"], typer.Option(help="What to write; keep: what the photograph is.")
    ] = "keep",
    quality: Quality = 95,
    strip: Strip = False,
    strength: Strength = 1.0,
    preserve_color: PreserveColor = False,
    grain: Grain = True,
    faces: Faces = FACES,
    size: Size = None,
    paint_at: PaintAt = None,
    style_size: StyleSize = None,
    mask: Mask = None,
    keep: Keep = None,
    region: RegionsOf = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Paint everything again, over what is in OUT.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many photographs that were not done yet.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Threads that decode, and as many that encode; else by the machine.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Paint on a Ray cluster: its address, auto for a running one here, or local.")
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    memory: Memory = None,
    weights: Weights = None,
    quiet: Quiet = False,
    as_lines: Annotated[bool, typer.Option("--json-lines", help="Print a JSON object a painting, and nothing else.")] = False,
) -> None:
    """Paint a folder of photographs, with all folders in it, into another.

    Stop it with Ctrl-C, or in any other way: the same command does what is
    missing, of what --overwrite paints again as well. No painting is ever
    half-written, and no photograph overwritten.
    A photograph that has changed since, or its mask, is painted again.

    Of an animated GIF, WebP or PNG every frame is painted, unless --format is
    one that cannot move: then the first one is.

    A painting has its photograph's name and place. With several styles each
    has a folder of its own in OUT. Where two photographs would become one
    file, the one that has its name already keeps it, else the first by name;
    the other's suffix goes into its name: with --format jpeg, a.jpg stays
    a.jpg and a.png becomes a-png.jpg.

    OUT/stylenorm-manifest.jsonl holds settings, hashes, times, sizes and
    errors. Exit code 1 if anything failed: it is named, and the rest goes on.

    IN and OUT may be URLs, such as s3://bucket/photos, which fsspec opens. On a
    Ray cluster there is a worker a GPU, and one for every 4 cores elsewhere; IN,
    OUT and --weights must be in the same place on every machine.
    """
    for name, folder in (("IN", photos), ("OUT", output)):
        if not folder:  # which would be the folder that one is in
            raise StylenormError(f"{name} is empty; give a folder")
    check_limit()
    check_writable(format)
    wanted = wanted_styles(style or (), style_image or (), weights)
    masks, asked_regions = masks_of(mask, keep), [region_of(text, weights) for text in region or ()]
    check_style_size(style_size, [*(style_image or ()), *(r.painting for r in asked_regions if r.painting)])
    regions = [(wanted_in(r), r.masks) for r in asked_regions]
    options = {"strength": strength, "preserve_color": preserve_color, "size": size}
    options |= {"strip": True} if strip else {}  # a batch begun by an older version goes on
    options |= {} if grain else {"grain": False}  # the same
    options |= {} if faces == FACES else {"faces": faces}
    drawn = [m for m in (masks, *(there for _, there in regions)) if m and not m.word]
    masked = {"keep" if masks.inverted else "mask": told_masks(masks)} if masks else {}
    told = [(w, there, told_masks(there)) for w, there in regions]
    settings = settings_of(wanted, weights, style_size, options | told_side(paint_at) | masked | {"format": format, "quality": quality}, told)
    options |= {"paint_at": paint_at} if paint_at else {}
    source, target = place(photos), place(output)
    if drawn and not isinstance(source, Path):
        raise StylenormError("pictures as masks are for a folder of photographs of this machine, and not for a URL; people or background will do")
    for there in drawn:
        if there.path.exists() and lies_in(there.path.resolve().parent, source):  # as a/../b does not lie in a
            raise StylenormError(f"{there.path} lies in {photos} and would be painted as well; move it to another place")
        if isinstance(target, Path) and identity(target) == identity(there.path):
            raise StylenormError(f"{output} is where the masks are; give another folder for the paintings")
    if ray is not None:
        check_ray(photos, output)
        check_answers(ray)
        if workers is not None:
            raise StylenormError("--workers is of this machine alone; with --ray the cluster's GPUs and cores decide")
        source, target = source.absolute(), target.absolute()  # workers are somewhere else
    placed = {id(m): replace(m, path=m.path.absolute(), top=source) for m in drawn}
    options |= {"masks": placed.get(id(masks), masks)} if masks else {}
    regions = [(w, placed.get(id(there), there)) for w, there in regions]
    tree = find_tree(source, target, recursive)
    if not tree.photos and not tree.unread:
        raise StylenormError("; ".join([f"the folder {photos} holds no photograph", *tree.left_out]))
    if folders := [m for m in placed.values() if m.path.is_dir()]:
        tree.photos = with_masks(tree.photos, folders)
    show = Show(quiet=quiet, as_lines=as_lines)
    where = Where(weights, device, backend, memory, ray)
    asked = Batch(source, target, wanted, settings, options, style_size, workers, limit, overwrite, where, regions)
    try:
        with manifest_in(target) as manifest, show:
            manifest.settings = manifest.settings and with_real_masks(manifest.settings)
            check_settings(manifest, settings, target, overwrite)
            code = run_batch(asked, tree, manifest, show)
    except KeyboardInterrupt:  # before painting began, or a second one
        complain("stopped; the same command goes on")
        code = 130
    if code:
        raise typer.Exit(code)


@dataclass(frozen=True)
class Where:
    """What paints. memory: GB, most for a picture, or None. ray: a cluster's address, or None for this machine."""

    weights: Path | None
    device: str
    backend: str
    memory: float | None
    ray: str | None


@dataclass(frozen=True)
class Batch:
    """What was asked for."""

    photos: Path | UrlFolder
    output: Path | UrlFolder
    wanted: Sequence[Wanted]
    settings: dict
    options: dict
    style_size: int | None
    workers: int | None
    limit: int | None
    overwrite: bool
    where: Where
    regions: Sequence[tuple[Wanted, Masks]] = ()


def check_ray(*places: str) -> None:
    if not find_spec("ray"):
        raise StylenormError(f"painting on a cluster takes the package ray: {how_to_install('ray')}")
    for text in places:
        if text.startswith("memory:"):
            raise StylenormError(f"{text} lies in one process; with --ray give a path or a URL that all machines see")


def check_answers(address: str, seconds: float = 5) -> None:
    """Refuse a HOST:PORT, or ray://HOST:PORT, where nothing listens: ray itself would wait for it without end."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return  # auto, local and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except (OSError, OverflowError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise StylenormError(f"no Ray cluster answers at {address} ({told}); check --ray, or start one with ray start") from None


def wanted_styles(styles: Sequence[str], paintings: Sequence[str], weights: Path | None) -> list[Wanted]:
    """The styles by what their folders are called, which must differ."""
    wanted = []
    for text in styles:
        shares = shares_of(weighted_names([text], weights), f"--style {text}")
        if len(shares) == 1:
            wanted.append(Wanted(shares[0][0], shares[0][0], shares))
        else:
            wanted.append(Wanted(*("+".join(f"{n}{c}{w:.3g}" for n, w in shares) for c in ":-"), shares))
    for text in paintings:
        path, _ = weighted_file(text)
        wanted.append(piped(path) if path.is_fifo() else Wanted(path.name, path.stem, painting=path))
    need_a_style(wanted, weights)
    folders = [folded(w.folder) for w in wanted]
    for w in wanted:
        if folders.count(folded(w.folder)) > 1:
            raise StyleError(f"two styles are called {w.folder}; give one of them, or rename the painting's file")
        if len(wanted) > 1 and not can_be_folder(w.folder):
            advice = "give that style alone, or rename the painting's file" if w.painting else "give that blend alone"
            raise StyleError(f"no folder in OUT can be called {w.folder}, after {w.label}; {advice}")
    return wanted


def shares_of(parts: Sequence[tuple[str, float]], what: str) -> tuple[tuple[str, float], ...]:
    """Named styles with weights that add up to 1. what: they are, for the message where none has any."""
    total = sum(w for _, w in parts)
    if not total > 0:
        raise StyleError(f"{what} needs a weight above 0")
    return tuple((name, round(w / total, 6)) for name, w in parts)


def can_be_folder(name: str) -> bool:
    """Whether a folder of paintings beside the manifest can be called that."""
    cut = ON_WINDOWS and name.endswith((" ", "."))  # which takes them off when it makes a folder, and then finds none of that name
    return name not in (".", "..") and folded(name) != folded(NAME) and len(os.fsencode(name)) <= LONGEST_NAME and not cut


def piped(path: Path) -> Wanted:
    """A painting from a pipe. It is called after what it holds: a shell numbers its pipes, and numbers them anew the next time."""
    data = path.read_bytes()
    name = f"painting-{hash_of(data)[:8]}"
    return Wanted(name, name, painting=path, data=data)


def wanted_in(region: Region) -> Wanted:
    """The style of a part."""
    if region.painting:
        return Wanted(region.painting.name, region.painting.stem, painting=region.painting)
    shares = shares_of(region.names, "the style of a --region")
    return Wanted("+".join(f"{n}:{w:.3g}" for n, w in shares), "", shares)


def told_masks(masks: Masks) -> str:
    """What a batch's settings tell of them: of a file the content, of a folder where it is."""
    if masks.word:
        return masks.word
    return os.path.realpath(masks.path) if masks.path.is_dir() else hash_of(masks.content_for(None))


def check_people(masks: Sequence[Masks | None]) -> None:
    """Refuse to look for people where what finds them is missing: once, and not with each photograph."""
    if any(m and m.word for m in masks):
        from stylenorm.people import prepare_people

        prepare_people()


def told_mask(masks: Masks, photo: Path) -> str:
    """What differs as soon as the mask for a photograph, or those for the frames of an animation, are others. Raises `ImageError` where there is none."""
    try:
        return hash_of(masks.content_for(photo))
    except ImageError:
        from stylenorm.mattes import matte_for

        if matte := matte_for(masks, photo):
            return matte.told()
        raise


def with_masks(photos: Sequence[Photo], folders: Sequence[Masks]) -> list[Photo]:
    """Each with the hash of its mask, or of all of them, where it has some; without is told when its turn comes."""

    def of(photo: Photo) -> str | None:
        with suppress(ImageError, OSError):
            first, *more = [told_mask(masks, photo.path) for masks in folders]
            return hash_of("".join([first, *more]).encode()) if more else first

    return [replace(photo, mask=of(photo)) for photo in photos]


def settings_of(
    wanted: Sequence[Wanted], weights: Path | None, style_size: int | None, options: dict, regions: Sequence[tuple[Wanted, Masks, str]] = ()
) -> dict:
    """What sets the pixels of the results, told by content: two equal settings give equal paintings. regions: with what tells of their masks."""
    files = {entry.name: entry.file for entry in style_entries(weights)}

    def told(w: Wanted) -> dict:
        parts = [{"name": n, "weight": x, "sha256": hash_of(files[n].read_bytes())} for n, x in w.names]
        return {"parts": parts, "image": {"painting": hash_of(w.content), "size": style_size} if w.painting else None}

    styles = [{"label": w.label, "folder": folder_of(w, wanted)} | told(w) for w in wanted]
    parts = [{"label": f"{there.path.name}={w.label}", "mask": content} | told(w) for w, there, content in regions]
    options = options | ({"regions": parts} if parts else {})
    digest = read_metadata(network_file(weights), "network").get("hash")
    return json.loads(json.dumps(options | {"network": digest, "style": styles}))


def with_real_masks(settings: dict) -> dict:
    """The settings as `told_masks` tells them now: older versions noted a folder of masks by the way that it was given."""

    def real(told: dict) -> dict:
        found = {key: told[key] for key in ("mask", "keep") if isinstance(told.get(key), str)}
        return told | {key: os.path.realpath(value) for key, value in found.items() if os.path.isabs(value)}

    parts = {"regions": list(map(real, settings["regions"]))} if settings.get("regions") else {}
    return real(settings) | parts


def told_side(paint_at: int | str | None) -> dict:
    """The settings' part about it. What was begun before there was one was painted as it was, and goes on so."""
    return {} if paint_at == FULL else {"paint_at": paint_at or "at most 1.2 megapixels"}


def folder_of(w: Wanted, wanted: Sequence[Wanted]) -> str:
    return w.folder if len(wanted) > 1 else ""


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_settings(manifest: Manifest, settings: dict, output: Path | UrlFolder, overwrite: bool) -> None:
    from stylenorm.batch import differences

    if manifest.settings is None or manifest.settings == settings or not manifest.done or overwrite:
        return
    told = "; ".join(differences(manifest.settings, settings))
    raise StylenormError(
        f"the paintings in {output} were made with {told}; "
        "give the same settings, another folder, or --overwrite to paint all again"
    )


def run_batch(asked: Batch, tree, manifest: Manifest, show: Show) -> int:
    """Find what is missing, paint it, tell. Returns the exit code."""
    from stylenorm.batch import Look, make_plan

    looks = [Look(w.label, folder_of(w, asked.wanted)) for w in asked.wanted]
    if manifest.settings not in (None, asked.settings):  # they came to nothing, or all is painted again
        manifest.done.clear()
    again = begins_anew(asked, manifest)
    plan = make_plan(asked.photos, asked.output, tree.photos, looks, asked.settings["format"], manifest, again, asked.overwrite)
    spare_inputs(asked, plan.tasks)
    tasks = sorted(plan.tasks, key=lambda task: has_failed(task, manifest))[: asked.limit]  # or a limit would never get beyond those
    show.plan(tree, plan, sum(len(t.targets) for t in tasks))
    started, stop, full = time.monotonic(), threading.Event(), False
    if tasks:
        with stopping(stop):
            full = not paint_missing(asked, tasks, looks, manifest, show, stop)
    end = {"kind": "end", "done": show.done, "skipped": plan.there, "failed": show.failed, "unread": tree.unread}
    end |= {"left": plan.paintings - show.done - show.failed, "seconds": round(time.monotonic() - started, 1)}
    end["interrupted"] = stop.is_set()
    unended = manifest.settings == asked.settings and not manifest.ended  # killed right before it was noted, for one
    if (tasks or unended) and not full:
        note(manifest, end, asked.output)
    show.end(end, asked.output)
    return 130 if stop.is_set() else int(bool(full or show.failed or tree.unread))


def begins_anew(asked: Batch, manifest: Manifest) -> bool:
    """Whether all is to be painted again. A batch that does so, and has not come to its end, goes on."""
    underway = manifest.settings == asked.settings and manifest.replacing and not manifest.ended
    return asked.overwrite and not underway


def spare_inputs(asked: Batch, tasks) -> None:
    """Refuse to paint over a mask or over the painting of a style, as --overwrite would."""
    if not isinstance(asked.output, Path):
        return
    inputs = [w.painting for w in (*asked.wanted, *(w for w, _ in asked.regions)) if w.painting]
    for masks in (asked.options.get("masks"), *(there for _, there in asked.regions)):
        for task in tasks if masks and not masks.word else ():
            with suppress(ImageError):  # told when its turn comes
                inputs.append(masks.file_for(task.photo.path))
    known = set(map(file_id, filter(Path.exists, inputs)))
    for target in (asked.output / name for task in tasks for _, name in task.targets):
        if known and target.exists() and file_id(target) in known:
            raise StylenormError(f"{target} is an input and would be overwritten; give another folder for the paintings")


def has_failed(task, manifest: Manifest) -> bool:
    return any((look.label, task.photo.name) in manifest.failed for look, _ in task.targets)


def paint_missing(asked: Batch, tasks, looks, manifest: Manifest, show: Show, stop: threading.Event) -> bool:
    """Whether there was room for all of it."""
    from stylenorm.batch import NoRoom

    crew = partial(on_ray if asked.where.ray else on_this_machine, show.say)
    try:
        with crew(asked, looks, manifest, stop) as (description, paint):
            if manifest.settings != asked.settings or begins_anew(asked, manifest):
                begin(manifest, asked, description)
            with show.bar():
                for line in paint(tasks):
                    show.line(line)
    except NoRoom as error:
        complain(error)
        return False
    return True


@contextmanager
def on_this_machine(
    say: Callable[[str], None], asked: Batch, looks, manifest: Manifest, stop: threading.Event
) -> Iterator[tuple[str, Callable]]:
    """What paints, for people; and what gives the manifest's lines for tasks, as they are done."""
    from stylenorm.batch import Alike, paint_all
    from stylenorm.batch_steps import painted

    where = asked.where
    check_people([asked.options.get("masks"), *(there for _, there in asked.regions)])
    stylizer = lean_stylizer(where.weights, where.device, where.backend, where.memory, 0 < asked.options["strength"] < 1)
    styles = styles_of(stylizer, asked, looks)

    laid = laid_of(stylizer, asked)

    def paint(picture, path, look):
        options = asked.options | laid | {"notice": say}
        return painted(stylizer, picture, path, styles[look.label], options, asked.settings["quality"])

    def paint_alike(pictures, look):
        return stylizer.stylize_alike(pictures, styles[look.label], **asked.options)

    def paint_tasks(tasks):
        alike = Alike(lambda picture: 1 if laid or "masks" in asked.options else stylizer.together(picture, **asked.options), paint_alike)
        return paint_all(tasks, paint, asked.output, manifest, asked.settings["quality"], asked.workers, stop, alike, asked.options["size"])

    yield stylizer.describe(), paint_tasks


@contextmanager
def on_ray(
    say: Callable[[str], None], asked: Batch, looks, manifest: Manifest, stop: threading.Event
) -> Iterator[tuple[str, Callable]]:
    """The same on a Ray cluster."""
    from stylenorm.batch_ray import Brush, Crew

    where = asked.where
    stylizer = stylizer_of(where.weights, "cpu", "torch", where.memory)
    styles = styles_of(stylizer, asked, looks)
    weights = where.weights and str(where.weights.absolute())
    brush = Brush(
        weights, asked.settings["network"], where.device, where.backend, where.memory,
        styles, asked.options | laid_of(stylizer, asked), asked.output, asked.settings["quality"],
    )  # fmt: skip
    with Crew(where.ray, brush, say) as crew:
        yield crew.start(stop), lambda tasks: crew.paint(tasks, manifest, stop)


def styles_of(stylizer, asked: Batch, looks) -> dict:
    return {look.label: resolved(stylizer, w, asked.style_size) for look, w in zip(looks, asked.wanted)}


def laid_of(stylizer, asked: Batch) -> dict:
    """The regions as an option of `stylenorm.batch_steps.painted`."""
    return {"regions": [(resolved(stylizer, w, asked.style_size), there) for w, there in asked.regions]} if asked.regions else {}


def resolved(stylizer, w: Wanted, style_size: int | None):
    if not w.painting:
        return stylizer.resolve(list(w.names))
    if w.data is None:
        return stylizer.style_from(w.painting, size=style_size)
    from stylenorm.images import read_picture

    return stylizer.style_from(read_picture(w.data, name=str(w.painting)), size=style_size)


def begin(manifest: Manifest, asked: Batch, description: str) -> None:
    from stylenorm.batch import now

    replacing = asked.overwrite or manifest.replacing
    about = {"stylenorm": __version__, "computed_by": description, "photographs": str(asked.photos.absolute()), "time": now()}
    try:
        manifest.begin(asked.settings, replacing, **about)
    except OSError as error:
        raise StylenormError(f"{asked.output} cannot be written ({error.strerror}); make room, then try again") from None


def note(manifest: Manifest, end: dict, output: Path | UrlFolder) -> None:
    from stylenorm.batch import now

    try:
        manifest.append(end | {"time": now()})
    except OSError as error:
        complain(f"{output / NAME} cannot be written any more ({error.strerror}); the paintings are whole")
