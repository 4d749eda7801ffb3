"""stylenorm batch and stylenorm export as they are typed: what they write, print, refuse and survive."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from stylenorm import Stylizer, animation, cli_batch, cli_show, engine, formats
from stylenorm.animation import paint_animation
from stylenorm.batch_steps import Look, Task, read_photo
from stylenorm.cli import main
from stylenorm.cli_batch import can_be_folder
from stylenorm.errors import NobodyReads
from stylenorm.jobs import Masks
from stylenorm.manifest import NAME, Manifest
from stylenorm.tree import Photo, find_tree

ROOT = Path(__file__).parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="signals differ there")


@pytest.fixture
def cli(capsys, weights, monkeypatch, tmp_path):
    """Runs `stylenorm batch` from in/ to out/ on the small weights; gives its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words, out="out", style=("--style", "red-hill"), verb="batch", top="in") -> SimpleNamespace:
        front = [verb, tmp_path / top, tmp_path / out, *style, "--backend", "torch", "--device", "cpu"]
        code = main([str(w) for w in (*front, "--weights", weights, *words)])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def photos(tmp_path):
    for i, name in enumerate(("a.jpg", "b.png", "trip/ä — 猫.webp", "trip/c.jpg")):
        make_photo(tmp_path / "in" / name, seed=i)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != NAME)


def manifest(folder: Path) -> list[dict]:
    return [json.loads(text) for text in (folder / NAME).read_text(encoding="ascii").splitlines()]


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def refused(result, *words: str) -> None:
    """Exit code 2, and one line on stderr that holds ``words``."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("stylenorm: ") and result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err, result.err


# ---- what it does ------------------------------------------------------------------------------


def test_a_folder_is_painted_as_the_stylizer_paints(cli, photos, stylizer, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "STYLE_SIZE", 64)  # short side of a photograph, which at strength 0.5 is read as a painting is
    result = cli("--format", "png", "--strength", "0.5", "--preserve-color", "--size", "40")
    assert result.code == 0 and result.err == "", result
    assert files(tmp_path / "out") == ["a.png", "b.png", "trip/c.png", "trip/ä — 猫.png"]
    wanted = stylizer.stylize(photos / "trip" / "ä — 猫.webp", "red-hill", strength=0.5, preserve_color=True, size=40)
    np.testing.assert_allclose(pixels(tmp_path / "out" / "trip" / "ä — 猫.png").astype(int), np.asarray(wanted).astype(int), atol=1)
    head, *lines, end = manifest(tmp_path / "out")
    assert head["settings"]["network"] == stylizer.resolve("red-hill").network and head["settings"]["size"] == 40
    assert head["settings"].keys() == {"strength", "preserve_color", "size", "paint_at", "format", "quality", "network", "style"}, "else nothing goes on that was begun"
    assert head["settings"]["style"][0].keys() == {"label", "folder", "parts", "image"}
    assert len(lines) == 4 and (end["kind"], end["done"], end["failed"]) == ("end", 4, 0)
    assert "4 photographs, 4 paintings to do" in result.out and re.search(r"done +4", result.out)


def test_parts_of_each_photograph_have_styles_of_their_own(cli, photos, stylizer, tmp_path):
    left, right = Image.new("L", (60, 44)), Image.new("L", (60, 44))
    left.paste(255, (0, 0, 30, 44)), right.paste(255, (45, 0, 60, 44))
    (tmp_path / "masks" / "trip").mkdir(parents=True)
    for name in ("a.png", "b.png", "trip/c.png", "trip/ä — 猫.png"):
        left.save(tmp_path / "masks" / name)
    right.save(tmp_path / "right.png")
    painting = make_photo(tmp_path / "painting.png", (70, 90), seed=3)
    words = ["--format", "png", "--region", f"{tmp_path / 'masks'}=blue-tree:2,tall-grass:1", "--region", f"{tmp_path / 'right.png'}={painting}"]
    words += ["--style-size", "64"]
    assert cli(*words).code == 0
    regions = [({"blue-tree": 2, "tall-grass": 1}, left), (stylizer.style_from(painting, 64), right)]
    for name, photo in (("a.png", "a.jpg"), ("trip/ä — 猫.png", "trip/ä — 猫.webp")):
        wanted = stylizer.stylize(photos / photo, "red-hill", regions=regions)
        assert np.abs(pixels(tmp_path / "out" / name) - np.asarray(wanted)).max() <= 1
    (settings,) = [line["settings"] for line in manifest(tmp_path / "out") if "settings" in line]
    assert [part["label"] for part in settings["regions"]] == ["masks=blue-tree:0.667+tall-grass:0.333", "right.png=painting.png"]
    assert "4 are there already" in cli(*words).out
    Image.new("L", (60, 44), 255).save(tmp_path / "masks" / "trip" / "c.png")
    assert "3 are there already" in cli(*words).out, "one of its masks is another"
    refused(cli("--format", "png", "--region", f"{tmp_path / 'masks'}=blue-tree"), "were made with", "regions masks=")
    refused(cli("--region", "people=red-hil"), "did you mean red-hill")
    refused(cli("--region", "people=red-hill:0"), "weight above 0")
    refused(cli("--region", f"{photos / 'trip'}=red-hill", top="out/../in"), "lies in", "move it")
    refused(cli("--region", f"{tmp_path / 'masks'}=red-hill", out="masks"), "is where the masks are")
    refused(cli("--region", "people=red-hill", "--style-size", "64"), "--style-size is for paintings")


def test_pictures_as_masks_are_not_for_a_url(weights, tmp_path, capsys):
    mask = make_photo(tmp_path / "mask.png")
    refusal = "and not for a URL; people or background will do"
    for words, told in ((["--mask", mask], refusal), (["--region", f"{mask}=blue-tree"], refusal), (["--keep", "people", "--region", "people=blue-tree"], "memory://in")):
        assert main([str(w) for w in ("batch", "memory://in", tmp_path / "out", "--style", "red-hill", "--weights", weights, *words)]) == 2
        error = capsys.readouterr().err
        assert told in error and (refusal in error) == (told == refusal)


def test_a_photograph_is_known_by_all_its_masks(tmp_path):
    photo = Photo(tmp_path / "in" / "a.jpg", "a.jpg", 1, 1)
    first, second = (Masks(tmp_path / name, top=tmp_path / "in") for name in ("first", "second"))
    for number, masks in enumerate((first, second)):
        make_photo(masks.path / "a.png", seed=number)

    def known(*folders) -> str | None:
        return cli_batch.with_masks([photo], folders)[0].mask

    one, both = known(first), known(first, second)
    assert one == hashlib.sha256((first.path / "a.png").read_bytes()).hexdigest(), "as in what an older version began"
    assert len({one, both, known(second, first)}) == 3
    make_photo(second.path / "a.png", seed=2)
    assert known(first, second) not in (one, both) and known(first) == one
    (second.path / "a.png").unlink()
    assert known(first, second) is None, "and when its turn comes, that is told"


def test_an_animation_of_a_tree_has_numbered_masks_in_a_folder_of_its_own(cli, tmp_path):
    first, second = (Image.open(make_photo(tmp_path / f"{seed}.png", (60, 44), seed)) for seed in (1, 2))
    (tmp_path / "in" / "trip").mkdir(parents=True)
    first.save(tmp_path / "in" / "trip" / "moving.png", save_all=True, append_images=[second], duration=80)
    own = tmp_path / "masks" / "trip" / "moving"
    own.mkdir(parents=True)
    left = Image.new("L", (60, 44))
    left.paste(255, (0, 0, 30, 44))
    left.save(own / "1.png"), left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(own / "2.png")
    words = ("--keep", tmp_path / "masks")

    def kept() -> list[tuple[bool, bool]]:
        with Image.open(tmp_path / "out" / "trip" / "moving.png") as painted:
            apart = []
            for number, frame in enumerate((first, second)):
                painted.seek(number)
                moved = np.abs(np.subtract(painted.convert("RGB"), frame.convert("RGB"), dtype=np.int16)).max((0, 2))
                apart.append((not moved[:29].any(), not moved[31:].any()))
            return apart

    assert cli(*words).code == 0 and kept() == [(True, False), (False, True)]
    assert "1 is there already" in cli(*words).out
    Image.new("L", (60, 44), 255).save(own / "2.png")
    assert cli(*words).code == 0 and kept() == [(True, False), (True, True)], "it has other masks"


def test_nothing_is_painted_over_a_mask_or_the_painting_of_a_style(cli, photos, tmp_path):
    given = [make_photo(tmp_path / "out" / name, (60, 44), seed=3) for name in ("a.png", "red-hill/trip/c.png")]
    before, again = [path.read_bytes() for path in given], ("--format", "png", "--overwrite")
    for words in (("--mask", given[0]), ("--region", f"{given[0]}=blue-tree"), ("--region", f"people={given[0]}")):
        refused(cli(*again, *words), "a.png is an input and would be overwritten")
    refused(cli(*again, style=("--style-image", given[0])), "a.png is an input and would be overwritten")
    refused(cli(*again, "--style", "blue-tree", "--keep", tmp_path / "out" / "red-hill"), "c.png is an input and would be overwritten")
    assert [path.read_bytes() for path in given] == before and files(tmp_path / "out") == ["a.png", "red-hill/trip/c.png"]


def test_one_is_told_as_one(cli, tmp_path):
    make_photo(tmp_path / "in" / "a.jpg")
    told = [cli().out for _ in range(2)]
    assert "1 photograph, 1 painting to do\n" in told[0] and "1 photograph, 0 paintings to do, 1 is there already\n" in told[1]
    assert re.search(r"skipped +1 +was there already", told[1])
    make_photo(tmp_path / "in" / "b.jpg")
    assert "2 photographs, 1 painting to do, 1 is there already\n" in cli().out


def test_formats_and_quality(cli, photos, tmp_path):
    assert cli().code == 0
    assert files(tmp_path / "out") == files(photos), "keep keeps the names"
    assert cli("--format", "jpeg", "--quality", "20", out="low").code == 0
    assert files(tmp_path / "low") == ["a.jpg", "b.jpg", "trip/c.jpg", "trip/ä — 猫.jpg"]
    assert (tmp_path / "low" / "a.jpg").stat().st_size < 0.7 * (tmp_path / "out" / "a.jpg").stat().st_size


def test_each_photograph_of_a_tree_has_its_mask(cli, photos, stylizer, tmp_path):
    left = Image.new("L", (60, 44))
    left.paste(255, (0, 0, 30, 44))
    (tmp_path / "masks" / "trip").mkdir(parents=True)
    for name in ("a.png", "trip/c.bmp", "trip/a.png"):
        left.save(tmp_path / "masks" / name)
    result = cli("--format", "png", "--keep", tmp_path / "masks")
    assert result.code == 1 and files(tmp_path / "out") == ["a.png", "trip/c.png"]
    assert "b.png; one is called like what it is for" in result.err and "masks/trip has no mask for" in result.err.replace("\\", "/")
    for name, photo in (("a.png", "a.jpg"), ("trip/c.png", "trip/c.jpg")):
        painted, whole, before = pixels(tmp_path / "out" / name), *(np.asarray(stylizer.stylize(photos / photo, "red-hill", strength=k)) for k in (1, 0))
        assert np.array_equal(painted[:, :30], before[:, :30]) and np.abs(painted - whole)[:, 30:].max() <= 1
    before = pixels(tmp_path / "out" / "trip" / "c.png")
    assert "2 are there already" in cli("--format", "png", "--keep", tmp_path / "masks").out
    left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "masks" / "a.png")
    assert "1 is there already" in cli("--format", "png", "--keep", tmp_path / "masks").out, "it has another mask"
    assert np.array_equal(pixels(tmp_path / "out" / "a.png")[:, 30:], pixels(photos / "a.jpg")[:, 30:])
    assert np.array_equal(pixels(tmp_path / "out" / "trip" / "c.png"), before)
    left.save(tmp_path / "masks" / "a.png")
    refused(cli("--format", "png", "--mask", tmp_path / "masks"), "were made with", "keep")
    assert cli("--format", "png", "--mask", tmp_path / "masks" / "a.png", out="one").code == 0, "one for all"
    assert (pixels(tmp_path / "one" / "b.png")[:, 30:] == pixels(photos / "b.png")[:, 30:]).all()
    refused(cli("--mask", photos / "trip"), "lies in", "move it")
    assert cli("--format", "png", "--limit", "1", "--mask", photos / ".." / "masks" / "a.png", out="two").code == 0, "which does not lie in it"
    refused(cli("--mask", tmp_path / "none"), "there is no mask")
    refused(cli("--mask", tmp_path / "masks", "--overwrite", out="masks"), "where the masks are")


def test_a_folder_of_masks_is_the_same_by_whichever_way_it_is_given(cli, photos, tmp_path):
    for name in ("a", "b", "trip/c", "trip/ä — 猫"):
        make_photo(tmp_path / "masks" / f"{name}.png")
    around, path = photos / ".." / "masks", tmp_path / "out" / NAME

    def words(folder: Path, other: Path) -> tuple:
        return "--limit", "1", "--keep", folder, "--region", f"{other}=blue-tree"

    assert cli(*words(tmp_path / "masks", around)).code == 0
    text = path.read_text()
    assert text.count(json.dumps(os.path.realpath(tmp_path / "masks"))) == 2
    path.write_text(text.replace(json.dumps(os.path.realpath(tmp_path / "masks")), json.dumps(str(around))))  # as an older version noted it
    for number, folders in enumerate([(around, tmp_path / "masks"), (tmp_path / "masks", around)], 1):
        result = cli(*words(*folders))
        assert result.code == 0 and f"{number} {'is' if number == 1 else 'are'} there already" in result.out
    make_photo(tmp_path / "others" / "a.png")
    refused(cli(*words(tmp_path / "others", around)), f"keep {os.path.realpath(tmp_path / 'masks')} instead of {os.path.realpath(tmp_path / 'others')}")


def test_masks_are_found_for_photographs_whose_names_hold_what_is_not_printable(cli, tmp_path):
    right = Image.new("L", (60, 44))
    right.paste(255, (30, 0, 60, 44))
    for number, name in enumerate(("a", "a\u200db", "me\u200dmy/c")):  # as in the emoji of a family
        make_photo(tmp_path / "fam\u200dily" / f"{name}.png", seed=number)
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        right.save(tmp_path / "masks" / f"{name}.png")
    result = cli("--mask", tmp_path / "masks", "--region", f"{tmp_path / 'masks'}=blue-tree", top="fam\u200dily")
    assert (result.code, result.err) == (0, "") and len(files(tmp_path / "out")) == 3
    for name in files(tmp_path / "out"):
        assert np.array_equal(pixels(tmp_path / "out" / name)[:, :30], pixels(tmp_path / "fam\u200dily" / name)[:, :30])


def test_each_style_has_its_folder(cli, photos, stylizer, tmp_path):
    make_photo(tmp_path / "my painting.jpg", (70, 90), seed=9)
    words = ["--style", "red-hill:3,blue-tree:1", "--style", "tall-grass", "--style-image", str(tmp_path / "my painting.jpg")]
    assert cli("--no-recursive", "--format", "png", "--style-size", "64", style=words).code == 0
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["my painting", "red-hill-0.75+blue-tree-0.25", "tall-grass"]
    assert files(out / "tall-grass") == ["a.png", "b.png"]
    blend = stylizer.stylize(photos / "a.jpg", {"red-hill": 0.75, "blue-tree": 0.25})
    np.testing.assert_allclose(pixels(out / "red-hill-0.75+blue-tree-0.25" / "a.png").astype(int), np.asarray(blend).astype(int), atol=1)
    painted = stylizer.stylize(photos / "a.jpg", stylizer.style_from(tmp_path / "my painting.jpg", size=64))
    np.testing.assert_allclose(pixels(out / "my painting" / "a.png").astype(int), np.asarray(painted).astype(int), atol=1)


def filled(pipe: Path, content: bytes) -> Path:
    """A new pipe there, through which ``content`` comes once."""
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[content], daemon=True).start()
    return pipe


@posix
def test_a_painting_comes_through_a_pipe_and_the_same_one_through_another_goes_on(cli, photos, stylizer, tmp_path):
    painting = make_photo(tmp_path / "painting.jpg", (70, 90), seed=9)
    data = painting.read_bytes()

    def run(pipe, *words, content=data):
        style = ["--style", "red-hill", "--style-image", filled(tmp_path / pipe, content), "--style-size", "64"]
        return cli("--format", "png", "--no-recursive", *words, style=style)

    first = run("63", "--limit", "1")
    assert first.code == 0 and first.err == "", first
    (folder,) = [p for p in (tmp_path / "out").iterdir() if p.name.startswith("painting-")]
    second = run("11")
    assert second.code == 0 and files(folder) == ["a.png", "b.png"], second
    wanted = stylizer.stylize(photos / "a.jpg", stylizer.style_from(painting, size=64))
    np.testing.assert_allclose(pixels(folder / "a.png"), np.asarray(wanted).astype(int), atol=1)
    image = manifest(tmp_path / "out")[0]["settings"]["style"][1]["image"]
    assert image == {"painting": hashlib.sha256(data).hexdigest(), "size": 64}
    refused(run("12", content=make_photo(tmp_path / "other.jpg", seed=4).read_bytes()), "were made with")
    for number, content in enumerate((b"", b"nothing")):
        result = cli(style=["--style-image", filled(tmp_path / f"bad{number}", content)], out="none")
        assert result.code == 2 and f"bad{number} is" in result.err and result.err.count("\n") == 1, result


def test_a_second_folder_does_not_replace_the_paintings_of_the_first(cli, photos, tmp_path):
    cli()
    painted = (tmp_path / "out" / "a.jpg").read_bytes()
    second = tmp_path / "second"
    for i, name in enumerate(("a.jpg", "b.png", "new.jpg")):
        make_photo(second / name, seed=7 + i)
    result = cli(top="second")
    assert result.code == 0 and result.err.count("\n") == 1 and "3 photographs, 1 painting to do, 2 are there" in result.out, result
    assert f"a.jpg is the painting of {photos / 'a.jpg'}, and 1 more" in result.err
    assert (tmp_path / "out" / "a.jpg").read_bytes() == painted and (tmp_path / "out" / "new.jpg").is_file()
    assert cli().err == ""
    photos.rename(tmp_path / "gone")
    assert cli(top="second").err == "" and (tmp_path / "out" / "a.jpg").read_bytes() != painted, "as of a folder that was moved"


def test_that_a_tiff_has_more_pages_is_told(cli, photos, tmp_path):
    page = Image.new("RGB", (20, 20), "red")
    page.save(photos / "scan.tif", save_all=True, append_images=[page, page])
    assert cli().err == "stylenorm: scan.tif: only the first of its 3 pages is painted; save each as a file of its own\n"
    assert {line["input"]: line["pages"] for line in manifest(tmp_path / "out") if "pages" in line} == {"scan.tif": 3}
    assert cli().err == "" and cli("--quiet", out="again").err == ""


def test_that_an_avif_moves_and_is_painted_as_a_still_is_told(cli, photos, tmp_path):
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "red")]
    pages[0].save(photos / "moving.avif", save_all=True, append_images=pages[1:])
    assert cli().err == "stylenorm: moving.avif: only the first of its 3 frames is painted; --format webp paints all\n"
    assert cli("--format", "webp", out="all").err == "" and Image.open(tmp_path / "all" / "moving.webp").n_frames == 3


def test_a_collision_is_told_and_both_survive(cli, photos, stylizer, tmp_path):
    make_photo(photos / "a.png", seed=8)
    assert "a.png becomes a-png.jpg" in cli("--format", "jpeg").out
    for source, target in (("a.jpg", "a.jpg"), ("a.png", "a-png.jpg")):
        difference = abs(pixels(tmp_path / "out" / target) - np.asarray(stylizer.stylize(photos / source, "red-hill")).astype(int))
        assert difference.mean() < 4
    (tmp_path / "out" / "a.jpg").unlink()
    before = (tmp_path / "out" / "a-png.jpg").read_bytes()
    result = cli("--format", "jpeg")
    assert re.search(r"done +1", result.out) and re.search(r"skipped +4", result.out)
    assert (tmp_path / "out" / "a-png.jpg").read_bytes() == before and (tmp_path / "out" / "a.jpg").exists()


def test_a_file_that_no_batch_has_painted_stays_and_is_told(cli, photos, tmp_path):
    (tmp_path / "out").mkdir()
    make_photo(tmp_path / "out" / "a.jpg", seed=9)
    mine = (tmp_path / "out" / "a.jpg").read_bytes()
    for _ in range(2):
        result = cli()
        assert "a.jpg was there before" in result.err and "--overwrite" in result.err and result.code == 0
        assert (tmp_path / "out" / "a.jpg").read_bytes() == mine
    result = cli("--overwrite")
    assert result.err == "" and (tmp_path / "out" / "a.jpg").read_bytes() != mine
    assert cli().err == ""


def test_a_broken_photograph_is_named_and_makes_code_1(cli, photos, tmp_path):
    (photos / "b.png").write_bytes(b"no picture")
    result = cli()
    assert result.code == 1 and re.search(r"failed +1", result.out) and re.search(r"done +3", result.out)
    assert result.err == f"stylenorm: {photos / 'b.png'} is not a picture; use JPEG, PNG, WebP, TIFF, GIF or BMP\n"
    assert [line["input"] for line in manifest(tmp_path / "out") if line["kind"] == "failed"] == ["b.png"]
    assert cli().code == 1, "and again, until it is mended"
    make_photo(photos / "b.png")
    assert cli().code == 0


def test_what_a_format_cannot_hold_is_refused_before_it_is_painted(cli, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(formats.LONGEST_SIDE, "webp", 30)
    monkeypatch.setattr(engine.Stylizer, "stylize", lambda *_, **__: pytest.fail("it was painted"))
    monkeypatch.setattr(engine.Stylizer, "stylize_alike", lambda *_, **__: pytest.fail("it was painted"))
    result = cli("--format", "webp")
    assert result.code == 1 and len(result.err.splitlines()) == 4
    assert all(": webp holds at most 30 pixels a side, and" in line for line in result.err.splitlines())
    monkeypatch.undo()
    monkeypatch.setitem(formats.LONGEST_SIDE, "webp", 30)
    assert cli("--format", "webp", "--size", "30", out="small").code == 0


def test_an_unreadable_folder_is_named_and_makes_code_1(cli, photos, tmp_path, monkeypatch):
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("trip"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    result = cli()
    assert result.code == 1 and str(photos / "trip") in result.err and files(tmp_path / "out") == ["a.jpg", "b.png"]
    assert re.search(r"unread +1", result.out)


def test_limit_counts_what_was_not_done(cli, photos, tmp_path):
    assert "left" in cli("--limit", "1").out and files(tmp_path / "out") == ["a.jpg"]
    cli("--limit", "2")
    assert len(files(tmp_path / "out")) == 3
    result = cli("--limit", "2")
    assert result.code == 0 and len(files(tmp_path / "out")) == 4 and "left" not in result.out


def test_a_limit_goes_on_behind_what_is_broken(cli, photos, tmp_path):
    """"The same command goes on", it says; else it would try the same broken ones for ever."""
    (photos / "a.jpg").write_bytes(b"broken"), (photos / "b.png").write_bytes(b"broken")
    codes = [cli("--limit", "2").code for _ in range(2)]
    assert codes == [1, 0] and len(files(tmp_path / "out")) == 2
    make_photo(photos / "b.png")
    assert cli("--limit", "2").code == 1 and len(files(tmp_path / "out")) == 3, "and tries them when nothing else is left"


def test_a_finished_batch_is_told_without_torch(photos, tmp_path, weights):
    words = ["batch", photos, tmp_path / "out", "--style", "red-hill", "--weights", weights]
    (tmp_path / "out").mkdir()
    for name in files(photos):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"there")
    run_without_torch([words], 0)


def test_quiet_prints_nothing(cli, photos):
    assert cli("--quiet") == SimpleNamespace(code=0, out="", err="")


def test_json_lines_are_all_that_is_printed(cli, photos, monkeypatch):
    (photos / "b.png").write_bytes(b"")
    real = cli_batch.lean_stylizer
    monkeypatch.setattr(cli_batch, "lean_stylizer", lambda *a: print("a library's chatter") or real(*a))
    result = cli("--json-lines")
    *lines, end = [json.loads(line) for line in result.out.splitlines()]
    assert sorted(line["kind"] for line in lines) == ["done", "done", "done", "failed"]
    assert (end["kind"], end["done"], end["failed"], result.code) == ("end", 3, 1, 1)
    assert "chatter" in result.err
    *lines, end = [json.loads(line) for line in cli("--json-lines").out.splitlines()]
    assert end["skipped"] == 3 and len(lines) == 1


def test_large_pictures_are_painted_in_strips(cli, photos, stylizer):
    result = cli("--memory", "0", "--paint-at", "40", "--format", "png")
    assert result.code == 0 and sum("strips" in line for line in result.out.splitlines()) == 4
    for name in ("a", "b"):
        (photo,) = photos.glob(f"{name}.*")
        wanted = np.asarray(stylizer.stylize(photo, "red-hill", paint_at=40)).astype(int)
        assert np.abs(pixels(photos.parent / "out" / f"{name}.png") - wanted).max() <= 2
    refused(cli("--paint-at", "30", "--format", "png"), "paint at 40 instead of 30")
    cli("--paint-at", "full", out="plain")
    assert "paint_at" not in manifest(photos.parent / "plain")[0]["settings"]  # batches of before go on
    refused(cli(out="plain"), "paint at full instead of at most 1.2 megapixels")
    *lines, end = [json.loads(line) for line in cli("--memory", "0", "--json-lines", out="lines").out.splitlines()]
    assert end["done"] == len(lines) == 4


def test_a_bar_on_a_terminal(cli, photos, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", cli().out)
    assert "4/4" in out and "paintings/s" in out and "left" in out


def test_a_line_now_and_then_elsewhere(cli, photos, monkeypatch):
    clock = iter(range(0, 10**6, 11))
    monkeypatch.setattr(cli_show, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert re.search(r"^\d/4  0\.\d+ paintings/s  .* left$", cli().out, re.MULTILINE)


# ---- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, told",
    [
        (["--quality", "80"], "quality 95 instead of 80"),
        (["--size", "32"], "size unset instead of 32"),
        (["--format", "png"], "format keep instead of png"),
        (["--preserve-color"], "preserve color off instead of on"),
    ],
)
def test_other_settings_are_told_and_stop_it(cli, photos, tmp_path, words, told):
    cli("--limit", "1")
    before = (tmp_path / "out" / NAME).read_bytes()
    refused(cli(*words), told, "--overwrite")
    assert (tmp_path / "out" / NAME).read_bytes() == before and len(files(tmp_path / "out")) == 1


def test_another_style_or_network_is_told(cli, photos, other_weights):
    cli("--limit", "1")
    refused(cli(style=("--style", "tall-grass")), "style red-hill instead of tall-grass")
    refused(cli(style=("--style", "red-hill", "--style", "tall-grass")), "instead of red-hill and tall-grass")
    refused(cli("--weights", other_weights), "another network")
    assert cli("--workers", "1", "--limit", "1").code == 0, "what does not change the pixels may change"


def test_a_style_that_was_trained_again_is_another(cli, photos, weights, tmp_path):
    import shutil

    mine = shutil.copytree(weights, tmp_path / "mine")
    cli("--limit", "1", "--weights", mine)
    from stylenorm.checkpoint import load_style, save_style

    style = load_style(mine / "styles" / "red-hill.safetensors")
    save_style(mine / "styles" / "red-hill.safetensors", style.map(lambda t: t * 1.1))
    refused(cli("--weights", mine), "were made with another style red-hill; give")


def test_overwrite_paints_all_again(cli, photos, stylizer, tmp_path):
    cli("--format", "png")
    result = cli("--format", "png", "--size", "32", "--overwrite")
    assert result.code == 0 and re.search(r"done +4", result.out)
    wanted = stylizer.stylize(photos / "a.jpg", "red-hill", size=32)
    np.testing.assert_allclose(pixels(tmp_path / "out" / "a.png").astype(int), np.asarray(wanted).astype(int), atol=1)
    assert re.search(r"skipped +4", cli("--format", "png", "--size", "32").out)


def test_overwrite_goes_on_where_it_was_stopped_and_begins_anew_after_its_end(cli, photos, tmp_path):
    def again(*words, **more) -> tuple[int, str]:
        """How often a batch has begun, and what was to do."""
        result = cli("--overwrite", *words, **more)
        assert (result.code, result.err) == (0, "")
        return sum(line["kind"] == "settings" for line in manifest(tmp_path / "out")), result.out.split(", ", 1)[1].splitlines()[0]

    cli()
    assert again("--limit", "3") == (2, "3 paintings to do")
    make_photo(photos / "trip" / "c.jpg", seed=8)
    assert again("--limit", "3") == (2, "2 paintings to do, 2 are there already"), "one has changed since"
    assert again("--limit", "3") == (3, "3 paintings to do"), "that one had come to its end"
    assert again("--size", "30", "--limit", "1") == (4, "1 painting to do"), "other settings"
    cli("--size", "30"), make_photo(photos / "d.jpg"), cli("--size", "30")
    assert again("--size", "30") == (5, "5 paintings to do"), "the plain command has finished it"
    path = tmp_path / "out" / NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-1]))  # a kill between the last painting and the line about the end
    assert again("--size", "30") == (5, "0 paintings to do, 5 are there already")
    assert again("--size", "30", "--limit", "1") == (6, "1 painting to do")
    for name in ("a.jpg", "d.jpg"):
        make_photo(tmp_path / "more" / name, seed=7)
    assert again("--size", "30", top="more") == (6, "2 paintings to do"), "over what is another folder's as well"


def test_settings_that_came_to_nothing_do_not_bind(cli, photos, tmp_path):
    for name in files(photos):
        (photos / name).write_bytes(b"")
    assert cli("--quality", "80").code == 1
    make_photo(photos / "a.jpg")
    assert re.search(r"done +1", cli("--quality", "70").out)


# ---- places ------------------------------------------------------------------------------------


def test_paintings_inside_the_photographs_are_never_painted(cli, photos, tmp_path):
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    for _ in range(2):
        assert cli(out="in/painted").code == 0
        assert files(photos / "painted") == sorted(before)
    assert cli("--overwrite", out="in/painted").code == 0
    assert {name: (photos / name).read_bytes() for name in before} == before
    assert not (photos / "painted" / "painted").exists()


def test_a_photograph_that_came_among_the_paintings_inside_the_photographs_is_not_painted_over(cli, photos, tmp_path):
    out = photos / "painted"
    assert cli("--limit", "2", out="in/painted").code == 0
    own = make_photo(out / "trip" / "c.jpg", seed=9)
    before = own.read_bytes()
    refused(cli("--overwrite", out="in/painted"), str(own), "no batch has painted", "give another folder")
    assert "no batch has noted" in cli(out="in/painted").err and own.read_bytes() == before
    own.unlink()
    assert cli("--overwrite", out="in/painted").code == 0 == cli("--overwrite", "--size", "30", out="in/painted").code
    assert files(out) == ["a.jpg", "b.png", "trip/c.jpg", "trip/ä — 猫.webp"]
    assert cli("--limit", "2").code == 0 and make_photo(tmp_path / "out" / "trip" / "c.jpg", seed=9)
    assert cli("--overwrite").code == 0, "elsewhere, that is what it is for"


def test_photographs_inside_the_paintings(cli, photos, tmp_path):
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    assert cli(out=".").code == 0 and (tmp_path / "a.jpg").exists() and (tmp_path / "trip" / "c.jpg").exists()
    assert re.search(r"skipped +4", cli(out=".").out), "its own results are no photographs"
    make_photo(photos / "in" / "d.jpg")
    refused(cli("--overwrite", out="."), "would be taken for a photograph")
    (photos / "in" / "d.jpg").unlink()
    assert {name: (photos / name).read_bytes() for name in before} == before


def test_a_place_that_cannot_be_used(cli, photos, tmp_path):
    refused(cli(out="in"), "where the photographs are")
    refused(cli(out="in/a.jpg"), "a.jpg is a file")
    if Path("/proc/self").exists():
        refused(cli(out="/proc/out"), "/proc/out cannot be written")
    with Manifest(tmp_path / "out"):
        refused(cli(), "another stylenorm batch")


def test_an_empty_name_is_not_the_folder_one_is_in(photos, weights, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    before = files(photos.parent)
    for names, told in ((("", "../out"), "IN is empty"), ((photos, ""), "OUT is empty")):
        assert main(["batch", *map(str, names), "--style", "red-hill", "--weights", str(weights)]) == 2
        assert told in capsys.readouterr().err and files(photos.parent) == before


@posix
@pytest.mark.parametrize("name", [*(["...png", "..png"] if Path("..png").stem == "." else []), f"{NAME}.png"])  # not from Python 3.14 on
def test_a_style_that_no_folder_can_be_called_after_is_refused_beside_others(cli, photos, tmp_path, name):
    """Two dots are the folder above OUT, where nothing is to be painted."""
    refused(cli("--style-image", make_photo(tmp_path / "x.png").rename(tmp_path / name)), f"called {Path(name).stem},", "rename")
    many = ",".join(f"red-hill:{i},blue-tree:{i}" for i in range(1, 10))
    refused(cli("--style", many), "called red-hill-0.0111+", "alone")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stem", ["Monet ", "etc..."])
def test_a_folder_whose_name_windows_would_cut_is_refused_there(cli, tmp_path, monkeypatch, stem):
    painting = make_photo(tmp_path / f"{stem}.png")
    monkeypatch.setattr("stylenorm.cli_batch.ON_WINDOWS", True)
    refused(cli("--style-image", painting), f"no folder in OUT can be called {stem},", "rename the painting's file")
    monkeypatch.setattr("stylenorm.cli_batch.ON_WINDOWS", False)
    assert can_be_folder(stem)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(cli, photos, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    refused(cli(), "cannot be written")


def test_a_limit_that_is_no_number_is_told_once(cli, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("STYLENORM_MEGAPIXELS", "many")
    refused(cli(), "STYLENORM_MEGAPIXELS must be a number above 0, not 'many'")
    code = main(["stylize", str(photos), "--style", "red-hill", "-o", str(tmp_path / "out")])
    assert code == 2 and not (tmp_path / "out").exists()


def run_without_torch(commands, code: int) -> float:
    """Runs the commands in one fresh interpreter, fails if one imports torch, and returns the slowest's seconds."""
    program = textwrap.dedent(
        """
        import json, sys, time
        from stylenorm.cli import main
        commands, code = json.loads(sys.argv[1])
        slowest = 0
        for words in commands:
            started = time.process_time()
            assert main(words) == code, words
            slowest = max(slowest, time.process_time() - started)
            assert "torch" not in sys.modules and "openvino" not in sys.modules, words
        print(slowest, file=sys.stderr)
        """
    )
    words = json.dumps([[[str(w) for w in c] for c in commands], code])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", program, words], env=environment, capture_output=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return float(result.stderr.split()[-1])


def test_wrong_use_is_answered_at_once_and_without_torch(photos, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    make_photo(tmp_path / "red-hill.jpg")
    ok = ["--style", "red-hill", "--weights", weights]
    batch = ["batch", photos, tmp_path / "out"]
    commands = [
        ["batch"],
        ["batch", photos],
        [*batch, "--weights", weights],
        [*batch, *ok, "--no-such-option"],
        [*batch, *ok, "--strength", "nan"],
        [*batch, *ok, "--format", "bmp"],
        [*batch, *ok, "--quality", "0"],
        [*batch, *ok, "--workers", "0"],
        [*batch, *ok, "--limit", "0"],
        [*batch, "--style", "red-hil", "--weights", weights],
        [*batch, "--style", "red-hill:0", "--weights", weights],
        [*batch, *ok, "--style", "red-hill"],
        [*batch, *ok, "--style-image", tmp_path / "red-hill.jpg"],
        [*batch, "--style-image", tmp_path / "missing.jpg", "--weights", weights],
        [*batch, "--style", "red-hill", "--weights", tmp_path / "missing"],
        ["batch", tmp_path / "missing", tmp_path / "out", *ok],
        ["batch", tmp_path / "red-hill.jpg", tmp_path / "out", *ok],
        ["batch", tmp_path / "empty", tmp_path / "out", *ok],
        ["batch", photos, photos, *ok],
        ["export"],
        ["export", "--format", "onnx"],
        ["export", "--format", "coreml", "-o", tmp_path / "x.onnx"],
        ["export", "--format", "onnx", "-o", tmp_path / "x.pt"],
        ["export", "--format", "onnx", "-o", tmp_path / "missing" / "x.onnx"],
        ["export", "--format", "torchscript", "-o", tmp_path / "x.pt", "--weights", tmp_path / "missing"],
    ]
    assert run_without_torch(commands, 2) < 1
    assert not (tmp_path / "out").exists()
    run_without_torch([["batch", "--help"], ["export", "--help"]], 0)


# ---- kills -------------------------------------------------------------------------------------

# The command line with a brush that needs no network, so that a run is a fraction of a second.
FAKE = textwrap.dedent(
    """
    import os, sys, time
    from PIL import Image
    from stylenorm import cli_batch
    from stylenorm.cli import main

    class Brush:
        def describe(self): return "a brush"
        def resolve(self, parts): return parts
        def together(self, picture, **options): return 1
        def stylize(self, picture, style, **options):
            open(os.environ["STARTED"], "w").close()
            time.sleep(float(sys.argv[1]))
            return picture.rgb.transpose(Image.Transpose.ROTATE_180)

    cli_batch.lean_stylizer = lambda *_: Brush()
    sys.exit(main(sys.argv[2:]))
    """
)


def start(seconds: float, *words) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STARTED": str(Path(words[1]).parent / "started")}
    words = [sys.executable, "-c", FAKE, str(seconds), "batch", *map(str, words)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()


@posix
def test_a_run_killed_again_and_again_loses_and_repeats_nothing(weights, tmp_path):
    top, out = tmp_path / "in", tmp_path / "out"
    for i in range(40):
        make_photo(top / f"sub {i % 3}" / f"{i}.png", (160, 120), seed=i)
    words = [top, out, "--style", "red-hill", "--weights", weights, "--workers", "3"]
    for kill in range(4):
        there = {name: (out / name).stat().st_mtime_ns for name in files(out) if not name.endswith(".tmp")} if kill else {}
        process = start(0.01, *words)
        wait_for(lambda: out.exists() and len(files(out)) >= len(there) + 3 + kill, process)
        process.kill()
        process.communicate()
        now = [name for name in files(out) if not name.endswith(".tmp")]
        for name in now:
            np.testing.assert_array_equal(pixels(out / name), np.rot90(pixels(top / name), 2), name)
        assert {name: (out / name).stat().st_mtime_ns for name in there} == there, "what was done stays as it is"
        assert 0 < len(now) < 40
    (out / "sub 1" / ".stylenorm-draft-0123.tmp").write_bytes(b"half")
    process = start(0, *words)
    text, err = (stream.decode() for stream in process.communicate(timeout=60))
    assert process.returncode == 0, err
    assert f"{len(now)} are there already" in text and files(out) == files(top), "and no draft is left"
    done = [line["output"] for line in manifest_lines(out) if line.get("kind") == "done"]
    assert set(done) == set(files(top)) and len(done) <= 40 + 4 * 3, "at most what was in the writers' hands is done twice"


def manifest_lines(out: Path) -> list[dict]:
    lines = []
    for text in (out / NAME).read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            pass  # the kill's
    return lines


@posix
def test_ctrl_c_ends_after_the_current_picture(weights, tmp_path):
    top, out = tmp_path / "in", tmp_path / "out"
    for i in range(30):
        make_photo(top / f"{i}.jpg", seed=i)
    process = start(0.1, top, out, "--style", "red-hill", "--weights", weights)
    wait_for(lambda: out.exists() and len(files(out)) >= 2, process)
    process.send_signal(signal.SIGINT)
    text, err = (stream.decode() for stream in process.communicate(timeout=60))
    assert process.returncode == 130
    done = files(out)
    assert err == f"stylenorm: stopped after {len(done)} paintings, {30 - len(done)} are left; the same command goes on\n"
    assert 2 <= len(done) < 30 and not [name for name in done if name.endswith(".tmp")]
    end = manifest(out)[-1]
    assert (end["kind"], end["done"], end["left"], end["interrupted"]) == ("end", len(done), 30 - len(done), True)
    assert re.search(rf"left +{30 - len(done)}", text)


@posix
def test_ctrl_c_before_anything_is_painted_is_one_line(cli, photos, monkeypatch, tmp_path):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return real(*_)

    real = cli_batch.lean_stylizer
    monkeypatch.setattr(cli_batch, "lean_stylizer", interrupted)
    result = cli()
    assert result.code == 130 and result.err.count("\n") == 1 and "the same command goes on" in result.err
    assert files(tmp_path / "out") == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
def test_a_second_ctrl_c_ends_at_once(weights, tmp_path):
    make_photo(tmp_path / "in" / "a.jpg")
    process = start(120, tmp_path / "in", tmp_path / "out", "--style", "red-hill", "--weights", weights)
    wait_for((tmp_path / "started").exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first one waits for the picture"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"stylenorm: stopped; the same command goes on\n")


@posix
def test_a_full_disk_is_one_sentence(cli, photos, monkeypatch, tmp_path):
    from stylenorm import batch_steps

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(batch_steps, "write_draft", full)
        result = cli()
    assert result.code == 1 and files(tmp_path / "out") == []
    told = "cannot be written any more (the disk is full); make room, then the same command goes on"
    assert result.err == f"stylenorm: {tmp_path / 'out'} {told}\n"
    assert cli().code == 0


@posix
def test_a_reader_of_the_lines_that_goes_away_is_no_trouble(weights, tmp_path):
    for i in range(20):
        make_photo(tmp_path / "in" / f"{i}.jpg", seed=i)
    process = start(0.02, tmp_path / "in", tmp_path / "out", "--style", "red-hill", "--weights", weights, "--json-lines")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1 and process.stderr.read() == b""


def test_a_reader_that_goes_away_is_no_fault_of_the_photograph(cli, photos, tmp_path, monkeypatch):
    """What is said while it is painted, that it is done in strips, fails then."""

    def say(self, line: str) -> None:
        if "in strips" in line:
            raise NobodyReads("nobody reads standard output any more")

    monkeypatch.setattr("stylenorm.cli_show.Show.say", say)
    result = cli("--memory", "1e-6")
    assert (result.code, result.err) == (1, "")
    assert [line["kind"] for line in manifest(tmp_path / "out")] == ["settings"], "nothing has failed"


# ---- animations --------------------------------------------------------------------------------

TIMES = [40, 90, 130]


@pytest.fixture
def moving(tmp_path):
    """A GIF, a WebP and a PNG of three frames, a still GIF and a photograph."""
    folder = tmp_path / "in"
    make_photo(folder / "still.jpg")
    frames = [Image.fromarray(np.roll(pixels(folder / "still.jpg").astype(np.uint8), 7 * t, 1)) for t in range(3)]
    for suffix in ("gif", "webp", "png"):
        frames[0].save(folder / f"{suffix}.{suffix}", save_all=True, append_images=frames[1:], duration=TIMES, loop=3)
    frames[0].save(folder / "one.gif")
    return folder


def film(path: Path) -> tuple[str, list[int], object]:
    """Format, milliseconds of each frame and loop, by Pillow; a still has no times."""
    with Image.open(path) as image:
        times = []
        for i in range(n := getattr(image, "n_frames", 1)):
            image.seek(i)
            image.load()
            times.append(round(image.info.get("duration", 0)))
        return image.format, times if n > 1 else [], image.info.get("loop")


def test_animations_are_painted_whole(cli, moving, stylizer, tmp_path):
    out = tmp_path / "out"
    assert cli("--preserve-color").code == 0
    assert files(out) == ["gif.gif", "one.png", "png.png", "still.jpg", "webp.webp"]
    for suffix in ("gif", "webp", "png"):
        assert film(out / f"{suffix}.{suffix}") == (suffix.upper(), TIMES, 3)
        paint_animation(
            moving / f"{suffix}.{suffix}",
            alone := tmp_path / f"alone.{suffix}",
            lambda fixed: stylizer.stream("red-hill", preserve_color=True, fixed=fixed),
        )
        assert (out / f"{suffix}.{suffix}").read_bytes() == alone.read_bytes(), "as stylize paints it, moments of all frames and all"
    assert film(out / "one.png")[1] == []
    for line in manifest(out)[1:-1]:
        data = (out / line["output"]).read_bytes()
        assert (line["output_sha256"], line["output_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert (line["width"], line["height"]) == Image.open(out / line["output"]).size and line["paint_seconds"] > 0


def test_a_missing_animation_is_painted_again_and_nothing_else(cli, moving, tmp_path):
    out = tmp_path / "out"
    cli()
    before = {name: (out / name).read_bytes() for name in files(out)}
    times = {name: (out / name).stat().st_mtime_ns for name in before}
    (out / "gif.gif").unlink()
    assert "4 are there already" in cli().out
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert [name for name in before if (out / name).stat().st_mtime_ns != times[name]] == ["gif.gif"]
    Image.open(moving / "one.gif").save(moving / "gif.gif")  # it moves no more, and keeps the name that it was given
    assert cli().code == 0 and film(out / "gif.gif")[:2] == ("GIF", []) and files(out) == sorted(before)


@pytest.mark.parametrize("format, times", [("webp", TIMES), ("png", TIMES), ("jpeg", []), ("tiff", [])])
def test_animations_in_another_format(cli, moving, stylizer, tmp_path, format, times):
    assert cli("--format", format).code == 0
    suffix = {"jpeg": "jpg", "tiff": "tif"}.get(format, format)
    for name in ("gif", "webp", "png"):
        assert film(tmp_path / "out" / f"{name}.{suffix}")[:2] == (format.upper(), times)
    assert film(tmp_path / "out" / f"one.{suffix}")[1] == film(tmp_path / "out" / f"still.{suffix}")[1] == []
    if format == "tiff":
        first = np.asarray(stylizer.stylize(moving / "webp.webp", "red-hill"))
        np.testing.assert_allclose(pixels(tmp_path / "out" / "webp.tif").astype(int), first.astype(int), atol=1)


def test_animations_that_cannot_be_painted_fail_alone(cli, moving, tmp_path):
    whole = (moving / "webp.webp").read_bytes()
    (moving / "webp.webp").write_bytes(whole[:-300])
    (moving / "gif.gif").write_bytes(b"GIF89a")
    wide = [Image.new("RGB", (17, 16), c) for c in ("red", "blue")]
    wide[0].save(moving / "wide.gif", save_all=True, append_images=wide[1:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(animation.LONGEST_SIDE, "gif", 16)
        result = cli()
    assert result.code == 1 and files(tmp_path / "out") == ["one.png", "png.png", "still.jpg"]
    assert "webp.webp is damaged" in result.err and "gif.gif is" in result.err and "at most 16 pixels a side" in result.err
    (moving / "webp.webp").write_bytes(whole)
    cli()
    assert film(tmp_path / "out" / "webp.webp")[1] == TIMES


def test_two_views_in_a_jpeg_are_no_animation(cli, tmp_path):
    view = make_photo(tmp_path / "in" / "a.jpg")
    with Image.open(view) as image:
        image.load()
        image.save(view, "MPO", save_all=True, append_images=[image.resize((20, 15))])
    assert cli("--format", "png").code == 0 and film(tmp_path / "out" / "a.png")[1] == []


def test_animations_at_a_url(moving, weights, tmp_path):
    pytest.importorskip("fsspec")
    words = ["batch", f"local://{moving}", f"local://{tmp_path}/out", "--style", "red-hill", "--weights", str(weights), "--backend", "torch"]
    assert main(words) == 0
    assert film(tmp_path / "out" / "gif.gif") == ("GIF", TIMES, 3) and "one.png" in files(tmp_path / "out")


def test_several_animations_in_memory_at_once(moving, tmp_path):
    """A PNG's frames count, as its writer holds all of them; of the others there is one at a time."""
    photos = find_tree(moving, tmp_path / "out").photos
    tasks = [Task(p, ((Look("kiss", ""), p.name),)) for p in photos if p.name != "one.gif"]
    taken = {task.photo.name: getattr(read_photo(task)[0], "frames", None) for task in tasks}
    assert taken == {"gif.gif": 1, "png.png": 3, "still.jpg": None, "webp.webp": 1}


def test_what_moves_is_painted_at_another_size_as_well(cli, moving, tmp_path):
    assert cli().code == cli("--paint-at", "20", out="coarse").code == 0
    plain, coarse = (Image.open(tmp_path / out / "png.png") for out in ("out", "coarse"))
    assert plain.size == coarse.size and plain.n_frames == coarse.n_frames > 1
    assert not np.array_equal(np.asarray(plain.convert("RGB")), np.asarray(coarse.convert("RGB")))
