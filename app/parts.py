"""Gradio's components, made safe: nothing is decoded, fetched or kept before the library has checked it."""

from __future__ import annotations

import base64
import functools
import threading
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio import component_meta
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorDataBlobs
from gradio.data_classes import Base64ImageData, FileData
from gradio.exceptions import InvalidPathError

# Gradio writes type stubs beside the source of each component, for editors; an installed package may be read-only.
component_meta.create_or_modify_pyi = lambda *_: None

MOST_DRAWINGS = 16  # that wait in memory, of all visitors together
MOST_LAYERS = 16  # of one drawing; ours have one


class Page(gr.Blocks):
    """Refuses addresses where files belong, which Gradio would fetch for the visitor, and says what it refuses in a sentence."""

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        if any(has_address(value) for value in inputs):
            sentence = "Files have to be uploaded; addresses are not opened."
            raise gr.Error(sentence, title="That did not work", print_exception=False)
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error as error:
            error.print_exception = False
            raise
        except InvalidPathError:  # of before a restart, or of elsewhere
            sentence = "A picture or file of this page is no longer on the server. Load the page anew and upload it again."
            raise gr.Error(sentence, title="That did not work", print_exception=False) from None
        except ValueError:  # about what was sent; the server has nothing to log
            sentence = "Something is empty or of another kind than it should be. Look through what you chose."
            raise gr.Error(sentence, title="That did not work", print_exception=False) from None


def has_address(value: Any) -> bool:
    """Whether some file in ``value`` is given by an address instead of an upload."""
    if isinstance(value, Mapping):
        path = value.get("path")
        if isinstance(path, str) and "://" in path:
            return True
        return any(map(has_address, value.values()))
    return isinstance(value, (list, tuple)) and any(map(has_address, value))


class Picture(gr.Image):
    """Hands over the uploaded file as it is. Gradio's own decodes it first, without a limit."""

    is_template = True

    def preprocess(self, payload):
        return None if payload is None else payload.path


class Lens(gr.Image):
    """Hands over a picture of the camera as the bytes that came, undecoded."""

    is_template = True

    def preprocess(self, payload):
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            return base64.b64decode(payload.url.partition(",")[2])
        return payload.path


class Frame(gr.Image):
    """Shows a PIL image that goes to the browser within the answer. Gradio's own writes a file for each, and keeps it."""

    is_template = True

    def postprocess(self, value):
        if value is None:
            return None
        value.save(buffer := BytesIO(), "JPEG", quality=88)
        return Base64ImageData(url="data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())


class Player(gr.Video):
    """Shows a film as it is. Gradio's own looks whether browsers can play it, with a program that may not be there."""

    is_template = True

    def postprocess(self, value):
        return None if value is None else FileData(path=str(value), orig_name=Path(value).name)


class Files(gr.File):
    """Hands over paths. Gradio's own leaves an empty file behind each time."""

    is_template = True

    def preprocess(self, payload):
        if payload is None:
            return None if self.file_count == "single" else []
        paths = [f.path for f in payload] if hasattr(payload, "root") else [payload.path]
        return (paths or [None])[0] if self.file_count == "single" else paths


class Drawing(gr.ImageEditor):
    """Hands over the layers that were drawn, as bytes or paths, undecoded. Forgets drawings nobody sent off.

    most_bytes: of all parts of one drawing, and of all drawings that wait here.
    """

    is_template = True
    most_bytes = 200_000_000

    @functools.wraps(gr.ImageEditor.__init__)  # Gradio tells the browser about the arguments in the signature
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.blob_storage = Recent(MOST_DRAWINGS)
        self._lock = threading.Lock()

    @server  # what the browser may call
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """One part of a drawing. Gradio's own makes as many layers as it is told to, and keeps whatever comes."""
        index = data.data["index"] or "null"
        if index != "null" and index not in map(str, range(MOST_LAYERS)):
            raise HTTPException(400, f"a drawing has at most {MOST_LAYERS} layers")
        with self._lock:  # parts come at the same time, and the first two would each begin the drawing
            if weight(self.blob_storage.get(data.data["id"])) + len(data.files[0][1]) > self.most_bytes:
                raise HTTPException(413, f"a drawing has at most {self.most_bytes / 1e6:g} MB; make it smaller")
            super().accept_blobs(data)
            while sum(map(weight, list(self.blob_storage.values()))) > self.most_bytes:
                self.blob_storage.popitem(last=False)

    def preprocess(self, payload) -> list[bytes | Path]:
        if payload is None:
            return []
        if payload.id is not None:
            payload = self.blob_storage.pop(payload.id, None) or EditorDataBlobs(background=None, layers=[], composite=None)
        return [Path(layer.path) if hasattr(layer, "path") else layer for layer in payload.layers if layer is not None]


def weight(drawing: EditorDataBlobs | None) -> int:
    """Bytes of all of its parts."""
    return sum(len(part) for part in (drawing.background, drawing.composite, *drawing.layers) if part) if drawing else 0


class Recent(OrderedDict):
    """A dict of the latest few."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key, value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.most:
            self.popitem(last=False)


class Slide(gr.Slider):
    """Hands over what its box holds, which is empty while somebody types. Gradio's own raises, and that ends a camera's stream."""

    is_template = True

    def preprocess(self, payload):
        return payload


class Choice(gr.Dropdown):
    """Leaves it to the library to know what there is: a style may have come since the page was made."""

    is_template = True

    def preprocess(self, payload):
        return payload
