"""Pictures in and out: file <-> `Picture` <-> tensor.

    picture = read_picture("photo.jpg")                   # upright, sRGB, 8 bit
    result = to_image(network(to_tensor(picture.rgb)))    # the network sees nothing else
    write_picture(rewrap(picture, result), "result.jpg")  # alpha, profile, EXIF, dpi put back

The network only ever sees upright sRGB. What else a file holds waits in the `Picture` and is put back by
`rewrap`. A file of 16 bits has them in `Picture.deep`, and `rewrap` takes a result of 16 bits as an array.
Everything that goes wrong is an `ImageError`: one sentence with the picture's name in it.
"""

from stylenorm.colour import keep_color, recolored
from stylenorm.decode import MAX_PIXELS, READABLE, Picture, Source, opened, read_picture
from stylenorm.depth import at_size, larger_of, to_paint
from stylenorm.encode import FORMATS, rewrap, write_picture
from stylenorm.tensors import fit, short_side, to_image, to_tensor

__all__ = [
    "FORMATS", "MAX_PIXELS", "READABLE", "Picture", "Source", "at_size", "fit", "keep_color", "larger_of", "opened", "read_picture",
    "recolored", "rewrap", "short_side", "to_image", "to_paint", "to_tensor", "write_picture",
]  # fmt: skip
