"""Wrong arguments of public names: one sentence that names the thing, whatever somebody gives."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import stylenorm
from stylenorm import StylenormError
from stylenorm.cli import main
from stylenorm.engine import listed
from stylenorm.errors import in_short, out_of_memory

LAYER = torch.nn.BatchNorm2d(4)
PHOTO = Image.effect_noise((32, 32), 60).convert("RGB")
MAP = torch.rand(1, 4, 4, 4)


@pytest.fixture(scope="module")
def stylizer(weights):
    return stylenorm.Stylizer(weights, "cpu", "torch")


WRONG = {  # what is called with a stylizer, and a word of the sentence
    "weights": (lambda s: stylenorm.Stylizer(3), "network"),
    "memory": (lambda s: stylenorm.Stylizer(memory="4"), "memory"),
    "style": (lambda s: s.style(None), "name"),
    "refine": (lambda s: s.refine("red-hill", PHOTO, None), "NoneType"),
    "steps": (lambda s: s.refine("red-hill", PHOTO, PHOTO, steps="20"), "steps"),
    "smoothing": (lambda s: s.stream("red-hill", smoothing="a"), "smoothing"),
    "fixed": (lambda s: s.stream("red-hill", fixed=3), "fixed"),
    "columns": (lambda s: s.sheet(PHOTO, columns="5"), "column"),
    "tile": (lambda s: s.sheet(PHOTO, tile=None), "pixels"),
    "names": (lambda s: s.sheet(PHOTO, 3), "name"),
    "fit": (lambda s: stylenorm.fit("photo.jpg", 64), "PIL image"),
    "size": (lambda s: stylenorm.fit(PHOTO, float("nan")), "pixels"),
    "picture": (lambda s: stylenorm.Picture(PHOTO.convert("RGBA")), "mode RGBA"),
    "picture of an array": (lambda s: stylenorm.Picture(np.asarray(PHOTO)), "PIL image"),
    "styles of regions": (lambda s: stylenorm.regions(None, MAP, []), "styles"),
    "image": (lambda s: stylenorm.write_picture(None, io.BytesIO(), format="png"), "NoneType"),
    "target": (lambda s: stylenorm.write_picture(PHOTO, None), "NoneType"),
    "format": (lambda s: stylenorm.write_picture(PHOTO, io.BytesIO(), format=3), "format"),
    "row": (lambda s: stylenorm.Style.from_flat(np.ones((1, 2, 4)), (4,)), "tensor"),
    "channels": (lambda s: stylenorm.Style.from_flat(torch.ones(1, 2, 4), 4), "channels"),
    "masks": (lambda s: stylenorm.regions([s.style("red-hill")], np.ones((1, 9, 9)), [(9, 9)]), "masks"),
    "t": (lambda s: stylenorm.interpolate(s.style("red-hill"), s.style("red-hill"), "half"), "half"),
    "file": (lambda s: stylenorm.load_style(None), "path"),
    "saved": (lambda s: stylenorm.save_style("x.safetensors", "red-hill"), "Style"),
    "generator": (lambda s: stylenorm.network_hash(s), "Generator"),
    "taken": (lambda s: stylenorm.check_name(3), "name"),
    "folder": (lambda s: stylenorm.check_name("x", folder=3), "path"),
    "networks": (lambda s: stylenorm.Comparison(3), "path"),
    "change": (lambda s: stylenorm.changed(PHOTO, ["darker"]), "darker"),
    "film": (lambda s: stylenorm.paint_film(None, "x.mp4", s.stream("red-hill")), "film"),
    "painted": (lambda s: stylenorm.paint_film("x.mp4", None, s.stream("red-hill")), "film"),
    "stream": (lambda s: stylenorm.paint_film("x.mp4", "y.mp4", s), "Stylizer.stream"),
    "crf": (lambda s: stylenorm.paint_film("x.mp4", "y.mp4", s.stream("red-hill"), crf="good"), "crf"),
    "crf of -3": (lambda s: stylenorm.paint_film("x.mp4", "y.mp4", s.stream("red-hill"), crf=-3), "crf"),
    "training": (lambda s: stylenorm.train({"photos": "a", "out": "b"}), "TrainConfig"),
    "settings": (lambda s: stylenorm.train_style("x", PHOTO, config={"steps": 1}), "NewStyleConfig"),
    "photos": (lambda s: stylenorm.train_style("x", PHOTO, photos=["a.jpg", "b.jpg"]), "folder"),
    "photos of a run": (lambda s: stylenorm.TrainConfig(None, "out"), "photos must be a path"),
    "norm": (lambda s: stylenorm.TrainConfig("photos", "out", norm=None), "norm must be a text"),
    "painting": (lambda s: stylenorm.train_style("x", None), "NoneType"),
    "vgg": (lambda s: stylenorm.optimize(None, PHOTO, PHOTO), "VGGFeatures"),
    "content": (lambda s: stylenorm.optimize(LAYER, "photo.jpg", PHOTO), "PIL image"),
    "optimizing": (lambda s: stylenorm.optimize(LAYER, PHOTO, PHOTO, {"steps": 1}), "OptimizeConfig"),
    "widths": (lambda s: stylenorm.GeneratorConfig(widths=3), "widths"),
    "parts of a channel": (lambda s: stylenorm.GeneratorConfig((24.7, 48), (0, 1)), "whole"),
    "config": (lambda s: stylenorm.Generator(3), "GeneratorConfig"),
    "encoder": (lambda s: stylenorm.StyleEncoder(3), "channels"),
    "channel": (lambda s: stylenorm.StyleEncoder(["a"]), "channels"),
    "num_groups": (lambda s: stylenorm.GeneratorConfig(norm="group", num_groups=None), "groups"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_one_sentence(what, stylizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, word = WRONG[what]
    with pytest.raises(StylenormError) as caught:
        call(stylizer)
    told = str(caught.value)
    assert word in told and "\n" not in told and len(told) < 250, told


@pytest.mark.parametrize(
    "call",
    [
        lambda: stylenorm.swap_norms(3, "instance"),
        lambda: stylenorm.recalibrate(LAYER, None),
        lambda: stylenorm.recalibrate(LAYER, [{"image": MAP}]),
        lambda: stylenorm.normalize(MAP.numpy(), torch.zeros(()), torch.ones(())),
        lambda: stylenorm.moments(MAP.numpy()),
        lambda: stylenorm.modulate(MAP, None, torch.ones(1, 4)),
        lambda: stylenorm.adain(MAP, MAP.numpy()),
        lambda: stylenorm.Generator(stylenorm.GeneratorConfig((8, 8), (0, 1)))(PHOTO, [(1, 1)] * 5),
    ],
)
def test_what_is_no_tensor_or_module_is_a_type_error_as_in_torch(call):
    with pytest.raises(TypeError, match="tensor|Module|batches"):
        call()


@pytest.mark.parametrize("style", [None, "kiss", {"kiss": 1.0}, torch.ones(5, 2, 8), [torch.ones(1, 8)] * 5, [(1, 2, 3)] * 5], ids=lambda s: type(s).__name__)
def test_a_generators_style_is_pairs(style):
    with pytest.raises(TypeError, match="style must be a .*pairs") as caught:
        stylenorm.Generator(stylenorm.GeneratorConfig((8, 8), (0, 1)))(torch.rand(1, 3, 8, 8), style)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_an_open_file_is_one_picture_and_not_its_lines(photo):
    with open(photo, "rb") as file:
        assert listed(file) == [file] and listed([photo, photo]) == [photo, photo] and listed(photo.read_bytes()) == [photo.read_bytes()]


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("Exception from src/inference: [CPU] Convolution node with name 'Convolution_469' can't alloc"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive: failed to allocate 4096 bytes"), True),
        (RuntimeError("shapes do not fit"), False),
        (ImportError("libtorch_python.so: failed to map segment from shared object"), True),
        (ImportError("libopenvino.so.2640: failed to map segment from shared object: Cannot allocate memory"), True),
        (ImportError("libgomp.so.1: cannot allocate memory in static TLS block"), False),
        (ImportError("/mnt/x.so: failed to map segment from shared object: Operation not permitted"), False),
        (ImportError("cannot import name 'kiss' from 'stylenorm'"), False),
        (MemoryError(), True),
    ],
)
def test_want_of_memory_is_known_by_what_it_is_told_as(error, short):
    assert out_of_memory(error) is short


def test_a_library_that_memory_is_too_short_for_is_one_sentence(monkeypatch, capsys):
    """torch's and OpenVINO's are hundreds of megabytes, where `ulimit -v` or a container gives less."""

    def without_room():
        raise ImportError("libtorch_python.so: failed to map segment from shared object")

    monkeypatch.setattr("stylenorm.cli.add_the_others", without_room)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "stylenorm: this needs more memory than there is; give a smaller size, or close other programs\n"


def test_a_long_argument_is_short_in_a_message():
    assert "\n" not in in_short(torch.rand(9, 9)) and len(in_short(list(range(999)))) < 80
