"""AVIF, opened as a still image, with the sizes of its coded frames checked first.

A file states its size in a box, and each frame inside states its own. libavif decodes the frame and
scales it to the box, so a small box around a frame of 268 megapixels would cost a gigabyte. What
must stay true: no frame is decoded whose own header exceeds the limit; sequences are read as their
still image, by libavif too; EXIF is kept as bytes, and the rotation is that of the boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from PIL import AvifImagePlugin, Image

from twinlens.bundle.image.boxes import find_box, read_item_data, read_item_kinds, walk
from twinlens.errors import ImageError

ROTATION = "box_rotation"  # in `info`: the orientation, 1 to 8, from the boxes
_SEQUENCE_HEADER = 1


class _Still(AvifImagePlugin.AvifImageFile):
    """An AVIF image whose EXIF is not parsed by Pillow, which warns of damage."""

    _decoder: Any

    def _open(self) -> None:
        if not AvifImagePlugin.SUPPORTED:
            raise ImageError("this Pillow was built without AVIF; install Pillow's own wheel")
        from PIL import _avif

        assert self.fp is not None
        self._decoder = _avif.AvifDecoder(self.fp.read(), "auto", 1)
        self._size, self.n_frames, self._mode, icc, exif, rotation, xmp = self._decoder.get_info()
        self.is_animated = False
        held = {"icc_profile": icc, "exif": exif, "xmp": xmp, ROTATION: rotation}
        self.info.update({key: value for key, value in held.items() if value})
        self.seek(0)


def open_avif(data: bytes, name: str, check: Callable[[int, int], None]) -> Image.Image:
    """Return the still image, not yet decoded; `check` is called with width and height."""
    meta = find_box(data, (b"meta",), 0, len(data))
    if meta is None:
        raise ImageError(f"{name} is an AVIF sequence without a still image", field="image")
    kinds = read_item_kinds(data, meta)
    for item, content in read_item_data(data, meta).items():
        if kinds.get(item) == b"av01":
            for width, height in _coded_sizes(content):
                check(width, height)
    return _Still(BytesIO(_hide_sequence(data)))


def _hide_sequence(data: bytes) -> bytes:
    """Return the file as a still image: its brands say so, and its tracks are skipped."""
    tracks = [box for box in walk(data, 0, len(data)) if box.kind == b"moov"]
    brands = min(int.from_bytes(data[:4], "big"), len(data))
    if not tracks and b"avis" not in data[:brands]:
        return data
    hidden = bytearray(data)
    hidden[:brands] = data[:brands].replace(b"avis", b"avif")
    for box in tracks:
        place = data.rindex(b"moov", 0, box.body)
        hidden[place : place + 4] = b"free"
    return bytes(hidden)


def _coded_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the largest frame size of each sequence header among an item's units (OBUs)."""
    place = 0
    while place < len(content):
        head = content[place]
        place += 2 if head & 4 else 1
        size = len(content) - place
        if head & 2:
            size, place = _read_leb128(content, place)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _read_frame_size(_Bits(content[place : place + size]))
        place += size


def _read_leb128(content: bytes, place: int) -> tuple[int, int]:
    """Return a variable-length integer and the position after it."""
    value = 0
    for step in range(8):
        if place >= len(content):
            break
        byte = content[place]
        place += 1
        value |= (byte & 127) << 7 * step
        if not byte & 128:
            break
    return value, place


class _Bits:
    """Bits of a header, the highest first; zeros after its end."""

    def __init__(self, content: bytes) -> None:
        self._value = int.from_bytes(content[:256], "big")
        self._left = 8 * len(content[:256])

    def take(self, count: int) -> int:
        """Return the next `count` bits as an integer."""
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & (1 << count) - 1


def _read_frame_size(bits: _Bits) -> tuple[int, int]:
    """Return the largest width and height that a sequence header (AV1, 5.5) allows."""
    bits.take(4)  # profile, still picture
    if bits.take(1):  # the short header of a still picture
        bits.take(5)
    else:
        _skip_operating_points(bits)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return _bound(bits.take(wide) + 1, wide), _bound(bits.take(high) + 1, high)


def _bound(size: int, bits: int) -> int:
    """Return the size, or a larger one that unneeded bits would allow a frame to state."""
    return size if bits <= max(1, (size - 1).bit_length()) else 1 << bits


def _skip_operating_points(bits: _Bits) -> None:
    has_model = False
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):  # equal intervals: an exponential Golomb code
            zeros = 0
            while zeros < 32 and not bits.take(1):
                zeros += 1
            bits.take(zeros)
        has_model = bool(bits.take(1))
        if has_model:
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_delay and bits.take(1):
            bits.take(4)
