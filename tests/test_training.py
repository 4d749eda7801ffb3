"""Runs of a few steps on drawn pictures: what they leave behind, and that they go on after SIGKILL as if nothing had been."""

import csv
import errno
import json
import math
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import numpy as np
import pytest
import torch
from conftest import TINY, make_photo
from PIL import Image
from safetensors.torch import load_file, save_file

from stylenorm import checkpoint, data, training
from stylenorm.catalog import style_entries
from stylenorm.checkpoint import load_network, load_ranges, load_style, save_network, save_style
from stylenorm.cli_train import speaks
from stylenorm.config import TrainConfig, settled
from stylenorm.data import Batch, Decoded, RandomCrops, Share, collate, find_images, held_out
from stylenorm.device import Group, autocast, can_compile, joined, loading_ahead
from stylenorm.errors import StylenormError
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.growing import grown, wider
from stylenorm.images import read_picture
from stylenorm.metadata import read_metadata
from stylenorm.perceptual import STYLE_LAYERS, grams
from stylenorm.style import Style, StyleEncoder
from stylenorm.training import Logs, Trainer, train
from stylenorm.training_logs import writing
from stylenorm.training_model import NamedStyles, StyledModel, _provenance, describe
from stylenorm.training_state import LOCK, alone_in, as_begun, load_state, mark_of, save_state

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("described_once")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """photos/ with one broken file, paintings/, styles/ with two paintings and what is known of one."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(6):
        make_photo(folder / "photos" / f"photo{i}.png", (70 + i, 90 - 2 * i), seed=i)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a photograph")
    for i in range(4):
        make_photo(folder / "paintings" / f"painting{i}.png", (80, 72 + i), seed=20 + i)
    for i, name in enumerate(("kiss", "wave")):
        make_photo(folder / "styles" / f"{name}.png", (96, 70), seed=40 + i)
    known = [{"name": "kiss", "title": "Der Kuß", "artist": "G. K.", "year": 1908, "secret": 1}, {"name": "absent", "title": "?"}]
    (folder / "styles" / "styles.json").write_text(json.dumps(known), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def an_empty_curve(monkeypatch):
    """Drawing loss.png takes longer than the steps; the run of ``finished`` draws it."""
    monkeypatch.setattr("stylenorm.plots.loss_curve", lambda table, path: path.touch())


@pytest.fixture
def config(pictures, tmp_path) -> TrainConfig:
    return tiny(pictures, tmp_path / "run")


def tiny(pictures: Path, out: Path, **settings) -> TrainConfig:
    values = dict(
        photos=str(pictures / "photos"), styles=str(pictures / "styles"), paintings=str(pictures / "paintings"), out=str(out),
        steps=8, batch=2, size=64, photo_scales=(64, 80), style_size=64, painting_size=64, painting_scales=(64, 80),
        widths=(8, 8, 16), blocks=(0, 0, 1), device="cpu", checkpoint_every=2, sample_every=1000, warmup=2, seed=3,
        tensorboard="off",
    )  # fmt: skip
    return TrainConfig(**values | settings)


@pytest.fixture(scope="module")
def finished(described_once, pictures, tmp_path_factory):
    """A run of 8 steps: its folder, its trainer, its records, and the moving average followed beside it."""
    trainer = Trainer(tiny(pictures, tmp_path_factory.mktemp("finished") / "run"))
    records, average = [], {k: v.clone() for k, v in trainer.model.state_dict().items()}

    def note(record):
        records.append(record)
        decay = min(0.999, (1 + record.step) / (10 + record.step))
        for key, value in trainer.model.state_dict().items():
            average[key] = decay * average[key] + (1 - decay) * value

    trainer.run(note)
    return trainer, records, average


def refused(call, *parts: str) -> str:
    with pytest.raises(StylenormError) as caught:
        call()
    told = str(caught.value)
    assert told and "\n" not in told and all(part in told for part in parts), told
    return told


def same_tensors(a: Path, b: Path) -> None:
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype and torch.equal(value, theirs[key]), key


def log(folder: Path) -> list[dict]:
    with open(folder / "loss.csv", newline="") as file:
        return list(csv.DictReader(file))


# ---- what a run leaves behind ------------------------------------------------------------------


def test_a_run_leaves_a_network_its_styles_a_curve_and_a_sheet(finished):
    trainer, records, _ = finished
    assert sorted(p.name for p in trainer.out.iterdir()) == [
        "loss.csv", "loss.png", "network.ranges.safetensors", "network.safetensors", "resume.safetensors", "samples.png", "styles"
    ]  # fmt: skip
    network = load_network(trainer.out / "network.safetensors")
    assert load_ranges(trainer.out / "network.safetensors", network).keys() == {*network.generator.config.names, "out"}
    assert network.generator.config == GeneratorConfig((8, 8, 16), (0, 0, 1))
    assert network.about["training"]["step"] == 8 and network.about["training"]["images"] == 16
    assert network.about["training"]["batch"] == 2 and not any(str(trainer.out.parent) in str(v) for v in network.about["training"].values())
    entries = style_entries(trainer.out)
    assert [(e.name, e.title, e.year) for e in entries] == [("kiss", "Der Kuß", 1908), ("wave", None, None)]
    provenance = load_style(entries[0].file, network.hash).provenance
    assert provenance["file"] == "kiss.png" and provenance["style_size"] == 64 and "secret" not in provenance
    with Image.open(trainer.out / "samples.png") as sheet, Image.open(trainer.out / "loss.png") as curve:
        sheet.load(), curve.load()
        assert sheet.width > 5 * 64 and sheet.height > 3 * 64  # photograph, two named, two paintings; three photographs
        assert len(sheet.convert("L").getcolors()) > 50


def test_no_network_tells_of_its_makers_folders(finished, tmp_path, monkeypatch):
    folders = {name: str(tmp_path / name) for name in ("photos", "styles", "paintings", "out", "vgg", "init")}
    monkeypatch.setattr(finished[0], "config", replace(finished[0].config, **folders))
    assert str(tmp_path) not in json.dumps(finished[0]._about())


def test_the_table_has_a_row_a_step(finished):
    trainer, records, _ = finished
    rows = log(trainer.out)
    assert [int(r["step"]) for r in rows] == list(range(1, 9)) == [r.step for r in records]
    for row, record in zip(rows, records):
        for key in ("content", "style", "total", "learning_rate"):
            assert float(row[key]) == pytest.approx(getattr(record, key), rel=1e-5)


def test_progress_tells_losses_speed_and_time_left(finished):
    _, records, _ = finished
    for record in records:
        assert record.steps == 8 and record.images_per_second > 0
        assert all(math.isfinite(v) and v >= 0 for v in (record.content, record.style, record.total))
        assert record.total >= record.content + 10 * record.style - 1e-5
    assert records[-1].seconds_left == 0 and records[0].seconds_left > 0


def test_a_broken_photograph_is_named_and_not_fatal(finished):
    _, records, _ = finished
    told = [complaint for record in records for complaint in record.broken]
    assert told and all("broken.jpg" in complaint and "\n" not in complaint for complaint in told)


def test_what_is_exported_is_the_moving_average(finished):
    trainer, _, average = finished
    model = trainer.model.state_dict()
    stored = load_file(trainer.out / "network.safetensors")
    moved = 0
    for key, value in stored.items():
        torch.testing.assert_close(value.float(), average[key].half().float(), atol=1e-4, rtol=2e-3)
        moved += not torch.allclose(value.float(), model[key].half().float(), atol=1e-4, rtol=2e-3)
    assert moved > 5
    encoder = StyleEncoder(trainer.model.generator.config.channels)
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in average.items() if k.startswith("encoder.")})
    with torch.no_grad():
        wanted = encoder(trainer.named.statistics) + average["rows"]
    for i, name in enumerate(("kiss", "wave")):
        style = load_style(trainer.out / "styles" / f"{name}.safetensors")
        torch.testing.assert_close(style.flat(), wanted[i : i + 1], atol=2e-3, rtol=2e-3)
    assert average["rows"].abs().max() > 1e-3


@torch.no_grad()
def test_each_picture_is_judged_by_its_own_painting(finished):
    """The losses of a mixed batch are those of its pictures one by one."""
    trainer, _, _ = finished
    items = [trainer.pairs[i] for i in range(4)]
    assert [k for _, k, _ in items] == [-1, 0, -1, 1]
    together = trainer.losses(collate(items))
    alone = [trainer.losses(collate([item])) for item in items]
    for i, losses in enumerate(together):
        torch.testing.assert_close(losses, torch.cat([a[i] for a in alone]), rtol=0.02, atol=0.002)
    style = together[1]
    assert ((style - style.roll(1)).abs() > 0.01).sum() >= 3  # so that an exchange of most neighbours would show


def test_one_impossible_picture_does_not_outweigh_the_others():
    x = torch.tensor([2.0, 29.0, 900.0], requires_grad=True)
    losses = training.tempered(x * x / x.detach())
    torch.testing.assert_close(losses, torch.tensor([2.0, 29.0, 30.0]))
    losses.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([2.0, 2.0, 2.0 / 30]))
    whatever = training.tempered(torch.tensor([math.inf, math.nan]))
    assert not whatever.isfinite().any()  # such a loss still stops the run


def test_a_named_style_is_its_prediction_and_a_row_and_any_other_the_prediction_alone():
    model, statistics = StyledModel(TINY, 2), torch.rand(3, 1920, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predicted = model.encoder(statistics)
        assert model.rows.shape == (2, *predicted.shape[1:]) and not model.rows.any()
        model.rows += torch.tensor([1.0, 2.0]).view(2, 1, 1)
        found = model.flat_styles(statistics, torch.tensor([1, -1, 0]))
        torch.testing.assert_close(found - predicted, torch.tensor([2.0, 0, 1]).view(3, 1, 1).expand_as(found))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model.flat_styles(statistics, torch.tensor([1, -1, 0])), found), "in float32 all the same"
        assert StyledModel(TINY, 0).flat_styles(statistics, torch.tensor([-1, -1, -1])).shape == found.shape


def test_goals_are_those_of_the_named_and_of_each_next_painting_at_every_scale():
    def vgg(pictures, layers=STYLE_LAYERS):
        return {layer: pictures for layer in layers}

    paintings = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    (table, statistics), (others, other_statistics) = (describe(vgg, p, (2, 4)) for p in (paintings[:3], paintings[3:]))
    assert set(table) == {f"{layer}{scale}" for layer in STYLE_LAYERS for scale in ("", "/2", "/4")}
    torch.testing.assert_close(table["relu1_2/4"], grams(vgg(torch.nn.functional.avg_pool2d(paintings[:3], 4)))["relu1_2"])
    known = NamedStyles(["a", "b", "c"], table, statistics, [], (2, 4))
    goals, wanted = known.goals(vgg, torch.tensor([-1, 2, -1, 0]), paintings[3:])
    for found, (ours, theirs) in [(goals[k], (table[k], others[k])) for k in table] + [(wanted, (statistics, other_statistics))]:
        torch.testing.assert_close(found, torch.stack([theirs[0], ours[2], theirs[1], ours[0]]))
    torch.testing.assert_close(known.goals(vgg, torch.tensor([1, 1]), None)[1], statistics[[1, 1]])
    goals, wanted = NamedStyles([], {}, torch.zeros(0, 24), [], (2, 4)).goals(vgg, torch.tensor([-1, -1]), paintings[3:])
    assert set(goals) == set(others) and torch.equal(wanted, other_statistics)


def test_losses_are_shares_of_what_is_wanted_and_not_of_what_is_painted():
    def vgg(pictures, layers=STYLE_LAYERS):
        return {layer: pictures for layer in layers}

    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    named = NamedStyles(["a", "b"], *describe(vgg, photos), [])
    run = SimpleNamespace(device=torch.device("cpu"), named=named, vgg=vgg, painter=lambda photos, *_: photos / 2, _there=lambda batch: batch)
    content, style, _ = Trainer.losses(run, SimpleNamespace(photos=photos, named=torch.tensor([0, 1]), paintings=None))
    assert content.tolist() == pytest.approx([0.25] * 2, rel=0.02) and style.tolist() == pytest.approx([0.75**2] * 2, rel=0.02)


def test_with_muon_convolutions_and_nothing_else_are_its_own():
    model = StyledModel(TINY, 2)
    config = TrainConfig(photos="photos", paintings="paintings", out="out", optimizer="muon", learning_rate=0.1, encoder_learning_rate=0.2, style_learning_rate=0.3)
    own, biases, encoder, rows = Trainer._optimizer(SimpleNamespace(config=config, model=model)).param_groups
    assert own["params"] and {p.dim() for p in own["params"]} == {4} and {p.dim() for p in biases["params"]} == {1}
    assert len(own["params"] + biases["params"]) == len(list(model.generator.parameters())) and rows["params"] == [model.rows]
    assert len(encoder["params"]) == len(list(model.encoder.parameters()))
    assert [group["peak"] for group in (own, biases, encoder, rows)] == [0.1, 0.1, 0.2, 0.3]


def test_samples_show_what_is_not_trained_on_where_there_is_such(pictures):
    seen, broken = [pictures / "photos" / "photo0.png"], [pictures / "photos" / "broken.jpg"]
    for unseen, wanted in (([pictures / "photos" / "photo1.png"],) * 2, ([], seen), (broken, seen)):
        run = SimpleNamespace(unseen=unseen, photos=SimpleNamespace(files=seen), config=SimpleNamespace(size=64))
        assert Trainer._unseen(run).files == wanted


def test_a_style_can_weigh_content_more_than_others(config):
    def norms(*weights: str) -> list[float]:
        """Of the gradient of pictures in the first style, in the second, and in any painting's."""
        trainer = Trainer(replace(config, content_weights=weights, structure_weight=0.0, style_weight=0.0, clip=1e9))
        trainer.optimizer.step = lambda: None  # so that all see the same weights
        gradients = []
        for named in ([0, 0], [1, 1], [-1, -1]):
            seen = torch.Generator().manual_seed(1)
            photos, paintings = torch.rand(2, 3, 64, 64, generator=seen), torch.rand(2, 3, 64, 64, generator=seen)
            trainer.train_step(Batch(photos, torch.tensor(named), paintings if named[0] < 0 else None, ["a", "b"], []))
            found = [p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]
            gradients.append(torch.stack(found).norm().item())
        return gradients

    ratios = [weighted / plain for weighted, plain in zip(norms("wave:3", "kiss:0.5"), norms())]
    assert ratios == pytest.approx([0.5, 3, 1], rel=0.02)


def test_everything_is_learned(finished):
    trainer, _, _ = finished
    torch.manual_seed(3)
    start = training.StyledModel(trainer.model.generator.config, 2).state_dict()
    for key, value in trainer.model.state_dict().items():
        if not key.startswith(("encoder.mean", "encoder.std")):
            assert not torch.equal(value, start[key]), key
    for i in range(2):
        assert trainer.model.rows[i].abs().max() > 0


def test_the_encoder_is_standardized_over_the_paintings(finished):
    trainer, _, _ = finished
    encoder = trainer.model.encoder
    with torch.no_grad():
        rows = [trainer.named.statistics]
        rows += [training.describe(trainer.vgg, trainer.paintings[i].pixels[None])[1] for i in range(4)]
    table = torch.cat(rows)
    torch.testing.assert_close(encoder.mean, table.mean(0))
    torch.testing.assert_close(encoder.std, table.std(0, correction=0).clamp_min(0.1))


def test_the_learning_rate_rises_stays_and_falls(pictures, tmp_path):
    trainer = Trainer(tiny(pictures, tmp_path / "run", steps=100, warmup=10, decay_start=0.6))
    rates = [trainer.learning_rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10:60] == [1.0] * 50
    assert all(a > b for a, b in zip(rates[60:], rates[61:]))
    assert rates[80] == pytest.approx(0.5) and 0 < rates[99] < 0.002


def test_the_schedule_of_short_runs_of_those_by_the_clock_and_of_those_that_never_decay():
    def rates(*at, **settings) -> list[float]:
        config = TrainConfig(photos="photos", paintings="paintings", out="out", **settings)
        run = SimpleNamespace(config=config, seconds=90.0)
        run.done = partial(Trainer.done, run)
        return [Trainer.learning_rate(run, step) for step in at]

    assert rates(0, 1, 7, 8, steps=8, warmup=100, decay_start=1.0) == [0.5, 1, 1, 1], "a quarter of it at most"
    assert rates(0, 99, steps=100, warmup=0, decay_start=1.0) == [1, 1]
    assert rates(0, 49, 99, 10**6, minutes=60.0, warmup=100, decay_start=0.5) == pytest.approx([0.1, 0.5, 1, 1])
    assert rates(0, 49, 99, minutes=12.0, warmup=100, decay_start=0.5) == pytest.approx([0.5, 0.5, 1]), "by the clock as well"
    assert rates(0, 10**6, minutes=2.0, warmup=100, decay_start=0.5) == pytest.approx([0.5, 0.5])
    assert rates(10**6, minutes=1.0, decay_start=0.5) == pytest.approx([0])


def test_the_learning_rates_of_the_run_are_those_of_the_schedule(finished):
    trainer, records, _ = finished
    assert [r.learning_rate for r in records] == pytest.approx([2e-3 * trainer.learning_rate(i) for i in range(8)])
    assert [g["peak"] for g in trainer.optimizer.param_groups] == [2e-3, 1e-3, 1e-2]
    assert sum(len(g["params"]) for g in trainer.optimizer.param_groups) == len(list(trainer.model.parameters()))


# ---- the same again ----------------------------------------------------------------------------


def test_a_second_run_is_the_same_with_workers_or_without_and_with_pictures_kept_in_memory_or_not(finished, pictures, tmp_path):
    trainer, _, _ = finished
    assert trainer.photos.decoded.memory is not None and trainer.paintings.decoded.memory is not None
    train(tiny(pictures, tmp_path / "run", workers=1, cache=0))
    same_tensors(trainer.out / "resume.safetensors", tmp_path / "run" / "resume.safetensors")
    for name in ("network", "styles/kiss", "styles/wave"):
        same_tensors(trainer.out / f"{name}.safetensors", tmp_path / "run" / f"{name}.safetensors")


def test_photographs_and_paintings_are_shuffled_apart(finished):
    """Of as many paintings as photographs each would else meet the same one in every epoch."""

    def order(crops) -> list[str]:
        other = RandomCrops([Path(str(i)) for i in range(10)], crops.size, crops.scales, crops.seed)
        return [other._file(i).name for i in range(40)]

    assert order(finished[0].photos) != order(finished[0].paintings)


def test_another_seed_is_another_run(finished, pictures, tmp_path):
    records = []
    train(tiny(pictures, tmp_path / "run", seed=4, steps=2), progress=records.append)
    assert [r.total for r in records] != [r.total for r in finished[1][:2]]


RUN = """
import sys, torch
torch.set_num_threads(1)
from stylenorm.config import TrainConfig
from stylenorm.training import train
values = __import__("json").loads(sys.argv[1])
train(TrainConfig(**values), progress=lambda r: print(r.step, flush=True))
"""


def test_killed_and_resumed_is_as_if_never_interrupted(finished, pictures, tmp_path):
    """SIGKILL after step 5, whose last checkpoint is step 4; then on to step 8: every bit as in the run of one go."""
    trainer, records, _ = finished
    config = tiny(pictures, tmp_path / "run")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(asdict(config))], stdout=subprocess.PIPE, text=True, env=environment
    )
    for line in process.stdout:
        if int(line) == 5:
            process.kill()
            break
    assert process.wait() == (1 if os.name == "nt" else -9)
    process.stdout.close()
    assert not (tmp_path / "run" / "network.safetensors").exists()
    assert read_metadata(tmp_path / "run" / "resume.safetensors", "resume")["step"] == 4
    assert [int(r["step"]) for r in log(tmp_path / "run")][:4] == [1, 2, 3, 4]

    again = []
    train(config, resume=True, progress=again.append)
    assert [(r.step, r.content, r.style, r.learning_rate) for r in again] == [
        (r.step, r.content, r.style, r.learning_rate) for r in records[4:]
    ]
    same_tensors(trainer.out / "resume.safetensors", tmp_path / "run" / "resume.safetensors")
    for name in ("network.safetensors", "styles/kiss.safetensors", "styles/wave.safetensors"):
        assert (trainer.out / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    drop = ("images_per_second",)
    assert [{k: v for k, v in r.items() if k not in drop} for r in log(tmp_path / "run")] == [
        {k: v for k, v in r.items() if k not in drop} for r in log(trainer.out)
    ]


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_as_long_as_the_first_is_at_work(resume, finished, config):
    if resume:
        shutil.copytree(finished[0].out, config.out)
        (Path(config.out) / LOCK).touch()  # as of a run that was killed
    told = "another training is writing into", config.out, "another folder"

    def meanwhile(record):
        refused(lambda: train(config, resume=True), *told)
        refused(lambda: train(replace(config, out=config.out + "/../run")), *told[:1])
        raise KeyboardInterrupt

    config = replace(config, steps=9)
    with pytest.raises(KeyboardInterrupt):
        train(config, resume, meanwhile)
    assert not (Path(config.out) / LOCK).exists() and log(Path(config.out))[-1]["step"] == ("9" if resume else "1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked off")
def test_what_a_killed_run_has_started_holds_its_folder_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.training_state.remove", lambda path: None)  # as if killed
    processes = multiprocessing.get_context("fork")
    begun = processes.Event()
    loading = processes.Process(target=lambda: begun.set() or time.sleep(60))
    with alone_in(tmp_path):
        loading.start()
        begun.wait(60)
        refused(lambda: alone_in(tmp_path).__enter__(), "another training")
    try:
        with alone_in(tmp_path):
            assert loading.is_alive()
    finally:
        loading.kill()
        loading.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked off")
def test_what_a_run_has_let_go_is_left_alone_in_processes_that_begin_later(tmp_path):
    """Its number is another file's by then: of the next of several runs, say, which `compare --train` makes."""
    with alone_in(tmp_path):
        pass
    with open(tmp_path / "later", "wb", buffering=0) as file:
        process = multiprocessing.get_context("fork").Process(target=file.write, args=(b"whole",))
        process.start()
        process.join()
    assert (tmp_path / "later").read_bytes() == b"whole"


def test_where_nothing_can_be_held_a_run_goes_on_and_leaves_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.training_state.lock_file", lambda file: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks available")))
    with alone_in(tmp_path), alone_in(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_run_beside_its_pictures_does_not_learn_from_its_own_sheets(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "all")
    config = tiny(tmp_path / "all", tmp_path / "all" / "styles" / "run", photos=str(tmp_path / "all"), steps=2)
    trainer = Trainer(config)
    trainer.run()
    again = Trainer(config, resume=True)
    assert again.photos.files == trainer.photos.files and again.named.names == ["kiss", "wave"]
    refused(lambda: Trainer(replace(config, out=config.styles)), config.styles, "give another --out")


def test_resuming_a_finished_run_changes_nothing(finished, tmp_path, pictures):
    trainer, _, _ = finished
    shutil.copytree(trainer.out, tmp_path / "run")
    records = []
    written = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    for steps in (8, 4):
        path = train(replace(trainer.config, out=str(tmp_path / "run"), steps=steps), resume=True, progress=records.append)
        assert records == [] and path == tmp_path / "run" / "network.safetensors"
    assert written == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*") if p.is_file()}


@pytest.mark.parametrize("lost", ["network.safetensors", "network.ranges.safetensors", "older"])
def test_a_run_that_was_killed_before_its_last_file_writes_them_all(lost, finished, tmp_path, pictures):
    trainer, _, _ = finished
    shutil.copytree(trainer.out, tmp_path / "run")
    if lost == "older":
        train(tiny(pictures, tmp_path / "older", steps=2))
        for name in ("network.safetensors", "network.ranges.safetensors"):
            shutil.copy(tmp_path / "older" / name, tmp_path / "run")
    else:
        (tmp_path / "run" / lost).unlink()
    (tmp_path / "run" / "samples.png").unlink()
    path = train(replace(trainer.config, out=str(tmp_path / "run")), resume=True)
    for name in ("network.safetensors", "network.ranges.safetensors"):
        same_tensors(trainer.out / name, path.parent / name)
    assert (tmp_path / "run" / "samples.png").read_bytes() == (trainer.out / "samples.png").read_bytes()


@pytest.mark.parametrize("name", ["samples.png", "loss.png"])
def test_a_run_that_was_killed_before_its_last_pictures_draws_them(name, finished, tmp_path):
    out = Path(shutil.copytree(finished[0].out, tmp_path / "run"))
    (out / name).write_bytes(b"as it was before")
    os.utime(out / name, (0, (out / "network.safetensors").stat().st_mtime - 60))
    train(replace(finished[0].config, out=str(out)), resume=True)
    assert (out / name).read_bytes() != b"as it was before"


def test_a_picture_that_somebody_is_looking_at_ends_no_run_on_windows(finished, tmp_path, monkeypatch, caplog):
    names, really = ("samples.png", "loss.png"), os.replace
    for name in names:
        (tmp_path / name).write_bytes(b"as it was before")

    def held(source, target):
        if Path(target).name in names:
            raise PermissionError(errno.EACCES, "it is being used by another process", str(target))
        really(source, target)

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr("stylenorm.drafts.PATIENCE", 0)
    finished[0].sample(tmp_path, photos=1)
    assert all(name in record.getMessage() for record, name in zip(caplog.records, names, strict=True))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, b"as it was before")
    (tmp_path / "loss.png").unlink()
    with pytest.raises(PermissionError):
        finished[0].sample(tmp_path, photos=1)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"batch": 3}, "batch"),
        ({"seed": 4}, "seed"),
        ({"size": 80}, "size"),
        ({"named_share": 0.25}, "named-share"),
        ({"norm": "layer"}, "norm"),
        ({"norm": "batch"}, "norm"),
        ({"widths": (8, 8, 24)}, "was started with --widths 8,8,16, not 8,8,24; give it again"),
        ({"encoder_width": 512}, "was started without --encoder-width; leave it out"),
        ({"blocks": (0, 1, 1)}, "blocks"),
        ({"names": ("wave",)}, "was started with the styles kiss, wave; give them again, with --styles and --names"),
        ({"optimizer": "muon"}, "optimizer"),
        ({"paintings": None}, "was started with --paintings"),
    ],
)
def test_resuming_with_other_settings_is_refused(settings, told, finished):
    trainer, _, _ = finished
    before = (trainer.out / "resume.safetensors").read_bytes()
    refused(lambda: Trainer(replace(trainer.config, **settings), resume=True), told)
    assert (trainer.out / "resume.safetensors").read_bytes() == before


def test_a_run_that_does_not_begin_leaves_no_folder(config, tmp_path):
    refused(lambda: train(replace(config, out=str(tmp_path / "new" / "run"), names=("nobody",))), "nobody")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    refused(lambda: train(replace(config, out=str(tmp_path / "old"), names=("nobody",))), "nobody")
    assert (tmp_path / "old").is_dir()


def test_an_init_that_comes_too_late_is_refused(finished, tmp_path):
    trainer, _, _ = finished
    other = Path(shutil.copy(trainer.out / "network.safetensors", tmp_path))
    refused(lambda: Trainer(replace(trainer.config, init=str(other)), resume=True), "was started without --init; leave it out")


def test_another_init_of_the_same_shape_is_refused_and_the_same_one_elsewhere_goes_on(finished, config, tmp_path):
    file, other = (tmp_path / name for name in ("network.safetensors", "other.safetensors"))
    shutil.copy(finished[0].out / "network.safetensors", file)
    network = load_network(file)
    save_network(other, Generator(network.generator.config), network.encoder, training={"images": 0})
    save_network(tmp_path / "same.safetensors", network.generator, StyleEncoder(network.generator.config.channels), training={"images": 0})
    assert mark_of(tmp_path / "same.safetensors") != mark_of(file), "with another encoder it is another network"
    started = replace(config, init=str(file), steps=1)
    Trainer(started).save_state()
    refused(lambda: Trainer(replace(started, init=str(other)), resume=True), f"from another network than {other}; give --init {file} again")
    moved = shutil.move(file, tmp_path / "moved.safetensors")
    for init in (str(moved), None):
        trainer = Trainer(replace(started, init=init, widths=network.generator.config.widths), resume=True)
        trainer.save_state()  # and still knows it
        refused(lambda: Trainer(replace(started, init=str(other)), resume=True), "another network")


def test_what_an_optimizer_keeps_lies_in_memory_as_the_weights_do_after_resuming_too(tmp_path, config):
    def trained() -> tuple:
        conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        adam = torch.optim.Adam(conv.parameters())
        conv(torch.ones(1, 3, 8, 8)).sum().backward()
        adam.step()
        return {"model": conv}, adam

    (model, adam), file = trained(), tmp_path / "resume.safetensors"
    save_state(file, model, adam, config, [])
    again, other = trained()
    load_state(file, again, other, config, [])
    for before, after in zip(model["model"].parameters(), again["model"].parameters()):
        kept = other.state[after]
        assert kept["step"] == 1 and torch.equal(kept["exp_avg"], adam.state[before]["exp_avg"])
        assert kept["exp_avg"].stride() == kept["exp_avg_sq"].stride() == after.stride()


def test_resuming_with_styles_where_there_were_none_is_told(config, tmp_path):
    file, models, adam = tmp_path / "resume.safetensors", {"model": torch.nn.Linear(2, 2)}, torch.optim.Adam([torch.zeros(1)])
    save_state(file, models, adam, config, [], step=1)
    refused(lambda: load_state(file, models, adam, config, ["kiss"]), "was started without --styles; leave it out")


def test_resuming_without_the_init_that_gave_the_network_its_shape_is_told(config, tmp_path):
    file, adam = tmp_path / "resume.safetensors", torch.optim.Adam([torch.zeros(1)])
    save_state(file, {"model": torch.nn.Linear(2, 2)}, adam, replace(config, init="w/network.safetensors"), [], step=1)
    refused(lambda: load_state(file, {"model": torch.nn.Linear(2, 3)}, adam, config, []), "another shape", "--init w/network.safetensors, give it again")


def test_a_run_with_muon_goes_on_as_if_never_interrupted(finished, pictures, tmp_path):
    """Stopped at its checkpoint of step 2 and taken up again, against one go: every bit the same."""
    one, two = (tiny(pictures, tmp_path / name, steps=4, optimizer="muon") for name in ("one", "two"))
    whole = train(one)
    trainer = Trainer(two)
    for batch in trainer.batches():
        trainer.train_step(batch)
        if trainer.step == 2:
            trainer.save_state()
            break
    same_tensors(whole, train(two, resume=True))
    state = load_file(tmp_path / "one" / "resume.safetensors")
    kinds = Counter(key.rpartition(".")[2] for key in state if key.startswith("optimizer."))
    convolutions = sum(p.dim() == 4 for p in trainer.model.generator.parameters())
    assert kinds == {"momentum_buffer": convolutions} | dict.fromkeys(("step", "exp_avg", "exp_avg_sq"), kinds["step"])
    assert convolutions + kinds["step"] == len(list(trainer.model.parameters()))
    adams = load_file(finished[0].out / "network.safetensors")
    assert not all(torch.equal(v, adams[k]) for k, v in load_file(whole).items())


def test_there_must_be_something_to_resume_and_nothing_to_overwrite(finished, config):
    refused(lambda: Trainer(config, resume=True), "resume.safetensors", "does not exist")
    unread = replace(finished[0].config, vgg="nowhere")  # it is told before anything is looked at, which takes its time
    refused(lambda: Trainer(unread), str(finished[0].out), "--resume")


def test_a_network_is_not_replaced_without_its_run(finished, config, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(finished[0].out / "network.safetensors", tmp_path / "run")
    before = (tmp_path / "run" / "network.safetensors").read_bytes()
    refused(lambda: Trainer(config), str(tmp_path / "run" / "network.safetensors"), "would be overwritten; choose another --out")
    assert (tmp_path / "run" / "network.safetensors").read_bytes() == before


def test_wherever_a_network_lies_a_run_can_go_on(config):
    def stop(record):
        if record.step == 2:
            raise KeyboardInterrupt

    trainer = Trainer(replace(config, checkpoint_every=100, sample_every=1))
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop)
    assert (trainer.out / "network.safetensors").exists() and Trainer(trainer.config, resume=True).step == 1


def test_what_a_killed_run_was_writing_goes_away(finished, tmp_path):
    shutil.copytree(finished[0].out, tmp_path / "run")
    drafts = (".resume.safetensors.x1y2z3a4", ".network.safetensors.abcdefgh", "styles/.kiss.safetensors.bc5e6e6f", ".stylenorm-0a1b2c3d4e5f.tmp")
    for name in drafts:
        (tmp_path / "run" / name).write_bytes(b"half")
    Trainer(replace(finished[0].config, out=str(tmp_path / "run")), resume=True)
    left, whole = ({p.relative_to(folder) for p in folder.rglob("*")} for folder in (tmp_path / "run", finished[0].out))
    assert left == whole


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_checkpoint_is_named(content, finished, config):
    whole = (finished[0].out / "resume.safetensors").read_bytes()
    Path(config.out).mkdir()
    (Path(config.out) / "resume.safetensors").write_bytes(whole[: len(whole) // 2] if content is None else content)
    refused(lambda: Trainer(config, resume=True), "resume.safetensors")


@pytest.mark.parametrize("torn", ["10,0.4", "1", "1,0.4"])
def test_a_torn_table_does_not_stop_a_run_from_resuming(torn, finished, tmp_path, monkeypatch):
    monkeypatch.undo()  # the curve is drawn of it
    shutil.copytree(finished[0].out, tmp_path / "run")
    with open(tmp_path / "run" / "loss.csv", "a") as file:
        file.write(f"9,0.5,0.1,1.5,0.001,3\n{torn}")
    train(replace(finished[0].config, out=str(tmp_path / "run"), steps=9), resume=True)
    assert [int(r["step"]) for r in log(tmp_path / "run")] == list(range(1, 10))


@pytest.mark.parametrize("left", [b"3,1,\xff\xfe", bytes(4096), b"2,0.5\0,0.1,1.5,0.001,3", b"2,1,1,1,1,1,1", b"\"2,1", b"x" * 200_000])
def test_whatever_a_loss_of_power_has_left_of_the_table_goes_away(left, tmp_path):
    rows = b"step,content,style,total,learning_rate,images_per_second\r\n1,0.5,0.1,1.5,0.001,3\r\n"
    (tmp_path / "loss.csv").write_bytes(rows + left)
    Logs(tmp_path, 2).__exit__()
    assert (tmp_path / "loss.csv").read_bytes() == rows


@pytest.mark.parametrize("which", ["photos", "paintings"])
def test_pictures_of_which_none_can_be_read_leave_no_folder_behind(which, finished, config, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    init = str(finished[0].out / "network.safetensors")
    refused(lambda: train(replace(config, init=init, **{which: str(tmp_path / "broken")})), "a.jpg is not a picture")
    assert not Path(config.out).exists()


# ---- losses that are no numbers ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_with_step_and_names(where, config):
    trainer = Trainer(config)
    batches = list(trainer.batches())
    trainer.train_step(batches[0])
    trainer.train_step(batches[1])
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    if where == "loss":
        with torch.no_grad():
            trainer.model.rows.fill_(math.nan)
        before["rows"].fill_(math.nan)
    else:
        trainer.model.generator.out.bias.register_hook(lambda gradient: gradient * math.inf)
    told = refused(lambda: trainer.train_step(batches[2]), where, "step 3", "start again with a --learning-rate below 0.002")
    assert all(name.split(" with ")[0] in told for name in batches[2].names)
    assert any(name in told for name in ("kiss", "wave")) and "painting" in told
    for key, value in trainer.model.state_dict().items():  # nothing was stepped with it
        assert torch.equal(value.nan_to_num(), before[key].nan_to_num()), key


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_gpu_leaves_checkpoints_and_sheets_a_minute_apart_and_those_of_the_end(device, config, monkeypatch):
    """At 13 steps a second, a quarter of a gigabyte was written every 8 seconds, and a sheet of 30 styles every 19."""
    trainer, now, left = Trainer(replace(config, steps=1400, checkpoint_every=100, sample_every=250)), [time.monotonic()], []
    trainer.device = torch.device(device)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(trainer, "save_state", lambda: left.append((trainer.step, "state")))
    monkeypatch.setattr(trainer, "export", lambda folder: None)
    monkeypatch.setattr(trainer, "sample", lambda folder: left.append((trainer.step, "sheet")))
    for trainer.step in range(1, 1401):
        now[0] += 0.1
        trainer._leave_files(SimpleNamespace(picture=lambda *_: None))
    states, sheets = ([step for step, what in left if what == kind] for kind in ("state", "sheet"))
    assert sheets == ([750, 1400] if device == "cuda" else [250, 500, 750, 1000, 1250, 1400])
    assert states == ([600, 750, 1400] if device == "cuda" else sorted({*range(100, 1401, 100), *sheets}))


def test_the_checkpoint_stays_sound_when_a_run_stops(config):
    trainer = Trainer(config)
    step = trainer.train_step

    def failing(batch):
        if trainer.step == 4:
            with torch.no_grad():
                trainer.model.generator.stem.conv.weight[0] = math.nan
        return step(batch)

    trainer.train_step = failing
    refused(trainer.run, "step 5", "go on from the last checkpoint with --resume and a --learning-rate below 0.002")
    tensors = load_file(trainer.state_file)
    assert read_metadata(trainer.state_file)["step"] == 4 and all(torch.isfinite(t).all() for t in tensors.values())


def test_gradients_are_clipped(config):
    norms = []
    for clip in (1e-3, 1e6):
        trainer = Trainer(replace(config, clip=clip, out=config.out + str(clip)))
        batch = next(iter(trainer.batches()))
        trainer.train_step(batch)
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in gradients]).norm().item())
    assert norms[0] == pytest.approx(1e-3, rel=1e-3) and norms[1] > 1e-2


# ---- what can be trained -----------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])  # and instance, above
def test_every_kind_of_norm_trains(norm, config):
    records = []
    path = train(replace(config, norm=norm, steps=2), progress=records.append)
    network = load_network(path)
    assert network.generator.config.norm == norm and len(records) == 2
    if norm == "batch":
        assert network.generator.stem.norm.num_batches_tracked == 2
        assert network.generator.stem.norm.running_var.std() > 0


@pytest.mark.parametrize("kind", ["named", "paintings"])
def test_named_styles_or_paintings_alone_will_do(kind, config):
    config = replace(config, steps=2, **({"paintings": None} if kind == "named" else {"styles": None}))
    path = train(config)
    assert len(style_entries(path)) == (2 if kind == "named" else 0)
    assert load_network(path).encoder is not None
    train(replace(config, steps=3), resume=True)


def test_one_photograph_and_one_named_painting_will_do(pictures, tmp_path, config):
    make_photo(tmp_path / "one" / "photo.jpg")
    path = train(replace(config, photos=str(tmp_path / "one"), paintings=None, names=("wave",), steps=2))
    assert [e.name for e in style_entries(path)] == ["wave"]


def test_a_photograph_of_a_single_colour_does_not_end_a_run(pictures, tmp_path):
    make_photo(tmp_path / "photos" / "a.png", (80, 70))
    Image.new("RGB", (80, 70), "white").save(tmp_path / "photos" / "white.png")
    deep = {"widths": (8, 8, 8, 8), "blocks": (0, 1, 2, 4), "steps": 1}
    config = tiny(pictures, tmp_path / "run", photos=str(tmp_path / "photos"), paintings=None, **deep)
    assert train(config).is_file(), "its gradient was not finite, after --resume again"


DEEP = {"widths": (8, 8, 8, 8), "blocks": (0, 1, 2, 4)}


@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "group"])
def test_a_batch_whose_squares_are_all_of_a_single_colour_asks_for_nothing(config, norm):
    trainer = Trainer(replace(config, norm=norm, optimizer="muon", **DEEP))
    photos = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    photos[1, 1] = 255
    before = {k: v.clone() for k, v in trainer.model.named_parameters()}
    flat = Batch(photos, torch.tensor([0, 1]), None, ["a", "b"], [])
    for _ in range(2):
        assert all(map(math.isfinite, trainer.train_step(flat)))
    assert all(torch.equal(p, before[k]) for k, p in trainer.model.named_parameters())


def test_a_square_of_a_single_colour_leaves_its_batch_what_the_others_teach(config):
    trainer, photos = Trainer(replace(config, clip=1e9, **DEEP)), torch.full((2, 3, 64, 64), 200, dtype=torch.uint8)
    photos[0] = torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    both = Batch(photos, torch.tensor([0, 1]), None, ["a", "b"], [])
    norms = [trainer.gradients(batch)[1].item() for batch in (both, both.part(1, 64))]
    assert norms[0] == pytest.approx(norms[1] / 2, rel=0.05) and norms[1] > 0


def test_a_photograph_of_next_to_nothing_but_sky_does_not_end_a_run(pictures, tmp_path):
    sky = Image.new("RGB", (500, 64), "skyblue")
    sky.paste((90, 60, 30), (0, 0, 20, 64))
    (tmp_path / "photos").mkdir()
    sky.save(tmp_path / "photos" / "sky.png")
    config = tiny(pictures, tmp_path / "run", photos=str(tmp_path / "photos"), paintings=None, photo_scales=(64, 64), **DEEP, steps=3)
    assert train(config).is_file()


def test_a_named_painting_of_a_single_colour_is_refused_before_training(config, tmp_path):
    Image.new("RGB", (80, 70), "navy").save(tmp_path / "blue.png")
    refused(lambda: Trainer(replace(config, styles=str(tmp_path))), "blue.png is of a single colour", "no style", "give a painting")


@pytest.mark.parametrize("count", [1, 2])
def test_photographs_that_are_each_of_a_single_colour_are_refused_before_training(count, config, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(count):
        Image.new("RGB", (80, 70), (255, 255, 9 * i)).save(tmp_path / "photos" / f"white{i}.png")
    where = tmp_path / "photos" if count > 1 else tmp_path / "photos" / "white0.png"
    refused(lambda: Trainer(replace(config, photos=str(tmp_path / "photos"))), str(where), "single colour", "give photographs")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    make_photo(tmp_path / "photos" / "z.png", (80, 70))
    assert train(replace(config, photos=str(tmp_path / "photos"), out=str(tmp_path / "other"), steps=1)).is_file()


def test_settings_may_be_paths_lists_and_numpys_numbers(pictures, tmp_path):
    config = tiny(pictures, tmp_path / "run", steps=np.int64(2), checkpoint_every=1, widths=[8, 8, np.int64(16)], learning_rate=np.float32(1e-3))
    folders = {name: Path(getattr(config, name)) for name in ("photos", "styles", "paintings", "out")}
    train(replace(config, **folders))
    assert replace(config, names="wave").names == ("wave",) and replace(config, content_weights="wave:2").content_weights == ("wave:2",)
    assert train(replace(config, steps=3, **folders), resume=True) == tmp_path / "run" / "network.safetensors"
    assert len(log(tmp_path / "run")) == 3


def test_a_short_training_lowers_the_loss(pictures, tmp_path):
    records = []
    settings = dict(steps=18, paintings=None, names=("kiss",), photo_scales=(64, 64), checkpoint_every=1000, warmup=4)
    train(tiny(pictures, tmp_path / "run", **settings), progress=records.append)
    assert sum(r.total for r in records[-4:]) < 0.75 * sum(r.total for r in records[:4])


@pytest.mark.parametrize("names, told", [(("a,b.png",), "'a,b'"), (("-x.png",), "'-x'"), (("Hill.png", "hill.jpg"), "one name")])
def test_paintings_whose_styles_nobody_could_choose_are_refused_before_training(names, told, config, tmp_path):
    for name in names:
        make_photo(tmp_path / "styles" / name, (70, 70), seed=1)
    told = refused(lambda: Trainer(replace(config, styles=str(tmp_path / "styles"))), told, names[-1])
    assert str(tmp_path / "styles") in told


@pytest.mark.parametrize(
    "change, told",
    [
        ({"photos": "{none}"}, "{none}"),
        ({"photos": "{empty}"}, "{empty}"),
        ({"styles": "{empty}"}, "{empty}"),
        ({"paintings": "{none}"}, "{none}"),
        ({"styles": None, "paintings": None}, "named styles"),
        ({"names": ("kiss", "scream")}, "'scream'"),
        ({"content_weights": ("scream:2",)}, "'scream'"),
        ({"content_weights": ("kiss",)}, "NAME:NUMBER"),
        ({"content_weights": ("kiss:-1",)}, "NAME:NUMBER"),
        ({"content_weights": ("kiss:2",), "names": ("wave",)}, "'kiss'"),
        ({"vgg": "{none}"}, "{none}"),
        ({"vgg": "{text}"}, "{text}"),
        ({"vgg": "{style}"}, "{style}"),
        ({"init": "{none}"}, "{none}"),
        ({"init": "{style}"}, "{style}"),
        ({"device": "cuda:77"}, "cuda:77"),
        ({"device": "abacus"}, "abacus"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, not nan"),
        ({"style_weight": float("inf")}, "style_weight must be a finite number, not inf"),
        ({"learning_rate": -1e-3}, "learning_rate must be at least 0"),
        ({"learning_rate": 1e9}, "learning_rate must be at most 1, not 1e+09: 0.002 is usual"),
        ({"style_learning_rate": 2.0}, "style_learning_rate must be at most 1, not 2: 0.01 is usual"),
        ({"style_weight": -10.0}, "style_weight must be at least 0"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"clip": -1.0}, "clip must be above 0"),
        ({"ema": -1.0}, "ema must lie between 0 and 1"),
        ({"decay_start": -1.0}, "decay_start must lie between 0 and 1"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"seed": 10**30}, "seed must lie between"),
        ({"workers": -1}, "workers"),
        ({"cache": -1}, "cache"),
        ({"compile": "maybe"}, "compile"),
        ({"tensorboard": "yes"}, "tensorboard"),
        ({"deterministic": "auto"}, "deterministic"),
        ({"norm": "spectral"}, "spectral"),
        ({"norm": "group", "num_groups": 7}, "7 groups"),
        ({"widths": (8,), "blocks": (1,)}, "two widths"),
        ({"batch": 2.5}, "batch must be a whole number, not 2.5"),
        ({"steps": "8"}, "steps must be a whole number, not '8'"),
        ({"learning_rate": None}, "learning_rate must be a number, not None"),
        ({"widths": 8}, "widths must be a tuple, not 8"),
        ({"photo_scales": (64,)}, "photo_scales must be two whole numbers, not (64,)"),
        ({"photo_scales": (64, "80")}, "photo_scales must be two whole numbers, not (64, '80')"),
        ({"widths": (8.5, 8)}, "widths must be whole numbers, not (8.5, 8)"),
        ({"photo_scales": (-64, 80)}, "photo_scales must be at least 1 px, not -64"),
        ({"painting_scales": (0, 0)}, "painting_scales must be at least 1 px, not 0"),
        ({"out": "{text}"}, "{text}"),
        ({"out": "a\0b"}, "out must be a path, not 'a\\x00b'"),
        ({"out": "{text}/deeper"}, "{text}"),
    ],
)
def test_wrong_settings_are_one_sentence(change, told, config, finished, tmp_path):
    places = {
        "none": str(tmp_path / "none"),
        "empty": str(tmp_path / "empty"),
        "text": str(tmp_path / "notes.txt"),
        "style": str(finished[0].out / "styles" / "kiss.safetensors"),
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not weights")
    change = {k: v.format(**places) if isinstance(v, str) else v for k, v in change.items()}
    refused(lambda: train(replace(config, **change)), told.format(**places))


@pytest.mark.parametrize("values", ['{"kiss": 3}', "[1]", "{", '[{"title": "x"}]', '"kiss"', "[[]]"])
def test_a_table_of_styles_that_makes_no_sense_is_named(values, tmp_path, config):
    make_photo(tmp_path / "styles" / "kiss.png", (70, 70))
    (tmp_path / "styles" / "styles.json").write_text(values)
    refused(lambda: Trainer(replace(config, styles=str(tmp_path / "styles"))), "styles.json")


def test_a_table_of_styles_tells_texts_and_numbers(tmp_path):
    table = tmp_path / "styles.json"
    for key, value in (("title", ["a"]), ("artist", {"name": "a"}), ("year", [1889]), ("licence", True)):
        table.write_text(json.dumps([{"name": "kiss", key: value}]))
        refused(lambda: _provenance(table), str(table), f"as the {key} of 'kiss'", "give a text or a number")
    about = {"title": 1984, "artist": None, "year": "c. 1503", "licence": "CC0"}
    table.write_text(json.dumps({"kiss": about}))
    assert _provenance(table) == {"kiss": about}


def test_an_accent_that_the_files_name_has_apart_is_composed_in_the_styles(pictures, tmp_path, config):
    apart = unicodedata.normalize("NFD", "café")
    shutil.copy(pictures / "styles" / "kiss.png", tmp_path / f"{apart}.png")
    (tmp_path / "styles.json").write_text('{"café": {"title": "Terrace"}}', encoding="utf-8")
    named = Trainer(replace(config, styles=str(tmp_path), names=(apart,), paintings=None, out=str(tmp_path / "run"))).named
    assert named.names == ["café"] and named.provenance[0]["title"] == "Terrace"


def test_a_table_of_styles_may_begin_with_the_mark_that_windows_gives_it(tmp_path):
    (tmp_path / "styles.json").write_text('{"kiss": {"title": "Der Kuß"}}', encoding="utf-8-sig")
    assert _provenance(tmp_path / "styles.json") == {"kiss": {"title": "Der Kuß"}}


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_broken_photographs_is_one_sentence(workers, tmp_path, config):
    for name in ("a.jpg", "b.png"):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / name).write_bytes(b"no")
    told = refused(lambda: train(replace(config, photos=str(tmp_path / "bad"), workers=workers)), "none of the 2")
    assert len(told) < 300


@pytest.mark.parametrize(
    "told", ["(pid(s) 17) exited unexpectedly", "(pid 17) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."]
)
def test_that_a_process_which_loads_pictures_has_died_is_one_sentence(told, config):
    trainer = Trainer(config)

    def fail(batch):  # wherever the process that trains is
        raise RuntimeError(f"DataLoader worker {told}")

    trainer.train_step = fail
    refused(trainer.run, "loads pictures has died", "--resume and fewer --workers")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm")
@pytest.mark.parametrize(
    ("megabytes", "device", "processes", "found"),
    [
        (1000, "cuda", 1, (8, 4)), (300, "cuda", 1, (8, 1)), (64, "cuda", 1, (3, 1)), (64, "cpu", 1, (1, 1)),
        (40, "cpu", 1, (0, 0)), (64, "cuda", 2, (1, 1)), (0, "cuda", 1, (0, 0)),
    ],
)  # fmt: skip
def test_processes_that_load_pictures_are_as_many_as_find_room_for_their_batches(megabytes, device, processes, found, monkeypatch, caplog):
    """Docker gives /dev/shm 64 MB. What found no room there was dropped, and the training waited for it without end."""
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=megabytes * 250, f_frsize=4000))
    group = Group(size=processes)
    assert loading_ahead(8, 18_000_000, torch.device(device), group) == found
    assert caplog.messages == [] if found[0] == 8 else "--shm-size" in caplog.text and f"room for {found[0]} of the 8 processes" in caplog.text
    caplog.clear()
    assert loading_ahead(8, 18_000_000, torch.device(device), replace(group, rank=1)) == found and not caplog.messages, "the first one tells"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm")
def test_a_batch_that_finds_no_room_after_all_ends_the_run_in_one_sentence(config, monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # in the process that is forked off
    refused(lambda: train(replace(config, workers=1)), "--shm-size", "fewer --workers")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/shm")
def test_a_run_that_finds_no_room_for_processes_loads_its_pictures_itself(config, monkeypatch, caplog):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=2, f_frsize=4096))
    trainer = Trainer(replace(config, workers=2))
    assert not next(trainer.batches()).photos.is_shared() and "0 of the 2" in caplog.text


def test_a_run_trains_where_the_caller_is_in_inference_mode(config):
    with torch.inference_mode():
        assert load_network(train(replace(config, steps=1))).about["training"]["step"] == 1


def test_a_painting_named_twice_is_one_style(config):
    assert Trainer(replace(config, names=("wave", "kiss", "wave"))).named.names == ["wave", "kiss"]


def test_a_broken_named_painting_is_named(tmp_path, config):
    make_photo(tmp_path / "styles" / "kiss.png")
    (tmp_path / "styles" / "bad.png").write_bytes(b"no")
    refused(lambda: Trainer(replace(config, styles=str(tmp_path / "styles"))), "bad.png")


def test_broken_photographs_do_not_stop_the_samples(tmp_path, config, monkeypatch):
    """Those that the sheet would show are broken: others are shown."""
    monkeypatch.undo()  # a curve of one step is one, too
    for i in range(6):
        (tmp_path / "mixed").mkdir(exist_ok=True)
        (tmp_path / "mixed" / f"a{i}.jpg").write_bytes(b"no")
    make_photo(tmp_path / "mixed" / "z.png", (70, 70))
    train(replace(config, photos=str(tmp_path / "mixed"), steps=1))
    assert (Path(config.out) / "samples.png").exists()


def test_held_out_photographs_that_are_all_broken_do_not_stop_the_samples(tmp_path, config):
    for i in range(100):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"a{i}.jpg").write_bytes(b"no")
    kept, unseen = held_out(find_images(tmp_path / "many"))
    for path in kept[:3]:
        make_photo(path, (70, 70))
    assert unseen
    train(replace(config, photos=str(tmp_path / "many"), steps=1))
    assert (Path(config.out) / "samples.png").exists()


# ---- going on from a network -------------------------------------------------------------------


def test_the_network_that_a_run_starts_from_is_never_overwritten(finished, config, tmp_path):
    shutil.copytree(finished[0].out, tmp_path / "mine")
    (tmp_path / "mine" / "resume.safetensors").unlink()
    network = tmp_path / "mine" / "network.safetensors"
    before = network.read_bytes()
    refused(lambda: train(replace(config, init=str(network), out=str(tmp_path / "mine"))), str(network), "another --out")
    assert network.read_bytes() == before


def test_init_goes_on_from_the_network_its_encoder_and_its_rows(finished, pictures, tmp_path):
    first = finished[0].out
    make_photo(tmp_path / "styles" / "fresh.png", (70, 80), seed=9)
    for name in ("kiss", "wave"):
        (tmp_path / "styles" / f"{name}.png").write_bytes((pictures / "styles" / f"{name}.png").read_bytes())
    init = str(first / "network.safetensors")
    config = tiny(pictures, tmp_path / "run", init=init, styles=str(tmp_path / "styles"), widths=(4, 4), blocks=(0, 0), steps=1)
    trainer = Trainer(config)
    network = load_network(init)
    assert trainer.model.generator.config == network.generator.config  # the file's, not the settings'
    for ours, theirs in ((trainer.model.generator, network.generator), (trainer.model.encoder, network.encoder)):
        assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    assert trainer.named.names == ["fresh", "kiss", "wave"]
    with torch.no_grad():
        flat = trainer.model.flat_styles(trainer.named.statistics, torch.arange(3))
    for i, name in ((1, "kiss"), (2, "wave")):
        torch.testing.assert_close(flat[i : i + 1], load_style(first / "styles" / f"{name}.safetensors").flat(), atol=1e-5, rtol=1e-5)
    assert torch.equal(trainer.model.rows[0], torch.zeros_like(trainer.model.rows[0]))
    path = trainer.run()
    about = load_network(path).about["training"]
    assert about["images"] == 16 + 2
    assert (about["widths"], about["blocks"]) == ([8, 8, 16], [0, 0, 1]), "of the network that was trained"
    assert load_network(init).hash == network.hash


@torch.no_grad()
def test_a_grown_network_starts_as_the_one_it_grew_from(finished):
    before = finished[0].model
    torch.manual_seed(5)
    photo, statistics, named = torch.rand(1, 3, 48, 64), finished[0].named.statistics[:1], torch.tensor([1])
    wanted = before(photo, statistics, named)
    after = grown(before, (1, 0, 3), gamma=0.0)
    assert after.generator.config == GeneratorConfig((8, 8, 16), (1, 0, 3))
    torch.testing.assert_close(after(photo, statistics, named), wanted, atol=1e-5, rtol=0)
    near = (grown(before, (1, 0, 3))(photo, statistics, named) - wanted).abs().max()
    assert 1e-4 < near < 0.5


@torch.no_grad()
def test_a_widened_network_starts_as_the_one_it_grew_from(finished):
    before = finished[0].model
    torch.manual_seed(6)
    photo, statistics, named = torch.rand(2, 3, 48, 64), finished[0].named.statistics[[0, 0]], torch.tensor([1, -1])
    after = grown(before, (1, 0, 3), (8, 12, 20), gamma=0.0)
    assert after.generator.config == GeneratorConfig((8, 12, 20), (1, 0, 3))
    torch.testing.assert_close(after(photo, statistics, named), before(photo, statistics, named), atol=1e-5, rtol=0)
    flat = after.flat_styles(statistics, named)[1]  # what is new starts at γ = 1 and β = 0
    starts = dict(zip(after.generator.config.names, after.generator.config.channels))
    assert flat.shape[1] == sum(starts.values())
    new = slice(8 + 8, 8 + 12)  # of down.0, which comes second
    torch.testing.assert_close(flat[:, new], torch.tensor([[1.0], [0.0]]).expand(2, 4), atol=0, rtol=0)


def test_new_channels_learn_from_the_first_step(finished, pictures, tmp_path):
    init = str(finished[0].out / "network.safetensors")
    trainer = Trainer(tiny(pictures, tmp_path / "run", init=init, widen=(8, 12, 20), steps=1))
    start = trainer.model.generator.down[1].conv.weight.clone()  # 20, 12, 3, 3; from 16, 8
    path = trainer.run()
    moved = (trainer.model.generator.down[1].conv.weight - start).abs().sum((2, 3))
    assert (moved[:16, 8:] > 0).all()  # old outputs begin to read new inputs
    assert load_network(path).generator.config.widths == (8, 12, 20)


def test_grown_blocks_learn_from_the_first_step(finished, pictures, tmp_path):
    init = str(finished[0].out / "network.safetensors")
    trainer = Trainer(tiny(pictures, tmp_path / "run", init=init, grow=(1, 0, 2), steps=1))
    start = {k: v.clone() for k, v in trainer.model.generator.state_dict().items()}
    path = trainer.run()
    new = [k for k in start if k.startswith(("deep.1", "wide.1.0"))]
    assert len(new) == 4 and all(not torch.equal(v, start[k]) for k, v in trainer.model.generator.state_dict().items())
    assert load_network(path).generator.config.blocks == (1, 0, 2)
    assert [e.name for e in style_entries(path.parent)] == ["kiss", "wave"]
    again = Trainer(tiny(pictures, tmp_path / "again", init=str(path), grow=(1, 0, 2), steps=1))
    same = load_network(path).generator.state_dict()
    assert all(torch.equal(v, same[k]) for k, v in again.model.generator.state_dict().items())  # nothing to grow


@torch.no_grad()
def test_what_grows_keeps_the_encoders_width_and_only_the_last_norm_of_a_new_block_is_faint():
    model = StyledModel(GeneratorConfig((8, 8, 16), (1, 0, 2)), 1)
    model.encoder = wider(model.encoder, 400)
    after = grown(model, (1, 0, 3))
    assert after.encoder.layers[0].out_features == 400
    gamma = after.flat_styles(torch.zeros(1, 1920), torch.tensor([0]))[0, 0].split(after.generator.config.channels)
    deep = [g for name, g in zip(after.generator.config.names, gamma) if name.startswith("deep.2.")]
    faint = [torch.allclose(g, torch.tensor(0.1)) for g in deep]
    assert faint == [False, True] and (deep[0] == 1).all()
    for few in ({"blocks": (1, 0)}, {"widths": (8, 8)}):
        with pytest.raises(StylenormError, match="cannot grow to"):
            grown(model, **few)


@torch.no_grad()
def test_a_wider_encoder_predicts_the_same_at_first(finished):
    encoder, statistics = finished[0].model.encoder, torch.randn(3, 1920)
    bigger = wider(encoder, 500)
    assert bigger.layers[0].out_features == bigger.layers[2].out_features == 500
    torch.testing.assert_close(bigger(statistics), encoder(statistics), atol=1e-5, rtol=0)
    assert torch.equal(wider(encoder, 384)(statistics), encoder(statistics)), "no fewer than it has"
    with pytest.raises(StylenormError, match="384 wide cannot grow to 100"):
        wider(encoder, 100)


def test_a_wider_encoder_learns_and_is_read_again(finished, pictures, tmp_path):
    init = str(finished[0].out / "network.safetensors")
    trainer = Trainer(tiny(pictures, tmp_path / "run", init=init, encoder_width=400, steps=2))
    start = trainer.model.encoder.layers[-1].weight.clone()
    encoder = load_network(trainer.run()).encoder
    assert encoder.layers[0].out_features == 400 and not start[:, 384:].any()
    assert (trainer.model.encoder.layers[-1].weight[:, 384:] != 0).any()
    fresh = Trainer(tiny(pictures, tmp_path / "fresh", encoder_width=200)).model.encoder
    assert fresh.layers[0].out_features == 200 and fresh.mean.any()


@pytest.fixture
def slow_steps(monkeypatch):
    """Each step takes ten seconds of a clock that else stands still."""
    now, losses = [100.0], Trainer.losses

    def slowly(self, batch):
        now[0] += 10
        return losses(self, batch)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Trainer, "losses", slowly)
    return now


def test_minutes_end_a_run_by_the_clock(slow_steps, pictures, tmp_path):
    config, records = tiny(pictures, tmp_path / "run", steps=2, minutes=1.0, decay_start=0.5, warmup=1), []
    path = train(config, progress=records.append)
    assert [r.seconds_left for r in records] == [50, 40, 30, 20, 10, 0]
    rates = [r.learning_rate / config.learning_rate for r in records]
    assert rates[:4] == [1, 1, 1, 1] and rates[4:] == pytest.approx([0.75, 0.25])
    assert [r.steps for r in records] == [6] * 6  # what the clock lets expect
    assert load_network(path).about["training"]["images"] == 6 * config.batch
    again = Trainer(config, resume=True)
    assert again.seconds == 60 and again.done(again.step) == 1
    assert list(again.batches()) == []  # nothing is left to do


def test_a_run_by_the_clock_goes_on_where_it_was(slow_steps, pictures, tmp_path):
    config, records = tiny(pictures, tmp_path / "run", minutes=1.0, checkpoint_every=1), []

    def stop(record):
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, progress=stop)
    slow_steps[0] += 5000  # overnight
    train(config, resume=True, progress=records.append)
    assert [(r.step, r.seconds_left) for r in records] == [(3, 30), (4, 20), (5, 10), (6, 0)]


def test_the_minute_that_compiling_takes_is_none_of_a_runs(slow_steps, pictures, tmp_path, monkeypatch):
    """--minutes 1 ended after a single step, and wrote weights next to random as a success."""

    def compile_it(trainer, batch):
        slow_steps[0] += 72

    monkeypatch.setattr(Trainer, "_compile", lambda trainer: None)
    monkeypatch.setattr(Trainer, "_try", compile_it)
    config, records = tiny(pictures, tmp_path / "run", minutes=1.0, checkpoint_every=1, compile="on"), []

    def stop(record):
        records.append(record)
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, progress=stop)
    train(config, resume=True, progress=records.append)
    assert [(r.step, r.seconds_left) for r in records] == [(1, 50), (2, 40), (3, 30), (3, 30), (4, 20), (5, 10), (6, 0)]


def test_a_run_whose_time_is_over_stays_so_to_a_fraction_of_a_second(slow_steps, pictures, tmp_path):
    def moment(record):
        slow_steps[0] += 0.3

    config, records = tiny(pictures, tmp_path / "run", minutes=20.2 / 60), []
    train(config, progress=moment)  # over at 20.3 s, which is not 20
    train(config, resume=True, progress=records.append)
    assert records == []


def test_a_run_by_the_clock_says_only_of_its_last_step_that_it_is_the_last(slow_steps, pictures, tmp_path):
    records = []
    train(tiny(pictures, tmp_path / "run", minutes=50.5 / 60), progress=records.append)
    assert [(r.step, r.steps) for r in records][-2:] == [(5, 6), (6, 6)]


@pytest.mark.parametrize("grow", [(0, 0, 0), (0, 0), (0, 0, 0, 1)])
def test_a_network_does_not_shrink(grow, finished, config):
    init = str(finished[0].out / "network.safetensors")
    refused(lambda: Trainer(replace(config, init=init, grow=grow)), "0,0,1", ",".join(map(str, grow)))


@pytest.mark.parametrize("widen", [(8, 8, 8), (8, 8), (8, 8, 16, 16)])
def test_a_network_does_not_become_narrower(widen, finished, config):
    init = str(finished[0].out / "network.safetensors")
    refused(lambda: Trainer(replace(config, init=init, widen=widen)), "8,8,16", ",".join(map(str, widen)))


@pytest.mark.parametrize("setting", ["grow", "widen"])
def test_only_an_earlier_network_grows(setting, config):
    refused(lambda: replace(config, **{setting: (8, 8, 8)}), "init", setting)


def test_init_from_a_network_without_encoder_or_history(config, tmp_path):
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig((4, 8), (0, 0), "layer"))
    digest = save_network(tmp_path / "from" / "network.safetensors", generator, None, training="by hand")
    flat = torch.rand(1, 2, sum(generator.config.channels))
    save_style(tmp_path / "from" / "styles" / "kiss.safetensors", Style.from_flat(flat, generator.config.channels, name="kiss", network=digest))
    trainer = Trainer(replace(config, init=str(tmp_path / "from" / "network.safetensors"), steps=1))
    with torch.no_grad():
        now = trainer.model.flat_styles(trainer.named.statistics[:1], torch.tensor([0]))
    torch.testing.assert_close(now, flat.half().float(), atol=1e-5, rtol=1e-5)
    assert trainer.model.encoder.mean.any(), "what it reads is standardized"
    assert load_network(trainer.run()).about["training"]["images"] == 2


def test_a_style_of_another_network_beside_init_is_named(finished, other_weights, config, tmp_path):
    shutil.copytree(finished[0].out, tmp_path / "from")
    shutil.copy(other_weights / "styles" / "red-hill.safetensors", tmp_path / "from" / "styles" / "kiss.safetensors")
    refused(lambda: Trainer(replace(config, init=str(tmp_path / "from" / "network.safetensors"))), "kiss.safetensors", "another network")


def test_only_features_that_were_read_from_safetensors_are_used(tmp_path, config, monkeypatch):
    """A file of one's own: other features, other losses."""
    torch.manual_seed(0)
    from stylenorm.perceptual import VGGFeatures

    save_file({f"features.{k}": v.half() for k, v in VGGFeatures().features.state_dict().items()}, tmp_path / "vgg.safetensors")
    records = []
    train(replace(config, vgg=str(tmp_path / "vgg.safetensors"), steps=1), progress=records.append)
    monkeypatch.setenv("STYLENORM_WEIGHTS", str(tmp_path / "nowhere"))
    refused(lambda: Trainer(replace(config, out=config.out + "2")), "vgg16.safetensors", "nowhere")
    assert math.isfinite(records[0].total)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_and_resumes(config):
    config = replace(config, device="cuda", steps=4)
    train(config)
    records = []
    train(replace(config, steps=6), resume=True, progress=records.append)
    assert [r.step for r in records] == [5, 6]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_two_runs_on_a_gpu_are_the_same_where_that_is_wanted(config, tmp_path):
    config = replace(config, device="cuda", steps=3, deterministic="on")
    paths = [train(replace(config, out=str(tmp_path / name))) for name in ("one", "two")]
    same_tensors(*paths)


# ---- several processes -------------------------------------------------------------------------


def words_of(config: TrainConfig) -> list[str]:
    values = {k: v for k, v in asdict(config).items() if v is not None and v != ()}
    return [w for k, v in values.items() for w in (f"--{k.replace('_', '-')}", ",".join(map(str, v)) if isinstance(v, tuple) else str(v))]


def torchrun(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "stylenorm", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


EXACT = """
import contextlib, json, sys, torch
from stylenorm import training
torch.set_num_threads(1)
torch.autocast = lambda *_, **__: contextlib.nullcontext()  # float32, so that nothing but the order of sums differs
values = json.loads(sys.argv[1])
training.train(training.TrainConfig(**values), progress=lambda r: print(json.dumps(vars(r)), flush=True))
"""


def exact(config: TrainConfig, processes: int) -> list[dict]:
    """The records of a run in float32, by several processes as torchrun would start them."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment["MASTER_PORT"] = str(free.getsockname()[1])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", EXACT, json.dumps(asdict(config))], stdout=subprocess.PIPE, text=True,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
        )
        for rank in range(processes)
    ]  # fmt: skip
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes
    assert not any(printed[1:]), "the first process speaks"
    return [json.loads(line) for line in printed[0].splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_joint_batch(pictures, tmp_path):
    """Named styles and paintings unevenly shared: a process has steps without any named style."""
    configs = [tiny(pictures, tmp_path / name, batch=4, steps=4, named_share=0.3) for name in ("alone", "together")]
    alone, together = (exact(config, processes) for config, processes in zip(configs, (1, 2)))
    assert [row["step"] for row in together] == [1, 2, 3, 4]
    for ours, theirs in zip(together, alone):
        for key in ("content", "style", "total", "learning_rate"):
            # Adam's first steps go by the sign of a gradient, and a few are near 0. Without averaging it is 0.01.
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5 if ours["step"] < 3 else 1e-3)
    files = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("alone", "together")]
    assert files[0] == files[1]
    a, b = (load_file(tmp_path / name / "resume.safetensors") for name in ("alone", "together"))
    assert a.keys() == b.keys()
    rows, others = a["average.rows"], b["average.rows"]
    assert rows.abs().mean() > 5e-3
    assert ((rows - others).abs() < 5e-4).float().mean() > 0.7


def test_a_run_that_more_processes_cannot_share_is_told_of_processes_for_it_keeps_its_batch(finished, config):
    """It was told to give --batch 3, and then that it was started with another."""
    told = refused(lambda: Trainer(config, group=Group(size=3)), "a batch of 2 cannot be shared evenly by 3 processes; give --batch 3")
    again = replace(finished[0].config, batch=None)
    assert refused(lambda: Trainer(again, resume=True, group=Group(size=3))) == told.replace("give --batch 3", "start as many as divide it")


def test_paths_are_annotated_as_what_they_may_be():
    """A type checker called TrainConfig(photos=Path(...)) wrong, which is right."""
    hints = get_type_hints(TrainConfig)
    assert hints["photos"] == hints["out"] == (str | Path)
    assert hints["styles"] == hints["paintings"] == hints["vgg"] == hints["init"] == (str | Path | None)
    assert TrainConfig(Path("a"), Path("b"), init=Path("c")).init == "c"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torchrun needs libuv there")
def test_of_two_processes_one_tells_what_is_wrong(pictures, tmp_path):
    done = torchrun("train", *words_of(tiny(pictures, tmp_path / "run", batch=3)))
    assert done.returncode != 0 and done.stderr.count("stylenorm: a batch of 3") == 1, done.stderr


@pytest.mark.parametrize("told", ["[/gloo/transport/tcp/pair.cc:537] Connection reset by peer", "mat1 and mat2"])
def test_that_another_process_has_died_is_one_sentence(told, monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "here", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *_: None)

    def fail():
        with joined("cpu"):
            raise RuntimeError(told)

    if "gloo" in told:
        refused(fail, "another process of this training has ended", "--resume")
    else:
        with pytest.raises(RuntimeError, match="mat1"):
            fail()


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "abc"), ("RANK", "2"), ("RANK", "-1"), ("LOCAL_RANK", "x"), ("MASTER_PORT", "http"), ("MASTER_PORT", "99999")]
)
def test_variables_that_no_torchrun_has_set_are_told_of(name, value, monkeypatch):
    """A rank beyond the last one waited for the others for ever."""
    good = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for variable, text in (good | {name: value}).items():
        monkeypatch.setenv(variable, text)

    def join():
        with joined("cpu"):
            pass

    refused(join, value, "torchrun")


@pytest.mark.parametrize(("rank", "size", "told"), [("1", "2", False), ("0", "2", True), ("5", "2", True), ("1", "abc", True)])
def test_only_a_process_beside_the_first_is_silent(rank, size, told, monkeypatch):
    for name, value in {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    assert speaks() is told


def test_processes_that_do_not_find_one_another_are_one_sentence(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))

        def join():
            with joined("cpu"):
                pass

        refused(join, "do not find one another", "127.0.0.1", "torchrun")


def test_what_goes_wrong_in_another_process_alone_is_told_by_it(monkeypatch, caplog):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "MASTER_ADDR": "here", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    waited, group = [], torch.distributed
    monkeypatch.setattr(group, "init_process_group", lambda *_: None)
    monkeypatch.setattr(group, "destroy_process_group", lambda *_: waited.append("left"))
    monkeypatch.setattr("time.sleep", waited.append)

    def fail():
        with joined("cpu"):
            raise StylenormError("a batch of 4 needs more memory than there is")

    refused(fail, "more memory")
    assert caplog.messages == ["stylenorm: process 1 of this training: a batch of 4 needs more memory than there is"]
    assert waited == [5, "left"]  # meanwhile the first process tells what is wrong in all, and torchrun ends this one


@pytest.mark.parametrize(("device", "error", "leaves"), [("cuda", True, 0), ("cuda", False, 1), ("cpu", True, 1), ("cpu", False, 1)])
def test_a_process_that_fails_on_a_gpu_does_not_wait_for_the_others(device, error, leaves, monkeypatch):
    """`destroy_process_group` of NCCL ends when all processes have called it, and the others wait for this one's gradients."""
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "here", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    left, group = [], torch.distributed
    monkeypatch.setattr(group, "init_process_group", lambda *_: None)
    monkeypatch.setattr(group, "destroy_process_group", lambda *_: left.append(1))
    monkeypatch.setattr(Group, "device", lambda self, name: torch.device(name))

    def run():
        with joined(device):
            if error:
                raise StylenormError("no space left on the device")

    refused(run, "no space left") if error else run()
    assert len(left) == leaves


@pytest.mark.parametrize(("device", "there", "wanted"), [("cuda", True, "nccl"), ("cuda", False, "gloo"), ("cpu", True, "gloo")])
def test_gpus_talk_by_gloo_where_there_is_no_nccl(device, there, wanted, monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "here", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    asked, group = [], torch.distributed
    monkeypatch.setattr(group, "is_nccl_available", lambda: there)  # not on Windows
    monkeypatch.setattr(group, "init_process_group", asked.append)
    monkeypatch.setattr(group, "destroy_process_group", lambda: None)
    monkeypatch.setattr(Group, "device", lambda self, name: torch.device(name))
    with joined(device):
        assert asked == [wanted]


def test_what_several_processes_cannot_train_is_one_sentence(config, tmp_path):
    torch.manual_seed(0)
    save_network(tmp_path / "from.safetensors", Generator(GeneratorConfig((8, 8), (0, 0), "batch")), None)
    refused(lambda: Trainer(replace(config, init=str(tmp_path / "from.safetensors")), group=Group(1, 2)), "--norm")
    refused(lambda: Trainer(replace(config, batch=3), group=Group(0, 2)), "--batch 4")
    refused(lambda: Trainer(replace(config, norm="batch"), group=Group(1, 2)), "--norm")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_all_processes_are_the_joint_batches(size):
    shares = [list(Share(12, 36, 6, rank, size)) for rank in range(size)]
    part = 6 // size
    for step in range(4):
        together = [i for share in shares for i in share[step * part : (step + 1) * part]]
        assert together == list(range(12 + 6 * step, 18 + 6 * step))
    assert [len(Share(12, 36, 6, rank, size)) for rank in range(size)] == [len(share) for share in shares]


# ---- pictures kept in memory -------------------------------------------------------------------


def test_decoded_pictures_are_kept_and_are_the_same(tmp_path):
    files = [make_photo(tmp_path / f"{i}.jpg", (50 + i, 40), seed=i) for i in range(3)]
    files.append(tmp_path / "broken.jpg")
    files[3].write_bytes(b"no picture")
    need = 3 * 40 * (50 + 51 + 52) + 4 * 8
    kept, read = Decoded(files, need), [read_picture(p).rgb for p in files[:3]]
    for _ in range(2):
        assert [kept.read(p) for p in files[:3]] == read
    with pytest.raises(StylenormError, match="broken.jpg"):
        kept.read(files[3])
    for path in files[:3]:
        path.unlink()
    assert [kept.read(p) for p in files[:3]] == read, "from memory"
    assert Decoded(files, need).size == 4 * 8, "what is not there takes nothing"


def test_decoded_pictures_that_do_not_fit_are_not_kept(tmp_path):
    file = make_photo(tmp_path / "a.png", (50, 40))
    assert Decoded([file], 3 * 50 * 40 + 8).memory is not None
    for budget in (3 * 50 * 40 + 7, 0):
        small = Decoded([file], budget)
        assert small.memory is None and small.size == 0 and small.read(file).size == (50, 40)


def test_a_picture_that_is_larger_than_its_header_says_spoils_no_other(tmp_path, monkeypatch):
    files = [make_photo(tmp_path / f"{i}.png", (50, 40), seed=i) for i in range(3)]
    read, real = [read_picture(p).rgb for p in files], data._size
    monkeypatch.setattr(data, "_size", lambda path: (30, 40) if path == files[0] else real(path))
    kept = Decoded(files, 10**6)
    assert [kept.read(files[i]) for i in (1, 2, 0, 1, 2, 0)] == [read[i] for i in (1, 2, 0, 1, 2, 0)]


@pytest.mark.skipif(sys.platform != "linux", reason="processes that load are not forked off there")
def test_the_memory_is_shared_with_processes_that_load(pictures, tmp_path):
    """What a worker decodes is in this process's memory, too."""
    trainer = Trainer(tiny(pictures, tmp_path / "run", workers=1, steps=12))
    for _ in trainer.batches():
        pass
    memory = trainer.photos.decoded
    shapes = [memory.SHAPE.unpack_from(memory.memory, start) for start, _ in memory.places.values()]
    assert sum(width > 0 for width, _ in shapes) == 6 and shapes[[p.name for p in memory.places].index("broken.jpg")] == (0, 0)


# ---- too little memory -------------------------------------------------------------------------


class TooLittle:
    """Losses on a device that holds no more than so many pixels a step."""

    def __init__(self, trainer: Trainer, pixels: int, error: Exception) -> None:
        self.pixels, self.error, self.tried, self.real = pixels, error, [], trainer.losses
        trainer.losses = self

    def __call__(self, batch):
        self.tried.append((len(batch.photos), batch.photos.shape[-1]))
        assert len(batch.named) == len(batch.photos) and (batch.paintings is None) == bool((batch.named >= 0).all())
        if batch.photos[:, 0].numel() > self.pixels:
            raise self.error
        return self.real(batch)


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("batch, pixels, fits", [(4, 2 * 128**2, "--batch 2 --size 128"), (4, 128**2, "--batch 1 --size 128"), (3, 64**2, "--batch 1 --size 64")])
def test_too_little_memory_tells_what_fits(error, batch, pixels, fits, config):
    trainer = Trainer(replace(config, batch=batch, size=128, photo_scales=(128, 128)))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    device = TooLittle(trainer, pixels, error)
    told = refused(trainer.run, f"a batch of {batch} at 128 px", fits)
    assert told.endswith(f"{fits} fits") and device.tried[0] == (batch, 128)
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items()), "trying out trains nothing"


def test_memory_for_nothing_at_all_is_told_too(config, monkeypatch):
    trainer = Trainer(config)
    TooLittle(trainer, 0, MemoryError())
    refused(trainer.run, "64 px", "--device")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(training, "load_named", fail)
    refused(lambda: train(replace(config, out=config.out + "2")), "--style-size")


def test_other_errors_are_not_taken_for_it(config):
    trainer = Trainer(config)
    TooLittle(trainer, 0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        trainer.run()


# ---- a disk that fills -------------------------------------------------------------------------


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_while_a_checkpoint_is_saved_leaves_the_one_before(config, monkeypatch):
    trainer, real = Trainer(config), os.fsync

    def full(handle):
        if trainer.step >= 4:
            raise FULL
        real(handle)

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    refused(trainer.run, "resume.safetensors", "No space left")
    assert sorted(p.name for p in trainer.out.iterdir()) == ["loss.csv", "resume.safetensors"]
    monkeypatch.undo()
    assert read_metadata(trainer.state_file)["step"] == 2
    records = []
    train(config, resume=True, progress=records.append)
    assert [r.step for r in records] == list(range(3, 9))


@pytest.mark.parametrize("place", ["loss_curve", "sheet"])
def test_a_disk_that_fills_while_pictures_are_drawn_leaves_no_half_of_one(place, config, monkeypatch):
    from stylenorm import encode, plots

    def full(*arguments):
        if place == "loss_curve":
            arguments[1].write_bytes(b"half a pict")
        raise FULL

    monkeypatch.setattr(*((plots, "loss_curve") if place == "loss_curve" else (encode, "_write_new")), full)
    refused(Trainer(replace(config, steps=2)).run, "No space left")
    whole = {"loss.csv", "network.safetensors", "network.ranges.safetensors", "resume.safetensors", "styles"}
    assert {p.name for p in Path(config.out).iterdir()} == whole | ({"samples.png"} if place == "loss_curve" else set())


def test_a_disk_that_is_full_when_a_run_goes_on_keeps_the_table(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0].out, tmp_path / "run")
    before = (tmp_path / "run" / "loss.csv").read_bytes()
    trainer = Trainer(replace(finished[0].config, out=str(tmp_path / "run"), steps=9), resume=True)

    def full(*_):
        raise FULL

    monkeypatch.setattr(os, "replace", full)
    refused(trainer.run, "No space left")
    assert (tmp_path / "run" / "loss.csv").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*"))


def test_the_table_that_cannot_be_written_is_named_and_not_its_draft(tmp_path):
    (tmp_path / ".loss.csv").mkdir()

    def begin():
        with writing(tmp_path):
            Logs(tmp_path, 0)

    refused(begin, f"{tmp_path / 'loss.csv'} cannot be written")


# ---- TensorBoard -------------------------------------------------------------------------------


def test_tensorboard_shows_what_the_table_shows_and_the_sheet(config):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    records = []
    train(replace(config, tensorboard="auto", steps=3), progress=records.append)
    train(replace(config, tensorboard="on", steps=4), resume=True, progress=records.append)
    events = accumulator.EventAccumulator(str(Path(config.out) / "tensorboard"), {"images": 0})
    events.Reload()
    for key in ("content", "style", "total", "learning_rate", "images_per_second"):
        seen = [(e.step, e.value) for e in events.Scalars(key)]
        assert [step for step, _ in seen] == [1, 2, 3, 4]
        assert [value for _, value in seen] == pytest.approx([getattr(r, key) for r in records], rel=1e-5)
    with Image.open(Path(config.out) / "samples.png") as sheet:
        shown = events.Images("samples")[-1]
        assert shown.step == 4 and (shown.width, shown.height) == sheet.size


def test_tensorboard_has_a_large_sheet_smaller(tmp_path):
    Image.new("RGB", (9000, 90)).save(tmp_path / "samples.png")
    logs, shown = Logs(None, 0), []
    logs.board = SimpleNamespace(add_image=lambda name, pixels, step, dataformats: shown.append(pixels.shape))
    for width in (9000, 400):
        Image.new("RGB", (width, 90)).save(tmp_path / "samples.png")
        logs.picture(tmp_path / "samples.png", 1)
    assert shown == [(41, 4096, 3), (90, 400, 3)]


def test_tensorboard_forgets_a_run_that_left_no_checkpoint(config):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def stop(record):
        if record.step == 3:
            raise KeyboardInterrupt

    config = replace(config, tensorboard="on", steps=4, checkpoint_every=100)
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=stop)
    train(config)
    events = accumulator.EventAccumulator(str(Path(config.out) / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("total")] == [1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_tensorboard_that_cannot_write_into_a_folder_does_not_stop_a_run(tmp_path, caplog):
    pytest.importorskip("tensorboard")
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    strange.mkdir()
    refused(lambda: Logs(strange, 0, "on"), "no UTF-8; give another --out")
    with Logs(strange, 0, "auto") as logs:
        assert logs.board is None and os.listdir(strange) == ["loss.csv"]
    assert caplog.text.count("the training goes on without its logs") == 1


def test_tensorboard_that_is_not_installed_matters_only_if_asked_for(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    refused(lambda: train(replace(config, tensorboard="on")), "pip install")
    train(replace(config, tensorboard="auto", steps=1, out=config.out + "2"))
    assert not (Path(config.out + "2") / "tensorboard").exists()


# ---- speed -------------------------------------------------------------------------------------


def test_operations_are_counted(finished):
    """At least VGG-16 up to relu4_3 of one picture: by hand, 2 H W 9 Cin Cout a convolution; and twice as many for two."""
    trainer, _, _ = finished
    one, two = (collate([trainer.pairs[1]] * n) for n in (1, 2))
    plan = [(64, 3, 64), (64, 64, 64), (32, 64, 128), (32, 128, 128), (16, 128, 256), (16, 256, 256), (16, 256, 256)]
    plan += [(8, 256, 512), (8, 512, 512), (8, 512, 512)]
    forward = sum(2 * side * side * 9 * a * b for side, a, b in plan)
    counted = trainer.flops(one)
    assert 2 * forward < counted < 6 * forward
    assert trainer.flops(two) == pytest.approx(2 * counted, rel=0.05)
    assert all(p.grad is None for p in trainer.model.parameters()) and trainer.painter is trainer.model


def test_counting_operations_leaves_batch_norms_running_moments(config, tmp_path):
    trainer = Trainer(replace(config, out=str(tmp_path / "run"), norm="batch"))
    before = [buffer.clone() for buffer in trainer.model.buffers()]
    trainer.flops(collate([trainer.pairs[0], trainer.pairs[1]]))
    assert before and all(map(torch.equal, trainer.model.buffers(), before))


def test_the_share_of_the_peak_is_reported_for_a_known_gpu(finished, monkeypatch):
    trainer, _, _ = finished
    batch = collate([trainer.pairs[1]])
    monkeypatch.setattr(trainer, "flops", lambda batch: 3.12e12)
    assert trainer._peak_share(batch, 10.0, "NVIDIA A100-SXM4-80GB") == pytest.approx(0.1)
    assert trainer._peak_share(batch, 10.0, "Abacus 3000") is None


def test_a_clock_leaves_out_the_warming_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = training.Clock()
    for seconds in (10, 1, 1, 1, 2, 2, 2, 2):
        now[0] += seconds
        clock.tick()
    assert clock.late_speed() == 0.5 and clock.speed() == pytest.approx(8 / 21)


@pytest.mark.parametrize("lacking", [None, "gpu", "triton", "compiler", "headers", "capability"])
def test_compiling_takes_a_gpu_not_too_old_triton_a_compiler_and_pythons_headers(lacking, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.device.find_spec", lambda name: None if lacking == "triton" else object())
    monkeypatch.setattr("stylenorm.device.shutil.which", lambda name: None if lacking == "compiler" else "/usr/bin/cc")
    monkeypatch.setattr("stylenorm.device.sysconfig.get_path", lambda name, scheme: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1) if lacking == "capability" else (7, 0))
    if lacking != "headers":
        (tmp_path / "Python.h").touch()
    assert can_compile(torch.device("cpu" if lacking == "gpu" else "cuda")) is (lacking is None)


@pytest.fixture
def no_compiler(monkeypatch):
    real = torch.compile

    def fail(graph, inputs):
        raise subprocess.CalledProcessError(1, ["cc", "a.c"])

    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend=fail, **options))
    monkeypatch.setattr(training, "can_compile", lambda device: True)


def test_where_compiling_fails_a_run_goes_on_without(no_compiler, finished, config, caplog):
    """On a machine without python3-dev, training ended in a hundred lines of torch's."""
    train(config)
    (told,) = [record.getMessage() for record in caplog.records if record.name == "stylenorm"]
    assert "cannot be compiled here: CalledProcessError" in told and "\n" not in told
    same_tensors(Path(config.out) / "network.safetensors", finished[0].out / "network.safetensors")


def test_compiling_that_is_asked_for_and_fails_is_one_sentence(no_compiler, config):
    refused(lambda: train(replace(config, compile="on")), "cannot be compiled here", "CalledProcessError", "leave --compile out")


def test_a_single_picture_is_not_compiled_for_a_cpu(config):
    """Of one in float32 and channels-last, torch 2.13's gradients are wrong (off by as much as they are large)."""
    refused(lambda: Trainer(replace(config, compile="on", batch=1)), "single picture", "--batch 2", "leave --compile out")


def test_trying_what_is_compiled_leaves_nothing_and_where_it_fails_elsewhere_it_is_given_up(config, monkeypatch):
    trainer = Trainer(replace(config, norm="batch"))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.group, undone = SimpleNamespace(all=lambda mine: [*mine, "of another process"], first=False), []
    monkeypatch.setattr(trainer, "_compile", lambda disable: undone.append(disable))
    trainer._try_what_is_compiled(collate([trainer.pairs[i] for i in range(2)]))
    assert undone == [True] and all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters()) and trainer.painter is trainer.model


@pytest.mark.parametrize("found", [True, False])
def test_losses_are_in_bfloat16_where_the_processor_computes_in_it(found, monkeypatch):
    """Elsewhere, as on laptops' processors, --refine took 13 times as long in it."""
    monkeypatch.setattr("stylenorm.device.cpu_bfloat16", lambda: found)
    with autocast(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") is found


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_any_other(finished, config, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))  # not what a killed run left half-written
    trainer = Trainer(replace(config, compile="on"))
    for batch, theirs in zip(trainer.batches(), finished[1][:2]):
        assert trainer.train_step(batch) == pytest.approx((theirs.content, theirs.style), rel=0.05)
    trainer.save_state()
    assert load_file(trainer.state_file).keys() == load_file(finished[0].out / "resume.safetensors").keys()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells what is mapped on Linux only")
def test_a_run_that_goes_on_holds_its_file_no_more(finished, config, tmp_path):
    """Windows lets nobody replace a file that is mapped, and the next checkpoint is to."""
    shutil.copytree(finished[0].out, tmp_path / "run")
    trainer = Trainer(replace(finished[0].config, out=str(tmp_path / "run")), resume=True)
    assert trainer.step and str(tmp_path / "run") not in Path("/proc/self/maps").read_text()


def test_of_the_memory_for_pictures_each_process_takes_its_share(config, monkeypatch):
    monkeypatch.setattr(training, "DistributedDataParallel", lambda model, *_, **__: model)
    alone, together = (Trainer(replace(config, batch=12, cache=1, out=f"{config.out}{n}"), group=Group(size=n)) for n in (1, 12))
    assert alone.photos.decoded.size > 10**6 / 12 and together.photos.decoded.size == 0


def test_memory_is_asked_of_psutil_where_there_is_no_proc(monkeypatch):
    from types import SimpleNamespace

    from stylenorm import device

    def no_proc(*_):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_proc)
    told = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=5, total=9))
    monkeypatch.setitem(sys.modules, "psutil", told)
    assert [device.free_memory(torch.device(name)) for name in ("cpu", "mps", "xpu")] == [5, 5, None]
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert device.free_memory(torch.device("cpu")) is None


GB = 10**9


@pytest.mark.parametrize(
    "gpu, processes, given, batch, size, scales",
    [
        (None, 1, {}, 4, 256, (272, 512)),
        (143 * GB, 1, {}, 32, 384, (384, 560)),  # an H200
        (25 * GB, 1, {}, 32, 384, (384, 560)),
        (12 * GB, 1, {}, 16, 384, (384, 560)),
        (8 * GB, 1, {}, 8, 384, (384, 560)),
        (1 * GB, 1, {}, 1, 384, (384, 560)),
        (12 * GB, 1, {"size": 512}, 8, 512, (512, 688)),
        (143 * GB, 1, {"photo_scales": (512, 576)}, 32, 384, (512, 576)),
        (143 * GB, 2, {}, 32, 384, (384, 560)),
        (143 * GB, 3, {}, 24, 384, (384, 560)),  # 8 each
        (143 * GB, 64, {}, 64, 384, (384, 560)),
        (143 * GB, 1, {"batch": 5}, 5, 384, (384, 560)),
        (None, 2, {"size": 128}, 4, 128, (272, 512)),
    ],
)
def test_what_is_not_said_of_the_steps_is_left_to_the_device(gpu, processes, given, batch, size, scales):
    config = settled(TrainConfig("photos", "out", **given), gpu, processes)
    assert (config.batch, config.size, config.photo_scales) == (batch, size, scales)
    assert config.optimizer == ("adam" if gpu is None else "muon")
    assert (config.widths, config.encoder_width) == (((24, 48, 96, 160), None) if gpu is None else ((24, 64, 128, 192), 1024))
    assert settled(replace(config, widths=None, blocks=None, init="network"), gpu).widths == (24, 48, 96, 160), "which --init decides"
    assert settled(replace(config, optimizer="adam"), gpu, processes).optimizer == "adam"


def test_the_smallest_gpu_of_several_decides(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=24 * GB))
    group = SimpleNamespace(all=lambda mine: [*mine, 8 * GB])
    assert training._least_memory(torch.device("cuda", 0), group) == 8 * GB
    assert training._least_memory(torch.device("cpu"), group) is None


def test_a_run_begun_on_a_gpu_goes_on_with_its_own_steps(finished, pictures, tmp_path):
    """Its batch and squares are those of the GPU, and another device would leave it others."""
    trainer = finished[0]
    left = tiny(pictures, tmp_path / "run", batch=None, size=None, photo_scales=None)
    shutil.copytree(trainer.out, tmp_path / "run")
    again = Trainer(left, resume=True)
    assert (again.config.batch, again.config.size, again.config.photo_scales) == (2, 64, (64, 80))
    begun = as_begun(replace(left, batch=3), again.state_file)
    assert (begun.batch, begun.size) == (3, 64), "what is said counts, and is refused later if it differs"
