"""The user's own styles: added strictly, removed by name, and a broken one is no trouble. What is listed is tested in test_checkpoint."""

from __future__ import annotations

import base64
import errno
import logging
import os
import shlex
import shutil

import pytest
import torch

from stylenorm import Stylizer, catalog, checkpoint
from stylenorm.catalog import (
    add_style,
    cache_folder,
    check_name,
    describe_style,
    find_style,
    photos_folder,
    remove_style,
    style_entries,
    style_thumbnail,
    user_folder,
    user_styles_folder,
    weights_folder,
)
from stylenorm.checkpoint import load_style, save_style
from stylenorm.data import find_images
from stylenorm.errors import StyleError, StylenormError
from stylenorm.style import Style


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path / "home"))


def style_file(path, like, name="aunt-ada", **about):
    """A style of the network of the style file ``like``, twice as strong."""
    style = load_style(like)
    save_style(path, Style.from_flat(2 * style.flat(), style.channels, name=name, provenance=about, network=style.network))
    return path


@pytest.fixture
def friends(weights, tmp_path):
    return style_file(tmp_path / "friends.safetensors", weights / "styles" / "red-hill.safetensors", artist="Ada", year=1901)


def refused(call, *parts: str) -> None:
    with pytest.raises(StylenormError) as caught:
        call()
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts), caught.value


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_added_style_is_there_with_all_its_numbers_and_provenance(friends, weights):
    entry = add_style(friends, weights=weights)
    assert entry == find_style("aunt-ada", weights) and entry.file == user_styles_folder() / "aunt-ada.safetensors"
    assert (entry.artist, entry.year) == ("Ada", 1901)
    ours, theirs = load_style(entry.file), load_style(friends)
    assert torch.equal(ours.flat(), theirs.flat()) and (ours.name, ours.network, ours.provenance) == (theirs.name, theirs.network, theirs.provenance)
    assert [p.name for p in user_styles_folder().iterdir()] == ["aunt-ada.safetensors"]


def test_an_added_style_may_get_another_name(friends, weights):
    entry = add_style(friends, "of a friend", weights)
    assert (entry.name, entry.file.name, load_style(entry.file).name) == ("of a friend", "of a friend.safetensors", "of a friend")
    assert "aunt-ada" not in {e.name for e in style_entries(weights)}


def test_what_is_no_style_of_this_network_is_not_added(friends, weights, other_weights, tmp_path):
    whole = friends.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(whole[:-3] + bytes([whole[-3] ^ 255]) + whole[-2:])
    style = load_style(friends)
    odd = Style.from_flat(style.flat()[:, :, :4], [4], name="odd", network=style.network)
    save_style(tmp_path / "odd.safetensors", odd)
    (tmp_path / "text.safetensors").write_text("no style")
    refused(lambda: add_style(damaged, weights=weights), "damaged.safetensors", "checksum")
    refused(lambda: add_style(tmp_path / "odd.safetensors", weights=weights), "odd.safetensors", "channels")
    refused(lambda: add_style(tmp_path / "text.safetensors", weights=weights), "text.safetensors")
    refused(lambda: add_style(tmp_path / "none.safetensors", weights=weights), "does not exist")
    refused(lambda: add_style(weights / "network.safetensors", weights=weights), "a network file where a style file is wanted")
    refused(lambda: add_style(friends, weights=other_weights), "another network")
    refused(lambda: add_style(friends, "red-hill", weights), "already")
    refused(lambda: add_style(friends, "../x", weights), "cannot name")
    assert not user_styles_folder().exists()
    add_style(friends, weights=weights)
    refused(lambda: add_style(friends, weights=weights), "already")


def test_a_full_disk_leaves_no_part_of_a_style(friends, weights, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    refused(lambda: add_style(friends, weights=weights), "aunt-ada.safetensors", "No space left")
    assert list(user_styles_folder().iterdir()) == []


def test_only_the_users_own_styles_are_removed(friends, weights):
    file = add_style(friends, weights=weights).file
    refused(lambda: remove_style("red-hill", weights), "red-hill", "stays")
    refused(lambda: remove_style("aunt-eda", weights), "did you mean aunt-ada")
    assert (weights / "styles" / "red-hill.safetensors").exists()
    assert remove_style("aunt-ada", weights) == file and not file.exists()
    assert "aunt-ada" not in {e.name for e in style_entries(weights)}
    refused(lambda: remove_style("../../x", weights), "no style is named")


def test_a_file_called_as_a_style_that_stays_is_not_removed_for_it(weights):
    """What the file holds is another style, and whole."""
    other = style_file(user_styles_folder() / "red-hill.safetensors", weights / "styles" / "red-hill.safetensors", "mine")
    refused(lambda: remove_style("red-hill", weights), "red-hill", "stays")
    assert other.exists() and remove_style("mine", weights) == other
    broken = user_styles_folder() / "lost.safetensors"
    broken.write_bytes(b"nothing")
    assert remove_style("lost", weights) == broken


def test_a_style_is_removed_in_any_case_as_it_is_used_in_any(friends, weights):
    added = add_style(friends, "Aunt Ada", weights)
    assert remove_style("aunt ada", weights) == added.file and not added.file.exists()


def test_a_home_folder_in_a_variable_that_no_shell_has_read(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("STYLENORM_HOME", "~/mine")
    monkeypatch.setenv("STYLENORM_WEIGHTS", "~/weights")
    assert (user_folder(), cache_folder(), weights_folder()) == (tmp_path / "mine", tmp_path / "mine" / "cache", tmp_path / "weights")


def test_of_two_files_that_call_themselves_alike_the_one_of_this_network_is_removed(weights, other_weights):
    folder = user_styles_folder()
    style_file(folder / "a.safetensors", other_weights / "styles" / "red-hill.safetensors", "mine")
    style_file(folder / "b.safetensors", weights / "styles" / "red-hill.safetensors", "mine")
    assert remove_style("mine", weights).name == "b.safetensors"


@pytest.mark.parametrize("content", [b"", b"no style", "cut", "network"])
def test_a_broken_style_of_the_users_is_left_out_with_one_warning(content, friends, weights, caplog):
    add_style(friends, weights=weights)
    broken = user_styles_folder() / "broken.safetensors"
    if content == "network":
        shutil.copy(weights / "network.safetensors", broken)
    else:
        broken.write_bytes(friends.read_bytes()[:-7] if content == "cut" else content)
    for _ in range(3):
        assert [e.name for e in style_entries(weights)] == ["blue-tree", "red-hill", "tall-grass", "aunt-ada"]
    (told,) = warnings(caplog)
    assert str(broken) in told and "stylenorm styles remove broken" in told and "\n" not in told
    check_name("another", weights, user_styles_folder())
    assert remove_style("broken", weights) == broken and not broken.exists()
    assert len(style_entries(weights)) == 4 and len(warnings(caplog)) == 1
    broken.with_stem("my broken one").write_bytes(b"")
    style_entries(weights)
    assert shlex.split(warnings(caplog)[-1].partition("remove it with: ")[2]) == ["stylenorm", "styles", "remove", "my broken one"]


def test_a_broken_style_beside_the_network_still_stops(weights, tmp_path):
    shutil.copytree(weights, tmp_path / "w")
    (tmp_path / "w" / "styles" / "broken.safetensors").write_bytes(b"no style")
    refused(lambda: style_entries(tmp_path / "w"), "broken.safetensors")


def test_titles_that_are_no_text_are_made_text(weights, tmp_path):
    style_file(user_styles_folder() / "x.safetensors", weights / "styles" / "red-hill.safetensors", "x", title=5, artist=["a"])
    entry = find_style("x", weights)
    assert (entry.title, entry.artist) == ("5", "['a']")


def test_all_that_is_known_of_a_style(weights):
    thumbnail = base64.b64encode(b"jpeg").decode()
    about = {"artist": "Ada", "licence": "public domain", "training": {"steps": 3}, "style_size": 64, "thumbnail": thumbnail}
    file = style_file(user_styles_folder() / "x.safetensors", weights / "styles" / "red-hill.safetensors", "x", **about)
    network = load_style(file).network
    assert describe_style(find_style("x", weights)) == {
        "name": "x", "title": None, "artist": "Ada", "year": None, "file": str(file), "licence": "public domain",
        "bytes": file.stat().st_size, "network": network, "own": True, "training": {"steps": 3}, "thumbnail": True,
        "more": {"style_size": 64},
    }  # fmt: skip
    assert style_thumbnail(find_style("x", weights)) == b"jpeg"
    shipped = describe_style(find_style("red-hill", weights))
    assert (shipped["own"], shipped["thumbnail"], shipped["training"]) == (False, False, None)
    refused(lambda: style_thumbnail(find_style("red-hill", weights)), "red-hill", "no thumbnail")


def test_a_thumbnail_that_is_no_base64_is_one_sentence(weights):
    style_file(user_styles_folder() / "x.safetensors", weights / "styles" / "red-hill.safetensors", "x", thumbnail="é!")
    refused(lambda: style_thumbnail(find_style("x", weights)), "damaged")


def test_names_are_taken_whatever_their_case(weights):
    for name in ("red-hill", "RED-HILL", "", "a/b", ".x", "x.", "x" * 65):
        with pytest.raises(StyleError):
            check_name(name, weights)
    assert check_name("red-hill 2", weights) == "red-hill 2"
    assert catalog.STYLE_NAME.fullmatch("jānis")


@pytest.mark.parametrize("name", ["CON", "nul.b", "com1", "\U0001d400" * 60])
def test_names_that_no_file_can_have_everywhere(name, weights):
    refused(lambda: check_name(name, weights), "cannot name a style")


def test_a_style_that_was_made_anew_by_its_name_is_the_new_one(weights, tmp_path):
    """While a Stylizer, as the web app's, goes on."""
    shutil.copytree(weights, tmp_path / "weights")
    stylizer = Stylizer(tmp_path / "weights", "cpu", "torch")
    before, file = stylizer.style("red-hill").flat(), tmp_path / "weights" / "styles" / "red-hill.safetensors"
    assert stylizer._named("red-hill") is stylizer._named("red-hill"), "kept"
    other = stylizer.style("blue-tree")
    save_style(file, Style(other.gammas, other.betas, "red-hill", other.provenance, other.network))
    os.utime(file, ns=(1, 1))
    assert torch.equal(stylizer.style("red-hill").flat(), other.flat()) and not torch.equal(other.flat(), before)


@pytest.mark.skipif(os.name == "nt", reason="homes are guessed there")
@pytest.mark.parametrize("variable, folder", [("STYLENORM_HOME", user_folder), ("STYLENORM_WEIGHTS", weights_folder)])
def test_a_home_folder_of_nobody_in_a_variable_is_told(monkeypatch, variable, folder):
    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    with pytest.raises(StylenormError, match=f"{variable} is ~nobody-of-this-name/x, and no such home folder"):
        folder()



@pytest.mark.parametrize("kind, folder", [("user_data_path", catalog.user_folder), ("user_cache_path", catalog.cache_folder)])
def test_who_has_no_home_folder_is_told_what_to_do(monkeypatch, kind, folder):
    def homeless(*_, **__):  # as where a container is run by a user that nobody knows
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("STYLENORM_HOME")
    monkeypatch.setattr(f"platformdirs.{kind}", homeless)
    with pytest.raises(StylenormError, match="set STYLENORM_HOME"):
        folder()


def test_the_photographs_that_come_along_are_photographs():
    """A style is trained on whatever lies there, if nothing is said."""
    assert [path.name for path in find_images(photos_folder())] == ["astronaut.jpg", "chelsea.jpg", "coffee.jpg"]
