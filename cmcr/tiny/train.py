"""Train the tiny spaces: ``python -m cmcr.tiny.train [--space tiny-clip] [--steps N] [--out DIR]``.

Each space sees pairs of its own two modalities and nothing else: ``pairs`` renders exactly the two modalities that
``SPECS`` gives it, from scenes that no other space sees (each has its own seed), and only from combinations that are
not held out. Image and audio, or cloud and text, never meet here.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from cmcr.files import write_atomic
from cmcr.modality import Modality
from cmcr.numbers import info_nce
from cmcr.tiny import prepare
from cmcr.tiny.captions import picture_caption, sound_caption
from cmcr.tiny.pictures import draw
from cmcr.tiny.scene import Scene, train_scenes
from cmcr.tiny.shapes import shape
from cmcr.tiny.sounds import sound
from cmcr.tiny.towers import SPECS, TOKENS, TinySpace, weights_path

PAIRS, BATCH = 12_288, 256
LEARNING_RATE = 3e-3

_CAPTION = {"tiny-clip": picture_caption, "tiny-clap": sound_caption}

log = logging.getLogger("cmcr.tiny.train")


def render(name: str, modality: Modality, scene: Scene, rng: np.random.Generator) -> np.ndarray | str:
    """Make one side of a pair: what the tower of ``modality`` reads, or the caption itself."""
    match modality:
        case Modality.IMAGE:
            return prepare.pixels(draw(scene, rng))
        case Modality.AUDIO:
            return prepare.log_mel(sound(scene, rng))
        case Modality.POINT_CLOUD:
            return prepare.patches(shape(scene, rng))
        case Modality.TEXT:
            return _CAPTION[name](scene, rng)
        case _:
            raise ValueError(modality)


Pair = tuple[np.ndarray | str, np.ndarray | str]


def pairs(name: str, n: int) -> Iterator[Pair]:
    """Yield ``n`` pairs of the two modalities of space ``name``, from its own scenes."""
    spec = SPECS[name]
    for number, scene in enumerate(train_scenes(n, spec.seed)):
        rng = np.random.default_rng([spec.seed, number])
        first, second = (render(name, modality, scene, rng) for modality in spec.modalities)
        yield first, second


def tensors(name: str, n: int) -> tuple[dict[Modality, Tensor], tuple[str, ...]]:
    """Render ``n`` pairs; return the towers' inputs by modality, row by row paired, and the text tower's vocabulary."""
    sides = list(zip(*pairs(name, n), strict=True))
    vocabulary: tuple[str, ...] = ()
    inputs = {}
    for modality, side in zip(SPECS[name].modalities, sides, strict=True):
        if modality is Modality.TEXT:
            texts = [TOKENS[name](str(caption)) for caption in side]
            vocabulary = tuple(sorted({token for tokens in texts for token in tokens}))
            row_of = {token: row for row, token in enumerate(vocabulary)}
            side = tuple(prepare.bag(tokens, row_of) for tokens in texts)
        inputs[modality] = torch.from_numpy(np.stack(side))
    return inputs, vocabulary


def _vary(modality: Modality, x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift pictures by a few pixels, sounds by a few frames, clouds by a little: cheap variety, attributes kept."""
    dx, dy = (int(v) for v in torch.randint(-4, 5, (2,), generator=generator))
    if modality is Modality.IMAGE:
        return x.roll((dx, dy), (2, 3))
    if modality is Modality.AUDIO:
        return x.roll(abs(dx), 3)
    if modality is Modality.POINT_CLOUD:
        return x * (1 + 0.03 * torch.randn((len(x), 1, 1, 3), generator=generator))
    return x


def train(name: str, steps: int, n: int = PAIRS, batch: int = BATCH) -> TinySpace:
    """Train the two towers of space ``name`` by symmetric InfoNCE with a learned temperature; same call, same bytes."""
    started = time.monotonic()
    inputs, vocabulary = tensors(name, n)
    log.info("%s: %d pairs rendered in %.0f s", name, n, time.monotonic() - started)
    generator = torch.Generator().manual_seed(SPECS[name].seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SPECS[name].seed)
        space = TinySpace(name, vocabulary).to(memory_format=torch.channels_last)
    log_tau = torch.nn.Parameter(torch.tensor(0.1).log())
    optimiser = torch.optim.Adam([*space.parameters(), log_tau], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    first, second = space.spec.modalities
    for step in range(steps):
        if step % (n // batch) == 0:
            order = torch.randperm(n, generator=generator)
        rows = order[(step % (n // batch)) * batch :][:batch]
        x, y = (space(m, _vary(m, inputs[m][rows], generator)) for m in (first, second))
        loss = info_nce(x, y, log_tau.exp().clamp(min=0.02))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            log.info("%s: step %d loss %.3f tau %.3f, %.0f s", name, step + 1, loss.item(), log_tau.exp().item(),
                     time.monotonic() - started)  # fmt: skip
    return space.eval()


def to_bytes(space: TinySpace) -> bytes:
    """Serialise a space as safetensors in half precision, with its name, vocabulary and preprocessing version."""
    state = {key: t.half().contiguous() for key, t in space.state_dict().items() if t.is_floating_point()}
    about = {"space": space.name, "version": prepare.VERSION, "vocabulary": space.vocabulary}
    return save(state, metadata={"cmcr": json.dumps(about)})  # one key: safetensors writes several in any order


def _train_and_write(name: str, steps: int, out: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # one core a space is the best use of two, and the bytes do not depend on their number
    write_atomic(out / f"{name}.safetensors", to_bytes(train(name, steps)))


def main(argv: list[str] | None = None) -> None:
    """Train one space or all, two at a time, and write their weights."""
    parser = argparse.ArgumentParser(prog="python -m cmcr.tiny.train", description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=list(SPECS), action="append", help="default: all three")
    parser.add_argument("--steps", type=int, help="default: what each space needs")
    parser.add_argument("--out", type=Path, default=weights_path("x").parent, help="default: inside the package")
    arguments = parser.parse_args(argv)
    longest_first = sorted(arguments.space or SPECS, key=lambda name: -SPECS[name].steps)
    work = [(name, arguments.steps or SPECS[name].steps, arguments.out) for name in longest_first]
    with multiprocessing.get_context("spawn").Pool(2) as pool:  # more would not shorten the longest
        pool.starmap(_train_and_write, work, chunksize=1)


if __name__ == "__main__":
    main()
