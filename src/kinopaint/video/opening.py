"""Open a clip safely: an existing local regular file in a known container format, and nothing else.

FFmpeg would follow URLs, playlists and concat scripts under any file name. Here the file is looked at first, the
demuxer must be on a list, and `file` is the only protocol.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Literal

import av
from av.container import InputContainer

from kinopaint.errors import InputError
from kinopaint.text import shown as shown
from kinopaint.video.limits import Limits

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,mpegvideo,ogg,mxf,dv,nut,ivf,gif,apng,"
    "yuv4mpegpipe,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
_URL = re.compile(r"(?i)[a-z][a-z0-9+.-]+:|-$")
_ARCHIVES = {
    b"PK\x03\x04": "ZIP archive",
    b"\x1f\x8b": "gzip archive",
    b"7z\xbc\xaf\x27\x1c": "7z archive",
    b"Rar!": "RAR archive",
    b"\xfd7zXZ": "xz archive",
    b"BZh": "bzip2 archive",
    b"\x28\xb5\x2f\xfd": "zstd archive",
    b"\x04\x22\x4d\x18": "lz4 archive",
    b"LZIP": "lzip archive",
    b"\x1f\x9d": "compress archive",
    b"MSCF": "cabinet archive",
    b"!<arch>\n": "ar archive",
    b"070701": "cpio archive",
    b"PK\x05\x06": "ZIP archive",
    b"PK\x07\x08": "ZIP archive",
}
_PLAYLIST = re.compile(
    rb"(\xef\xbb\xbf)?\s*(#EXTM3U|ffconcat|\[playlist\]|<smil|<asx|<\?xml[^>]*>\s*<(MPD|playlist|smil))", re.I
)
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)", re.I | re.S)
_IMAGES = {b"\x89PNG": "png_pipe", b"\xff\xd8\xff": "jpeg_pipe", b"BM": "bmp_pipe"}
_TIFF: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32773, 32946)  # none, CCITT, LZW, deflate, PackBits
_CAMERA_RAW = (32803, 34892)  # compressed in ways of their own


def check_source(path: str | PathLike[str]) -> Path:
    """The absolute path of a readable regular file that may be a clip; refuses everything else.

    Raises InputError: KP-INPUT-URL, -MISSING, -DIRECTORY, -DEVICE, -PERMISSION, -EMPTY, -PLAYLIST, -ARCHIVE,
    -NOT-VIDEO.
    """
    where = shown(path)
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the name
        if _URL.match(os.fspath(path)):
            raise InputError(
                "KP-INPUT-URL",
                "the input is a URL or a stream, and only local files are read",
                where=where,
                fix="download it first, then give the file",
            ) from None
        raise InputError("KP-INPUT-MISSING", "no such file", where=where, fix="check the name and the folder") from None
    except OSError as error:
        raise InputError("KP-INPUT-PERMISSION", f"cannot look at the file: {error.strerror}", where=where) from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError("KP-INPUT-DIRECTORY", "this is a folder without pictures", where=where, fix="give a file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            "KP-INPUT-DEVICE",
            "this is a device, pipe or socket, not a regular file",
            where=where,
            fix="save the stream to a file first",
        )
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
            tar = file.seek(257) and file.read(5) == b"ustar"
            disc = file.seek(0x8001) and file.read(5) == b"CD001"
    except OSError as error:
        raise InputError(
            "KP-INPUT-PERMISSION", f"cannot read the file: {error.strerror}", where=where, fix="check its permissions"
        ) from None
    if not head:
        raise InputError("KP-INPUT-EMPTY", "the file has 0 bytes", where=where, fix="copy or download it again")
    if _PLAYLIST.match(head):
        raise InputError(
            "KP-INPUT-PLAYLIST",
            "this is a playlist or concat script, which could name any other file",
            where=where,
            fix="give the video file itself",
        )
    archive = (
        "tar archive"
        if tar
        else "disc image"
        if disc
        else next((name for magic, name in _ARCHIVES.items() if head.startswith(magic)), "")
    )
    if archive:
        raise InputError("KP-INPUT-ARCHIVE", f"this is a {archive}", where=where, fix="unpack it and give the video")
    if kind := _text_kind(head):
        raise not_video(path, kind)
    return Path(os.path.abspath(path))


def open_container(path: Path, limits: Limits | None = None) -> InputContainer:
    """Open a path that `check_source` returned.

    Raises InputError: KP-INPUT-CODEC, -TRUNCATED, -DAMAGED, -NOT-VIDEO, -NAME.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
        unread = _unread_tiff(file, head)
    if unread:
        raise InputError(
            "KP-INPUT-CODEC",
            f"there is no decoder for a TIFF {unread}",
            where=shown(path),
            fix="save it as PNG, or as a TIFF in RGB with LZW or without compression",
        )
    # Named where the bytes name it: by the file name alone "photo%d.png" would be read as a sequence.
    kind = next((name for magic, name in _IMAGES.items() if head.startswith(magic)), None)
    if kind == "png_pipe" and b"acTL" in head.partition(b"IDAT")[0]:
        kind = "apng"
    try:
        return av.open(
            str(path),
            "r",
            format=kind,
            options={"max_pixels": str((limits or Limits.chosen()).pixels)},
            container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except UnicodeError:
        raise InputError(
            "KP-INPUT-NAME", "the file name is not valid Unicode", where=ascii(str(path)), fix="rename the file"
        ) from None
    except (av.FFmpegError, OSError) as error:
        if short_of_memory(error):  # says nothing about the file
            raise MemoryError from None
        if cut := find_cut(path):
            raise truncated(path, cut.found, rest=False) from None
        if container_by_magic(head) or isinstance(error, EOFError):
            raise damaged(path, f"it looks like a video but cannot be opened ({error.strerror})", rest=False) from None
        raise not_video(path, "unknown data") from None


def short_of_memory(error: Exception) -> bool:
    """Whether a decoder failed for want of memory: it says so, or its threads found no room for their stacks.

    Only the start of threads ends in EAGAIN here: a decoder that wants its pictures taken first is never given more.
    """
    return isinstance(error, (MemoryError, BlockingIOError))


def not_video(path: str | PathLike[str], kind: str) -> InputError:
    return InputError(
        "KP-INPUT-NOT-VIDEO",
        f"this is not a video: it holds {kind}",
        where=shown(path),
        fix="give a video file (MP4, MOV, MKV, WebM, AVI, GIF, ...) or an image",
    )


_AGAIN = "copy or download it again"
_REST = f"{_AGAIN}, or use --allow-damaged to render what it still holds"


def truncated(path: str | PathLike[str], found: str, *, rest: bool = True) -> InputError:
    """`rest`: whether anything is left to render."""
    return InputError(
        "KP-INPUT-TRUNCATED",
        f"the file is cut off: {found}",
        where=shown(path),
        fix=_REST if rest else _AGAIN,
    )


def damaged(path: str | PathLike[str], found: str, where: str = "", *, rest: bool = True) -> InputError:
    """`rest`: whether anything is left to render."""
    return InputError(
        "KP-INPUT-DAMAGED",
        f"the file is damaged: {found}",
        where=shown(path) + where,
        fix=_REST if rest else _AGAIN,
    )


def container_by_magic(head: bytes) -> str | None:
    """The container family that the first 16 bytes announce, or None."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"WEBP"):
        return "riff"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"\x89PNG\r\n"):
        return "png"
    return "jpeg" if head.startswith(b"\xff\xd8\xff") else None


@dataclass(frozen=True)
class Cut:
    """How the end of a file is missing. Not `lossy`: every frame may still be there, count them."""

    found: str
    lossy: bool


def find_cut(path: Path) -> Cut | None:
    """What the container's own sizes and end marks say is missing at the end of the file; looks at a few headers."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        kind = container_by_magic(file.read(16))
        if kind == "mp4":
            return _cut_boxes(file, size)
        if kind == "matroska":
            end = _segment_end(file)
            return Cut(f"{size} of {end} bytes are there", False) if end is not None and end > size else None
        if kind == "riff":
            file.seek(4)
            end = struct.unpack("<I", file.read(4))[0] + 8
            return Cut(f"{size} of {end} bytes are there", True) if size < end < 2**32 - 8 else None
        if kind in ("gif", "png", "jpeg"):
            file.seek(-min(size, 4096), os.SEEK_END)
            tail = file.read().rstrip(b"\0")
            whole = tail.endswith(b";") if kind == "gif" else {"png": b"IEND", "jpeg": b"\xff\xd9"}[kind] in tail
            return None if whole else Cut("its end mark is missing", True)
    return None


def is_animated_webp(path: Path) -> bool:
    """By the flag of its extended header."""
    with open(path, "rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def _unread_tiff(file: BinaryIO, head: bytes) -> str:
    """What the first picture of a TIFF has that FFmpeg decodes wrongly (JPEG as black) or not; empty if nothing."""
    if head[:4] in (b"II+\0", b"MM\0+"):
        return "of the kind for huge files (BigTIFF)"
    order = _TIFF.get(head[:4])
    if order is None:
        return ""

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    file.seek(number(head[4:8]))
    entries = file.read(12 * number(file.read(2)))
    tags = {}
    for entry in (entries[at : at + 12] for at in range(0, len(entries), 12)):
        kind, values, value = number(entry[2:4]), number(entry[4:8]), entry[8:]
        if kind == 3:  # 16 bits each; more than two of them, such as one for each channel, are kept elsewhere
            if values > 2:
                file.seek(number(value))
                value = file.read(2)
            value = value[:2]
        if kind in (3, 4):
            tags[number(entry[:2])] = number(value)
    compression, colours, bits, numbers = tags.get(259, 1), tags.get(262, 2), tags.get(258, 1), tags.get(339, 1)
    if colours in _CAMERA_RAW:
        return ""
    if compression in (6, 7):
        return "that is compressed as JPEG"
    if compression not in _TIFF_COMPRESSIONS:
        return f"with compression {compression}"
    if colours in (8, 9, 10):
        return "in Lab colours"
    if numbers == 3:
        return "of floating-point numbers"
    return f"of {bits} bits a channel" if bits > 16 else ""


def _cut_boxes(file: BinaryIO, size: int) -> Cut | None:
    """Walk the top-level boxes of an ISO media file."""
    position, kinds = 0, [b""]
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        kinds.append(kind)
        if length == 1 and len(extended := file.read(8)) == 8:
            length = struct.unpack(">Q", extended)[0]
        if length == 0:  # reaches to the end of the file by definition
            break
        if length < 8:
            return None
        position += length
    if b"moov" not in kinds and b"meta" not in kinds:  # which pictures (AVIF, HEIC) have in its place
        return Cut(f"its index (moov) is missing; {size} bytes are there", True)
    if position > size:
        # Some writers give the media data a wrong size; the index then tells what is missing. Fragments have none.
        lossy = kinds[-1] == b"moov" or b"moof" in kinds or b"moov" not in kinds
        return Cut(f"{size} of at least {position} bytes are there", lossy)
    return None


def _segment_end(file: BinaryIO) -> int | None:
    """Where the Matroska segment says that it ends, in bytes; None for live recordings, which do not say."""
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return None
    length = _ebml_size(file)
    return None if length is None else file.tell() + length


def _ebml_size(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value


def _text_kind(head: bytes) -> str:
    """What text the first bytes are, or empty for binary data."""
    if head.startswith(b"%PDF"):
        return "a PDF document"
    if head.startswith((b"\x7fELF", b"MZ\x90")):
        return "a program"
    if _HTML.match(head):
        return "an HTML page (a download page saved in place of the video?)"
    if head.startswith(b"YUV4MPEG2"):
        return ""
    # A multi-byte character may be cut at the end of what was read.
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return ""
        text = head[: error.start].decode("utf-8")
    return "" if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text) else "text"
