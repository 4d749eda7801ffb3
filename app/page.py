"""What the tabs share: plain errors, the queue, and the controls that occur on several of them."""

from __future__ import annotations

import functools
import html
import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr

from .library import BACKGROUND, FACES, PEOPLE, StylenormError
from .parts import Choice, Files, Picture
from .studio import PAINTING, STYLE_FILE, Studio, Wish

# Everything that uses the network stands in one queue. Two places, of which a film, a folder or a training takes one at most.
QUEUE = {"concurrency_id": "network", "concurrency_limit": 2}
AS_PHOTOGRAPH = 0
SIZES = (512, 768, 1024, 1536, 2048, 3072, 4096)  # px
STROKES = [("Large", 1.6), ("Usual", 1), ("Fine", 0.625)]
WHERE = [("Everything", ""), ("All but people", BACKGROUND), ("People alone", PEOPLE)]
NONE = ""  # a style that is none
BESIDE = 240  # px that a control takes at least beside another one; on a phone they stand below one another
ROW, LONG_ROW = 292, 304  # the same for those whose choices, or whose label, would else not stand in one row
FAILED = "That did not work, so there is no painting here. Choose another file or style."
FORMATS = [("JPEG (small file)", "jpeg"), ("PNG (exact, keeps transparency)", "png")]

log = logging.getLogger("stylenorm.app")


def plain(function):
    """Errors become one sentence on the page, and nothing of the server is shown with it."""

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            try:
                yield from function(*args, **kwargs)
            except Exception as error:
                raise told(error) from None
    else:

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except Exception as error:
                raise told(error) from None

    return wrapper


def told(error: Exception) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, StylenormError):
        text = sentence(error)
    elif isinstance(error, MemoryError) or "memory" in str(error).lower():
        text = "That needs more memory than this computer has free. Choose a smaller size."
    else:
        log.error("unexpected", exc_info=error)
        text = "Something went wrong here, and it is not your fault. Try again, or try another picture."
    return gr.Error(html.escape(text, quote=False), title="That did not work", duration=12, print_exception=False)


def sentence(error: StylenormError | str) -> str:
    """With a capital at its begin, unless that is a file's name, and a full stop. Where Python lies here is no visitor's business."""
    text = str(error).replace(sys.executable or "python", "python")
    named = re.match(r"[^,;:]*?\w\.[A-Za-z]\w+ (is|has|cannot|does|holds|unpacks|lists)\b", text)
    return (text if named and not text.startswith("the mask ") else text[:1].upper() + text[1:]) + ("" if text.endswith((".", "?", "!")) else ".")


def duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 90 else f"{round(seconds / 60)} min"


def stopped(studio: Studio, over: threading.Event) -> str:
    """How a line about a film or a folder begins that did not come to its end. over: what `Studio.turn` gave."""
    return f"Stopped after {duration(60 * studio.limits.long_minutes)}, the most that this page allows" if over.is_set() else "Stopped"


def as_text(name: str) -> str:
    """A file's name in a line of Markdown, in which it may look like emphasis or a link."""
    return re.sub(r"([\\`*\[\]<>~|]|(?<!\w)_|_(?!\w))", r"\\\1", name)


def visitor(request: gr.Request | None) -> str:
    return (request and request.session_hash) or "nobody"


@dataclass
class Choosers:
    """The lists of styles on the page, to be told when a style is added."""

    lists: list[Choice] = field(default_factory=list)
    optional: list[tuple[Choice, str]] = field(default_factory=list)  # with what is written where no style is chosen
    galleries: list[tuple[gr.Gallery, Choice]] = field(default_factory=list)

    def outputs(self) -> list:
        return [*(gallery for gallery, _ in self.galleries), *self.lists, *(chosen for chosen, _ in self.optional)]

    def marked(self) -> list[Choice]:
        """The lists whose style a gallery marks, for `refreshed`."""
        return [chosen for _, chosen in self.galleries]

    def refreshed(self, studio: Studio, *chosen: str | None) -> list:
        """chosen: the style that each gallery marks."""
        shown = studio.gallery()
        galleries = [gr.Gallery(value=shown, selected_index=studio.place(name)) for name in chosen]
        return [*galleries, *(gr.update(choices=c) for c in self._choices(studio))]

    def _choices(self, studio: Studio) -> list:
        choices = studio.choices()
        return [choices] * len(self.lists) + [[(none, NONE), *choices] for _, none in self.optional]

    def add(self, studio: Studio, label: str, value: str | None, none: str | None = None, **options) -> Choice:
        """none: what is written where no style is chosen, if that is allowed."""
        choices = studio.choices() if none is None else [(none, NONE), *studio.choices()]
        chosen = Choice(choices, value=value, label=label, **options)
        self.lists.append(chosen) if none is None else self.optional.append((chosen, none))
        return chosen


def style_gallery(elem_id: str) -> gr.Gallery:
    return gr.Gallery(
        label="Styles", show_label=False, elem_id=elem_id, elem_classes="styles", columns=4, object_fit="cover", allow_preview=False,
        interactive=False, format="jpeg", buttons=[], height="auto",
    )  # fmt: skip


def join(choosers: Choosers, studio: Studio, gallery: gr.Gallery, chosen: Choice) -> None:
    """A click on a style in ``gallery`` chooses it, and the chosen one is marked."""

    def pick(event: gr.SelectData):
        caption = event.value.get("caption") if isinstance(event.value, dict) else None
        return studio.labels(short=True).get(caption, gr.skip())

    def mark(name):
        return gr.Gallery(selected_index=studio.place(name))

    quiet = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    gallery.select(pick, None, chosen, **quiet)
    chosen.change(mark, chosen, gallery, **quiet)
    choosers.galleries.append((gallery, chosen))


def size_choice(as_it_is: str = "As the photograph") -> Choice:
    sizes = [(as_it_is, AS_PHOTOGRAPH), *((f"{n} px", n) for n in SIZES)]
    return Choice(sizes, value=AS_PHOTOGRAPH, label="Size of the result (longer side)", min_width=ROW)


def strokes_choice() -> gr.Radio:
    return gr.Radio(STROKES, value=1, label="Brush strokes", min_width=ROW)


def format_choice() -> gr.Radio:
    return gr.Radio(FORMATS, value="jpeg", label="Kind of file", min_width=LONG_ROW)


def quality_slider() -> gr.Slider:
    return gr.Slider(50, 100, 95, step=1, label="JPEG quality", min_width=LONG_ROW)


def strength_slider(kind: type[gr.Slider] = gr.Slider, info: str = "0 is the photograph, 1 is all painting") -> gr.Slider:
    return kind(0, 1, 1, step=0.05, label="Strength", info=info, min_width=BESIDE)


def faces_slider(kind: type[gr.Slider] = gr.Slider) -> gr.Slider:
    return kind(0, 1, FACES, step=0.05, label="Faces", info="How much of their features stays", min_width=BESIDE)


def where_choice() -> gr.Radio:
    return gr.Radio(WHERE, value="", label="What is painted", min_width=ROW)


def colors_box() -> gr.Checkbox:
    return gr.Checkbox(False, label="Keep the photograph's colours")


def photo_input(elem_id: str, label: str = "Your photograph", height: int = 280, **options) -> Picture:
    return Picture(
        label=label, type="filepath", image_mode=None, format="png", height=height, elem_id=elem_id, buttons=["fullscreen"], **options
    )


def own_style(prefix: str) -> tuple[Picture, Files]:
    """Uploads of a painting and of a style file."""
    painting = Picture(
        label="A painting you like",
        type="filepath",
        image_mode=None,
        format="png",
        height=200,
        sources=["upload", "clipboard"],
        elem_id=f"{prefix}-painting",
        buttons=[],
    )
    file = Files(label="Or a style file (.safetensors)", file_types=[".safetensors"], height=170, elem_id=f"{prefix}-style-file")
    return painting, file


def hold(studio: Studio, *fields: Picture | Files) -> None:
    """What a field shows stays on the server. Another page may have the same file, which Gradio stores once, and lets go of it some time."""

    def arrived(slot: str) -> Callable:
        def keep(value, request: gr.Request) -> None:
            studio.shelf.hold(visitor(request), slot, value if isinstance(value, list) else [value])

        return keep

    for shown in fields:
        shown.change(arrived(f"{shown.elem_id} field"), shown, None, api_visibility="private", show_progress="hidden", queue=False)


def status_line(elem_id: str, text: str = "") -> gr.Markdown:
    """Where the page says what it does. label: what programs know it by."""
    return gr.Markdown(text, label="Status", show_label=False, elem_id=elem_id, elem_classes="status")


def closer_box() -> gr.Checkbox:
    return gr.Checkbox(
        False,
        label="Bring it nearer to the painting",
        info="Refines the style on your photograph, which takes 5 to 30 seconds",
        elem_id="closer",
    )


def expect(run: gr.Button, studio: Studio, what: str) -> None:
    """What ``run`` starts can be stopped while it waits in the queue. Comes before what it starts."""

    def expected(request: gr.Request) -> None:
        studio.stops.expect(visitor(request), what)

    run.click(expected, None, None, api_visibility="private", show_progress="hidden", queue=False)


def expect_no_more(started: gr.events.Dependency, studio: Studio, what: str) -> None:
    """Where what was started is refused, there is nothing left to stop."""

    def refused(request: gr.Request) -> None:
        studio.stops.refused(visitor(request), what)

    started.failure(refused, None, None, api_visibility="private", show_progress="hidden", queue=False)


def use_own(list_: Choice, painting: Picture, file: Files) -> None:
    """An uploaded painting or style file becomes the chosen style."""
    painting.upload(lambda: PAINTING, None, list_, api_visibility="private", show_progress="hidden", queue=False)
    file.upload(lambda: STYLE_FILE, None, list_, api_visibility="private", show_progress="hidden", queue=False)


def wish_of(styles, painting, style_file, strength, keep_colors, size, closer=False, strokes=1, faces=FACES, where="", **mask) -> Wish:
    return Wish(styles, painting, style_file, float(strength), bool(keep_colors), whole(size), bool(closer), float(strokes), float(faces), where or "", **mask)


def whole(size) -> int | None:
    """The size in px; 0 and nothing stand for the photograph's own."""
    try:
        return int(size) or None
    except (TypeError, ValueError):
        if size is None:
            return None
        raise StylenormError(f"a size is a number of pixels, not {size!r}") from None
