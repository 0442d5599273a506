"""Every kind of picture is read as a person sees it; every broken one is refused with its name."""

import struct
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from featherpose.runtime import photos
from featherpose.runtime.photos import as_image, list_photos, photo_size, read_photo

RAMP = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(5, 6, 3)
"""6 wide, 5 high, every value different."""


def _photo(seed=0, size_wh=(64, 48)):
    noise = np.random.default_rng(seed).integers(0, 256, (size_wh[1] // 8, size_wh[0] // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, size_wh, interpolation=cv2.INTER_CUBIC)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""EXIF orientation -> how the file holds a picture that is seen upright (the inverse of what the reader must do)."""


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation_is_undone(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(TURNS[orientation](RAMP))).save(path, exif=exif)
    np.testing.assert_array_equal(read_photo(path), RAMP)
    assert photo_size(path) == (6, 5)


def _with_odd_exif(path):
    """A JPEG that asks for a quarter turn and has its resolution as text, where numbers belong."""
    Image.fromarray(_photo()).save(path, quality=95)
    entries = struct.pack("<HHHIIHHIII", 2, 0x0112, 3, 1, 6, 0x011A, 2, 8, 38, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries + b"72 dpi\0\0"
    whole = path.read_bytes()
    path.write_bytes(whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:])


def test_an_odd_exif_entry_does_not_keep_a_photo_from_being_turned(tmp_path):
    _with_odd_exif(tmp_path / "odd.jpg")
    image = read_photo(tmp_path / "odd.jpg")
    assert image.shape == (64, 48, 3) and photo_size(tmp_path / "odd.jpg") == (48, 64)
    assert np.abs(image.astype(int) - np.rot90(_photo(), -1)).mean() < 8


@pytest.mark.parametrize("value", [0, 9, "6", (6, 6)], ids=str)
def test_an_orientation_that_is_none_turns_nothing(value, monkeypatch, tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image.Image, "getexif", lambda self: {0x0112: value})
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), RAMP)


def test_an_odd_error_of_pillow_is_told_as_a_broken_photo(monkeypatch, tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image.Image, "getexif", lambda self: 1 / 0)
    for read in (read_photo, photo_size):
        with pytest.raises(ValueError, match=r"photo\.png: the picture is truncated or damaged \(division"):
            read(tmp_path / "photo.png")


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(RAMP[:, :, 0]).save(tmp_path / "grey.png")
    image = read_photo(tmp_path / "grey.png")
    np.testing.assert_array_equal(image, np.repeat(RAMP[:, :, :1], 3, axis=2))


def test_transparent_parts_become_black(tmp_path):
    rgba = np.dstack([np.full((5, 6, 3), 200, np.uint8), np.zeros((5, 6), np.uint8)])
    rgba[0, 0, 3], rgba[0, 1, 3] = 255, 51  # opaque, a fifth
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    image = read_photo(tmp_path / "alpha.png")
    assert image[0, 0].tolist() == [200] * 3 and image[0, 1].tolist() == [40] * 3 and not image[1:].any()


def test_a_palette_with_a_transparent_colour_is_read(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "palette.png", transparency=0)
    assert read_photo(tmp_path / "palette.png").tolist() == [[[0, 0, 0], [40, 50, 60]], [[40, 50, 60], [0, 0, 0]]]


@pytest.mark.parametrize("suffix, channels", [(".png", 1), (".png", 3), (".tif", 1), (".tif", 3)])
def test_sixteen_bits_are_scaled_to_eight(suffix, channels, tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (5, 6, channels), dtype=np.uint16)
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), deep[:, :, ::-1])
    image = read_photo(path)
    assert image.shape == (5, 6, 3)
    assert np.abs(image - deep / 257).max() <= 1  # Pillow cuts colour PNG to the high byte
    assert photo_size(path) == (6, 5)


def test_cmyk_jpeg_is_read_in_its_colours_not_inverted(tmp_path):
    colours = np.full((32, 32, 3), (200, 60, 30), np.uint8)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    with Image.open(tmp_path / "cmyk.jpg") as file:
        assert file.mode == "CMYK"
    assert np.abs(read_photo(tmp_path / "cmyk.jpg").astype(int) - colours).max() < 8


def test_a_jpeg_is_read_as_opencv_reads_it(tmp_path):
    Image.fromarray(_photo()).save(tmp_path / "photo.jpg", quality=90)
    by_opencv = cv2.imread(str(tmp_path / "photo.jpg"))[:, :, ::-1]
    assert np.abs(read_photo(tmp_path / "photo.jpg").astype(int) - by_opencv).max() <= 3


def _broken(kind, folder):
    path = folder / "broken.jpg"
    Image.fromarray(_photo(size_wh=(256, 256))).save(path, quality=90)
    whole = path.read_bytes()
    if kind == "half a JPEG":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "a JPEG without its last bytes":
        path.write_bytes(whole[:-40])
    elif kind == "a JPEG cut in its head":
        path.write_bytes(whole[:100])
    elif kind == "half a PNG":
        path = folder / "broken.png"
        Image.fromarray(_photo(size_wh=(256, 256))).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "half a deep TIFF":
        path = folder / "broken.tif"
        cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint16))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text":
        path.write_text("not a picture")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path = folder
    elif kind == "missing":
        path = folder / "missing.jpg"
    return path


BROKEN = {
    "half a JPEG": "truncated or damaged",
    "a JPEG without its last bytes": "truncated or damaged",
    "a JPEG cut in its head": "not a picture|truncated or damaged",
    "half a PNG": "truncated or damaged",
    "half a deep TIFF": "not a picture|truncated or damaged",
    "text": "not a picture that can be read; known kinds: jpg",
    "empty": r"empty \(0 bytes\)",
    "folder": "is a folder",
    "missing": "there is no such photo",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_with_its_name(kind, tmp_path):
    path = _broken(kind, tmp_path)
    with warnings.catch_warnings(), pytest.raises((ValueError, OSError), match=BROKEN[kind]) as error:
        warnings.simplefilter("error")
        read_photo(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("size_wh", [(1, 1), (20_000, 3), (40_000, 2)])
def test_tiny_and_wide_pictures_are_read(size_wh, tmp_path):
    Image.new("RGB", size_wh, (1, 2, 3)).save(tmp_path / "odd.png")
    assert read_photo(tmp_path / "odd.png").shape == (size_wh[1], size_wh[0], 3)


def test_a_picture_handed_over_in_strips_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "STRIP", 7)
    Image.fromarray(_photo()).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), _photo())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_picture_above_the_pixel_limit_is_refused_before_it_is_unpacked(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"bomb{suffix}"
    cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint16))
    monkeypatch.setattr(photos, "MAX_PIXELS", 599)
    monkeypatch.setattr(cv2, "imread", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match="too large, 30 x 20 pixels; at most 599 are read"):
        read_photo(path)


def test_pillows_own_limit_is_told_in_the_same_words(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(ValueError, match="too large, at most 178,956,970 pixels"):
        read_photo(path)


def test_a_folder_gives_its_photos_through_all_levels_sorted_without_drawings_and_hidden_files(tmp_path):
    for name in ("b.JPG", "a.png", "deep/er/c.webp", "a.pose.jpg", ".hidden.jpg", ".cache/d.jpg", "labels.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_photos([tmp_path])]
    assert found == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_named_files_keep_their_order_and_are_taken_once_whatever_their_suffix(tmp_path):
    for name in ("b.jpg", "a.dat"):
        (tmp_path / name).touch()
    names = [tmp_path / "b.jpg", tmp_path / "a.dat", tmp_path / ".." / tmp_path.name / "b.jpg", tmp_path]
    assert list_photos(names) == [tmp_path / "b.jpg", tmp_path / "a.dat"]


def test_an_empty_folder_is_refused_and_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"no photo in this folder or below; looked for \.jpg, \.jpeg, \.png"):
        list_photos(tmp_path)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such photo or folder"):
        list_photos([tmp_path / "nothing"])


GOOD_ARRAYS = {
    "grey": (np.full((2, 3), 7, np.uint8), [7, 7, 7]),
    "grey with an axis": (np.full((2, 3, 1), 7, np.uint8), [7, 7, 7]),
    "colour": (np.full((2, 3, 3), (1, 2, 3), np.uint8), [1, 2, 3]),
    "half transparent": (np.full((2, 3, 4), (100, 200, 50, 51), np.uint8), [20, 40, 10]),
    "16 bits": (np.full((2, 3, 3), (0, 257, 65535), np.uint16), [0, 1, 255]),
    "floats": (np.full((2, 3, 3), (0, 0.5, 1)), [0, 128, 255]),
}


@pytest.mark.parametrize("array, pixel", GOOD_ARRAYS.values(), ids=GOOD_ARRAYS)
def test_an_array_becomes_rgb_bytes(array, pixel):
    image = as_image(array)
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert image[1, 2].tolist() == pixel


BAD_ARRAYS = {
    "floats to 255": (np.full((2, 3, 3), 255.0), r"must lie in \[0, 1\], got 255 to 255"),
    "not a number": (np.full((2, 3, 3), np.nan), r"must lie in \[0, 1\]"),
    "channels first": (np.zeros((3, 20, 30), np.uint8), "put the channels last"),
    "two channels": (np.zeros((5, 6, 2), np.uint8), r"got \(5, 6, 2\)$"),
    "a batch": (np.zeros((1, 5, 6, 3), np.uint8), r"got \(1, 5, 6, 3\)$"),
    "no pixel": (np.zeros((0, 6, 3), np.uint8), "at least one pixel"),
    "signed": (np.zeros((5, 6, 3), np.int64), "got int64"),
    "a list": ([[1, 2]], "a path or a numpy array, got list"),
}


@pytest.mark.parametrize("array, message", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_a_bad_array_is_refused(array, message):
    with pytest.raises(ValueError, match=message):
        as_image(array)
