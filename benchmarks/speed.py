"""How fast is it? Each row a ratio measured side by side in one run, into benchmarks/README.md.

    make bench            # or: python benchmarks/speed.py --rounds 5

A row alternates the two sides round by round, so that a busy machine slows both; it states the median ratio and range.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# As the command line does, and before anything loads OpenMP: threads that wait sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from PIL import Image
from quality import replace

from cmcr import Modality, load_encoder
from cmcr.embed import embed
from cmcr.encoders.point_bert import PointBert, group_points
from cmcr.items import read_items
from cmcr.tiny import world

README = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class Row:
    """One comparison: two callables that give the same answer, and what their ratio means."""

    what: str
    ours: Callable[[], object]
    other: Callable[[], object]
    unit: str
    setting: str


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(row: Row, rounds: int) -> str:
    """Return the Markdown line of a comparison."""
    row.ours()
    row.other()
    pairs = [(seconds(row.ours), seconds(row.other)) for _ in range(rounds)]
    ratios = sorted(ours / other for ours, other in pairs)
    ours, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    shown = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    sys.stderr.write(f"{row.what}: {shown}\n")
    return f"| {row.what} | {row.setting} | {ours:.3f} s | {other:.3f} s | {shown} | {row.unit} |"


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    """Return random unit vectors."""
    x = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def start_up() -> Iterator[Row]:
    """Compare starting the command line with starting Python."""
    # As in an installed package, whose bytecode lies beside it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=False, env=environment)

    bare = run("-c", "pass")
    yield Row("`cmcr --help`", run("-m", "cmcr", "--help"), bare, "times `python -c pass`", "process")
    yield Row("a usage error", run("-m", "cmcr", "connect", "x"), bare, "times `python -c pass`", "process")


def embedding(folder: Path) -> Iterator[Row]:
    """Compare the pipeline (read, decode, encode, write) with a plain loop over the same items."""
    scenes = world.train_scenes(400, 0)
    world.write_images(folder / "images", scenes, 0)
    world.write_sounds(folder / "sounds", scenes, 0)
    world.write_clouds(folder / "clouds", scenes, 0)
    write_photos(folder / "photos", 128)
    save_clip(folder / "ViT-B-32-quickgelu-openai.pt")
    for name, count in (("texts", 20_000), ("captions", 256)):
        (folder / f"{name}.txt").write_text("".join(f"a picture of thing {n} and {7 * n}\n" for n in range(count)))
    yield pipeline(folder, "tiny-clip", "images", Modality.IMAGE)
    yield pipeline(folder, "tiny-clap", "sounds", Modality.AUDIO)
    yield pipeline(folder, "tiny-ulip", "clouds", Modality.POINT_CLOUD)
    yield pipeline(folder, "tiny-clip", "texts.txt", Modality.TEXT)
    yield pipeline(folder, "clip", "photos", Modality.IMAGE)
    yield pipeline(folder, "clip", "captions.txt", Modality.TEXT)


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs of 600 x 480 pixels."""
    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((600, 480), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def save_clip(path: Path) -> None:
    """Save a random CLIP ViT-B/32 of full size."""
    import open_clip

    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**open_clip.get_model_config("ViT-B-32-quickgelu")).state_dict(), path)


def pipeline(folder: Path, name: str, part: str, modality: Modality) -> Row:
    """Return the row of one encoder and modality."""
    encoder = load_encoder(name, weights=[folder] if name == "clip" else [])
    inputs = read_items(str(folder / part), modality, encoder.modalities)
    fresh = itertools.count()

    def loop() -> None:
        for start in range(0, len(inputs.items), 64):
            items = inputs.items[start : start + 64]
            encoder.encode(modality, [encoder.prepare(item, item.read()) for item in items])

    return Row(
        f"embed {part}",
        lambda: embed(encoder, inputs, folder / f"mem-{part}-{next(fresh)}"),
        loop,
        "times read, decode and encode in a plain loop",
        f"{len(inputs.items)} items, {'random CLIP ViT-B/32' if name == 'clip' else name}",
    )


def point_bert() -> Iterator[Row]:
    """Compare the cutting of clouds with the network that reads the pieces, and a batch with its clouds one by one."""
    clouds = [unit(8192, 3, seed) for seed in range(16)]
    network = PointBert().eval()
    groups = torch.from_numpy(np.stack([group_points(cloud) for cloud in clouds]))

    @torch.inference_mode()
    def read(batch: int) -> None:
        for part in groups.split(batch):
            network(part)

    @torch.inference_mode()
    def read_one() -> None:
        network(groups[:1])

    setting = "random Point-BERT, 8,192 points"
    yield Row("farthest points and neighbours", lambda: group_points(clouds[0]), read_one, "times the network", setting)
    yield Row("16 clouds in a batch", lambda: read(16), lambda: read(1), "times one by one", setting)


def main() -> None:
    """Measure every row and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    lines = ["| what | setting | ours | other | ratio: median (range) | ratio to |", "|---|---|--:|--:|--:|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for rows in (start_up(), point_bert(), embedding(Path(folder))):
            lines += [measure(row, rounds) for row in rows]
    about = (
        f"`make bench`: {rounds} rounds, both sides of a row in turn; {torch.get_num_threads()} CPU threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores. Lower is better; "
        "1.00 is the speed of what stands in the last column."
    )
    replace(README, "speed", f"## Speed\n\n{about}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
