"""Masks from drawings. How masks steer the network is in test_engine.py."""

import numpy as np
import pytest
from PIL import Image

from stylenorm.errors import ImageError
from stylenorm.masks import drawn_mask, mask_tensor


def test_drawn_layers_become_a_mask_and_its_rest():
    a, b = Image.new("L", (40, 20)), Image.new("L", (40, 20))
    a.paste(255, (0, 0, 10, 20))
    b.paste(100, (30, 0, 40, 20))  # a thin brush is a brush
    mask, rest = drawn_mask([a, b], 0)
    row = np.asarray(mask)[10]
    assert row[:10].tolist() == row[30:].tolist() == [255] * 10 and not row[10:30].any()
    assert np.array_equal(255 - np.asarray(mask), np.asarray(rest))
    soft = np.asarray(drawn_mask([a], 20)[0])[10].astype(int)
    assert len(set(soft)) > 5 and (np.diff(soft) <= 0).all()
    for layers in ([], [Image.new("L", (4, 4))]):
        with pytest.raises(ImageError, match="paint over"):
            drawn_mask(layers, 0)
    with pytest.raises(ImageError, match="soft edge"):
        drawn_mask([a], 99)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_not_in_a_mask_whatever_colour_hides_there(mode):
    mask = Image.new("LA", (4, 2), (255, 0))
    mask.paste((255, 255), (0, 0, 2, 2))
    if mode == "P":
        mask = mask.convert("RGBA").quantize(2)
    np.testing.assert_allclose(mask_tensor(mask.convert(mode), (2, 4)), np.tile([1, 1, 0, 0], (2, 1)))


def test_a_mask_of_any_depth_is_as_soft_as_it_was():
    ramp = np.tile(np.linspace(0, 1, 5, dtype=np.float32), (4, 1))
    whites = (255, np.uint8), (65535, np.uint16), (65535, np.int32), (1, np.float32)
    images = [Image.fromarray((ramp * white).astype(dtype)) for white, dtype in whites]
    assert [image.mode for image in images] == ["L", "I;16", "I", "F"]
    for image in images:
        np.testing.assert_allclose(mask_tensor(image, (4, 5)), ramp, atol=1 / 255)
