"""Trains one generator with each kind of normalization on the same pictures in the same order, and judges them."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch

from stylenorm.catalog import vgg_file
from stylenorm.checkpoint import Network, load_network, load_style, save_network
from stylenorm.comparing import CHANGES, TITLES, moved, moved_by_neighbours
from stylenorm.config import USUAL, TrainConfig, check_types, settled
from stylenorm.data import find_images, held_out, style_name
from stylenorm.drafts import file_id, remove, write_whole
from stylenorm.engine import Stylizer
from stylenorm.errors import ImageError, StylenormError
from stylenorm.images import read_picture, to_tensor
from stylenorm.metadata import read_metadata
from stylenorm.plots import KindCurves, kind_bars, kind_curves
from stylenorm.scoring import score_named, square, unseen_pictures
from stylenorm.training import Progress, train
from stylenorm.training_model import load_vgg
from stylenorm.training_state import alone_in, no_empty

JUDGED_SIZE = 256  # px
REPORT = "compare.json"
SETTINGS = "settings.json"
UNSEEN, SEEN = "unseen photographs", "photographs learned on"

# Settings that may change from one call to the next, or do from run to run, or are told by what lies there.
FREE = {
    "photos", "styles", "paintings", "out", "vgg", "norm", "seed", "device", "workers", "cache", "compile", "deterministic",
    "tensorboard", "checkpoint_every", "sample_every",
}  # fmt: skip


@dataclass(frozen=True)
class CompareConfig:
    """What is the same for every kind: ``training``, whose ``out`` takes all files, for each of ``seeds``.

    judged: how many unseen photographs the networks are judged on. What ``training`` leaves to the device is as on a CPU, on any.
    """

    training: TrainConfig
    seeds: tuple[int, ...] = (0, 1, 2)
    judged: int = 12

    def __post_init__(self) -> None:
        check_types(self)
        if not self.training.styles:
            raise StylenormError("kinds are compared in named styles; give styles, a folder of paintings")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise StylenormError("give at least one seed, and each seed once")
        if self.judged < 3:
            raise StylenormError(f"networks are judged on at least 3 photographs, not {self.judged}")


Tell = Callable[[str, int, Progress], None]


def compare_kinds(config: CompareConfig, tell: Tell | None = None) -> dict:
    """Train what is missing, judge it, and write what came of it into ``config.training.out``; return the report.

    runs/KIND-SEED/ holds each run, KIND/ the first seed's network and styles without its encoder. compare.json is
    the report: ``{"runs": [...], "training": {...}}``, a run being kind, seed, content, style, total (means
    over styles and unseen photographs), moved (see there) and neighbours (`moved_by_neighbours`, of one photograph in the first style by
    name alone); "judged_on" says whether the photographs are unseen, which of fewer than 100 none are (`held_out`). losses.png,
    scores.png and changes.png draw it, tables.md writes it down. Stopped at any time, the same call goes on.

    tell: called with kind, seed and `Progress` after each step.

    Raises `StylenormError` where a folder is not fit for it, a photograph to judge on is broken, or ``out`` holds runs of
    other settings or pictures.
    """
    out = Path(config.training.out)
    for folder in (config.training.photos, config.training.styles):
        above = [path for path in (out.resolve(), *out.resolve().parents) if path.exists()]
        if Path(folder).exists() and file_id(folder) in map(file_id, above):  # and not by name: on a Mac, Photos is photos
            raise StylenormError(f"{out} lies in {folder}, and each run would learn from the sheets of the one before; give another folder")
    found = len(find_images(config.training.photos))
    if found < 3:
        raise StylenormError(f"networks are judged on at least 3 photographs, and {config.training.photos} has {found}; give more")
    _require_whole(config)
    with no_empty(out), alone_in(out):
        config = replace(config, training=_settled(config.training))
        with _kept_alike(out, config):
            runs = [
                _run(config, kind, seed, tell)
                for seed in config.seeds  # so that a run cut short has compared all kinds on fewer seeds
                for kind in TITLES
            ]
    for kind in TITLES:
        _without_encoder(out / "runs" / f"{kind}-{config.seeds[0]}", out / kind)
    unseen = bool(held_out(find_images(config.training.photos))[1])
    report = {"runs": runs, "training": _settings(config.training), "judged_on": UNSEEN if unseen else SEEN}
    write_whole(out / REPORT, json.dumps(report, indent=2).encode())
    draw(report, out)
    return report


def _settled(training: TrainConfig) -> TrainConfig:
    """``training`` with what it leaves to the device as the runs have it that there are, or else as a CPU takes it: one
    comparison on any device, and also where it goes on on another one."""
    before = _begun_with(Path(training.out))
    training = settled(replace(training, **{name: before[name] for name in USUAL if getattr(training, name) is None and name in before}))
    return training if training.init else replace(training, encoder_width=training.encoder_width or 384)


def _begun_with(out: Path) -> dict:
    """The settings of the runs in ``out``, empty where there are none. Early ones, which the device had settled, are the first run's."""
    path = out / SETTINGS
    if not _is_begun(out) or not path.is_file():
        return {}
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise StylenormError(f"{path} is damaged; give another folder") from None
    files = (path for path in sorted((out / "runs").glob("*/*.safetensors")) if path.stem in ("resume", "network"))
    if any(before.get(name) is None for name in USUAL if name != "encoder_width") and (file := next(files, None)):
        told = read_metadata(file, file.stem)
        told = told["config"] if file.stem == "resume" else told["about"]["training"]
        before |= {name: told.get(name) for name in USUAL if before.get(name) is None}
        before["encoder_width"] = before["encoder_width"] or (None if before.get("init") else 384)
    return before


@contextmanager
def _kept_alike(out: Path, config: CompareConfig) -> Iterator[None]:
    """Write down what all runs are trained on, and refuse to go on with anything else: kinds were compared that differ in more.

    Where it ends before the first checkpoint, that is forgotten.
    """
    _keep_alike(out / SETTINGS, config)
    try:
        yield
    finally:
        if not _is_begun(out):
            remove(out / SETTINGS)


def _is_begun(out: Path) -> bool:
    return any(file for name in ("judged.json", "resume.safetensors") for file in (out / "runs").glob(f"*/{name}"))


def _keep_alike(path: Path, config: CompareConfig) -> None:
    training = config.training
    wanted = {key: value for key, value in asdict(training).items() if key not in FREE}
    wanted |= {
        "judged": config.judged,
        "photos": _fingerprint(training.photos),
        "styles": _fingerprint(training.styles, training.names),
        "vgg": training.vgg if training.vgg == "torchvision" else hashlib.sha256(Path(training.vgg or vgg_file()).read_bytes()).hexdigest(),
    }
    wanted = json.loads(json.dumps(wanted))
    before = _begun_with(path.parent)
    if not before:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return write_whole(path, json.dumps(wanted, indent=2).encode())
        except OSError as error:
            raise StylenormError(f"{path} cannot be written: {error.strerror or error}; give another folder") from None
    if other := [key for key, value in wanted.items() if before.get(key, value) != value]:
        raise StylenormError(f"{path.parent} holds runs that were trained with other {', '.join(other)}; give the same again, or another folder")


def _fingerprint(folder: str, names: tuple[str, ...] = ()) -> str:
    """Of the pictures in a folder, by their names and sizes in bytes; of those called ``names`` if there are any."""
    found = [path for path in find_images(folder) if not names or style_name(path) in names]
    rows = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _settings(training: TrainConfig) -> dict:
    keys = ("names", "steps", "batch", "size", "photo_scales", "style_size", "widths", "blocks", "optimizer", "learning_rate", "style_weight")
    return {key: getattr(training, key) for key in keys}


def _run(config: CompareConfig, kind: str, seed: int, tell: Tell | None) -> dict:
    folder = Path(config.training.out) / "runs" / f"{kind}-{seed}"
    training = replace(config.training, norm=kind, seed=seed, out=str(folder), tensorboard="off")
    done = folder / "judged.json"
    settings = json.loads(json.dumps(_settings(training)))
    if done.is_file():
        told = json.loads(done.read_text(encoding="utf-8"))
        before = {key: value for key, value in told["training"].items() if value is not None}  # early runs do not tell what was the device's
        if settings | before != settings:
            raise StylenormError(f"{folder} was trained with other settings; give them again, or another folder")
        return told["run"]
    if begun := (folder / "resume.safetensors").is_file():
        training = replace(training, encoder_width=None)  # as it has it, be it untold
    network = train(training, resume=begun, progress=tell and (lambda record: tell(kind, seed, record)))
    run = {"kind": kind, "seed": seed} | judge_network(network, training, config.judged)
    write_whole(done, json.dumps({"training": settings, "run": run}, indent=2).encode())
    remove(folder / "resume.safetensors")
    return run


def judge_network(path: Path, training: TrainConfig, count: int) -> dict:
    """Losses on unseen photographs, how far changes move the paintings, and neighbours that of the first photograph in the first style."""
    vgg = load_vgg(training.vgg, torch.device("cpu"))
    stylizer = Stylizer(path, device="cpu", backend="torch")
    scores = score_named(stylizer, vgg, training.photos, training.styles, JUDGED_SIZE, count).values()
    network = load_network(path)
    styles = [load_style(entry.file, network.hash) for entry in stylizer.styles.values()]
    files, others = _photographs(training, count)
    photos = torch.cat([to_tensor(square(file, JUDGED_SIZE)) for file in files + others])
    return {
        "content": mean(s.content for s in scores),
        "style": mean(s.style for s in scores),
        "total": mean(s.total for s in scores),
        "moved": moved(network.generator, styles, photos[: min(8, len(files))]),
        "neighbours": _neighbours(network, styles[0], photos),
    }


def _photographs(training: TrainConfig, count: int) -> tuple[list[Path], list[Path]]:
    """Unseen photographs, an odd number where there are so many, and those that serve as neighbours alone where there are not three."""
    files = unseen_pictures(training.photos, max(3, count // 2 * 2 + 1))
    return files, [file for file in find_images(training.photos) if file not in files][: max(0, 3 - len(files))]


def _require_whole(config: CompareConfig) -> None:
    """Refuse broken photographs among those that networks are judged on: trainings, which pass over them, would be for nothing."""
    files, others = _photographs(config.training, config.judged)
    for file in dict.fromkeys([*unseen_pictures(config.training.photos, config.judged), *files, *others]):
        try:
            read_picture(file)
        except ImageError as error:
            raise StylenormError(f"photographs that networks are judged on must be whole: {error}") from None


def _neighbours(network: Network, style, photos: torch.Tensor) -> dict[str, float]:
    odd = photos[: len(photos) - (len(photos) + 1) % 2][:7]
    return {
        "training": moved_by_neighbours(network.generator, style, odd, training=True),
        "inference": moved_by_neighbours(network.generator, style, odd, training=False),
    }


def _without_encoder(run: Path, folder: Path) -> None:
    """A copy of a run's network that knows its named styles and nothing else, which is small enough to ship."""
    network = load_network(run / "network.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    save_network(folder / "network.safetensors", network.generator, None, **network.about)
    shutil.copytree(run / "styles", folder / "styles", dirs_exist_ok=True)


# ---- the report --------------------------------------------------------------------------------


def spread(report: Mapping, value: Callable[[dict], float]) -> dict[str, tuple[float, float]]:
    """{kind: (mean, standard deviation)} of a value over the seeds; the deviation of one seed is 0."""
    values = {kind: [value(run) for run in report["runs"] if run["kind"] == kind] for kind in TITLES}
    return {kind: (mean(v), stdev(v) if len(v) > 1 else 0.0) for kind, v in values.items()}


def judged_on(report: Mapping) -> str:
    return report.get("judged_on", UNSEEN)  # which early reports do not tell


def draw(report: Mapping, out: Path) -> None:
    """losses.png, scores.png, changes.png and tables.md from a report and the runs' loss.csv files."""
    curves = []
    for kind, title in TITLES.items():
        seeds = [run["seed"] for run in report["runs"] if run["kind"] == kind]
        curves.append(KindCurves(title, [_totals(out / "runs" / f"{kind}-{seed}" / "loss.csv") for seed in seeds]))
    kind_curves(curves, out / "losses.png")
    titles = list(TITLES.values())
    parts = {part: list(spread(report, lambda r, part=part: r[part]).values()) for part in ("content", "style", "total")}
    kind_bars(titles, parts, out / "scores.png", f"loss on {judged_on(report)}")
    changes = {change: list(spread(report, lambda r, c=change: r["moved"][c]).values()) for change in CHANGES}
    kind_bars(titles, changes, out / "changes.png", "painting's change over the photograph's")
    write_whole(out / "tables.md", tables(report).encode())


def _totals(table: Path) -> list[float]:
    with open(table, newline="") as file:
        return [float(row["total"]) for row in csv.DictReader(file)]


def tables(report: Mapping) -> str:
    """The report as three tables in Markdown: mean ± standard deviation over the seeds, of one seed its numbers."""
    parts = {key: spread(report, lambda r, k=key: r[k]) for key in ("content", "style", "total")}
    changes = {change: spread(report, lambda r, c=change: r["moved"][c]) for change in CHANGES}
    beside = {key: spread(report, lambda r, k=key: r["neighbours"][k]) for key in ("training", "inference")}
    several = len({run["seed"] for run in report["runs"]}) > 1
    named = {judged_on(report): parts, "a change to the photograph": changes, "one photograph, other neighbours": beside}
    return "\n".join(_table(what, columns, several) for what, columns in named.items())


def _table(what: str, columns: Mapping[str, Mapping[str, tuple[float, float]]], several: bool) -> str:
    lines = [f"| {what} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for kind, title in TITLES.items():
        cells = [f"{m:.3g} ± {s:.2g}" if several else f"{m:.3g}" for m, s in (column[kind] for column in columns.values())]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
