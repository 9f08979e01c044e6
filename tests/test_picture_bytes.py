"""What a header tells of the memory that a picture takes, against what reading it takes."""

import io
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features

# Each file is read alone: its peak is what the process grew by, every large block being given back at once.
CHILD = """
import json, sys
from pathlib import Path
import cmcr.decode.images as images

told = []
images.reserve = told.append

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

found = {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    data = file.read_bytes()
    for _ in range(2):  # the first time loads what the format needs
        told.clear()
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        images.read_image(data)
        taken = status("VmHWM") - before
    found[file.name] = [sum(told), taken]
print(json.dumps(found))
"""
WIDTH, HEIGHT = 1600, 1500


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def icon(png):
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(png), 22) + png


def one_strip(image, **options):
    return saved(image, "TIFF", strip_size=1 << 30, **options)


def files():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 4), dtype=np.uint8), "RGBA")
    smooth = noise.resize((9, 9)).resize(noise.size)
    rgb, plain = noise.convert("RGB"), smooth.convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = np.asarray(rgb.convert("L"))
    frames = {"save_all": True, "append_images": [smooth.convert("RGB").rotate(angle) for angle in (10, 20)]}
    greys = {
        "I;16": grey.astype(np.uint16) * 257,
        "I": grey.astype(np.int32) * 8_421_504,
        "F": grey / np.float32(255),
    }
    for name, samples in greys.items():
        yield f"tiff {name}", saved(Image.fromarray(samples), "TIFF")
        yield f"tiff lzw {name}", one_strip(Image.fromarray(samples), compression="tiff_lzw")
    yield "png 16", saved(Image.fromarray(greys["I;16"]), "PNG")
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA"):
        yield f"png {mode}", saved(rgb.convert(mode) if mode == "P" else noise.convert(mode), "PNG", compress_level=1)
        yield f"tiff {mode}", one_strip(rgb.convert(mode) if mode == "P" else noise.convert(mode))
    yield "png turned", saved(rgb, "PNG", exif=turned, compress_level=1)
    yield "png animated", saved(plain, "PNG", **frames)
    for mode in ("L", "RGB", "CMYK"):
        yield f"jpeg {mode}", saved(plain.convert(mode), "JPEG", subsampling=0)
        yield f"jpeg progressive {mode}", saved(plain.convert(mode), "JPEG", progressive=True, quality=50)
        yield f"jpeg 2000 {mode}", saved(plain.convert(mode), "JPEG2000")
    yield "jpeg turned", saved(plain, "JPEG", exif=turned, progressive=True)
    for mode in ("RGB", "RGBA"):
        for lossless in (False, True):
            yield f"webp {mode} {lossless}", saved(noise.convert(mode), "WEBP", lossless=lossless, method=0)
        if features.check("avif"):
            yield f"avif {mode}", saved(smooth.convert(mode), "AVIF", speed=10, subsampling="4:4:4")
    yield "webp animated", saved(plain, "WEBP", method=0, **frames)
    yield "gif", saved(rgb, "GIF")
    yield "gif animated", saved(plain, "GIF", **frames)
    for compression in ("tiff_adobe_deflate", "jpeg", "lzma", "zstd", "packbits"):
        yield f"tiff {compression}", one_strip(plain, compression=compression)
    for kind in ("BMP", "TGA", "PCX", "SGI", "QOI"):
        yield kind, saved(plain, kind)
    yield "icon", icon(saved(smooth, "PNG"))
    levels = (grey.astype(">u2") * 4).tobytes()
    yield "pgm", b"P5 %d %d 1023\n" % (WIDTH, HEIGHT) + levels
    yield "pgm in text", b"P2 %d %d 1023\n" % (WIDTH, HEIGHT) + b"1023 " * (WIDTH * HEIGHT)
    yield "ppm", b"P6 %d %d 200\n" % (WIDTH, HEIGHT) + bytes(WIDTH * HEIGHT * 3)
    yield "ppm in text", b"P3 %d %d 255\n" % (WIDTH, HEIGHT) + b"9 0 9 " * (WIDTH * HEIGHT)


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be measured")
def test_no_picture_takes_more_memory_than_was_reserved_for_it(tmp_path):
    for name, data in files():
        (tmp_path / name.replace(";", "")).write_bytes(data)
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, env=settings).stdout)
    too_low = {name: (told, taken) for name, (told, taken) in found.items() if taken > 1.03 * told}
    assert not too_low
    assert all(taken > WIDTH * HEIGHT for _, taken in found.values())  # it was measured indeed
