"""What a command's words mean, without a command: no picture is painted here. What is told of wrong ones is in test_cli.py as well."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from conftest import make_photo
from PIL import Image

from stylenorm.errors import ImageError, StyleError, StylenormError
from stylenorm.jobs import Job, Masks, free_name, is_moving, left_out, make_folder, plan, region_of, weighted_names
from stylenorm.mattes import matte_for


@pytest.fixture
def photo(tmp_path) -> str:
    return str(make_photo(tmp_path / "in" / "a.jpg"))


def moving_gif(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])
    return str(path)


def targets(*words, **more) -> list[str]:
    return [job.target.name for job in plan(*words, **more)]


def test_suffixes_count_in_capitals_as_well(photo, tmp_path, monkeypatch):
    (photos := tmp_path / "SHOTS").mkdir()
    for name in ("B.JPG", "C.BMP"):
        make_photo(photos / name)
    moving_gif(photos / "D.GIF")
    assert targets([str(photos)], f"{tmp_path}/out/", None) == ["B.JPG", "C.png", "D.GIF"]
    assert targets([photo], str(tmp_path / "OUT.PNG"), "png") == ["OUT.PNG"]
    with pytest.raises(StylenormError, match="OUT.MP4 is a film's name"):
        plan([photo], str(tmp_path / "OUT.MP4"), None)
    with pytest.raises(StylenormError, match="2 photographs do not fit into the file .*OUT.PNG"):
        plan([photo, photo], str(tmp_path / "OUT.PNG"), None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(StylenormError, match="OUT.GIF is an animation, and one is read from a file"):
        plan(["-"], str(tmp_path / "OUT.GIF"), None)


def test_a_folder_may_be_called_like_a_file_and_a_file_have_any_suffix_beside_its_format(photo, tmp_path):
    (tmp_path / "there.png").mkdir()
    assert targets([photo, photo], str(tmp_path / "there.png"), None) == ["a.jpg", "a-2.jpg"]
    assert targets([photo, photo], f"{tmp_path}/new.png/", None) == ["a.jpg", "a-2.jpg"]
    assert targets([photo, photo], f"{tmp_path}/new", None) == ["a.jpg", "a-2.jpg"]
    assert targets([photo], str(tmp_path / "out.part"), "png") == ["out.part"]
    with pytest.raises(StylenormError, match="-o is empty"):
        plan([photo], "", None)


def test_two_frames_are_an_animation_where_the_format_can_hold_them(photo, tmp_path, monkeypatch):
    gif, still = Path(moving_gif(tmp_path / "b.gif")), Path(photo)
    pairs = [(gif, "o.gif"), (gif, "o.png"), (gif, "o.jpg"), (still, "o.gif"), (still, "o.png")]
    assert [is_moving(Job(source, tmp_path / target, None)) for source, target in pairs] == [True, True, False, True, False]
    assert not is_moving(Job(gif, None, "png")) and is_moving(Job(gif, tmp_path / "o.part", "webp"))
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with pytest.raises(StylenormError, match="b.gif moves, and an animation is written to a file"):
        plan([str(gif)], "-", None)


def test_a_numbered_name_is_no_inputs_either(photo, tmp_path):
    other, painting = str(make_photo(tmp_path / "other" / "a.jpg")), make_photo(tmp_path / "out" / "a-2.jpg")
    assert targets([photo, other], str(tmp_path / "out"), None, [painting]) == ["a.jpg", "a-3.jpg"]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_what_comes_through_standard_input_is_called_after_it(tmp_path, suffix):
    format = None if suffix == ".png" else "webp"
    assert free_name(tmp_path, None, format, set(), set()).name == f"stdin{suffix}"
    make_photo(tmp_path / "masks" / "stdin.png"), make_photo(tmp_path / "masks" / "a.png")
    assert Masks(tmp_path / "masks").file_for(None).name == "stdin.png"
    assert not is_moving(Job(None, tmp_path / "a.gif", None)) and Job(None, None, None).named == "standard input"


def test_of_a_folder_only_photographs_count(photo, tmp_path):
    folder = tmp_path / "in"
    for name in (".hidden.jpg", ".hidden.nef", "notes.txt"):
        (folder / name).touch()
    for name in ("folder.jpg", "folder.nef"):
        (folder / name).mkdir()
    assert targets([str(folder)], f"{tmp_path}/out/", None) == ["a.jpg"] and left_out([str(folder)]) == []
    Path(photo).rename(folder / "b.NEF")
    (told,) = left_out([str(folder), photo])
    assert told.startswith("1 raw file (.nef) left out")
    with pytest.raises(StylenormError, match="in holds no photograph; .*1 raw file"):
        plan([str(folder)], f"{tmp_path}/out/", None)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_nothing_in_a_folder_is_a_photograph_that_cannot_be_read(photo, tmp_path):
    folder = tmp_path / "in"
    for name, there in (("gone.jpg", "nowhere.jpg"), ("round.png", "round.png"), ("b.jpg", photo), ("notes.txt", "nowhere"), (".c.jpg", "nowhere")):
        (folder / name).symlink_to(there)
    (folder / "sub.jpg").symlink_to(tmp_path)
    assert targets([str(folder)], f"{tmp_path}/out/", None) == ["a.jpg", "b.jpg", "gone.jpg", "round.png"]


def test_of_a_folder_of_masks_only_pictures_count(tmp_path):
    for name in ("a.png", "c.txt"):
        make_photo(tmp_path / name.replace("txt", "png")).rename(tmp_path / name)
    (tmp_path / "a.txt").touch(), (tmp_path / "a.jpg").mkdir()
    assert Masks(tmp_path).file_for(Path("trip/a.jpg")).name == "a.png"
    with pytest.raises(ImageError, match="has no mask for c.jpg"):
        Masks(tmp_path).file_for(Path("c.jpg"))
    with pytest.raises(ImageError, match="has no mask for"):
        Masks(tmp_path, top=Path("in")).file_for(Path("in/trip/a.jpg"))
    make_photo(tmp_path / "trip" / "a.png")
    assert Masks(tmp_path, top=Path("in")).file_for(Path("in/trip/a.jpg")) == tmp_path / "trip" / "a.png"


def test_a_folder_is_made_with_those_above_it_or_told_to_be_impossible(tmp_path):
    make_folder([Job(None, tmp_path / "new" / "out" / "a.png", None)])
    assert (tmp_path / "new" / "out").is_dir()
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "a.png", tmp_path / "file" / "new" / "a.png"):
        with pytest.raises(StylenormError, match=f"the folder .*{target.parent.name} cannot be made .*; give another"):
            make_folder([Job(None, target, None)])


def test_styles_may_have_spaces_and_empty_places_around_them(weights):
    found = weighted_names([" red-hill , blue-tree:0.5,", "RED-hill :2"], weights)
    assert found == [("red-hill", 1), ("blue-tree", 0.5), ("red-hill", 2)]
    assert weighted_names([], weights) == [] and weighted_names(["red-hill:0"], weights) == [("red-hill", 0)]
    for nothing in ([""], [" , "]):
        with pytest.raises(StyleError, match="--style is empty"):
            weighted_names(nothing, weights)
    for weight in ("-1", "inf", "nan"):
        with pytest.raises(StyleError, match="a weight is a number from 0 up"):
            weighted_names([f"red-hill:{weight}"], weights)


def test_a_region_is_split_at_the_mask_that_is_there(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "c=d.png", "painting.jpg"):
        make_photo(tmp_path / "new.png").rename(tmp_path / name)
    found = [region_of(text, weights) for text in ("a.png= red-hill ", "c=d.png=red-hill", "a.png=painting.jpg")]
    assert [region.masks.path.name for region in found] == ["a.png", "c=d.png", "a.png"]
    assert [region.names for region in found] == [[("red-hill", 1)]] * 2 + [[]] and found[2].painting == Path("painting.jpg")
    for text in ("=red-hill", "red-hill", "a.png= "):
        with pytest.raises(StylenormError, match="give MASK=STYLE"):
            region_of(text, weights)


def test_a_word_means_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("people/1.png", "people/2.png", "people/film/1.png", "people/film/2.png"):
        make_photo(tmp_path / name)
    for word, inverted, meant in (("people", False, "people"), ("people", True, "background"), ("background", True, "people")):
        masks = Masks.of(word, "--mask", inverted)
        assert masks.mask_for(Path("film.mp4")) == meant and masks.files() == [] and matte_for(masks, Path("film.mp4")) is None
    folder = Masks.of("./people", "--mask")
    assert len(folder.files()) == 3 and matte_for(folder, Path("film.mp4")).path == Path("people/film")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
def test_a_pipe_becomes_no_animation(tmp_path):
    os.mkfifo(tmp_path / "pipe.gif")
    with pytest.raises(StylenormError, match="give that file's name in place of .*pipe.gif"):
        plan([str(tmp_path / "pipe.gif")], str(tmp_path / "out.gif"), None)
    assert targets([str(tmp_path / "pipe.gif")], f"{tmp_path}/out/", None) == ["pipe.png"]
