"""Pictures of every sample format against one reference, what lies under transparency, thin pictures, memory."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from cmcr.decode import common, decoding
from cmcr.decode.images import LONGEST, cut_ends, read_image
from cmcr.errors import ItemError

Y, X = np.mgrid[:24, :32]
GREY = np.where((Y - 11) ** 2 + (X - 17) ** 2 < 64, 220, np.where(X < 8, 30 + Y * 4, 61)).astype(np.uint8)
COLOUR = np.dstack([GREY, 255 - GREY, np.roll(GREY, 5, 1)])
FORMATS = {"unsigned": 1, "signed": 2, "float": 3}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
CODES = {3: "H", 4: "I"}


def tiff(values, bits=8, kind="unsigned", photo=BLACK_IS_ZERO, *, order="<", packed=False, planar=1, fill=1, tags=()):
    """A TIFF of (H, W, C) samples by the letter of its standard, in strips of seven rows."""
    height, width, bands = values.shape
    tables = [values.reshape(height, -1)] if planar == 1 else [values[..., band] for band in range(bands)]
    strips = [strip(table[top : top + 7], bits, kind, order) for table in tables for top in range(0, height, 7)]
    if fill == 2:
        strips = [
            np.packbits(np.unpackbits(np.frombuffer(one, np.uint8)), bitorder="little").tobytes() for one in strips
        ]
    if packed:
        strips = [zlib.compress(one) for one in strips]
    entries = {256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * bands), 259: (3, [8 if packed else 1])}
    entries |= {262: (3, [photo]), 266: (3, [fill]), 277: (3, [bands]), 278: (3, [7]), 284: (3, [planar])}
    entries |= {279: (4, [len(one) for one in strips]), 339: (3, [FORMATS[kind]] * bands), **dict(tags)}
    size = len(directory(entries | {273: (4, [0] * len(strips))}, order))
    starts = np.cumsum([8 + size, *map(len, strips)])[:-1].tolist()
    head = b"MM\0*" if order == ">" else b"II*\0"
    return head + struct.pack(order + "I", 8) + directory(entries | {273: (4, starts)}, order) + b"".join(strips)


def strip(rows, bits, kind, order):
    if bits in (8, 16, 32, 64):
        return rows.astype(f"{order}{'f' if kind == 'float' else kind[0].replace('s', 'i')}{bits // 8}").tobytes()
    each = rows.astype(np.uint32)[..., None] >> np.arange(bits)[::-1] & 1
    return np.packbits(each.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def directory(entries, order):
    far, out = 8 + 2 + 12 * len(entries) + 4, b""
    beyond = b""
    for tag, (code, values) in sorted(entries.items()):
        body = struct.pack(f"{order}{len(values)}{CODES[code]}", *values)
        out += struct.pack(order + "HHI", tag, code, len(values))
        out += body.ljust(4, b"\0") if len(body) <= 4 else struct.pack(order + "I", far + len(beyond))
        beyond += body if len(body) > 4 else b""
    return struct.pack(order + "H", len(entries)) + out + bytes(4) + beyond


def top(bits, kind):
    return 1 if kind == "float" else 2 ** (bits - (kind == "signed")) - 1


def grey_samples(bits, kind, photo):
    """The reference in numbers of a kind; their low bytes differ from the high ones, so that no swap goes unseen."""
    share = GREY / 255 + np.where(X % 2, 0.001, -0.001)
    share = np.clip(1 - share if photo == WHITE_IS_ZERO else share, 0, 1)
    return (share if kind == "float" else np.rint(share * top(bits, kind)))[..., None]


def pixels(data):
    image = read_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def notes_of(data):
    with decoding() as item:
        read_image(data)
    return item.notes


NUMBERS = [(1, "unsigned"), (2, "unsigned"), (4, "unsigned"), (8, "unsigned"), (12, "unsigned"), (16, "unsigned")]
NUMBERS += [(32, "unsigned"), (8, "signed"), (16, "signed"), (32, "signed"), (32, "float")]


@pytest.mark.parametrize(("bits", "kind"), NUMBERS)
def test_grey_of_any_samples_is_the_reference(bits, kind):
    for order, packed, photo in itertools.product("<>", (False, True), (BLACK_IS_ZERO, WHITE_IS_ZERO)):
        data = tiff(grey_samples(bits, kind, photo), bits, kind, photo, order=order, packed=packed)
        if order == ">" and (bits, kind) in [(12, "unsigned"), (32, "unsigned")]:
            with pytest.raises(ItemError, match=f"1 x {bits}-bit unsigned samples, .*big-endian: Pillow cannot read"):
                read_image(data)
        else:
            assert np.abs(pixels(data) - GREY[..., None]).max() <= 1 + 127 // top(bits, "unsigned"), (
                order,
                packed,
                photo,
            )


@pytest.mark.parametrize("bits", [16, 64])
def test_floats_that_pillow_does_not_open_are_named(bits):
    with pytest.raises(
        ItemError, match=f"a TIFF of 1 x {bits}-bit float samples, black-is-zero, compression 1, little-endian"
    ):
        read_image(tiff(grey_samples(bits, "float", 1), bits, "float"))


def test_bits_in_the_other_order_are_the_reference():
    for bits in (1, 4, 8):
        difference = pixels(tiff(grey_samples(bits, "unsigned", 1), bits, fill=2)) - GREY[..., None]
        assert np.abs(difference).max() <= 1 + 127 // top(bits, "unsigned")


def in_colours(photo):
    if photo == CMYK:
        return np.dstack([255 - COLOUR, 0 * GREY])
    if photo == LAB:
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(Image.fromarray(COLOUR), rgb, lab, outputMode="LAB"))
    if photo == PALETTE:
        return GREY[..., None]
    return np.asarray(Image.fromarray(COLOUR).convert("YCbCr")) if photo == YCBCR else COLOUR


SHADES = {320: (3, [*range(0, 65_536, 257), *range(65_535, -1, -257), *range(0, 65_536, 257)])}
READ = {RGB: (8, 16), PALETTE: (8,), CMYK: (8, 16), YCBCR: (8,), LAB: (8,)}


@pytest.mark.parametrize("photo", READ)
@pytest.mark.parametrize("planar", [1, 2])
def test_colours_of_any_layout_are_the_reference_or_refused_with_the_reason(photo, planar):
    expected = np.dstack([GREY, 255 - GREY, GREY]) if photo == PALETTE else COLOUR
    own = SHADES if photo == PALETTE else {530: (3, [1, 1])} if photo == YCBCR else {}
    for bits, order, packed in itertools.product(READ[photo], "<>", (False, True)):
        values = in_colours(photo).astype(np.int64) * (257 if bits == 16 else 1)
        data = tiff(values, bits, photo=photo, order=order, packed=packed, planar=planar, tags=own)
        apart = planar == 2 and photo != PALETTE
        if apart and (photo == LAB or (not packed and (bits == 16 or photo == YCBCR))):
            with pytest.raises(
                ItemError, match=r"in separate planes: Pillow (misreads|cannot read) that; convert it to"
            ):
                read_image(data)
        else:  # in 8 bits YCbCr and Lab are coarser than RGB
            assert np.abs(pixels(data) - expected).max() <= (12 if photo == LAB else 4), (bits, order, packed)


def test_a_palette_of_8_bit_colours_is_not_black():
    tags = {320: (3, [*range(256), *range(255, -1, -1), *range(256)])}
    np.testing.assert_array_equal(
        pixels(tiff(GREY[..., None], photo=PALETTE, tags=tags)), np.dstack([GREY, 255 - GREY, GREY])
    )


def test_premultiplied_colours_are_divided_by_their_alpha():
    alpha = np.full_like(GREY, 128)
    values = np.dstack([np.rint(COLOUR * (128 / 255)).astype(np.uint8), alpha])
    assert np.abs(pixels(tiff(values, photo=RGB, tags={338: (3, [1])})) - COLOUR).max() <= 2
    grey = np.dstack([values[..., 0], alpha])
    assert np.abs(pixels(tiff(grey, tags={338: (3, [1])})) - GREY[..., None]).max() <= 2


@pytest.mark.parametrize("tag", [281, 341])
def test_a_depth_that_the_header_states_is_white(tag):
    for bits, kind in ((16, "unsigned"), (16, "signed"), (32, "signed"), (32, "unsigned")):
        values = np.rint(GREY[..., None] / 255 * 4095)
        assert np.abs(pixels(tiff(values, bits, kind, tags={tag: (3, [4095])})) - GREY[..., None]).max() <= 1
    floats = tiff(GREY[..., None].astype(float), 32, "float", tags={tag: (3, [255])})
    np.testing.assert_array_equal(pixels(floats)[..., 0], GREY)
    with pytest.raises(ItemError, match=r"16-bit unsigned samples from .* to 65000; expected 0 to 4095: convert"):
        read_image(tiff(np.full((3, 3, 1), 65_000), 16, tags={tag: (3, [4095])}))
    with pytest.raises(ItemError, match="16-bit RGB with white at 4095: Pillow cannot scale that"):
        read_image(tiff(np.full((3, 3, 3), 4000), 16, photo=RGB, tags={tag: (3, [4095])}))


def test_the_largest_number_that_occurs_is_not_a_depth():
    values = GREY[..., None] * np.uint16(100)
    np.testing.assert_array_equal(pixels(tiff(values, 16, tags={281: (3, [22_000])})), pixels(tiff(values, 16)))


SCALELESS = [
    (16, "signed", -3, 9000, "16-bit signed samples from -3 to 9000; expected 0 to 32767: convert it to 8 bits"),
    (8, "signed", -100, 100, "8-bit signed samples from -100 to 100; expected 0 to 127"),
    (
        32,
        "signed",
        0,
        65_535,
        "32-bit signed samples from 0 to 65535, and its header does not say which number is white",
    ),
    (32, "unsigned", 5, 65_535, "32-bit unsigned samples from 5 to 65535, and its header"),
    (32, "float", -3, 9000, "32-bit float samples from -3 to 9000; expected 0 to 1: convert it to 8 bits"),
    (32, "float", 0, 255, "from 0 to 255; expected 0 to 1"),
    (32, "float", 0, np.nan, "not finite"),
    (32, "float", 0, np.inf, "not finite"),
]


@pytest.mark.parametrize(("bits", "kind", "low", "high", "reason"), SCALELESS, ids=lambda value: str(value)[:30])
def test_samples_without_a_scale_are_refused_with_the_reason(bits, kind, low, high, reason):
    for photo in (BLACK_IS_ZERO, WHITE_IS_ZERO):
        values = np.array([[low, high, low]] * 3, float)[..., None]
        with pytest.raises(ItemError, match=reason):
            read_image(tiff(values, bits, kind, photo))


def test_a_picture_that_uses_little_of_sixteen_bits_is_told_of():
    assert "nearly black" in notes_of(tiff(GREY[..., None] * np.uint16(16), 16))[0]
    assert "nearly white" in notes_of(tiff(GREY[..., None] * np.uint16(16), 16, photo=WHITE_IS_ZERO))[0]
    assert not notes_of(tiff(GREY[..., None] * np.uint16(257), 16)) and not notes_of(tiff(GREY[..., None] * 0, 16))


def test_sixteen_bits_keep_their_upper_byte():
    assert pixels(tiff(np.array([[0x64FF, 0x6400, 0xFFFF]])[..., None], 16))[0, :, 0].tolist() == [100, 100, 255]


def test_a_damaged_number_of_bits_or_an_unknown_compression_is_refused_at_once():
    many = tiff(np.zeros((3, 3, 3)), photo=RGB, tags={258: (3, [8, 8, 8, *[65_535] * 200])})
    assert read_image(many).size == (3, 3)  # the rest is no band's
    with pytest.raises(ItemError, match=r"1 x 8-bit unsigned samples, black-is-zero, compression 33003, little-endian"):
        read_image(tiff(np.zeros((3, 3, 1)), tags={259: (3, [33_003])}))


def png(values, bits, colour, *chunks):
    """A PNG by hand: Pillow writes no colours of 16 bits."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(chunk, parts))


@pytest.mark.parametrize("bits", [8, 16])
def test_pngs_are_the_reference(bits):
    times, opaque = (1, 257)[bits == 16], np.full_like(GREY, 255)
    of_three = np.dstack([GREY] * 3)
    for colour, values, expected in (
        (0, GREY[..., None], of_three),
        (2, COLOUR, COLOUR),
        (4, np.dstack([GREY, opaque]), of_three),
        (6, np.dstack([COLOUR, opaque // 2]), COLOUR),
    ):
        many = values.astype(np.uint32) * times
        chunks = [[], [(b"sBIT", bytes([8] * values.shape[2]))]]
        if colour in (0, 2):
            chunks.append([(b"tRNS", many[0, 0].astype(">u2").tobytes())])
        for more in chunks:
            np.testing.assert_array_equal(pixels(png(many, bits, colour, *more)), expected)


@pytest.mark.parametrize("white", [1, 15, 100, 255, 1000, 4095, 65_535])
def test_portable_maps_of_any_white_are_the_reference(white):
    for bands, plain, raw in ((1, b"P2", b"P5"), (3, b"P3", b"P6")):
        values = np.rint(COLOUR[..., :bands] / 255 * white).astype(int)
        head = b"\n%d %d\n%d\n" % (*values.shape[1::-1], white)
        written = " ".join(map(str, values.ravel())).encode(), values.astype(">u2" if white > 255 else "u1").tobytes()
        for magic, body in zip((plain, raw), written, strict=True):
            assert np.abs(pixels(magic + head + body) - COLOUR[..., :bands]).max() <= 1 + 127 // white


def test_float_maps_are_the_reference():
    body = (GREY / 255).astype("<f4")[::-1].tobytes()
    assert np.abs(pixels(b"Pf\n32 24\n-1.0\n" + body) - GREY[..., None]).max() <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_of_pillow_that_a_file_may_have(mode):
    made = Image.fromarray(COLOUR)
    if mode == "LAB":
        made = Image.fromarray(in_colours(LAB), "LAB")
    else:
        made = made.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)).convert(mode)
    for kind in ("TIFF", "PNG", "JPEG", "GIF", "WEBP", "BMP", "TGA", "JPEG2000"):
        file = io.BytesIO()
        try:
            made.save(file, kind, lossless=True, quality=95)
        except (OSError, ValueError):
            continue  # not a mode of that format
        grey = mode in ("1", "L", "LA", "La")
        expected = np.asarray(
            Image.fromarray(COLOUR).convert("1" if mode == "1" else "L" if grey else "RGB").convert("RGB")
        )
        difference = np.abs(pixels(file.getvalue()) - expected)
        assert difference.mean() < (20 if kind in ("GIF", "JPEG") or mode in ("P", "PA") else 3), kind


def test_an_inverted_jpeg_of_four_inks_is_the_reference():
    file = io.BytesIO()
    Image.fromarray(in_colours(CMYK), "CMYK").save(file, "JPEG", quality=95, subsampling=0)
    assert b"Adobe" in file.getvalue()  # which makes it an inverted one
    assert np.abs(pixels(file.getvalue()) - COLOUR).mean() < 4


def saved(array, mode=None):
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, "PNG")
    return file.getvalue()


def shape(seen, hidden, alpha=255):
    """A disc of one colour; what lies around it is transparent."""
    disc = (Y - 11) ** 2 + (X - 17) ** 2 < 64
    colours = np.where(disc[..., None], np.array(seen, np.uint8), hidden)
    return np.dstack([colours, np.where(disc, alpha, 0)]).astype(np.uint8)


def test_a_shape_that_is_in_its_transparency_alone_is_told_of():
    for seen, hidden in (((0, 0, 0), (0, 0, 0)), ((255, 255, 255), (255, 255, 255)), ((9, 0, 3), (0, 0, 0))):
        assert "put it on a ground" in notes_of(saved(shape(seen, hidden)))[0]
    assert "put it on a ground" in notes_of(saved(shape((0, 0, 0), (0, 0, 0))[..., 2:], "LA"))[0]
    file = io.BytesIO()
    Image.fromarray(shape((0, 0, 0), (0, 0, 0))).convert("P").save(file, "PNG", transparency=bytes([0] * 256))
    assert "put it on a ground" in notes_of(file.getvalue())[0]


def test_what_was_cut_out_and_is_seen_again_is_told_of():
    noise = np.random.default_rng(0).integers(0, 255, COLOUR.shape)
    assert "was cut out is there again" in notes_of(saved(shape((200, 0, 0), noise)))[0]


def test_plain_grounds_and_opaque_pictures_are_not_told_of():
    for array in (shape((200, 0, 0), (0, 0, 0)), shape((0, 0, 0), (255, 255, 255)), np.dstack([COLOUR, GREY | 1])):
        assert not notes_of(saved(array))
    assert not notes_of(saved(COLOUR)) and not notes_of(tiff(GREY[..., None] * np.uint16(257), 16))


# Thin pictures.


def strip_of(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_the_ends_of_a_thin_picture_are_cut_and_its_middle_stays():
    for width, height in ((20_000, 1), (20_001, 1), (1, 20_001), (999, 3), (1000, 3), (5, 777)):
        whole = strip_of(width, height)
        cut = cut_ends(whole)
        assert max(cut.size) - LONGEST * min(cut.size) in (0, 1)
        across, down = (width - cut.width) // 2, (height - cut.height) // 2
        middle = np.asarray(whole)[down : height - down, across : width - across]
        np.testing.assert_array_equal(np.asarray(cut), middle)
        np.testing.assert_array_equal(pixels(saved(np.asarray(whole))), middle)
    for width, height in ((500, 5), (5, 500), (640, 480), (1, 1), (7, 700)):
        assert cut_ends(strip_of(width, height)).size == (width, height)


def test_a_picture_can_be_had_whole():
    assert read_image(saved(np.zeros((1, 999, 3), np.uint8)), longest=np.inf).size == (999, 1)
    assert "more than 100 times as long as wide" in notes_of(saved(np.zeros((1, 999, 3), np.uint8)))[0]


@pytest.mark.parametrize("size", [(4000, 1), (4001, 1), (1, 3001), (805, 7), (13, 1400), (321, 3)])
def test_a_cut_picture_is_scaled_to_the_middle_that_the_whole_would_give(size):
    smooth = Image.fromarray(
        np.rint(127 + 100 * np.sin(np.arange(max(size)) / 3)).astype(np.uint8)[None].repeat(min(size), 0)
    ).convert("RGB")
    whole = smooth if size[0] > size[1] else smooth.transpose(Image.Transpose.TRANSPOSE)

    def middle(image):
        scale = 32 / min(image.size)
        wide = image.resize(
            [32 if edge == min(image.size) else int(edge * scale) for edge in image.size], Image.BICUBIC
        )
        left, top = (round((edge - 32) / 2) for edge in wide.size)
        return np.asarray(wide.crop((left, top, left + 32, top + 32))).astype(int)

    step = 100 * 2 * min(size) / 32 / 3  # what half a pixel of the result is worth in this wave
    assert np.abs(middle(cut_ends(whole)) - middle(whole)).max() <= 1 + step


# Memory.


def webp(width, height):
    """A canvas and no picture, as long as a file may be small."""
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + body + b"VP8 "


def lossless_webp(width, height):
    body = b"WEBPVP8L" + struct.pack("<IBI", 5, 0x2F, width - 1 | height - 1 << 14) + b"\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def plain_webp(width, height):
    body = b"WEBPVP8 " + struct.pack("<I", 10) + b"\x30\1\0\x9d\1\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon(width, height):
    inner = png(np.zeros((1, 1, 4)), 8, 6)
    inner = inner[:16] + struct.pack(">II", width, height) + inner[24:29] + inner[29:]
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 22) + inner


def tiled(side):
    """A picture of nine pixels in a tile of any size."""
    tags = {322: (4, [side]), 323: (4, [side]), 324: (4, [8]), 325: (4, [9])}
    return tiff(np.zeros((3, 3, 1)), packed=True, tags=tags)


def texts(count):
    text = zlib.compress(bytes(1 << 20))
    return png(np.zeros((2, 2, 1)), 8, 0, *[(b"zTXt", b"k%d\0\0" % index + text) for index in range(count)])


def unpacked(kind, width, height, **options):
    file = io.BytesIO()
    Image.new("P" if kind == "GIF" else "RGB", (width, height)).save(file, kind, **options)
    return file.getvalue()


BOMBS = {
    "webp canvas": lambda: webp(13_000, 13_000),
    "lossless webp": lambda: lossless_webp(13_000, 13_000),
    "webp": lambda: plain_webp(13_000, 13_000),
    "icon": lambda: icon(13_000, 13_000),
    "tile": lambda: tiled(30_000),
    "offsets": lambda: tiff(np.zeros((3, 3, 1)), tags={324: (4, [8] * 200_000)}),
    "bits": lambda: tiff(np.zeros((3, 3, 1)), tags={258: (3, [8] * 1_000_000)}),
    "texts": lambda: texts(40),
    "png": lambda: unpacked("PNG", 3000, 3000),
    "gif": lambda: unpacked("GIF", 3000, 3000),
    "jpeg": lambda: unpacked("JPEG", 3000, 3000),
    "avif": lambda: unpacked("AVIF", 1800, 1800, speed=10),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_takes_more_than_the_budget_is_refused_undecoded(name, monkeypatch):
    def never(*_, **__):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(common.BUDGET, "total", 50 << 20)
    if name == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = BOMBS[name]()
    before = name in ("webp canvas", "lossless webp", "webp", "icon", "texts", "offsets", "bits")
    monkeypatch.setattr("PIL.Image.open" if before else "PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(ItemError, match=r"decoding it takes [\d,]+ MB; at most 52 MB are given"):
        read_image(data)


def test_a_giant_tag_is_refused_unread(monkeypatch):
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1_000_000, 26, 0) + bytes(2_000_000)
    data = png(np.zeros((2, 2, 3)), 8, 2, (b"eXIf", exif))
    assert read_image(data).size == (2, 2)
    monkeypatch.setattr(common.BUDGET, "total", 50 << 20)
    monkeypatch.setattr("PIL.Image.Exif.get", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ItemError, match="at most 52 MB are given"):
        read_image(data)


@pytest.mark.parametrize(
    "start", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"SIMPLE  =  T", b"BLP1", b"icns"]
)
def test_formats_that_run_or_hide_something_are_not_opened(start):
    with pytest.raises(ItemError, match="not a picture"):
        read_image(start.ljust(4000, b" "))
