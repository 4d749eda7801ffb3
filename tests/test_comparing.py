"""Kinds of normalization side by side: what moves whose painting, by formula, and the training that is repeated."""

import json
import os
import shlex
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import PAINTINGS, TINY, make_photo, make_weights
from PIL import Image

from stylenorm import StyleError, StylenormError, WeightsError, compare_training
from stylenorm.catalog import compared_networks
from stylenorm.checkpoint import load_network, load_style
from stylenorm.cli import main
from stylenorm.cli_compare import CHANGES as OPTIONS
from stylenorm.cli_compare import small
from stylenorm.compare_training import CompareConfig, compare_kinds, judge_network, spread, tables
from stylenorm.comparing import CHANGES, TITLES, Comparison, changed, moved, moved_by_neighbours
from stylenorm.config import TrainConfig
from stylenorm.data import find_images
from stylenorm.generator import Generator
from stylenorm.style import Style
from stylenorm.training import Trainer

KINDS = tuple(TITLES)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    for seed, kind in enumerate(KINDS):
        make_weights(folder / kind, seed, replace(TINY, norm=kind))
    return folder


def generator_of(kind: str) -> tuple[Generator, Style]:
    """A network as if trained: batch norm's running moments are those of photographs."""
    torch.manual_seed(0)
    generator = Generator(replace(TINY, norm=kind, num_groups=4))
    flat = torch.randn(1, 2, sum(TINY.channels)) * 0.5 + torch.tensor([1.0, 0.0]).view(1, 2, 1)
    style = Style.from_flat(flat, TINY.channels)
    with torch.no_grad():
        generator.train()
        for _ in range(30):
            generator(torch.rand(8, 3, 40, 40) * torch.rand(8, 1, 1, 1), style)
    return generator.eval(), style


def test_a_shell_completes_the_names_that_all_compared_networks_know(networks, tmp_path, monkeypatch, capsys):
    shutil.copytree(networks, mine := tmp_path / "mine")
    (mine / "layer" / "styles" / "red-hill.safetensors").unlink()
    (tmp_path / "none").mkdir()

    def completed(*words) -> list[str]:
        line = "\n".join(str(word).replace(os.sep, "/") for word in ("stylenorm", "compare", *words))
        for name, value in (("COMP_WORDS", line), ("COMP_CWORD", str(len(words) + 1)), ("_STYLENORM_COMPLETE", "complete_bash")):
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.split()

    assert completed("photo.jpg", "--networks", networks, "--style", "") == sorted(PAINTINGS)
    assert completed("--networks", mine, "-s", "") == ["blue-tree", "tall-grass"]
    assert completed("--networks", mine, "--style", "ta") == ["tall-grass"]
    assert completed("--networks", tmp_path / "none", "--style", "") == []
    assert "starry-night" in completed("--style", "st")


# ---- what moves a painting ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_which_changes_a_kind_does_not_see_follows_from_what_it_strips(kind):
    generator, style = generator_of(kind)
    photos = torch.rand(3, 3, 48, 40)
    found = moved(generator, [style], photos)
    # a x is stripped by every kind that takes the photograph's own deviation, a x + b by the one that takes each
    # channel's own mean, and a gain for each colour by none, since the first convolution mixes the colours
    unseen = {"instance": {"half contrast", "darker", "brighter"}, "layer": {"darker"}, "group": {"darker"}, "batch": set()}
    for change in CHANGES:
        assert (found[change] < 0.01) == (change in unseen[kind]), (change, found)


@pytest.mark.parametrize("kind", KINDS)
def test_only_batch_norm_in_training_sees_the_neighbours(kind):
    generator, style = generator_of(kind)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    photos = torch.rand(5, 3, 40, 40)
    assert moved_by_neighbours(generator, style, photos, training=False) < 1e-3
    assert (moved_by_neighbours(generator, style, photos, training=True) > 0.5) == (kind == "batch")
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items()) and not generator.training


def test_a_generator_in_training_is_so_afterwards():
    generator, style = generator_of("batch")
    photos = torch.rand(3, 3, 40, 40)
    expected = moved(generator, [style], photos)
    generator.train()
    moved_by_neighbours(generator, style, photos, training=False)
    assert generator.training
    assert moved(generator, [style], photos) == expected and generator.training


def test_no_change_leaves_the_range_of_a_photograph():
    ends = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    for change in CHANGES.values():
        assert change(ends).min() >= 0 and change(ends).max() <= 1
    assert tuple(CHANGES) == OPTIONS, "the command line has their names without torch"


# ---- side by side ------------------------------------------------------------------------------


def test_the_sheet_has_the_photograph_and_each_kind_and_a_row_for_each_change(networks, photo):
    comparison = Comparison(networks, backend="torch")
    assert list(comparison.stylizers) == list(KINDS) and comparison.styles == sorted(PAINTINGS)
    one = comparison.sheet(photo, "blue-tree", tile=60)
    two = comparison.sheet(photo, "blue-tree", ["half contrast"], tile=60)
    assert comparison.sheet(photo, "blue-tree", "half contrast", tile=60).tobytes() == two.tobytes(), "a single one needs no list"
    assert one.width == 5 * 60 + 4 * 6 and two.width == one.width and two.height == 2 * one.height + 6
    cell = (66, 20, 66 + 60, 20 + 44)  # the first kind's
    painted = comparison.stylizers["instance"].stylize(photo, "blue-tree", grain=False)
    assert one.crop(cell).tobytes() == painted.tobytes()


def test_where_the_photograph_is_transparent_the_sheet_stays_white_and_a_changed_photograph_is_transparent(networks, photo):
    clear = Image.open(photo).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 20, 44))
    comparison = Comparison(networks, backend="torch")
    sheet = comparison.sheet(clear, "blue-tree", "darker", tile=60)
    for x in range(0, 5 * 66, 66):
        for y in (20, 90):
            assert sheet.crop((x, y, x + 18, y + 44)).getcolors() == [(18 * 44, (255, 255, 255))]
            assert sheet.getpixel((x + 40, y + 20)) != (255, 255, 255)
    assert changed(clear, "darker").getchannel("A").tobytes() == clear.getchannel("A").tobytes()


def test_what_is_compared_has_no_grain_which_would_be_the_same_at_half_the_contrast(networks):
    """Instance norm sees no contrast, also where next to all is plain ground."""
    drawing = Image.new("RGB", (96, 96), (60, 100, 140))
    drawing.paste((200, 180, 40), (64, 64, 96, 96))
    comparison = Comparison(networks, backend="torch")
    found = comparison.paint(drawing, "blue-tree")["instance"]
    assert found.tobytes() == comparison.stylizers["instance"].stylize(drawing, "blue-tree", grain=False).tobytes()
    assert found.tobytes() != comparison.stylizers["instance"].stylize(drawing, "blue-tree").tobytes()


def test_a_style_that_the_networks_do_not_know_is_told(networks, photo, tmp_path):
    with pytest.raises(StyleError, match="choose one of blue-tree, red-hill, tall-grass"):
        Comparison(networks, backend="torch").paint(photo, "nothing")
    with pytest.raises(WeightsError, match="compare --train makes them"):
        Comparison(tmp_path)


def test_the_command_writes_the_sheet(networks, photo, tmp_path, capsys):
    words = ["compare", str(photo), "--networks", str(networks), "--style", "red-hill", "-o", str(tmp_path / "c.png")]
    assert main([*words, "--change", "warm cast", "--tile", "60", "--backend", "torch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kinds"] == list(KINDS)
    assert Image.open(tmp_path / "c.png").width == 5 * 60 + 4 * 6


def test_a_broken_photograph_is_exit_code_1_as_elsewhere_and_an_unknown_style_2(networks, photo, tmp_path, capsys):
    (broken := tmp_path / "broken.jpg").write_text("no picture")
    for file, style, code, told in ((broken, "red-hill", 1, "is not a picture"), (broken, "kiss", 2, "no style 'kiss'"), (photo, "kiss", 2, "no style")):
        words = ["compare", file, "--networks", networks, "--style", style, "-o", tmp_path / "c.png", "--backend", "torch"]
        assert main([str(word) for word in words]) == code
        assert told in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("photo.jpg", "photo.jpg is an input and would be overwritten"), ("x.gif", "does not end in a format"), ("", "-o is empty"),
        ("none/x.png", "there is no folder none"), ("-", "in place of -"), (".", "would be overwritten"),
    ],
)  # fmt: skip
def test_where_it_cannot_go_is_told_before_the_work(networks, photo, monkeypatch, capsys, out, told):
    monkeypatch.chdir(photo.parent)
    before = photo.read_bytes()
    assert main(["compare", "photo.jpg", "--networks", str(networks), "--style", "no-such-style", "-o", out]) == 2
    assert told in (error := capsys.readouterr().err) and error.count("\n") == 1 and photo.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["photo.jpg"], "--style NAME"),
        (["photo.jpg", "--style", "kiss", "--change", "sideways"], "no change 'sideways'"),
        (["photo.jpg", "--style", "kiss", "--networks", "nowhere"], "nowhere holds no networks"),
        (["photo.jpg", "--style", "kiss", "--steps", "900"], "--steps is for training; give --train as well"),
        (["photo.jpg", "--styles", "."], "--styles is for training"),
        (["--train", "--photos", ".", "--styles", ".", "--style", "kiss"], "--style is for painting; leave it out"),
        (["--train"], "--train needs --photos"),
        (["--train", "photo.jpg"], "takes no photograph"),
        (["--train", "--photos", "nowhere"], "nowhere is none"),
        (["--train", "--photos", ".", "--styles", ".", "-o", "a.png"], "looks like a file"),
    ],
)
def test_wrong_use_is_one_sentence(words, told, capsys):
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_a_folder_of_single_runs_is_none_of_networks_to_compare(networks, tmp_path, capsys):
    shutil.copytree(networks / "instance", tmp_path / "instance-0")
    assert main(["compare", "photo.jpg", "--networks", str(tmp_path), "--style", "red-hill"]) == 2
    assert "holds no networks to compare" in (error := capsys.readouterr().err) and error.count("\n") == 1


# ---- training ----------------------------------------------------------------------------------


def test_a_comparison_that_its_format_cannot_hold_is_refused_before_it_is_painted(networks, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Comparison, "sheet", lambda *_, **__: pytest.fail("it was painted"))
    words = ["compare", photo, "--networks", networks, "--style", "red-hill", "--tile", 4096, "--change", "darker", "-o", tmp_path / "c.webp"]
    assert main([str(word) for word in words]) == 1, "as a sheet"
    told = "c.webp: webp holds at most 16383 pixels a side, and the picture would have 20504 x 6054; give --tile 3271 or less, or write a PNG"
    assert told in capsys.readouterr().err and not (tmp_path / "c.webp").exists()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(6):
        (folder / "photos").mkdir(exist_ok=True)
        make_photo(folder / "photos" / f"{i}.jpg", (90, 80), i)
    (folder / "styles").mkdir()
    make_photo(folder / "styles" / "kiss.jpg", (80, 80), 9)
    return folder


def tiny(pictures, out) -> CompareConfig:
    training = TrainConfig(
        photos=str(pictures / "photos"), styles=str(pictures / "styles"), out=str(out), steps=3, batch=2, size=64,
        photo_scales=(64, 72), style_size=64, widths=(8, 8), blocks=(0, 1), device="cpu", named_share=1.0, checkpoint_every=1,
    )  # fmt: skip
    return CompareConfig(training, seeds=(0, 1), judged=3)


@pytest.mark.parametrize(
    "change, told", [({"seeds": 3}, "seeds must be a tuple, not 3"), ({"seeds": (1, 1)}, "each seed once"), ({"judged": 3.5}, "judged must be a whole")]
)
def test_wrong_settings_of_the_comparison_are_one_sentence(change, told, pictures, tmp_path):
    config = tiny(pictures, tmp_path)
    with pytest.raises(StylenormError, match=told):
        replace(config, **change)
    with pytest.raises(StylenormError, match="give styles, a folder of paintings"):
        replace(config, training=replace(config.training, styles=None))


def test_training_is_the_same_for_all_kinds_and_goes_on_where_it_was_stopped(described_once, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.compare_training.JUDGED_SIZE", 64)
    monkeypatch.setattr("stylenorm.plots.loss_curve", lambda table, path: path.touch())  # each run's own takes longer than its steps
    config, seen = tiny(pictures, tmp_path), []

    def stop(kind: str, seed: int, record) -> None:
        seen.append((kind, seed, record.step))
        if seen[-1] == ("group", 0, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_kinds(config, stop)
    report = compare_kinds(config, lambda kind, seed, record: seen.append((kind, seed, record.step)))
    assert seen.count(("instance", 0, 1)) == 1 and seen.count(("group", 0, 1)) == 1, "what was done is not done again"
    assert {(k, s) for k, s, step in seen if step == 3} == {(k, s) for k in KINDS for s in (0, 1)}
    assert [(run["kind"], run["seed"]) for run in report["runs"]] == [(k, s) for s in (0, 1) for k in KINDS]
    assert json.loads((tmp_path / "compare.json").read_text())["runs"] == report["runs"]
    assert {"losses.png", "scores.png", "changes.png", "tables.md"} <= {p.name for p in tmp_path.iterdir()}
    shipped = [load_network(tmp_path / kind / "network.safetensors") for kind in KINDS]
    assert all(network.encoder is None for network in shipped)
    assert [network.generator.config.norm for network in shipped] == list(KINDS)
    assert Comparison(tmp_path, backend="torch").styles == ["kiss"]
    with pytest.raises(StylenormError, match="other steps; give the same again"):
        compare_kinds(replace(config, training=replace(config.training, steps=4)))


def test_a_comparison_goes_on_with_the_same_pictures_and_settings_alone(pictures, tmp_path, monkeypatch):
    for folder in ("photos", "styles"):
        shutil.copytree(pictures / folder, tmp_path / folder)
    config, trained = tiny(tmp_path, tmp_path / "out"), []

    def run(config: CompareConfig) -> None:
        trained.append(config)
        (tmp_path / "out" / "runs" / "instance-0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / "runs" / "instance-0" / "resume.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_training, "_run", lambda config, *_: run(config))

    def goes_on(**settings) -> bool:
        before = len(trained)
        judged = settings.pop("judged", config.judged)
        with pytest.raises(KeyboardInterrupt):
            compare_kinds(replace(config, training=replace(config.training, **settings), judged=judged))
        return len(trained) > before

    assert goes_on() and goes_on() and goes_on(workers=1, cache=0, checkpoint_every=2)
    moved = tmp_path / "photos", tmp_path / "elsewhere"
    moved[0].rename(moved[1])
    assert goes_on(photos=str(moved[1])), "where the pictures lie is free"
    moved[1].rename(moved[0])
    for settings, told in (({"style_learning_rate": 0.5}, "style_learning_rate"), ({"judged": 4}, "judged"), ({"ema": 0.5}, "ema")):
        with pytest.raises(StylenormError, match=f"other {told}; give the same again"):
            goes_on(**settings)
    for folder in ("photos", "styles"):
        more = make_photo(tmp_path / folder / "more.jpg", (90, 80), 30)
        with pytest.raises(StylenormError, match=f"other {folder}; give the same again, or another folder"):
            goes_on()
        more.unlink()
    assert goes_on()
    (tmp_path / "out" / "runs" / "instance-0" / "resume.safetensors").unlink()
    assert goes_on(ema=0.5), "nothing has been trained yet"


def as_on_a_gpu(monkeypatch, gpu: bool = True) -> None:
    monkeypatch.setattr("stylenorm.training._least_memory", lambda *_: 2_100_000_000 if gpu else None)


def networks_of(config: CompareConfig, monkeypatch, stop: int = 0) -> list[dict]:
    """What the runs of the first seed were trained with, in order. stop: only so many runs are begun."""
    seen: list[str] = []

    def tell(kind: str, seed: int, record) -> None:
        seen.append(kind)
        if len(set(seen)) == stop and record.step == 2:  # it has a checkpoint
            raise KeyboardInterrupt

    with nullcontext() if not stop else pytest.raises(KeyboardInterrupt):
        compare_kinds(config, tell)
    files = [Path(config.training.out) / "runs" / f"{kind}-0" / "network.safetensors" for kind in TITLES]
    return [load_network(file).about["training"] for file in files if file.exists()]


@pytest.fixture
def left(pictures, tmp_path, monkeypatch) -> CompareConfig:
    """A comparison that leaves to the device what it can."""
    monkeypatch.setattr(compare_training, "judge_network", lambda *_: {})
    monkeypatch.setattr(compare_training, "draw", lambda *_: None)
    monkeypatch.setattr("stylenorm.plots.loss_curve", lambda table, path: path.touch())
    training = replace(tiny(pictures, tmp_path).training, batch=None, optimizer=None, steps=2)
    return CompareConfig(training, seeds=(0,), judged=3)


def test_a_comparison_is_the_same_on_any_device_and_goes_on_on_another(described_once, left, tmp_path, monkeypatch):
    """A GPU took 8 times the pictures and another encoder, and kinds were compared that differ in these as well."""
    as_on_a_gpu(monkeypatch)
    networks_of(left, monkeypatch, stop=2)
    as_on_a_gpu(monkeypatch, False)
    trained = networks_of(left, monkeypatch)
    assert [(t["batch"], t["encoder_width"], t["optimizer"]) for t in trained] == [(4, 384, "adam")] * 4
    assert json.loads((tmp_path / "compare.json").read_text())["training"]["batch"] == 4


@pytest.mark.parametrize("gpu", [True, False])
def test_a_comparison_that_the_device_had_settled_goes_on_as_it_was_begun(gpu, described_once, left, tmp_path, monkeypatch):
    """As those of earlier versions are: settings.json does not tell what the device had settled."""
    with monkeypatch.context() as early:
        as_on_a_gpu(early, gpu)
        early.setattr(compare_training, "_settled", lambda training: training)
        networks_of(left, early, stop=3)
    assert json.loads((tmp_path / "settings.json").read_text())["batch"] is None
    as_on_a_gpu(monkeypatch, not gpu)
    trained = networks_of(left, monkeypatch)
    wanted = (8, 1024, "muon") if gpu else (4, 384, "adam")
    assert [(t["batch"], t["encoder_width"] or 384, t["optimizer"]) for t in trained] == [wanted] * 4
    with pytest.raises(StylenormError, match="other batch; give the same again"):
        compare_kinds(replace(left, training=replace(left.training, batch=2)))


def test_a_comparison_that_had_a_batch_of_its_own_goes_on_as_it_was_begun(described_once, left, monkeypatch):
    left = replace(left, training=replace(left.training, batch=2))
    with monkeypatch.context() as early:
        early.setattr(compare_training, "_settled", lambda training: training)
        networks_of(left, early, stop=2)
    assert [t["batch"] for t in networks_of(left, monkeypatch)] == [2] * 4


def test_an_encoder_of_the_usual_width_starts_the_same_whether_it_was_asked_for_or_not(described_once, pictures, tmp_path):
    training = replace(tiny(pictures, tmp_path).training, tensorboard="off")
    models = [Trainer(replace(training, encoder_width=width, out=str(tmp_path / str(width)))).model.state_dict() for width in (None, 384)]
    assert all(torch.equal(value, models[1][key]) for key, value in models[0].items())


def test_a_comparison_that_is_refused_leaves_nothing(pictures, tmp_path):
    config = tiny(pictures, tmp_path / "new" / "out")
    with pytest.raises(StylenormError, match="no painting named 'kis'"):
        compare_kinds(replace(config, training=replace(config.training, names=("kis",))))
    assert not (tmp_path / "new").exists()


def test_two_comparisons_at_once_do_not_share_a_folder(pictures, tmp_path):
    def again(kind: str, seed: int, record) -> None:
        with pytest.raises(StylenormError, match="another training is writing into .*; wait for it"):
            compare_kinds(config)
        assert (tmp_path / "settings.json").exists()
        raise KeyboardInterrupt

    config = tiny(pictures, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        compare_kinds(config, again)


def test_where_few_photographs_are_unseen_others_are_the_neighbours(networks, pictures, tmp_path, monkeypatch):
    seen = find_images(pictures / "photos")
    monkeypatch.setattr(compare_training, "JUDGED_SIZE", 64)
    monkeypatch.setattr(compare_training, "score_named", lambda *a: {"": SimpleNamespace(content=1.0, style=1.0, total=1.0)})
    for count in (1, 2, 4):
        monkeypatch.setattr(compare_training, "unseen_pictures", lambda *a, count=count: seen[:count])
        run = judge_network(networks / "batch" / "network.safetensors", tiny(pictures, tmp_path).training, 3)
        assert run["neighbours"]["training"] > 0 and run["neighbours"]["inference"] < 1e-3


def test_networks_are_not_written_among_the_pictures_that_they_learn_from(pictures):
    with pytest.raises(StylenormError, match="lies in .*photos.*give another folder"):
        compare_kinds(tiny(pictures, pictures / "photos" / "mine"))
    assert not (pictures / "photos" / "mine").exists()


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_nor_among_them_by_another_name(pictures, tmp_path, monkeypatch):
    """As on a Mac, where Photos is photos."""
    (tmp_path / "Photos").symlink_to(pictures / "photos")
    monkeypatch.setattr(Path, "resolve", lambda path: path.absolute())
    with pytest.raises(StylenormError, match="lies in .*photos"):
        compare_kinds(tiny(pictures, tmp_path / "Photos" / "mine"))


def test_ctrl_c_is_told_with_the_exit_code_that_it_has_everywhere(pictures, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stylenorm.compare_training.compare_kinds", stop)
    folders = ["--photos", str(pictures / "photos"), "--styles", str(pictures / "styles")]
    assert main(["compare", "--train", *folders, "-o", str(tmp_path / "mine")]) == 130
    assert capsys.readouterr().err == "stylenorm: stopped; the same command goes on\n"


def test_the_end_of_a_comparison_tells_how_it_is_seen_with_names_of_one_word(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stylenorm.compare_training.compare_kinds", lambda *_: {})
    monkeypatch.setattr("stylenorm.compare_training.tables", lambda report: "")
    folders = ["--photos", str(pictures / "photos"), "--styles", str(pictures / "styles")]
    assert main(["compare", "--train", *folders, "--names", "my garden", "-o", str(tmp_path / "a b")]) == 0
    told = capsys.readouterr().out.split("stylenorm compare ")[1]
    assert shlex.split(told) == ["photo.jpg", "--networks", str(tmp_path / "a b"), "--style", "my garden"]


def test_a_run_that_goes_on_has_its_heading(pictures, tmp_path, monkeypatch, capsys):
    def runs(config, tell) -> dict:
        for kind, seed, step in (("group", 0, 7), ("group", 0, 8), ("batch", 0, 1), ("batch", 1, 1)):
            record = {"content": 1.0, "style": 1.0, "total": 11.0, "images_per_second": 1.0, "seconds_left": 1.0, "broken": ()}
            tell(kind, seed, SimpleNamespace(step=step, steps=8, **record))
        return {}

    monkeypatch.setattr("stylenorm.compare_training.compare_kinds", runs)
    monkeypatch.setattr("stylenorm.compare_training.tables", lambda report: "")
    folders = ["--photos", str(pictures / "photos"), "--styles", str(pictures / "styles")]
    assert main(["compare", "--train", *folders, "-o", str(tmp_path / "mine")]) == 0
    headings = [line for line in capsys.readouterr().out.splitlines() if " norm, seed " in line]
    assert headings == ["group norm, seed 0", "batch norm, seed 0", "batch norm, seed 1"]


def test_fewer_than_three_photographs_are_refused_before_the_training(pictures, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(2):
        make_photo(tmp_path / "photos" / f"{i}.jpg", (90, 80), i)
    config = tiny(pictures, tmp_path / "out")
    with pytest.raises(StylenormError, match="at least 3 photographs, and .* has 2"):
        compare_kinds(replace(config, training=replace(config.training, photos=str(tmp_path / "photos"))))
    assert not (tmp_path / "out").exists()


def test_a_broken_photograph_that_networks_are_judged_on_is_refused_before_the_training(pictures, tmp_path, monkeypatch):
    shutil.copytree(pictures / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "0.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(compare_training, "_run", lambda *_: pytest.fail("hours of training, for nothing"))
    config = tiny(pictures, tmp_path / "out")
    with pytest.raises(StylenormError, match="judged on must be whole: .*0.jpg is not a picture"):
        compare_kinds(replace(config, training=replace(config.training, photos=str(tmp_path / "photos"))))
    assert not (tmp_path / "out").exists()


def test_the_tables_hold_mean_and_spread():
    runs = [
        {
            "kind": kind, "seed": seed, "content": 1.0 + seed, "style": 0.5, "total": 6.0 + seed,
            "moved": dict.fromkeys(CHANGES, 0.25), "neighbours": {"training": 3.0, "inference": 0.0},
        }
        for kind in KINDS for seed in (0, 1)
    ]  # fmt: skip
    mean, deviation = spread({"runs": runs}, lambda run: run["content"])["layer"]
    assert mean == 1.5 and deviation == pytest.approx(0.5**0.5)
    assert "| layer norm | 1.5 ± 0.71 | 0.5 ± 0 | 6.5 ± 0.71 |" in tables({"runs": runs})
    assert tables({"runs": runs}).startswith("| unseen photographs |")
    assert "| one photograph, other neighbours | training | inference |" in tables({"runs": runs})
    assert "±" not in tables({"runs": [run for run in runs if run["seed"] == 0]})  # one seed does not deviate by 0


@pytest.mark.parametrize("count, told", [(5, "photographs learned on"), (100, "unseen photographs")])
def test_photographs_that_were_learned_on_are_not_called_unseen(count, told, tmp_path, monkeypatch):
    for i in range(count):
        make_photo(tmp_path / "photos" / f"{i}.jpg", (64, 64), i)
    make_photo(tmp_path / "styles" / "kiss.jpg", (80, 80), 9)
    monkeypatch.setattr(compare_training, "_run", lambda *_: {})
    monkeypatch.setattr(compare_training, "_without_encoder", lambda *_: None)
    monkeypatch.setattr(compare_training, "draw", lambda *_: None)
    assert compare_kinds(tiny(tmp_path, tmp_path / "out"))["judged_on"] == told


def test_seeds_are_checked(pictures, tmp_path):
    config = tiny(pictures, tmp_path)
    for seeds in ((), (1, 1)):
        with pytest.raises(StylenormError, match="seed"):
            replace(config, seeds=seeds)
    config = small(pictures, pictures, tmp_path, (), 10, "cpu", None)
    assert config.widths == (24, 48, 80) and config.optimizer == "muon"


def test_the_shipped_networks_differ_in_their_norm_alone():
    networks = {kind: load_network(file) for kind, file in compared_networks().items()}
    assert sorted(networks) == sorted(KINDS)
    configs = [network.generator.config.to_dict() | {"norm": None} for network in networks.values()]
    assert all(config == configs[0] for config in configs)
    trained = [network.about["training"] | {"norm": None} for network in networks.values()]
    assert all(settings == trained[0] for settings in trained), "the same paintings, order and budget"
    photo = torch.rand(3, 3, 64, 64)
    for kind, network in networks.items():
        style = load_style(next(compared_networks()[kind].parent.glob("styles/*")), network.hash)
        assert (moved(network.generator, [style], photo)["half contrast"] < 0.01) == (kind == "instance")
