"""What a photograph's EXIF records: when it was taken, by which camera and lens, and where.

What must stay true: damaged or implausible values are left out, without an error or a warning;
values are strings and numbers that a collection can filter by.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from PIL import Image

from twinlens.bundle.image.image_source import ImageLimits, decoding, find_format, open_image
from twinlens.bundle.image.tiff import BLOCK
from twinlens.bundle.image.tiff_block import Entry, TiffBlock, open_block
from twinlens.errors import InputError

PLACE_FIELDS = ("latitude", "longitude")
PHOTO_FIELDS = ("taken", "camera", "lens", *PLACE_FIELDS)

_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_MAKE, _MODEL, _LENS_MODEL = 0x010F, 0x0110, 0xA434
# Of the exposure, the digitising, the last change: (directory, time, offset from UTC).
_TIMES = (("exif", 0x9003, 0x9011), ("exif", 0x9004, 0x9012), ("main", 0x0132, 0x9010))
_TIME = re.compile(r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d|Z")
_PLACE_TAGS = {"latitude": (1, 2, "S", 90.0), "longitude": (3, 4, "W", 180.0)}

_APP1, _START_OF_SCAN = 0xE1, 0xDA
_TEXT_PROFILE, _NEAR = b"Raw profile type exif", 1 << 16

Directories = Mapping[str, Mapping[int, Entry]]


def find_exif(image: Image.Image) -> bytes | None:
    """Return the EXIF block of an opened image."""
    exif = image.info.get(BLOCK) or image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:
        exif = _unpack_text_profile(image.info["Raw profile type exif"])
    return exif if isinstance(exif, bytes) else None


def read_photo(raw: bytes, *, place: bool = True) -> dict[str, str | float]:
    """Return those of `PHOTO_FIELDS` that an encoded image has; {} for other data."""
    block = open_block(_find_block(raw) or b"")
    if block is None:
        return {}
    main = block.directory(block.first)
    directories = {
        "main": main,
        "exif": _follow(block, main.get(_EXIF_DIRECTORY)),
        "gps": _follow(block, main.get(_GPS_DIRECTORY)),
    }
    found: dict[str, str | float] = {
        "taken": _read_time(block, directories),
        "camera": _read_camera(block, main),
        "lens": block.text(directories["exif"].get(_LENS_MODEL)),
    }
    found = {name: value for name, value in found.items() if value}
    return found | (_read_place(block, directories["gps"]) if place else {})


def _find_block(raw: bytes) -> bytes | None:
    """Return the EXIF block of an encoded image.

    Read directly from the file where that is simple: a twentieth of the time to open an image.
    """
    match find_format(raw):
        case "TIFF":
            return raw
        case "JPEG":
            return _find_in_jpeg(raw)
        case "PNG" if _TEXT_PROFILE not in raw[:_NEAR]:
            return _find_in_chunks(raw, 8, b"eXIf", ">")
        case "WebP":
            return _find_in_chunks(raw, 12, b"EXIF", "<")
        case "PNG" | "AVIF" | "HEIC":
            return _find_by_opening(raw)
    return None


def _find_in_jpeg(raw: bytes) -> bytes | None:
    place = 2
    while place + 4 <= len(raw) and raw[place] == 0xFF and raw[place + 1] != _START_OF_SCAN:
        size = int.from_bytes(raw[place + 2 : place + 4], "big")
        if raw[place + 1] == _APP1 and raw.startswith(b"Exif\x00", place + 4):
            return raw[place + 4 : place + 2 + size]
        place += 2 + size if raw[place + 1] != 0xFF else 1  # 0xFF is padding
    return None


def _find_in_chunks(raw: bytes, place: int, kind: bytes, order: str) -> bytes | None:
    """Return the body of the first chunk of a kind: in PNG size, kind, body, checksum.

    In WebP kind, size, body, padding.
    """
    big = order == ">"
    while place + 8 <= len(raw):
        first, second = raw[place : place + 4], raw[place + 4 : place + 8]
        size = int.from_bytes(first if big else second, "big" if big else "little")
        if (second if big else first) == kind:
            return raw[place + 8 : place + 8 + size]
        place += size + (12 if big else 8 + size % 2)
    return None


def _find_by_opening(raw: bytes) -> bytes | None:
    try:
        with decoding():
            return find_exif(open_image(raw, ImageLimits()))
    except InputError:
        return None


def _follow(block: TiffBlock, entry: Entry | None) -> Mapping[int, Entry]:
    """Return the directory that an entry points to."""
    place = block.integers(entry, 1)
    return block.directory(place[0]) if place else {}


def _read_time(block: TiffBlock, directories: Directories) -> str:
    """Return an ISO date-time, with its offset from UTC if known; "" if unknown."""
    for where, tag, offset_tag in _TIMES:
        found = _TIME.match(block.text(directories[where].get(tag)))
        if found is None:
            continue
        try:
            time = datetime.datetime(*map(int, found.groups()))  # type: ignore[arg-type]
        except ValueError:  # 0000:00:00, the 31st of April
            continue
        offset = _OFFSET.fullmatch(block.text(directories["exif"].get(offset_tag)))
        return time.isoformat() + (offset[0].replace("Z", "+00:00") if offset else "")
    return ""


def _read_camera(block: TiffBlock, main: Mapping[int, Entry]) -> str:
    """Return make and model; the make once, if the model repeats it."""
    make, model = block.text(main.get(_MAKE)), block.text(main.get(_MODEL))
    first = make.split(" ")[0].lower()
    return model if model and model.lower().startswith(first) else f"{make} {model}".strip()


def _read_place(block: TiffBlock, gps: Mapping[int, Entry]) -> dict[str, str | float]:
    """Return latitude and longitude in degrees, south and west negative; both or none."""
    found: dict[str, str | float] = {}
    for name, (side_tag, tag, negative, most) in _PLACE_TAGS.items():
        parts = block.fractions(gps.get(tag))
        side = block.text(gps.get(side_tag)).upper()
        if not 1 <= len(parts) <= 3 or not side:
            return {}
        degrees = sum(part / 60**power for power, part in enumerate(parts))
        if not 0 <= degrees <= most:
            return {}
        found[name] = round(-degrees if side == negative else degrees, 6)
    return found


def _unpack_text_profile(profile: object) -> bytes | None:
    """Return the EXIF block that ImageMagick writes into PNG text: three lines, then hex."""
    try:
        return bytes.fromhex("".join(str(profile).split("\n")[3:]))
    except ValueError:
        return None
