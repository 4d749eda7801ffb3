"""What `stylenorm lab` prints and writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from stylenorm import lab
from stylenorm.cli import main
from stylenorm.errors import StylenormError
from stylenorm.lab_names import NAMES
from stylenorm.lab_page import page
from stylenorm.lab_plots import drawn
from stylenorm.lab_result import Heat, Panel, Photo, Result, Row, Series
from stylenorm.plots import kind_bars

CHEAP = ["grouping", "coupling", "inference"]


def made_up(name: str, measured: float) -> Result:
    panel = Panel("a < b", "x, in px", "y", (Series("predicted", [1, 2], [1, 2], "line"), Series("measured", [1, 2], [1, 2])))
    return Result(name, "a < b & c", "a < b", (Row("largest <a>", 1.0, measured),), (panel,), "Author 2020", "a note")


def test_a_page_too_large_for_the_disk_leaves_the_old_one(tmp_path):
    resource = pytest.importorskip("resource")
    lab.write_lab([made_up("coupling", 1.0)], tmp_path)
    before, limits = {p.name: p.read_bytes() for p in tmp_path.iterdir()}, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))  # no file may grow beyond it
    try:
        with pytest.raises(StylenormError, match=r"coupling\.png cannot be written \(.+\); give another folder"):
            lab.write_lab([made_up("coupling", 2.0)], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


class Reader(HTMLParser):
    """Notes the tags, whether they close in order, and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen, self.refers = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.refers += [value for key, value in attrs if key in ("src", "href", "action", "data", "srcset")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(text: str, names) -> None:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert not {"script", "link", "iframe"} & set(reader.seen)
    plots = [value for value in reader.refers if value.startswith("data:image/png;base64,")]
    assert len(plots) == len(names)
    for plot in plots:
        Image.open(BytesIO(b64decode(plot.partition(",")[2]))).load()
    assert {value for value in reader.refers if value not in plots} == {f"#{name}" for name in names}
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"base64,[^\"]*", "", text))


def test_the_command_writes_plots_and_a_page_of_its_own(tmp_path, capsys):
    assert main(["lab", *CHEAP, "--quick", "--out", str(tmp_path / "new" / "lab")]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in CHEAP) and "formula: " in told and "predicted" in told
    assert "3 of 3 hold; see" in told and "failed" not in told
    folder = tmp_path / "new" / "lab"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*(f"{name}.png" for name in CHEAP), "index.html"])
    check_page((folder / "index.html").read_text(encoding="utf-8"), CHEAP)


def test_json_holds_every_number_and_nothing_else_is_printed(tmp_path, capsys):
    assert main(["lab", "epsilon", "--json", "--quick", "--seed", "3", "--out", str(tmp_path)]) == 0

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = capsys.readouterr().out
    told = json.loads(text, parse_constant=refuse)
    assert text.isascii(), "of a pipe on Windows the encoding is none of Unicode's"
    assert told["quick"] and told["seed"] == 3 and told["page"] == str(tmp_path / "index.html")
    (result,) = told["results"]
    assert result["name"] == "epsilon" and result["verdict"] == "holds" and result["formula"]
    assert result["rows"][0] | {"quantity": ""} == {
        "quantity": "", "predicted": "nan", "measured": "nan", "tolerance": 0.0, "relation": "=", "verdict": "holds",
    }  # fmt: skip


def test_json_is_the_same_in_any_encoding(capsys):
    """Of a pipe on Windows it is none of Unicode's, and what that cannot hold is written with backslashes of Python's."""
    assert main(["lab", "--list", "--json"]) == 0
    told = capsys.readouterr().out
    assert told.isascii() and "ε" in json.loads(told)["epsilon"]


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_verdict_that_fails_is_printed_and_is_exit_code_1(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(lab.EXPERIMENTS, "shift", lambda quick, seed: made_up("shift", 1.0))
    monkeypatch.setitem(lab.EXPERIMENTS, "drift", lambda quick, seed: made_up("drift", 2.0))
    assert main(["lab", "shift", "drift", "--out", str(tmp_path), *words]) == 1
    told = capsys.readouterr().out
    if words:
        assert [r["verdict"] for r in json.loads(told)["results"]] == ["failed", "holds"]
    else:
        assert "1 of 2 hold; failed: drift" in told
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<td class="failed">failed</td>' in text and "1 of 2 experiments hold" in text


def test_names_seed_and_mode_reach_the_experiments(tmp_path, monkeypatch):
    asked = []

    def noted(name):
        return lambda quick, seed: asked.append((name, quick, seed)) or made_up(name, 1.0)

    for name in NAMES:
        monkeypatch.setitem(lab.EXPERIMENTS, name, noted(name))
    plot = drawn(made_up(NAMES[0], 1.0).plot)
    monkeypatch.setattr(lab, "drawn", lambda parts: plot)  # all would look like it
    assert main(["lab", "--seed", "5", "--out", str(tmp_path)]) == 0
    assert asked == [(name, False, 5) for name in NAMES]
    check_page((tmp_path / "index.html").read_text(encoding="utf-8"), NAMES)


def test_the_page_escapes_what_it_is_told():
    result = made_up("shift", 1.0)
    text = page([result], {"shift": drawn(result.plot)}, "seed <0>")
    check_page(text, ["shift"])
    assert "a &lt; b &amp; c" in text and "largest &lt;a&gt;" in text and "seed &lt;0&gt;" in text


def test_plots_leave_the_backend_of_matplotlib_as_the_caller_has_it(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.get_backend()
    matplotlib.use("svg")  # as a notebook's would be
    try:
        assert drawn(made_up("shift", 1.0).plot).startswith(b"\x89PNG")
        kind_bars(["batch"], {"total": [(1.0, 0.1)]}, tmp_path / "bars.png", "loss")
        assert matplotlib.get_backend() == "svg"
    finally:
        matplotlib.use(before)


def test_every_part_of_a_plot_is_drawn():
    heat = Heat("t", "x", "y", [[1.0, 0.0], [0.5, 2.0]], "unit", log=True)
    photo = Photo("p", [[[0.0, 0.5, 1.0]] * 4] * 4)
    panel = Panel("t", "x", "y", (Series("s", [1, 2], [1, 2], "both"),), True, True, (1, 2))
    widths = [Image.open(BytesIO(drawn(parts))).width for parts in ((panel,), (heat, heat), (photo, photo, photo, panel))]
    assert widths == sorted(widths) and widths[0] > 500


@pytest.mark.parametrize(
    "words, code, sentence",
    [
        (["lab", "--help"], 0, "The theory of normalization by numbers"),
        (["lab", "--list"], 0, "batch-noise"),
        (["lab", "--list", "--json", "shift"], 0, '"shift": '),
        (["lab", "gradent-noise"], 2, "no experiment is named 'gradent-noise'; did you mean gradient-noise"),
        (["lab", "--out", __file__], 2, "is a file; give a folder"),
        (["lab", "--out", ""], 2, "it is empty; give a folder"),
        (["lab", "--out", __file__ + "/lab"], 2, "cannot be written to ("),
        (["lab", "--seed", "-1"], 2, "--seed"),
    ],
)
def test_without_torch(words, code, sentence):
    program = (
        "import sys; from stylenorm.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, errors="replace")
    assert done.stdout.splitlines()[-1] == f"[] {code}", done.stderr
    assert sentence in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr


def test_without_vgg_one_sentence_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STYLENORM_WEIGHTS", str(tmp_path))
    assert main(["lab", "--out", str(tmp_path / "out")]) == 2
    assert "the experiment style needs VGG-16's features" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
