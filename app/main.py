"""Builds the page and serves it."""

from __future__ import annotations

import argparse
import atexit
import errno
import logging
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies

# Before gradio is imported: it looks at these once.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    import gradio as gr

    from .studio import Limits

AUTH = "STYLENORM_APP_AUTH"
MEGAPIXELS, UPLOAD_MB, MINUTES = "STYLENORM_APP_MEGAPIXELS", "STYLENORM_APP_UPLOAD_MB", "STYLENORM_APP_MINUTES"
SWEEP, OLD = 600, 3600  # seconds: how often the folder is swept, and how old what goes then is
NAP = 1  # second: how late a signal may be told
FOLDER, ABANDONED = "stylenorm-app-", 7 * 86400  # how its name begins, and seconds that none is unswept which an app still uses
QUEUED = 32  # requests that wait at most; the next one is told to come back


def build(weights: str | Path | None = None, folder: str | Path | None = None, limits: "Limits | None" = None, **options) -> "gr.Blocks":
    """The page. Raises `StylenormError` where there is no network.

    weights: as for `stylenorm.Stylizer`. folder: for uploads and results, by default a new temporary one that is removed
    at the end. options: for tests, ``training`` is a `NewStyleConfig`.
    """
    folder = Path(folder) if folder is not None else temporary_folder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)

    import gradio as gr

    from . import tab_camera, tab_compare, tab_film, tab_folder, tab_generate, tab_regions, tab_stylize, tab_train
    from .easel import Easel
    from .files import FETCHED, Shelf
    from .library import NewStyleConfig, Stylizer, weights_folder
    from .page import Choosers, plain
    from .parts import Page
    from .studio import Studio

    weights = Path(weights) if weights is not None else weights_folder()
    studio = Studio(Stylizer(weights), Shelf(folder, seconds=FETCHED), weights, limits or allowed(), notice=gr.Info)
    choosers = Choosers()
    with Page(title="stylenorm: photographs into paintings", analytics_enabled=False) as page:
        gr.Markdown("# stylenorm\nTurn a photograph into a painting.", elem_id="heading")
        with gr.Tabs():
            with gr.Tab("Stylize"):
                slider = tab_stylize.tab(studio, choosers)
            with gr.Tab("Camera"):
                tab_camera.tab(studio, choosers)
            with gr.Tab("Regions"):
                tab_regions.tab(studio, choosers)
            with gr.Tab("Film"):
                tab_film.tab(studio, choosers)
            if Easel(studio).usable():
                with gr.Tab("Generate"):
                    tab_generate.tab(studio, choosers)
            with gr.Tab("Folder"):
                tab_folder.tab(studio, choosers)
            with gr.Tab("Train a style"):
                tab_train.tab(studio, choosers, options.get("training", NewStyleConfig()))
            if studio.comparable():
                with gr.Tab("Compare"):
                    tab_compare.tab(studio)

        def refresh():
            studio.reload()
            return [studio.example(), *choosers.refreshed(studio, *[studio.first()] * len(choosers.galleries))]

        def styles() -> list[dict]:
            """Every style: its name, and the title, artist and year of the painting."""
            studio.reload()
            return studio.listed()

        page.load(plain(refresh), None, [slider, *choosers.outputs()], api_visibility="private", show_progress="hidden")
        gr.api(styles, api_name="styles", queue=False)
    page.studio = studio
    studio.shelf.keep_present()
    page.queue(max_size=QUEUED, default_concurrency_limit=4)
    studio.shelf.crowded = lambda visitor: len(getattr(page._queue, "pending_event_ids_session", {}).get(visitor, ())) > 1
    return page


def launch(
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    weights: str | Path | None = None,
    block: bool = True,
    quiet: bool = False,
    page: "gr.Blocks | None" = None,
    **options,
) -> "gr.Blocks":
    """Serve the page; ``block`` until Ctrl-C. A name and password are asked for if $STYLENORM_APP_AUTH has user:password."""
    auth, host = credentials(), address(host, port)
    page = page or build(weights, **options)

    from starlette.middleware import Middleware

    from .files import MOST_VISITORS
    from .language import English
    from .library import told_of_left_behind
    from .look import CSS, EARLY, HEAD, THEME, WORDS

    with past_proxies(host):
        page.launch(
            server_name=host,
            server_port=port,
            share=share,
            auth=auth,
            theme=THEME,
            css=CSS,
            head=HEAD,
            i18n=WORDS,
            app_kwargs={"middleware": [Middleware(English, beside=EARLY)]},
            run_history=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            allowed_paths=[],
            max_file_size=page.studio.limits.file_bytes,
            ssr_mode=False,
            footer_links=["api", "settings"],
            enable_monitoring=False,
            inbrowser=False,
            max_threads=8,
            state_session_capacity=MOST_VISITORS,  # each takes 300 kB, and Gradio keeps 10,000
        )
    warming = threading.Thread(target=warm_up, args=(page,), daemon=True)  # so that the first visitor need not wait
    warming.start()
    threading.Thread(target=keep_tidy, args=(page,), daemon=True).start()
    for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)} if block else ():  # so that the temporary folder goes then, too
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    try:
        if not quiet:
            print(f"stylenorm is at {page.local_url}" + (f" and {page.share_url}" if page.share_url else ""), flush=True)
            print(f"It paints on: {page.studio.stylizer.describe()}. Stop it with Ctrl-C.", flush=True)
            if told := told_of_left_behind(page.studio.weights):
                print(told, flush=True)
        while block:
            # A lock or an event without an end keeps Ctrl-C waiting on Windows, and a sleep does not; but it does, anywhere, where a
            # signal comes just before it: then it is told after it.
            time.sleep(NAP)
    except KeyboardInterrupt:
        if not block:
            raise
        page.close(verbose=False)
        end = time.monotonic() + 30
        while warming.is_alive() and time.monotonic() < end:
            time.sleep(0.02)  # what paints at the very end of a process aborts it: 'terminate called' (up to Python 3.13)
    return page


@contextmanager
def past_proxies(host: str) -> Iterator[None]:
    """Inside, what is asked of this machine goes through no proxy.

    Gradio asks its own server whether it is there, by httpx, which knows the proxies of Windows and Macs, and not the
    exceptions that are made there for the machine itself (https://github.com/gradio-app/gradio/issues/4046).
    """
    known = getproxies()
    here = ["localhost", "127.0.0.1", "::1", host.strip("[]")]
    wanted = {f"{scheme}_proxy": known[scheme] for scheme in ("http", "https", "all") if scheme in known}
    wanted |= {"no_proxy": ",".join(filter(None, [known.get("no"), *here]))} if wanted else {}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def warm_up(page: "gr.Blocks") -> None:
    """Paint what the page shows at first, as long as it is served."""
    page.studio.example()
    for _ in page.studio.thumbnails():
        if not page.is_running:
            return


def keep_tidy(page: "gr.Blocks") -> None:
    """Sweep while the page is served. Gradio's ``delete_cache`` would go by age alone, and take what the page still shows."""
    while page.is_running:
        page.studio.shelf.sweep(OLD)
        with suppress(OSError):
            os.utime(page.studio.shelf.folder)  # see `remove_abandoned`
        time.sleep(SWEEP)


def allowed() -> "Limits":
    """Limits of uploads and of films and folders, as the operator set them. Raises `StylenormError` where that is not a finite number above 0."""
    from .library import StylenormError
    from .studio import Limits

    try:
        megapixels = float(os.environ.get(MEGAPIXELS) or Limits.megapixels)
        megabytes = float(os.environ.get(UPLOAD_MB) or Limits.file_bytes / 1e6)
        minutes = float(os.environ.get(MINUTES) or Limits.long_minutes)
    except ValueError:
        megapixels = megabytes = minutes = math.nan
    if not (0 < megapixels < math.inf and 0 < megabytes < math.inf and minutes > 0):
        raise StylenormError(f"{MEGAPIXELS}, {UPLOAD_MB} and {MINUTES} must be numbers above 0; leave them out for the usual limits")
    return Limits(megapixels=megapixels, file_bytes=int(megabytes * 1e6), long_minutes=minutes)


def address(host: str, port: int | None) -> str:
    """``host`` as Gradio takes it. Raises `StylenormError` where nothing can listen, for which Gradio would try a hundred ports."""
    from .library import StylenormError

    host = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host or None, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name != "nt":  # where it would let two listen
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, UnicodeError) as error:
        told, advice = getattr(error, "strerror", None) or error, "0.0.0.0 stands for all addresses of this machine"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            told, advice = "it is taken", "give another --port, or none"
        raise StylenormError(f"the app cannot listen at {host}{f', port {port}' if port else ''} ({told}); {advice}") from None
    return f"[{host}]" if ":" in host else host


def credentials() -> list[tuple[str, str]] | None:
    """From $STYLENORM_APP_AUTH. Raises `StylenormError` where it is not user:password, so that nothing is left open."""
    from .library import StylenormError

    text = os.environ.get(AUTH)
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise StylenormError(f"{AUTH} must be user:password")
    return [(user, password)]


def temporary_folder() -> Path:
    """A folder that nobody else on this machine can read, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDER)).resolve()
    atexit.register(remove_used, folder)
    remove_abandoned(folder.parent)
    return folder


def remove_used(folder: Path, seconds: float = 5) -> None:
    """Remove a folder into which threads may still write that go on until the very end: what they lay there meanwhile would keep it."""
    end = time.monotonic() + seconds
    while folder.exists() and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def remove_abandoned(top: Path) -> None:
    """What apps have left that were ended at once, as on Windows by closing the console: nobody else tidies up there."""
    for folder in top.glob(f"{FOLDER}*"):
        with suppress(OSError):
            if folder.lstat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """``python -m app``; ``stylenorm app`` takes the same options."""
    parser = argparse.ArgumentParser(prog="stylenorm app", description="Open the app in a browser.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--share", action="store_true", help="a public link, through Gradio's servers")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    from .library import StylenormError

    try:
        launch(given.host, given.port, given.share)
    except (StylenormError, OSError) as error:
        sys.exit(f"stylenorm: {' '.join(str(error).split())}")
