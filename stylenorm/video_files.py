"""Video files in and out, with PyAV: frames upright in RGB, encoded parts, and one file of parts and sound.

Time stamps are whole numbers of the film's own clock, `Film.clock`, from end to end, so that a variable frame rate
stays what it was. Everything that goes wrong is a `StylenormError` that names the file.
FFmpeg is given whole paths: of a bare name such as 12:30.mp4 it takes what stands before the colon for a protocol.
"""

from __future__ import annotations

import heapq
import math
import os
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stylenorm.bars import Box, picture_in
from stylenorm.drafts import is_read_only, replace
from stylenorm.errors import FilmError, StylenormError, counted, how_to_install
from stylenorm.hdr import in_standard_range, is_hdr
from stylenorm.machine import has_avx512

# suffix of the output -> FFmpeg's name of the container, and of the encoders of pictures and of sound
CONTAINERS = {
    ".mp4": ("mp4", "libx264", "aac"),
    ".m4v": ("mp4", "libx264", "aac"),
    ".mov": ("mov", "libx264", "aac"),
    ".mkv": ("matroska", "libx264", "aac"),
    ".webm": ("webm", "libvpx-vp9", "libopus"),
}
# Without B-frames the parts follow each other whatever their time stamps: a frame is stored when it is shown.
ENCODER = {
    "libx264": {"preset": "medium", "bf": "0"},
    "libvpx-vp9": {"b": "0", "row-mt": "1", "cpu-used": "4", "lag-in-frames": "0", "auto-alt-ref": "0"},
}
# What is read: films that lie in one file. Playlists and the like name others, which FFmpeg would open wherever they lie.
WHOLE = (
    "3dostr,apng,asf,av1,avi,dirac,dnxhd,dv,flic,flv,gif,gxf,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mlv,mov,mpeg,mpegts,mpegvideo,"
    "mpjpeg,mxf,nsv,nut,obu,ogg,rm,roq,smk,vc1,vvc,webm,webp,wtv,yuv4mpegpipe"
)
# what a container can hold and hardly a player plays in it, or says that it can hold and then refuses: beginnings of codecs' names
UNHEARD = {"mp4": ("pcm_", "vorbis", "truehd"), "mov": ("opus", "flac", "speex", "truehd")}
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # by channels: what each of those encoders takes
KEPT = {"title", "artist", "copyright", "description", "comment", "keywords", "genre", "album", "creation_time", "date"}  # what is told of a film
PART_FORMAT = "nut"  # keeps any clock, and H.264 as well as VP9
BT709, BT601, BT2020 = 1, 5, 9  # FFmpeg's numbers of matrices
GLIMPSES, IN_TURN = 48, 240  # frames that a film is judged by, and up to so many are rather read one after another than sought
FEW = 8  # frames that are sought tell too little of a film
FILTERED = 16  # px: bwdif takes no frame of much less, by how its colours are stored
PICTURES, ALL = ("video",), ("video", "audio", "subtitle")  # kinds of streams that are written
FASTER = 1.2  # times what another figure says, from which on a rate, or a number of frames, is wrong
SHORT = 0.5  # s that may be missing at a film's end before it counts as cut short, and by which time may go back within one recording


@dataclass
class Film:
    """What is known of a video file. size: upright, px. frames: about how many, or None. clock: s a tick.

    late: s after which it begins on its own clock. broken: packets that could not be decoded. end: s that have been read. length: s
    that there should be. hdr: whether it was made in HLG or PQ; its frames, and its ``tags``, are BT.709's then. alpha: whether it tells
    what is transparent, or None where it does and FFmpeg's decoder leaves that out, as of VP9 and VP8.
    """

    path: Path
    size: tuple[int, int]
    clock: Fraction
    rate: Fraction
    frames: int | None
    aspect: Fraction  # of a pixel
    length: float | None
    tags: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    end: float = 0.0
    hdr: bool = False
    late: float = 0.0
    alpha: bool | None = False

    @property
    def trouble(self) -> str | None:
        """What of it could not be read, in words."""
        if self.length is not None and self.end < self.length - SHORT:
            return f"{self.path} is cut short: it ends at {self.end:.1f} s of {self.length:.1f} s; what was readable is painted"
        if self.broken:
            return f"{self.path} is damaged: {counted(self.broken, 'packet')} could not be read; the rest is painted"
        return None


def pyav():
    try:
        import av
    except ImportError:
        raise StylenormError(f"video takes the package av: {how_to_install('video')}") from None
    return av


def container_of(target: Path) -> tuple[str, str, str]:
    if target.suffix.lower() not in CONTAINERS:
        raise StylenormError(f"{target} does not end in a video format ({', '.join(CONTAINERS)}); give such a name")
    return CONTAINERS[target.suffix.lower()]


def check_place(target: Path) -> None:
    """Refuse a path at which no file can appear. Raises `StylenormError`."""
    if not target.absolute().parent.is_dir():
        raise StylenormError(f"there is no folder {target.parent}; make it first")
    if target.is_dir():  # which takes no file's place, whatever was painted
        raise StylenormError(f"{target} is a folder; give another name")
    if is_read_only(target):
        raise StylenormError(f"{target} may not be written; change the permissions or the place")
    if target.exists():
        with suppress(OSError), told_if_held(target):  # what else is wrong with the place is told when it is written to
            replace(target, target)


@contextmanager
def told_if_held(target: Path):
    """That a film which may not be replaced is open elsewhere, as in a player on Windows, in one sentence."""
    try:
        yield
    except PermissionError:
        raise StylenormError(f"{target} cannot be replaced; close the program that has it open, or give another name") from None


@contextmanager
def reading(path: Path):
    """The opened container, which has pictures."""
    av = pyav()
    try:
        container = _opened(av, os.path.abspath(path))
    except (av.FFmpegError, OSError) as error:
        if not path.exists():
            raise StylenormError(f"there is no video {path}; check the name") from None
        reason = f"is no video, or is cut short before its index ({error.strerror})"
        raise FilmError(f"{path} {reason}; get a whole copy") from None
    with container:
        if not container.streams.video:
            raise FilmError(f"{path} holds no pictures; give a video")
        stream = pictures_of(container)
        if stream.codec_context is None:
            raise FilmError(f"{path} is in a format that FFmpeg cannot decode; convert it, to H.264 for instance")
        stream.thread_type = "AUTO"
        try:
            yield container
        finally:  # whoever frees a decoder that is at work keeps Python's lock, and its threads may wait for that to tell something
            stream.codec_context.flush_buffers()


def pictures_of(container):
    """The stream that is shown: no cover, which is one of its own and may come first."""
    return next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), container.streams.video[0])


def _opened(av, path: str):
    """The container, also where a title in it is not in UTF-8: PyAV 19 keeps such bytes, and before they become question marks."""
    try:
        return av.open(path, metadata_errors="replace", options={"format_whitelist": WHOLE})
    except TypeError:  # 19 takes no such word
        return av.open(path, options={"format_whitelist": WHOLE})


# ---- reading -----------------------------------------------------------------------------------


def probe(path: Path, max_pixels: int | None = None) -> Film:
    """Read the head and the first frame. Raises where that has more than ``max_pixels``, before it is decoded."""
    with reading(path) as container:
        stream = pictures_of(container)
        if max_pixels and stream.width * stream.height > max_pixels:
            raise StylenormError(f"{path} is {stream.width} x {stream.height} px, more than {max_pixels / 1e6:g} megapixels; make it smaller")
        frame = next(_decoded(container, None), None)
        if frame is None:
            raise FilmError(f"{path} holds no frame that can be read; get a whole copy")
        turned = _is_turned(_matrix(frame))
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        aspect = Fraction(stream.sample_aspect_ratio or 1)  # of PyAV 19's own kind, which is no Fraction
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        if stream.guessed_rate and rate > FASTER * stream.guessed_rate:  # a Matroska file that does not say has the ticks of its clock there
            rate = Fraction(stream.guessed_rate)
        late = _late(container)
        untold = late if "matroska" in container.format.name else 0  # which tells the end for the length
        length = max(0, container.duration / 1_000_000 - untold) if container.duration else None
        told = stream.frames or None  # with those that an edit list hides
        fitting = round(length * rate) if length else None
        frames = fitting if told and fitting and told > FASTER * fitting else told or fitting
        tags = {name: int(getattr(frame, name, 2)) for name in ("color_primaries", "color_trc")}  # 2: not told
        tags |= {"colorspace": _matrix_of_color(frame)}
        if hdr := is_hdr(tags["color_trc"]):
            tags = dict.fromkeys(tags, BT709)
        alpha = None if stream.metadata.get("alpha_mode") == "1" and not _has_alpha(frame) else _has_alpha(frame)
        aspect = 1 / aspect if turned else aspect
        return Film(path, (width, height), Fraction(stream.time_base), rate, frames, aspect, length, tags, hdr=hdr, late=late, alpha=alpha)


def frames(film: Film, cut_out: bool = False) -> Iterator[tuple[int, int, Image.Image | None]]:
    """(time stamp in ticks, its duration or 0, a call that gives the frame upright in RGB), in the order of showing.

    cut_out: in RGBA, where the film tells what is transparent.
    All are of the film's size: a stream may go over to another one, as calls and broadcasts do, and what is written cannot.
    What cannot be decoded is left out and counted in ``film.broken``; ``film.end`` grows.
    """
    for stamp, lasts, frame in _of_one_moment(_stamped(film), film.clock):
        yield stamp, lasts, lambda frame=frame: _at_size(upright(frame, cut_out), film.size)


def _of_one_moment(stamped: Iterator, clock: Fraction) -> Iterator:
    """Interlaced frames, as camcorders and broadcasts make them, hold two moments in turn, line by line; each has one here, by FFmpeg's bwdif."""
    av, kind, source, sink = pyav(), None, None, None

    def ready() -> Iterator:
        while True:
            try:
                frame = sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            of_clock = frame.time_base / clock
            yield round(frame.pts * of_clock), round((frame.duration or 0) * of_clock), frame

    for stamp, lasts, frame in stamped:
        now = frame.width, frame.height, frame.format.name
        if source is not None and now != kind:
            source.push(None)
            yield from ready()
            source = None
        if source is None and not (frame.interlaced_frame and min(now[:2]) >= FILTERED):  # as nearly all films
            yield stamp, lasts, frame
            continue
        if source is None:
            kind = now
            graph = av.filter.Graph()
            source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=clock)
            graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), sink := graph.add("buffersink")).configure()
        frame.pts, frame.time_base = stamp, clock
        source.push(frame)
        yield from ready()
    if source is not None:
        source.push(None)
        yield from ready()


def _stamped(film: Film) -> Iterator[tuple[int, int, object]]:
    """(time stamp, duration or 0, frame as it is decoded); see `frames`."""
    film.broken, film.end, last, late = 0, 0.0, None, 0
    with reading(film.path) as container:
        in_order = container.format.name == "avi"  # which tells when a frame is decoded only, so that pts go back and forth
        for frame in _decoded(container, film):
            step, told = max(1, round(1 / (film.rate * film.clock))), frame.pts
            if in_order and last is None:
                late = (frame.dts or 0) - (frame.pts or 0)
            elif in_order:
                told = None if frame.dts is None else frame.dts - late
            stamp = told if told is not None else (0 if last is None else last + step)
            last = stamp if last is None else max(stamp, last + 1)
            yield last, int(getattr(frame, "duration", 0) or 0), frame


def glimpses(film: Film, count: int = GLIMPSES) -> Iterator[Image.Image]:
    """About ``count`` frames from all over the film, upright in RGB, or as many as can be read. Short films are read from end to end.

    And where there is hardly a key frame to begin at, as where a browser recorded, the beginning is read, too.
    """
    av, seen = pyav(), set()
    if film.length is not None and film.frames and film.frames > IN_TURN:
        with reading(film.path) as container:
            stream, start = pictures_of(container), container.start_time or 0
            for number in range(count):
                with suppress(av.FFmpegError, StopIteration):
                    container.seek(start + int(film.length * 1_000_000 * number / count))  # to the key frame before
                    frame = next(container.decode(stream))
                    if frame.pts is None or frame.pts not in seen:
                        seen.add(number if frame.pts is None else frame.pts)
                        yield _at_size(upright(frame), film.size)
    if len(seen) < FEW:
        every = max(1, min(film.frames or IN_TURN, IN_TURN) // count)
        with reading(film.path) as container:
            for frame in islice(_decoded(container, None), 0, IN_TURN, every):
                yield _at_size(upright(frame), film.size)


def picture_box(film: Film) -> Box | None:
    """What black bars leave of the film's frames, in px; None where there are none."""
    return picture_in(np.asarray(image) for image in glimpses(film))


def _at_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """With black beside it, where its sides have another ratio."""
    return image if image.size == size else ImageOps.pad(image, size, Image.Resampling.LANCZOS)


def _decoded(container, film: Film | None) -> Iterator:
    """Frames of the stream that is shown; every other one is only followed to its end."""
    av, stream = pyav(), pictures_of(container)
    packets, start = _packets(container), min(0, container.start_time or 0) / 1_000_000
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:  # the container itself is damaged from here on
            if film:
                film.broken += 1
            return
        if film and packet.pts is not None and packet.time_base:
            film.end = max(film.end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start)
        if packet.stream is not stream:
            continue
        try:
            yield from packet.decode()
        except av.FFmpegError:
            if film:
                film.broken += 1


def _packets(container) -> Iterator:
    """All packets, on one clock, which begins with the film: broadcasts and camcorders count on from whenever they were switched on.

    Where recordings lie one behind the other in a file, each counts from its own beginning; here it goes on from the end of the one before.
    """
    shifts, end = [-_late(container)], 0.0  # s that are added in each recording
    recording: dict[int, int] = defaultdict(int)  # in which a stream is
    before: dict[int, float] = {}  # s that its last packet told
    for packet in container.demux():
        if packet.time_base:
            stream, time = packet.stream.index, None if packet.dts is None else float(packet.dts * packet.time_base)
            if time is not None:  # the first packets of a stream of Matroska tell when they are shown alone
                if time < before.get(stream, time) - SHORT:
                    recording[stream] += 1
                    if recording[stream] == len(shifts):
                        shifts.append(end - time)
                before[stream] = time
            shift = shifts[recording[stream]]
            ticks = round(shift / packet.time_base)
            packet.dts, packet.pts = (None if told is None else told + ticks for told in (packet.dts, packet.pts))
            if time is not None:
                end = max(end, time + shift + float((packet.duration or 0) * packet.time_base))
        yield packet


def _late(container) -> float:
    """s at which the film begins, on its own clock."""
    return max(0, container.start_time or 0) / 1_000_000


def count_frames(path: Path) -> int:
    """How many there are to be shown, by going through the file, without decoding any."""
    av, count = pyav(), 0
    with reading(path) as container, suppress(av.FFmpegError):
        for packet in container.demux(pictures_of(container)):
            count += packet.size > 0 and not packet.is_discard
    return count


def upright(frame, cut_out: bool = False) -> Image.Image:
    """The frame as it is to be shown, in full-range RGB, and in standard range. cut_out: in RGBA, if it tells what is transparent."""
    rgb = frame.reformat(format="rgba" if cut_out and _has_alpha(frame) else "rgb24", src_colorspace=_matrix_of_color(frame)).to_ndarray()
    (a, b), (c, d) = _matrix(frame)
    if _is_turned(((a, b), (c, d))):
        rgb, right, down = rgb.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    image = Image.fromarray(np.ascontiguousarray(rgb[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]))
    return in_standard_range(image, int(getattr(frame, "color_trc", 2)), int(getattr(frame, "color_primaries", 2)))


def _has_alpha(frame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _matrix(frame) -> tuple[tuple[int, int], tuple[int, int]]:
    """((a, b), (c, d)): a pixel at (x, y) is shown at (a x + c y, b x + d y), but for a shift."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0), (0, 1)
    a, b, _, c, d = np.frombuffer(bytes(data)[:20], np.int32).tolist()
    return (a, b), (c, d)


def _is_turned(matrix) -> bool:
    (a, b), (c, d) = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _matrix_of_color(frame) -> int:
    """Of YUV. A file that does not say has the one that players take it to have, by its size."""
    known = {1: BT709, 5: BT601, 6: BT601, 9: BT2020, 10: BT2020}
    untold = BT2020 if is_hdr(int(getattr(frame, "color_trc", 2))) else BT709 if frame.height >= 720 else BT601
    return known.get(int(frame.colorspace), untold)


# ---- writing -----------------------------------------------------------------------------------


class Part:
    """A file of encoded frames that begins with a key frame. `add` each; `close` it in any case."""

    def __init__(self, path: Path, film: Film, codec: str, crf: int, size: tuple[int, int]) -> None:
        av = pyav()
        self._av, self._tags = av, film.tags
        self._format = pixel_format(codec, size)
        self._container = av.open(os.path.abspath(path), "w", format=PART_FORMAT)
        try:
            options = {**encoder(codec), "crf": str(crf)}
            self._stream = self._container.add_stream(codec, rate=film.rate, options=options)
        except (av.FFmpegError, ValueError):
            self._container.close()
            raise StylenormError(f"this av has no {codec}; install the one from PyPI: pip install av") from None
        stream, context = self._stream, self._stream.codec_context
        stream.width, stream.height = size
        stream.pix_fmt = self._format
        stream.time_base = context.time_base = film.clock
        context.sample_aspect_ratio = film.aspect if keeps_aspect(codec) else 1
        context.color_range = 1  # of 16 to 235
        for name, value in film.tags.items():
            setattr(context, name, value)

    def add(self, image: Image.Image, stamp: int) -> None:
        rgb = self._av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        frame = rgb.reformat(format=self._format, dst_colorspace=self._tags["colorspace"], dst_color_range=1)
        frame.pts, frame.time_base = stamp, self._stream.codec_context.time_base
        for name, value in self._tags.items():
            setattr(frame, name, value)
        self._container.mux(self._stream.encode(frame))

    def close(self, whole: bool) -> None:
        if whole:
            self._container.mux(self._stream.encode(None))
        self._container.close()


@cache
def encoder(codec: str) -> dict[str, str]:
    """FFmpeg's options of an encoder that gives the same bytes in every run.

    With x264's code for AVX-512, one in a hundred parts of 64 x 48 px began with another choice of what to spend bits on (its
    "mbtree"). That for AVX2 gives the bytes of all the others, as fast.
    """
    return ENCODER[codec] | ({"x264-params": "asm=AVX2"} if codec == "libx264" and has_avx512() else {})


def keeps_aspect(codec: str) -> bool:
    """Whether pixels can be other than square: H.264 tells it itself, and for VP9 the container would have to."""
    return codec == "libx264"


def wants_even(codec: str) -> bool:
    """Whether an odd side costs a film its players, see `pixel_format`."""
    return pixel_format(codec, (1, 1)) != pixel_format(codec, (2, 2))


def pixel_format(codec: str, size: tuple[int, int]) -> str:
    """One colour for four pixels, as every player knows it; H.264 of an odd size has none such."""
    odd = size[0] % 2 or size[1] % 2
    return "yuv444p" if odd and codec == "libx264" else "yuv420p"


def join(
    parts: Sequence[Path], film: Film, path: Path, target: Path, last_duration: int, until: float = math.inf, kinds: Container[str] = ALL
) -> list[str]:
    """Write the parts and the film's sound to ``path``, in ``target``'s container. Returns what was not copied as it is.

    until: s of the film's clock at which sound and chapters end, for parts that do not reach the film's end. kinds: of streams, what is
    written. Raises where the container takes not even the pictures.
    """
    av, format = pyav(), container_of(target)[0]
    try:
        return _joined(parts, film, path, target, last_duration, until, kinds)
    except (av.FFmpegError, ValueError) as error:  # what was painted in hours is worth more than what a container will not take
        if isinstance(error, (OSError, StylenormError)):  # a full disk, or what is told already
            raise
        note = f"sound and subtitles were left out, because {format} does not take them ({getattr(error, 'strerror', error)})"
    try:
        return [note, *_joined(parts, film, path, target, last_duration, until, PICTURES)]
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        told = f"the times of the frames of {film.path} do not fit into {format} ({error.strerror})"  # they leap by days, where a file is damaged
        raise StylenormError(f"{told}; give a name in .mkv") from None


def _joined(parts, film, path, target, last_duration, until: float, kinds: Container[str]) -> list[str]:
    av, (format, _, audio) = pyav(), container_of(target)
    options = {"movflags": "+faststart"} if format in ("mp4", "mov") else {}
    notes: list[str] = []
    first, made = os.path.abspath(parts[0]), {"format": format, "options": options}
    with reading(film.path) as source, av.open(os.path.abspath(path), "w", **made) as out, av.open(first) as head:
        pictures = out.add_stream_from_template(head.streams.video[0])
        pictures.time_base, pictures.codec_context.framerate = film.clock, film.rate
        out.metadata.update({k.lower(): v for k, v in source.metadata.items() if k.lower() in KEPT})  # in capitals in Matroska
        out.set_chapters(_chapters(source, until))
        tracks = {s.index: track for s in source.streams if s.type in kinds and (track := _track(s, out, audio, notes, film.path))}
        packets = [_picture_packets(parts, pictures, film, last_duration), _sound_packets(source, tracks, until)]
        for _, packet in heapq.merge(*packets, key=lambda item: item[0]):
            out.mux(packet)
    return notes


def _chapters(source, until: float) -> list[dict]:
    """Those that begin before ``until``, and none ends after it."""
    late, found = _late(source), []
    for chapter in source.chapters():
        tick = chapter["time_base"]
        start, end = (max(0, chapter[k] - round(late / tick)) for k in ("start", "end"))
        if start * tick < until:
            found.append(chapter | {"start": start, "end": end if until == math.inf else min(end, round(until / tick))})
    return found


def _picture_packets(parts: Sequence[Path], stream, film: Film, last_duration: int) -> Iterator[tuple[float, object]]:
    av, before = pyav(), None
    for path in parts:
        with av.open(os.path.abspath(path)) as container:
            for packet in container.demux(video=0):
                if packet.pts is None:
                    continue
                packet.pts = packet.dts = round(packet.pts * packet.time_base / film.clock)
                packet.time_base, packet.stream = film.clock, stream
                if before is not None:
                    before.duration = packet.pts - before.pts
                    yield float(before.pts * film.clock), before
                before = packet
    if before is not None:
        before.duration = last_duration or max(1, round(1 / (film.rate * film.clock)))
        yield float(before.pts * film.clock), before


@dataclass
class _Track:
    """A stream of the input, and what becomes of it: copied, or decoded and encoded where the container needs it."""

    stream: object
    resampler: object = None
    whole: bool = True  # what an edit list hides is copied, for a container that hides it as well
    kind: tuple | None = None  # of what the resampler is taking: format, layout and rate

    def packets(self, packet) -> Iterator:
        if self.resampler is None:
            if packet is not None and packet.dts is not None and (self.whole or not packet.is_discard):
                packet.stream = self.stream
                yield packet
            return
        decoded = packet.decode() if packet is not None else [None]
        for frame in decoded:
            for ready in self._resampled(frame):
                yield from self.stream.encode(ready)
        if packet is None:
            yield from self.stream.encode(None)

    def _resampled(self, frame) -> Iterator:
        """As the encoder takes it: of one kind, which a resampler makes of one other, and broadcasts go over from stereo to 5.1; on one clock."""
        kind = self.kind if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        made = []
        if self.kind not in (None, kind):
            made += self.resampler.resample(None)
            self.resampler = pyav().AudioResampler(self.resampler.format, self.resampler.layout, self.resampler.rate)
        self.kind = kind
        made += self.resampler.resample(frame)
        for ready in made:
            if ready.pts is not None:  # what needs no resampling comes on its own clock
                ready.pts, ready.time_base = round(ready.pts * ready.time_base * self.resampler.rate), Fraction(1, self.resampler.rate)
            yield ready


def _track(stream, out, audio: str, notes: list[str], path: Path) -> _Track | None:
    av = pyav()
    if stream.type not in ("audio", "subtitle"):
        return None
    try:
        name, format = stream.codec.canonical_name, out.format.name
        unheard = name.startswith(UNHEARD.get(format, ()))
        if name in out.supported_codecs and not unheard:
            track = _Track(out.add_stream_from_template(stream), whole=format in ("mp4", "mov"))
        elif stream.type == "audio":
            rate = stream.rate if audio == "aac" and stream.rate in av.Codec(audio, "w").audio_rates else 48000
            encoder = out.add_stream(audio, rate=rate, layout=LAYOUTS.get(stream.layout.nb_channels, "stereo"))
            track = _Track(encoder, av.AudioResampler(encoder.format, encoder.layout, rate))
            new = audio.removeprefix("lib")
            because = f"few players have it in {format}" if unheard else f"{format} cannot hold it"
            notes.append(f"the sound ({name}) was encoded anew ({new}), because {because}")
        else:
            notes.append(f"subtitles ({name}) were left out, because {format} cannot hold them")
            return None
    except (av.FFmpegError, AttributeError, ValueError) as error:
        notes.append(f"a stream of {path} was left out ({stream.type}: {error})")
        return None
    track.stream.disposition = stream.disposition  # which one is played unasked, and what is a commentary
    if stream.language:
        track.stream.metadata["language"] = stream.language
    if title := stream.metadata.get("title") or stream.metadata.get("name"):  # as Matroska and MP4 call it
        track.stream.metadata["title"] = title
    return track


def _sound_packets(source, tracks: dict[int, _Track], until: float) -> Iterator[tuple[float, object]]:
    av = pyav()
    if not tracks:
        return
    time, before = 0.0, dict.fromkeys(tracks, -math.inf)
    try:
        for packet in _packets(source):
            index = packet.stream.index
            if index not in tracks or packet.dts is None or packet.dts < before[index]:  # what goes back no container takes
                continue
            if (now := float(packet.dts * packet.time_base)) >= until:
                continue
            before[index], time = packet.dts, now
            try:
                for ready in tracks[index].packets(packet):
                    yield time, ready
            except av.FFmpegError:  # a damaged packet is told of by `Film.trouble`
                continue
    except av.FFmpegError:
        pass
    for track in tracks.values():
        for ready in track.packets(None):
            yield time, ready
