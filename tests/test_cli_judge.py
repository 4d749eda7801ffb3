"""The verbs score and styles: what they print, what they write, and what they refuse."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import make_photo
from PIL import Image

from stylenorm.catalog import style_entries, user_styles_folder
from stylenorm.checkpoint import load_style, save_style, statistics_text
from stylenorm.cli import main
from stylenorm.cli_parts import as_word
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import Yardstick, judge
from stylenorm.style import Style

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "weights" / "vgg16.safetensors"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def cli(capsys):
    def run(*words) -> SimpleNamespace:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def refused(result, *parts: str) -> None:
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("stylenorm: ") and result.err.count("\n") == 1, result.err
    assert all(part in result.err for part in parts), result.err


def thumbnail(size=(96, 60)) -> str:
    buffer = BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def friends(weights, tmp_path):
    style = load_style(weights / "styles" / "red-hill.safetensors")
    about = {"artist": "Ada", "licence": "CC0", "training": {"steps": 3}, "thumbnail": thumbnail()}
    save_style(tmp_path / "friends.safetensors", Style(style.gammas, style.betas, "aunt-ada", about, style.network))
    return tmp_path / "friends.safetensors"


# ---- score -------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """A photograph, a painting, and something between them."""
    return [make_photo(tmp_path / f"{name}.png", (72, 54), seed) for name, seed in (("photo", 0), ("painting", 9), ("out", 4))]


def test_scores_as_json_are_those_of_the_library(cli, three):
    photo, painting, out = three
    result = cli("score", photo, painting, out, photo, "--size", 64, "--steps", 2, "--device", "cpu", "--json")
    assert result.code == 0 and "optimizing the pixels, 2 steps" in result.err
    rows = json.loads(result.out)
    assert [row["picture"] for row in rows] == ["unchanged photograph", "out.png", "photo.png", "2 steps of direct optimization"]
    yardstick = Yardstick.of(VGGFeatures.from_file(SHIPPED), photo, painting, 64)
    wanted = judge(yardstick.vgg, yardstick.content, yardstick.painting, Image.open(out).convert("RGB").resize((64, 48), Image.Resampling.LANCZOS))
    assert {k: rows[1][k] for k in wanted.to_dict()} == pytest.approx(wanted.to_dict(), rel=1e-4)
    assert {k: rows[2][k] for k in wanted.to_dict()} == {k: rows[0][k] for k in wanted.to_dict()}
    assert rows[0]["content"] == 0 and rows[0]["ssim"] == pytest.approx(1) and rows[3]["content"] > 0 and rows[3]["ssim"] < 1
    assert rows[1]["file"] == str(out) and not any("note" in row for row in rows)


def test_scores_in_a_table(cli, three):
    result = cli("score", *three, "--size", 64, "--no-optimize", "--device", "cpu")
    lines = result.out.splitlines()
    assert (result.code, result.err, len(lines)) == (0, "", 3)
    assert lines[0].split() == ["picture", "content", "style", "total", "wasserstein", "ssim"]
    assert lines[1].startswith("unchanged photograph") and lines[1].split()[2] == "0.0000" and lines[2].split()[0] == "out.png"
    content, style, total = map(float, lines[2].split()[1:4])
    assert total == pytest.approx(content + 10 * style, abs=1e-3)


def test_another_size_is_said_and_a_broken_output_is_named(cli, three, tmp_path):
    photo, painting, _ = three
    small, broken = make_photo(tmp_path / "small.png", (36, 27)), tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    judged = make_photo(tmp_path / "judged.png", (64, 48))  # as optimize writes it, which nobody resizes
    result = cli("score", photo, painting, broken, small, judged, "--size", 64, "--no-optimize", "--device", "cpu", "--json")
    rows = json.loads(result.out)
    assert result.code == 1 and result.err.count("\n") == 2
    assert "broken.png" in rows[1]["error"] and "36 x 27" in rows[2]["note"] and rows[2]["content"] > 0 and "note" not in rows[3]
    assert all(row[k] in result.err for row, k in ((rows[1], "error"), (rows[2], "note")))


def test_steps_of_what_is_left_out_are_refused(cli, three):
    refused(cli("score", *three, "--no-optimize", "--steps", 7), "--steps is of direct optimization, which --no-optimize leaves out")


def test_what_cannot_be_scored_is_one_sentence(cli, three, tmp_path):
    photo, painting, out = three
    none, text = tmp_path / "none.png", tmp_path / "text.png"
    text.write_text("no picture")
    refused(cli("score", none, painting, out), "photograph", "none.png")
    refused(cli("score", photo, none, out), "painting", "none.png")
    refused(cli("score", photo, painting, out, none), "none.png")
    refused(cli("score", none.parent, painting, out), "is a folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo(none)
        refused(cli("score", photo, none, out), "painting", "none.png", "is a pipe")
    for verb in (["score", photo, painting, out], ["optimize", photo, painting, "-o", none.parent / "optimized.png"]):
        refused(cli(*verb, "--weights", none.parent / "nowhere"), "nowhere does not exist")
    refused(cli("score", photo, painting), "OUTPUT")
    refused(cli("score", photo, painting, out, "--size", 8), "size")
    refused(cli("score", text, painting, out, "--device", "cpu"), "text.png")
    refused(cli("score", photo, text, out, "--device", "cpu"), "text.png")
    refused(cli("score", make_photo(tmp_path / "thin.png", (400, 9)), painting, out, "--device", "cpu"), "too narrow")


# ---- styles ------------------------------------------------------------------------------------


def test_a_style_is_added_shown_used_and_removed(cli, friends, weights, photo, tmp_path):
    result = cli("styles", "add", friends, "--weights", weights)
    assert result.code == 0 and f"--style aunt-ada --weights {weights}\n" in result.out and result.err == ""
    painted = cli("stylize", photo, "--style", "aunt-ada", "-o", tmp_path / "o.png", "--weights", weights, "--backend", "torch", "--device", "cpu")
    assert painted.code == 0, painted.err
    assert "aunt-ada" in cli("styles", "--weights", weights).out
    result = cli("styles", "remove", "aunt-ada", "--weights", weights)
    assert result.code == 0 and "aunt-ada.safetensors" in result.out
    assert "aunt-ada" not in cli("styles", "--weights", weights).out
    refused(cli("styles", "remove", "red-hill", "--weights", weights), "red-hill", "stays")


def test_styles_of_before_an_update_are_listed_and_renewed(cli, friends, weights, other_weights):
    cli("styles", "add", friends, "--weights", weights)
    style = load_style(user_styles_folder() / "aunt-ada.safetensors")
    about = {"statistics": statistics_text(torch.linspace(-9, 2, 1920)[None])}
    save_style(user_styles_folder() / "bea.safetensors", Style(style.gammas, style.betas, "bea", about, style.network))
    assert cli("styles", "--weights", weights).err == ""
    told = cli("styles", "--weights", other_weights)
    assert told.code == 0 and "aunt-ada" not in told.out
    assert told.err.startswith("stylenorm: 2 styles of yours were made for another network (aunt-ada, bea); bring them to this one with: stylenorm styles renew")
    result = cli("styles", "renew", "--weights", other_weights)
    assert (result.code, result.out) == (1, f"renewed {user_styles_folder() / 'bea.safetensors'}\n")
    assert result.err.count("\n") == 1 and "aunt-ada.safetensors does not tell of its painting" in result.err
    assert "bea" in cli("styles", "--weights", other_weights).out
    assert cli("styles", "remove", "bea", "--weights", other_weights).code == 0
    assert cli("styles", "renew", "--weights", weights).out == "every style belongs to this network\n"
    assert "was made for another network" in cli("styles", "show", "aunt-ada", "--weights", other_weights).err


def test_what_cannot_be_added_is_one_sentence(cli, friends, weights, other_weights):
    refused(cli("styles", "add", weights / "network.safetensors", "--weights", weights), "network file where a style")
    refused(cli("styles", "add", friends, "--weights", other_weights), "another network")
    refused(cli("styles", "add", friends, "--name", "red-hill", "--weights", weights), "already")
    refused(cli("styles", "add", "none.safetensors", "--weights", weights), "does not exist")
    assert not user_styles_folder().exists()


def test_a_style_is_shown_in_a_table_and_as_json(cli, friends, weights, tmp_path):
    cli("styles", "add", friends, "--weights", weights)
    lines = dict(line.split(None, 1) for line in cli("styles", "show", "aunt-ada", "--weights", weights).out.splitlines() if len(line.split()) > 1)
    assert lines["artist"].strip() == "Ada" and lines["thumbnail"].strip() == "yes" and lines["training"].strip() == "steps 3"
    row = json.loads(cli("styles", "show", "aunt-ada", "--json", "--weights", weights, "-o", tmp_path / "thumb.png").out)
    file = user_styles_folder() / "aunt-ada.safetensors"
    assert row["licence"] == "CC0" and row["bytes"] == file.stat().st_size and row["own"] and row["thumbnail"]
    with Image.open(tmp_path / "thumb.png") as image:
        assert (image.format, image.size) == ("PNG", (96, 60)) and abs(image.convert("RGB").getpixel((9, 9))[0] - 200) < 4
    assert json.loads(cli("styles", "--weights", weights, "--json", "show", "red-hill").out)["artist"] == "Jānis Krāsa"
    assert row["output"] == str(tmp_path / "thumb.png")
    told = cli("styles", "show", "aunt-ada", "--weights", weights, "-o", tmp_path / "thumb.png").out
    assert told.endswith(f"wrote {tmp_path / 'thumb.png'}\n")
    refused(cli("styles", "show", "red-hill", "--weights", weights, "-o", tmp_path / "no.png"), "no thumbnail")
    refused(cli("styles", "show", "red-hil", "--weights", weights), "did you mean red-hill")
    assert "red-hill" in cli("styles", "show", "Red-Hill", "--weights", weights).out, "as --style takes it"


def test_a_thumbnail_that_is_no_picture_is_one_sentence(cli, weights, tmp_path):
    style = load_style(weights / "styles" / "red-hill.safetensors")
    about = {"thumbnail": base64.b64encode(b"no picture").decode()}
    save_style(user_styles_folder() / "x.safetensors", Style(style.gammas, style.betas, "x", about, style.network))
    refused(cli("styles", "show", "x", "--weights", weights, "-o", tmp_path / "x.png"), "damaged")
    assert not (tmp_path / "x.png").exists()


def python(code: str, *words) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], env=environment, capture_output=True, text=True, timeout=120)


MAIN = "import sys; from stylenorm.cli import main; raise SystemExit(main(sys.argv[1:]))"


def test_a_broken_style_of_ones_own_is_one_line_of_warning_and_no_more(weights, photo, tmp_path):
    user_styles_folder().mkdir(parents=True)
    (user_styles_folder() / "broken.safetensors").write_bytes(b"no style")
    for words in (
        ["styles", "--json", "--weights", weights],
        ["stylize", photo, "--style", "red-hill", "-o", tmp_path / "o.png", "--weights", weights, "--backend", "torch", "--device", "cpu"],
    ):
        done = python(MAIN, *words)
        assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("stylenorm: left out: ") and "styles remove broken" in done.stderr
    assert python(MAIN, "styles", "remove", "broken", "--weights", weights).returncode == 0
    assert len(style_entries(weights)) == 3


def test_listing_and_showing_import_no_torch_and_take_no_second(weights):
    code = (
        "import sys, time; start = time.process_time(); from stylenorm.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'gradio', 'openvino', 'matplotlib'} & set(sys.modules);"
        "raise SystemExit(str(heavy) if heavy else time.process_time() - start > 1)"
    )
    for words in (["styles", "--help"], ["styles", "show", "red-hill", "--weights", weights], ["score", "--help"], ["score", "no.jpg", "no.jpg", "no.jpg"]):
        done = python(code, *words)
        assert done.returncode == 0, (words, done.stderr)


def test_a_gpu_where_there_is_none_is_one_sentence(cli, three):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused(cli("score", *three, "--device", "cuda"), "no device 'cuda' here")


def test_a_network_is_no_painting_and_no_photograph(cli, weights, three, tmp_path):
    network = weights / "network.safetensors"
    refused(cli("stylize", three[0], "--style-image", network, "-o", tmp_path / "o.png", "--weights", weights, "--backend", "torch", "--device", "cpu"), "network.safetensors")
    refused(cli("train-style", "x", network, "--weights", weights, "--device", "cpu"), "network.safetensors")
    refused(cli("train-style", "red-hill", three[1], "--weights", weights), "already")
    refused(cli("train-style", "x", three[1], "--photos", tmp_path / "none", "--weights", weights), "--photos")


def test_train_style_tells_at_once_where_it_cannot_write_and_at_the_end_how_the_style_is_used(cli, weights, three, tmp_path, monkeypatch):
    from stylenorm import new_style

    trained = []
    monkeypatch.setattr(new_style, "train_style", lambda name, *_, folder, **__: trained.append(name) or (folder or user_styles_folder()) / f"{name}.safetensors")
    words = ("train-style", "fresh", three[1], "--weights", weights)
    refused(cli(*words, "--folder", three[1] / "ts"), "no style can be written to", "give another --folder")
    assert not trained
    for folder in (user_styles_folder(), weights / "styles"):
        assert cli(*words, "--folder", folder).out.endswith(f"use it with: --style fresh --weights {weights}\n")
    file = tmp_path / "new" / "ts" / "fresh.safetensors"
    assert cli(*words, "--folder", file.parent).out.endswith(f"with: stylenorm styles add {file} --weights {weights}\n")
    assert cli(words[0], "my fresh", *words[2:]).out.endswith(f"use it with: --style {as_word('my fresh')} --weights {weights}\n")
    assert trained == ["fresh"] * 3 + ["my fresh"] and not (tmp_path / "new").exists()
