"""Every layout of a TIFF gives the pixels that were written, or those of a second decoder, or is refused by name."""

import io
import itertools
import struct

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.imaging.reader import decode_rgb, header_megapixels, oriented_size

WIDTH, HEIGHT = 100, 75  # no multiple of a tile's side or of a strip's rows
LOSSLESS = {
    "none": 1,
    "lzw": 5,
    "deflate": 8,
    "packbits": 32773,
    "old deflate": 32946,
    "lzma": 34925,
    "zstd": 50000,
}
WITH_PREDICTOR = {"lzw", "deflate", "old deflate", "lzma", "zstd"}
STRIPS = {"rowsperstrip": 16}
TILES = {"tile": (32, 48)}


@pytest.fixture
def rgb(real_jpeg):
    """A part of a real field: (75, 100, 3) uint8."""
    return np.asarray(Image.open(real_jpeg).convert("RGB"))[200 : 200 + HEIGHT, 300 : 300 + WIDTH].copy()


@pytest.fixture
def deep(rgb):
    """The same with random lower bits: (75, 100, 3) uint16."""
    noise = np.random.default_rng(0).integers(0, 256, rgb.shape)
    return (rgb.astype(np.uint16) << 8 | noise).astype(np.uint16)


def written(samples, **options):
    """A TIFF as tifffile writes it; samples of shape (H, W, S)."""
    if options.get("planarconfig") == "separate":
        samples = np.moveaxis(samples, -1, 0)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **({"photometric": "rgb", "metadata": None} | options))
    return buffer.getvalue()


def pages(*images_and_options):
    """A TIFF of several pages: pairs of samples and options."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for samples, options in images_and_options:
            file.write(samples, **({"photometric": "rgb", "metadata": None} | options))
    return buffer.getvalue()


def retagged(content, **values):
    """Another value for tags of the first page, by tifffile's name."""
    buffer = io.BytesIO(content)
    with tifffile.TiffFile(buffer, mode="r+b") as file:
        for name, value in values.items():
            file.pages[0].tags[name].overwrite(value)
    return buffer.getvalue()


def of_pillow(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def refusal(content, **options):
    with pytest.raises(FieldUnreadable) as caught:
        decode_rgb(content, **options)
    assert "damaged" in str(caught.value) or "export" in str(caught.value) or "exceed" in str(caught.value)
    return str(caught.value)


def reduced(rgb):
    return np.ascontiguousarray(rgb[::4, ::4])


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("parts", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_decode_of_lossless_layout_gives_the_written_pixels(rgb, deep, bits, planes, parts, compression):
    samples = rgb if bits == 8 else deep
    options = {**parts, "planarconfig": planes, "compression": LOSSLESS[compression]}
    for byteorder, bigtiff, predictor in itertools.product("<>", (False, True), (False, True)):
        if predictor and compression not in WITH_PREDICTOR:
            continue
        content = written(samples, byteorder=byteorder, bigtiff=bigtiff, predictor=predictor, **options)
        assert np.array_equal(decode_rgb(content), rgb)
        assert header_megapixels(content) == pytest.approx(WIDTH * HEIGHT / 1e6)


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("parts", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_decode_of_8_bit_layout_gives_the_pixels_of_libtiff(rgb, planes, parts, compression):
    predictor = compression in WITH_PREDICTOR
    content = written(
        rgb, predictor=predictor, planarconfig=planes, compression=LOSSLESS[compression], byteorder=">", **parts
    )
    assert np.array_equal(decode_rgb(content), of_pillow(content))


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits", "old deflate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_decode_of_files_of_opencv_gives_the_written_pixels(rgb, deep, bits, compression):
    samples = rgb if bits == 8 else deep
    for predictor in (1, 2):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, LOSSLESS[compression], cv2.IMWRITE_TIFF_PREDICTOR, predictor]
        content = cv2.imencode(".tif", samples[..., ::-1], options)[1].tobytes()
        assert np.array_equal(decode_rgb(content), rgb)


@pytest.mark.parametrize("parts", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_decode_of_ycbcr_jpeg_gives_the_pixels_of_libtiff(rgb, parts, subsampling):
    ycbcr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    content = written(ycbcr, compression="jpeg", photometric="ycbcr", subsampling=subsampling, **parts)
    assert np.array_equal(decode_rgb(content), of_pillow(content))
    assert np.abs(decode_rgb(content).astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("parts", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_decode_of_rgb_jpeg_gives_the_pixels_of_libtiff(rgb, parts, planes):
    content = written(rgb, compression="jpeg", photometric="rgb", planarconfig=planes, **parts)
    assert np.array_equal(decode_rgb(content), of_pillow(content))
    assert np.abs(decode_rgb(content).astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("quality", [30, 95])
def test_decode_of_jpeg_with_shared_tables_gives_the_pixels_of_libtiff(rgb, mode, quality):
    buffer = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(buffer, "TIFF", compression="jpeg", quality=quality)
    assert np.array_equal(decode_rgb(buffer.getvalue()), of_pillow(buffer.getvalue()))


@pytest.mark.parametrize("parts", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("lossless", [True, False])
def test_decode_of_webp_gives_the_pixels_of_libwebp(rgb, parts, lossless):
    options = {"lossless": True} if lossless else {"level": 90}
    content = written(rgb, compression="webp", compressionargs=options, **parts)
    found = decode_rgb(content)
    if lossless:
        assert np.array_equal(found, rgb)
    elif not parts:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            start, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        assert np.array_equal(found, of_pillow(content[start : start + length]))
    assert np.abs(found.astype(int) - rgb).mean() < 4


@pytest.mark.parametrize(("kind", "bits"), [("ome", 8), ("ome", 16), ("shaped", 8), ("shaped", 16), ("imagej", 8)])
def test_decode_of_microscopy_files_gives_the_written_pixels(rgb, deep, kind, bits):
    samples = rgb if bits == 8 else deep
    options = {"shaped": {"metadata": {}}}.get(kind, {kind: True, "metadata": {"axes": "YXS"}})
    assert np.array_equal(decode_rgb(written(samples, **options)), rgb)


def test_decode_of_planar_ome_gives_the_written_pixels(deep, rgb):
    content = written(deep, ome=True, planarconfig="separate", metadata={"axes": "SYX"}, tile=(32, 48))
    assert np.array_equal(decode_rgb(content), rgb)


THUMBNAIL = {"subfiletype": 1}


def test_decode_of_a_file_with_a_thumbnail_page_gives_the_full_image(rgb):
    small = reduced(rgb)
    for content in (
        pages((rgb, {}), (small, THUMBNAIL)),
        pages((small, THUMBNAIL), (rgb, {})),
        pages((small, THUMBNAIL), (rgb, {}), (small[::2], THUMBNAIL)),
        pages((rgb, {}), (small[..., 0], THUMBNAIL | {"photometric": "minisblack"})),
        pages((rgb, {"subifds": 2}), (small, THUMBNAIL), (small[::2], THUMBNAIL)),  # a pyramid
        pages((small, THUMBNAIL | {"subifds": 1}), (rgb, {})),  # as raw converters write it
        pages((rgb, {}), (np.ones((HEIGHT, WIDTH), bool), {"subfiletype": 4, "photometric": "mask"})),
        pages((rgb, THUMBNAIL)),  # there is no other
        pages((rgb, {}), (small, {"extratags": [(255, 3, 1, 2, True)]})),  # the tag of before 1992
    ):
        assert np.array_equal(decode_rgb(content), rgb)
        assert header_megapixels(content) == pytest.approx(WIDTH * HEIGHT / 1e6)


def test_oriented_size_is_that_of_the_full_image_beside_a_thumbnail(rgb, tmp_path):
    path = tmp_path / "field.tif"
    path.write_bytes(pages((reduced(rgb), THUMBNAIL), (rgb, {})))
    assert oriented_size(path) == (WIDTH, HEIGHT)


def test_decode_of_several_full_images_is_refused(rgb):
    small, stack = reduced(rgb), np.stack([rgb, rgb[::-1]])
    for content in (
        pages((rgb, {}), (rgb, {})),
        pages((rgb, {}), (small, {})),
        pages((small, THUMBNAIL), (small[::2], THUMBNAIL)),
        pages((rgb, {"subifds": 1}), (rgb, {})),
        written(stack),
        written(stack, ome=True, metadata={"axes": "ZYXS"}),
        written(stack, imagej=True, metadata={"axes": "ZYXS"}),
        written(stack, metadata={}),
        written(stack, metadata={}, truncate=True),  # one page, whose description tells of a stack
        written(stack, imagej=True, metadata={"axes": "ZYXS"}, truncate=True),
        written(np.moveaxis(rgb, -1, 0), ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
        written(stack, volumetric=True, tile=(2, 32, 48)),
    ):
        assert "several images" in refusal(content)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_as_pillow_does(rgb, tmp_path, orientation):
    content = written(rgb, extratags=[(274, 3, 1, orientation, True)])
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(decode_rgb(content), expected)
    (tmp_path / "field.tif").write_bytes(content)
    assert oriented_size(tmp_path / "field.tif") == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_decode_of_unknown_orientation_does_not_turn(rgb, orientation):
    assert np.array_equal(decode_rgb(written(rgb, extratags=[(274, 3, 1, orientation, True)])), rgb)


@pytest.mark.parametrize("parts", [{}, TILES], ids=["strip", "tiles"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_decode_lays_alpha_over_white(rgb, kind, bits, planes, parts):
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:20], alpha[20:40] = 0, 128
    color = rgb if kind != "assocalpha" else (rgb * (alpha / 255)).round().astype(np.uint8)
    samples = np.concatenate([color, alpha], axis=-1)
    if bits == 16:
        samples = samples.astype(np.uint16) * 257
    found = decode_rgb(written(samples, extrasamples=[kind], planarconfig=planes, **parts))
    share = 1 if kind == "unspecified" else alpha / 255
    assert np.abs(found - (rgb * share + 255 * (1 - share))).max() <= 2
    assert np.array_equal(found[40:], rgb[40:])


def test_decode_of_wholly_transparent_tiff_is_refused(rgb):
    samples = np.concatenate([rgb, np.zeros((HEIGHT, WIDTH, 1), np.uint8)], axis=-1)
    assert "transparent" in refusal(written(samples, extrasamples=["unassalpha"]))


def test_decode_of_a_palette_of_pillow_gives_its_colors(rgb):
    image = Image.fromarray(rgb).quantize(200)
    for compression in ("raw", "tiff_lzw", "packbits"):
        buffer = io.BytesIO()
        image.save(buffer, "TIFF", compression=compression)
        assert np.array_equal(decode_rgb(buffer.getvalue()), np.asarray(image.convert("RGB")))


def test_decode_of_a_grey_palette_is_refused():
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    content = written(np.full((HEIGHT, WIDTH), 90, np.uint8), photometric="palette", colormap=ramp)
    assert "gray" in refusal(content)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_decode_of_grey_is_refused(rgb, photometric, dtype):
    message = refusal(written(rgb[..., 0].astype(dtype), photometric=photometric))
    assert "gray" in message
    assert ("16-bit or floating-point" in message) == (dtype != "u1")


@pytest.mark.parametrize(
    ("photometric", "samples", "name"),
    [("separated", 4, "CMYK"), ("cielab", 3, "LAB"), ("icclab", 3, "color space"), ("ycbcr", 3, "YCbCr")],
)
def test_decode_of_other_color_spaces_is_refused(photometric, samples, name):
    content = written(np.full((HEIGHT, WIDTH, samples), 90, np.uint8), photometric=photometric)
    assert name in refusal(content)


def test_decode_of_ycbcr_in_separate_jpeg_planes_is_refused(rgb):
    content = written(rgb, compression="jpeg", planarconfig="separate")
    assert "YCbCr" in refusal(retagged(content, PhotometricInterpretation=6))


@pytest.mark.parametrize("dtype", ["i1", "i2", "u4", "f2", "f4", "f8"])
def test_decode_of_samples_of_another_type_is_refused(rgb, dtype):
    assert "is not read" in refusal(written((rgb // 2).astype(dtype)))


@pytest.mark.parametrize("samples", [2, 5, 8])
def test_decode_of_other_numbers_of_samples_is_refused(samples):
    content = written(np.full((HEIGHT, WIDTH, samples), 90, np.uint8), photometric="minisblack", planarconfig="contig")
    assert "gray" in refusal(content)
    with_color = np.full((HEIGHT, WIDTH, max(5, samples)), 90, np.uint8)
    assert "samples" in refusal(written(with_color, planarconfig="contig"))


def packed(samples, bits):
    """Samples of so many bits each, without gaps but at the end of a row."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((samples.reshape(len(samples), -1, 1) >> shifts & 1).reshape(len(samples), -1), axis=1).tobytes()


def minimal_tiff(strip, byteorder="<", **tags):
    """A TIFF of one strip; tags: numbers for tag_<number>."""
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [8] * 3, 259: [1], 262: [2], 273: [8], 277: [3], 278: [HEIGHT]}
    entries |= {279: [len(strip)]} | {int(name.removeprefix("tag_")): values for name, values in tags.items()}
    start = 8 + len(strip) + len(strip) % 2
    behind, directory, values = start + 2 + 12 * len(entries) + 4, struct.pack(f"{byteorder}H", len(entries)), b""
    for tag, listed in sorted(entries.items()):
        kind, letter = (3, "H") if max(listed) < 2**16 else (4, "I")
        content = struct.pack(f"{byteorder}{len(listed)}{letter}", *listed)
        directory += struct.pack(f"{byteorder}HHI", tag, kind, len(listed))
        if len(content) > 4:
            directory += struct.pack(f"{byteorder}I", behind + len(values))
            values += content
        else:
            directory += content.ljust(4, b"\0")
    mark = b"II" if byteorder == "<" else b"MM"
    return (mark + struct.pack(f"{byteorder}HI", 42, start) + strip).ljust(start, b"\0") + directory + bytes(4) + values


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_decode_of_packed_samples_scales_by_their_bits(deep, bits, byteorder):
    samples = deep >> (16 - bits)
    content = minimal_tiff(packed(samples, bits), byteorder, tag_258=[bits] * 3)
    assert np.array_equal(decode_rgb(content), samples >> (bits - 8))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_decode_of_fewer_bits_in_16_scales_by_the_largest_sample_value(deep, rgb, bits, byteorder):
    samples = deep >> (16 - bits)
    for largest in (2**bits - 1, int(samples.max())):
        values = {"extratags": [(281, 3, 3, (largest,) * 3, True)]}
        assert np.array_equal(decode_rgb(written(samples, byteorder=byteorder, **values)), rgb)
    full = written(deep, extratags=[(281, 3, 1, 2**bits - 1, True)])  # a statement that the samples disprove
    assert np.array_equal(decode_rgb(full), rgb)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_decode_of_fewer_bits_in_16_is_refused_if_the_file_does_not_tell(deep, bits):
    samples = deep >> (16 - bits)
    assert "only the lower bits" in refusal(written(samples))
    with_alpha = np.concatenate([samples, np.full((HEIGHT, WIDTH, 1), 2**bits - 1, np.uint16)], axis=-1)
    assert "only the lower bits" in refusal(written(with_alpha, extrasamples=["unassalpha"]))
    with_mark = samples.copy()
    with_mark[:2, :2] = 65535  # a scale bar, a hot pixel
    assert "only the lower bits" in refusal(written(with_mark))
    png = cv2.imencode(".png", samples[..., ::-1])[1].tobytes()
    assert "only the lower bits" in refusal(png)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("factor", [1, 257])
def test_decode_of_a_palette_gives_its_colors(bits, factor):
    """factor: a palette has 16 bits; some programs write 8."""
    rng = np.random.default_rng(1)
    colors = rng.integers(1, 256, (3, 2**bits))
    indices = rng.integers(0, 2**bits, (HEIGHT, WIDTH)).astype(np.uint8)
    palette = {"tag_258": [bits], "tag_262": [3], "tag_277": [1], "tag_320": (colors * factor).ravel().tolist()}
    assert np.array_equal(decode_rgb(minimal_tiff(packed(indices, bits), **palette)), colors.T[indices])


def test_decode_of_a_palette_that_is_missing_or_short_is_refused():
    indices = bytes(range(1, 101)) * HEIGHT
    layout = {"tag_258": [8], "tag_262": [3], "tag_277": [1]}
    assert "palette is missing" in refusal(minimal_tiff(indices, **layout))
    assert "damaged" in refusal(minimal_tiff(indices, **layout, tag_320=[1000] * 3 * 200))


@pytest.mark.parametrize("bits", [(5, 6, 5), (8, 8, 16)])
def test_decode_of_samples_of_several_depths_is_refused(rgb, bits):
    assert "is not read" in refusal(minimal_tiff(rgb.tobytes() * 2, tag_258=list(bits)))


def test_decode_of_reversed_bits_gives_the_written_pixels(rgb):
    mirrored = imagecodecs.bitorder_encode(rgb.tobytes())
    assert np.array_equal(decode_rgb(minimal_tiff(mirrored, tag_266=[2])), rgb)


def test_decode_of_lzw_of_before_1992_gives_the_written_pixels_or_is_refused():
    """Codes of 9 bits, lowest first: clear, each byte as it is, and end, so few that they stay at 9 bits."""
    strip = bytes(range(3, 3 + 3 * 8 * 2))
    codes = [256, *strip, 257]
    bits = "".join(format(code, "09b")[::-1] for code in codes)
    old = np.packbits([int(bit) for bit in bits], bitorder="little").tobytes()
    content = minimal_tiff(old, tag_256=[8], tag_257=[2], tag_278=[2], tag_259=[5])
    try:
        assert decode_rgb(content).tobytes() == strip
    except FieldUnreadable as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize("compression", LOSSLESS)
def test_decode_with_a_predictor_that_readers_disagree_on_is_refused(rgb, compression):
    for predictor in (3, 34892) if compression in WITH_PREDICTOR else (2, 3):
        content = minimal_tiff(rgb.tobytes(), tag_259=[LOSSLESS[compression]], tag_317=[predictor])
        assert f"predictor {predictor}" in refusal(content)


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "png", "lerc", "jpegxr"])
def test_decode_of_other_compressions_is_refused(rgb, compression):
    assert "compression" in refusal(written(rgb, compression=compression))


@pytest.mark.parametrize("number", [2, 3, 4, 6, 32809, 33003, 34712, 50002, 65000])
def test_decode_of_compressions_by_their_number_is_refused(rgb, number):
    assert "compression" in refusal(minimal_tiff(rgb.tobytes(), tag_259=[number]))


ALL = [*LOSSLESS, "jpeg", "webp"]


def damaged_layouts(rgb, compression):
    for parts, planes in itertools.product((STRIPS, TILES), ("contig", "separate")):
        if (compression, planes) != ("webp", "separate"):
            yield written(rgb, compression=LOSSLESS.get(compression, compression), planarconfig=planes, **parts)


def names_of_tables(content):
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        kind = "Tile" if page.is_tiled else "Strip"
        return f"{kind}Offsets", f"{kind}ByteCounts", page.dataoffsets, page.databytecounts


@pytest.mark.parametrize("compression", ALL)
def test_decode_without_a_strip_or_tile_is_refused(rgb, compression):
    for content in damaged_layouts(rgb, compression):
        offsets_name, lengths_name, offsets, lengths = names_of_tables(content)
        for gone in (0, len(offsets) // 2, len(offsets) - 1):
            no_offsets = tuple(0 if i == gone else offset for i, offset in enumerate(offsets))
            no_lengths = tuple(0 if i == gone else length for i, length in enumerate(lengths))
            outside = tuple(len(content) + 5 if i == gone else offset for i, offset in enumerate(offsets))
            for changes in (
                {offsets_name: no_offsets, lengths_name: no_lengths},
                {offsets_name: no_offsets},
                {lengths_name: no_lengths},
                {offsets_name: outside},
            ):
                assert "missing" in refusal(retagged(content, **changes))
        assert "are present" in refusal(retagged(content, **{offsets_name: offsets[:-1]}))
        if compression != "none":
            assert "are present" in refusal(retagged(content, **{lengths_name: lengths[:-1]}))


@pytest.mark.parametrize("compression", ALL)
def test_decode_of_a_short_strip_or_tile_is_refused(rgb, compression):
    for content in damaged_layouts(rgb, compression):
        _, lengths_name, _, lengths = names_of_tables(content)
        for short in (0, len(lengths) // 2, len(lengths) - 1):
            halves = tuple(length // 2 if i == short else length for i, length in enumerate(lengths))
            assert "incomplete or damaged" in refusal(retagged(content, **{lengths_name: halves}))


@pytest.mark.parametrize("compression", ALL)
def test_decode_of_a_file_cut_short_is_refused(rgb, compression):
    for content in damaged_layouts(rgb, compression):
        *_, offsets, lengths = names_of_tables(content)
        end = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
        for cut in (end - 30, end // 2, 100, 20, 8):
            if compression == "lzma" and cut == end - 30:  # liblzma needs not all of its end
                assert np.array_equal(decode_rgb(content[:cut]), rgb)
            else:
                assert "incomplete or damaged" in refusal(content[:cut])


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits", "old deflate", "zstd"])
@pytest.mark.parametrize("excess", [1, 3 * WIDTH * 5, 3 * WIDTH * HEIGHT])
def test_decode_of_a_strip_that_holds_more_than_its_rows_gives_the_rows(rgb, compression, excess):
    strip = rgb.tobytes() + bytes(range(1, 256)) * 100
    strip = strip[: rgb.size + excess]
    if compression != "none":
        strip = bytes(tifffile.TIFF.COMPRESSORS[LOSSLESS[compression]](strip))
    assert np.array_equal(decode_rgb(minimal_tiff(strip, tag_259=[LOSSLESS[compression]])), rgb)


@pytest.mark.parametrize(("width", "height"), [(50, 150), (WIDTH, HEIGHT - 3), (WIDTH - 4, HEIGHT), (75, 100)])
def test_decode_of_a_jpeg_strip_of_another_size_is_refused(rgb, width, height):
    buffer = io.BytesIO()
    Image.fromarray(rgb).resize((width, height)).save(buffer, "JPEG", subsampling=0)
    content = minimal_tiff(buffer.getvalue(), tag_259=[7], tag_262=[6])
    assert f"holds {width}×{height}" in refusal(content)


def test_decode_above_the_limit_of_megapixels_is_refused_before_decoding(rgb):
    for content in (
        written(rgb),
        minimal_tiff(b"damaged, which nobody comes to see", tag_259=[5]),
        minimal_tiff(b"x" * 99, tag_256=[60_000], tag_257=[60_000]),
    ):
        with pytest.raises(FieldTooLarge, match="exceed the limit of"):
            decode_rgb(content, max_megapixels=0.007)
    tiles = {"tag_322": [65_520], "tag_323": [65_520], "tag_324": [8], "tag_325": [99]}
    with pytest.raises(FieldTooLarge, match="65520×65520"):
        decode_rgb(minimal_tiff(b"x" * 99, **tiles))


@pytest.mark.parametrize("tag", [256, 257, 322, 323])
def test_decode_of_an_image_without_size_is_refused(rgb, tag):
    tiles = {"tag_322": [32], "tag_323": [48], "tag_324": [8], "tag_325": [99]} if tag > 300 else {}
    assert "damaged" in refusal(minimal_tiff(rgb.tobytes(), **tiles | {f"tag_{tag}": [0]}))


def test_decode_writes_nothing_to_the_terminal(rgb, capfd):
    for compression in ALL:
        for content in damaged_layouts(rgb, compression):
            _, lengths_name, _, lengths = names_of_tables(content)
            halves = tuple(length // 2 for length in lengths)
            refusal(retagged(content, **{lengths_name: halves}))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pointer", [1, 5, 2**31, 2**32 - 2])
def test_decode_of_a_file_whose_chain_of_pages_leads_nowhere_gives_the_first(rgb, pointer):
    content = minimal_tiff(rgb.tobytes())
    behind = content.index(struct.pack("<H", 9), 8 + rgb.size) + 2 + 12 * 9
    assert content[behind : behind + 4] == bytes(4)
    broken = content[:behind] + struct.pack("<I", pointer) + content[behind + 4 :]
    assert np.array_equal(decode_rgb(broken), rgb)


def test_decode_ignores_tags_that_touch_no_pixel(rgb):
    strange = [
        (306, 2, 5, "never", True),
        (34665, 4, 1, 2**31, True),
        (33723, 7, 4, b"iptc", True),
        (700, 1, 3, b"xmp", True),
    ]
    assert np.array_equal(decode_rgb(written(rgb, extratags=strange)), rgb)
    assert np.array_equal(decode_rgb(written(rgb, description="<OME broken", metadata=None)), rgb)
    assert np.array_equal(decode_rgb(written(rgb, description="ImageJ=1.11a\nimages=x\n", metadata=None)), rgb)
