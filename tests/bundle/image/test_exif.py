"""EXIF of photographs, read alike from every format, as exifread and Pillow read it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import exifread
import piexif
import pytest
from PIL import Image

from tests.bundle.image.made_images import encode, picture
from twinlens.bundle.image.exif import PHOTO_FIELDS, read_photo

PARIS = ((48, 1), (51, 1), (2960, 100)), ((2, 1), (17, 1), (4020, 100))


def block(
    latitude: Any = PARIS[0], north: bytes = b"N", longitude: Any = PARIS[1], east: bytes = b"E"
) -> dict[str, Any]:
    """Return the EXIF of a photograph, as piexif takes it."""
    return {
        "0th": {
            piexif.ImageIFD.Make: b"NIKON CORPORATION",
            piexif.ImageIFD.Model: b"NIKON D850",
            piexif.ImageIFD.DateTime: b"2024:06:01 00:00:00",
        },
        "Exif": {
            piexif.ExifIFD.DateTimeOriginal: b"2024:05:01 13:14:15",
            piexif.ExifIFD.OffsetTimeOriginal: b"+02:00",
            piexif.ExifIFD.LensModel: b"NIKKOR 50mm f/1.8",
        },
        "GPS": {
            piexif.GPSIFD.GPSLatitudeRef: north,
            piexif.GPSIFD.GPSLatitude: latitude,
            piexif.GPSIFD.GPSLongitudeRef: east,
            piexif.GPSIFD.GPSLongitude: longitude,
        },
    }


EXPECTED = {
    "taken": "2024-05-01T13:14:15+02:00",
    "camera": "NIKON D850",
    "lens": "NIKKOR 50mm f/1.8",
    "latitude": 48.858222,
    "longitude": 2.2945,
}


def jpeg(**changes: Any) -> bytes:
    """Return a JPEG with parts of its EXIF changed; None leaves a tag out."""
    parts = block()
    for name, tags in changes.items():
        parts[name] = {k: v for k, v in (parts[name] | tags).items() if v is not None}
    return encode(picture(40, 30), "JPEG", exif=piexif.dump(parts))


def heic(exif: bytes) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(picture(40, 30)).save(out, quality=50, exif=exif)
    return out.getvalue()


def png_with_exif_behind(exif: bytes) -> bytes:
    body = exif.removeprefix(b"Exif\x00\x00")
    chunk = b"eXIf" + body
    packed = struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    still = encode(picture(40, 30), "PNG")
    return still[:-12] + packed + still[-12:]


def tiff(exif: bytes) -> bytes:
    loaded = Image.Exif()
    loaded.load(exif)
    return encode(picture(40, 30), "TIFF", exif=loaded)


WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": lambda exif: encode(picture(40, 30), "JPEG", exif=exif),
    "MPO": lambda exif: encode(
        picture(40, 30), "MPO", exif=exif, save_all=True, append_images=[picture(40, 30)]
    ),
    "PNG": lambda exif: encode(picture(40, 30), "PNG", exif=exif),
    "PNG, behind its pixels": png_with_exif_behind,
    "WebP": lambda exif: encode(picture(40, 30), "WEBP", exif=exif),
    "AVIF": lambda exif: encode(picture(40, 30), "AVIF", exif=exif),
    "TIFF": tiff,
    "HEIC": heic,
}


@pytest.mark.parametrize("format", WRITERS)
def test_every_format_tells_time_camera_lens_and_place(format: str) -> None:
    assert tuple(EXPECTED) == PHOTO_FIELDS
    assert read_photo(WRITERS[format](piexif.dump(block()))) == EXPECTED


def test_without_place_the_rest_is_told() -> None:
    found = read_photo(jpeg(), place=False)
    assert found == {k: v for k, v in EXPECTED.items() if k not in ("latitude", "longitude")}


@pytest.mark.parametrize("format", ["WebP", "HEIC"])
def test_a_third_reader_finds_the_same(format: str) -> None:
    data = WRITERS[format](piexif.dump(block()))
    if format == "HEIC":  # which piexif cannot open itself
        pillow_heif = pytest.importorskip("pillow_heif")
        data = pillow_heif.open_heif(io.BytesIO(data)).info["exif"]
    tags, found = piexif.load(data), read_photo(WRITERS[format](piexif.dump(block())))
    assert found["camera"] == tags["0th"][0x0110].decode()
    assert found["lens"] == tags["Exif"][0xA434].decode()
    for name, tag in (("latitude", 2), ("longitude", 4)):
        parts = [above / below for above, below in tags["GPS"][tag]]
        assert found[name] == pytest.approx(parts[0] + parts[1] / 60 + parts[2] / 3600, abs=1e-6)


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "PNG", "AVIF"])
@pytest.mark.parametrize("north", [b"N", b"S"])
@pytest.mark.parametrize("east", [b"E", b"W"])
def test_another_reader_finds_the_same(format: str, north: bytes, east: bytes) -> None:
    data = WRITERS[format](piexif.dump(block(north=north, east=east)))
    tags = exifread.process_file(io.BytesIO(data), details=False)
    found = read_photo(data)
    taken = str(tags["EXIF DateTimeOriginal"]).replace(":", "-", 2).replace(" ", "T")
    assert found["taken"] == taken + str(tags["EXIF OffsetTimeOriginal"])
    assert found["camera"] == str(tags["Image Model"])
    for name in ("Latitude", "Longitude"):
        degrees, minutes, seconds = tags[f"GPS GPS{name}"].values
        size = float(degrees) + float(minutes) / 60 + float(seconds) / 3600
        sign = -1 if str(tags[f"GPS GPS{name}Ref"]) in "SW" else 1
        assert found[name.lower()] == pytest.approx(sign * size, abs=1e-6)


def test_pillow_finds_the_same_in_either_byte_order() -> None:
    for endian in ("<", ">"):
        exif = Image.Exif()
        exif.endian = endian
        exif[0x010F], exif[0x0110] = "Fuji", "X100"
        exif.get_ifd(0x8769)[0x9003] = "1999:12:31 23:59:59"
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 35.9), 3: "E", 4: (151.0, 12.0, 40.0)})
        data = encode(picture(40, 30), "JPEG", exif=exif)
        again = Image.open(io.BytesIO(data)).getexif()
        assert again.endian == endian
        gps = again.get_ifd(0x8825)
        found = read_photo(data)
        assert found["latitude"] == pytest.approx(
            -float(gps[2][0] + gps[2][1] / 60 + gps[2][2] / 3600), abs=1e-6
        )
        assert (found["camera"], found["taken"]) == ("Fuji X100", "1999-12-31T23:59:59")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Exif": {0x9011: None}}, "2024-05-01T13:14:15"),
        ({"Exif": {0x9011: b"Z"}}, "2024-05-01T13:14:15+00:00"),
        ({"Exif": {0x9011: b"+99:99"}}, "2024-05-01T13:14:15"),
        ({"Exif": {0x9003: None, 0x9004: b"2023:01:02 03:04:05"}}, "2023-01-02T03:04:05"),
        ({"Exif": {0x9003: b"0000:00:00 00:00:00"}}, "2024-06-01T00:00:00"),
        ({"Exif": {0x9003: b"2024:02:31 00:00:00"}}, "2024-06-01T00:00:00"),
        ({"Exif": {0x9003: b"    :  :     :  :  "}, "0th": {0x0132: None}}, None),
        ({"Exif": {0x9003: b"2024-05-01T13:14:15.5"}}, "2024-05-01T13:14:15+02:00"),
    ],
)
def test_the_time_is_that_of_the_shutter_if_it_makes_sense(
    changes: dict[str, Any], expected: str | None
) -> None:
    assert read_photo(jpeg(**changes)).get("taken") == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [(b"Apple", b"iPhone 15", "Apple iPhone 15"), (b"Canon", b"Canon EOS R5", "Canon EOS R5"),
     (b"", b"X100", "X100"), (b"Leica", b"", "Leica"), (b" \x00", b"\x01\x02", None),
     (b"Kamera\xfc", b"M\xffdel", "Kameraü Mÿdel"), (b"A" * 5000, b"", "A" * 256)],
)  # fmt: skip
def test_the_camera_names_its_make_once(make: bytes, model: bytes, expected: str | None) -> None:
    assert read_photo(jpeg(**{"0th": {0x010F: make, 0x0110: model}})).get("camera") == expected


@pytest.mark.parametrize(
    "gps",
    [{2: ((1, 0), (2, 1), (3, 1))}, {1: None}, {4: None}, {3: b""}, {2: ((91, 1), (0, 1), (0, 1))},
     {4: ((180, 1), (0, 1), (1, 1))}],
    ids=["divided by zero", "no side", "no longitude", "empty side", "beyond the pole", "beyond"],
)  # fmt: skip
def test_a_place_without_sense_is_left_out_whole(gps: dict[int, Any]) -> None:
    found = read_photo(jpeg(GPS=gps))
    assert not {"latitude", "longitude"} & set(found)
    assert found["camera"] == "NIKON D850"


def test_degrees_may_be_fractions_without_minutes() -> None:
    found = read_photo(jpeg(GPS={2: ((4885822, 100000),), 4: ((22945, 10000), (0, 1))}))
    assert (found["latitude"], found["longitude"]) == (48.85822, 2.2945)


def test_damage_leaves_values_out_and_raises_nothing() -> None:
    whole = piexif.dump(block())
    for end in range(0, len(whole), 3):
        found = read_photo(encode(picture(8, 8), "JPEG", exif=whole[:end] or b"Exif\x00\x00"))
        assert set(found) <= set(EXPECTED)
    for place in range(6, len(whole)):
        for value in (0, 255):
            read_photo(
                b"\xff\xd8\xff\xe1"
                + struct.pack(">H", 2 + len(whole))
                + whole[:place]
                + bytes([value])
                + whole[place + 1 :]
                + encode(picture(8, 8), "JPEG")[2:]
            )
    for nothing in (
        b"",
        b"text",
        b"II*\x00",
        b"MM\x00*\x00\x00\x00\x08",
        encode(picture(8, 8), "GIF"),
    ):
        assert read_photo(nothing) == {}


def test_a_directory_that_points_at_itself_ends() -> None:
    rows = struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x8825, 4, 1, 8)
    data = b"II*\x00" + struct.pack("<IH", 8, 2) + rows + bytes(4)
    assert read_photo(data) == {}
    far = b"II+\x00\x08\x00\x00\x00" + b"\xff" * 8
    assert read_photo(far) == {}
