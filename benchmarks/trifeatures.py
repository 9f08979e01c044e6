"""Bimodal Trifeatures: what a fused vector keeps of what is shared, of what is unique, and of what only both tell.

python benchmarks/trifeatures.py FOLDER [--seeds 5] [--epochs 4] [--objectives comm cross cross-self untrained]

Pictures of 10 shapes x 10 textures x 10 colours are made here; nothing is downloaded. A pair is two pictures of one
shape. A small convolutional tower for each of the two, the transformer of ``cmcr fuse`` and its losses are trained
together, pictures augmented anew in every step. Then linear probes: redundancy (the shape), uniqueness (the texture of
picture 1, and of picture 2), and synergy (is the pair of texture 1 and colour 2 one of ten that belong together?), for
which the towers are trained on such pairs alone. Each result is a line of FOLDER/results.jsonl; what is there is not
made again. ``--table`` prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from cmcr.devices import has_bf16
from cmcr.fuse.network import Fusion, projection_head
from cmcr.fuse.objective import loss_of
from cmcr.fuse.settings import FuseSettings

PIXELS, OBJECT = 32, 24
RENDERS = 3
COLOURS = np.array([
    (220, 40, 40), (240, 140, 30), (240, 230, 50), (50, 180, 60), (60, 210, 220),
    (50, 80, 220), (140, 60, 190), (250, 150, 200), (245, 245, 245), (110, 70, 40),
]) / 255  # fmt: skip
OBJECTIVES = ("comm", "cross", "cross-self", "untrained")
COSTS = (0.001, 0.01, 0.1, 1.0)


class Pictures(NamedTuple):
    """(N, 3, H, W) float32 in [0, 1], and (N, 3) the number of shape, texture and colour."""

    pixels: Tensor
    attributes: np.ndarray


class Pairs(NamedTuple):
    """(P, 2) numbers of pictures."""

    numbers: np.ndarray
    matched: np.ndarray


def shape_of(number: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return where a shape is; u and v run from -1 to 1 over the object, v downwards."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    box = np.maximum(abs(u), abs(v))
    star = 0.55 + 0.45 * np.cos(5 * (angle + np.pi / 2))
    shapes = [
        radius < 0.85,
        box < 0.75,
        (v > 2 * abs(u) - 0.9) & (v < 0.75),
        (np.minimum(abs(u), abs(v)) < 0.28) & (box < 0.9),
        radius < 0.35 + 0.6 * np.clip(star, 0, 1) ** 1.5,
        (radius < 0.95) & (radius > 0.5),
        (abs(u) < 0.95) & (abs(v) < 0.38),
        (box < 0.9) & ((u < -0.3) | (v > 0.3)),
        (box < 0.9) & ((v < -0.3) | (abs(u) < 0.3)),
        (radius < 0.95) & (np.hypot(u - 0.45, v) > 0.65),
    ]
    return shapes[number]


def texture_of(number: int, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a texture in [0, 1]; its phase is drawn."""
    a, b = rng.uniform(0, 2 * np.pi, 2)
    cells = rng.integers(2, size=(12, 12))
    at = [((each + 1.5) * 3.99).astype(int).clip(0, 11) for each in (u, v)]
    slow_u, slow_v, fast = np.sin(6 * u + a), np.sin(6 * v + b), np.sin(14 * u + a)
    mid_u, mid_v = np.sin(9 * u + a), np.sin(9 * v + b)
    textures = [
        np.ones_like(u),
        slow_u > 0,
        slow_v > 0,
        fast > 0,
        slow_u * slow_v > 0,
        (mid_u > 0) & (mid_v > 0),
        (mid_u > 0.5) | (mid_v > 0.5),
        np.sin(13 * np.hypot(u, v) + a) > 0,
        np.sin(4 * np.arctan2(v, u) + a) > 0,
        cells[at[0], at[1]],
    ]
    return textures[number].astype(float)


def render(shape: int, texture: int, colour: int, rng: np.random.Generator) -> np.ndarray:
    """Return a (3, H, W) picture: turned by up to 45 degrees, somewhere before grey, drawn twice as fine."""
    fine = 2 * PIXELS
    y, x = (np.mgrid[:fine, :fine] + 0.5) / 2
    room = (PIXELS - OBJECT) / 2
    x, y = ((each - PIXELS / 2 - rng.uniform(-room, room)) / (OBJECT / 2) for each in (x, y))
    turn = rng.uniform(-np.pi / 4, np.pi / 4)
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    inside = shape_of(shape, u, v)[None]
    shade = (0.3 + 0.7 * texture_of(texture, u, v, rng))[None]
    drawn = np.where(inside, COLOURS[colour][:, None, None] * shade, 0.5)
    return drawn.reshape(3, PIXELS, 2, PIXELS, 2).mean(axis=(2, 4)).astype(np.float32)


def make_pictures(seed: int) -> tuple[Pictures, Pictures]:
    """Return pictures to train on (3 of each of 800 combinations) and to test on (1 of each of the other 200)."""
    rng = np.random.default_rng([seed, 1])
    combos = rng.permutation(1000)
    made = []
    for part, renders in ((combos[:800], RENDERS), (combos[800:], 1)):
        attributes = np.array([(c // 100, c // 10 % 10, c % 10) for c in part for _ in range(renders)])
        pixels = np.stack([render(*each, rng) for each in attributes])
        made.append(Pictures(torch.from_numpy(pixels), attributes))
    return made[0], made[1]


def draw_pairs(attributes: np.ndarray, count: int, partner: np.ndarray, share: float | None, seed: list[int]) -> Pairs:
    """Return pairs of one shape, drawn at random.

    Args:
        attributes: (N, 3).
        count: How many pairs.
        partner: (10,) the colour that belongs to each texture.
        share: How many of them have the colour 2 that belongs to texture 1; None: as it comes.
        seed: Of the draw.
    """
    rng, shapes, found = np.random.default_rng(seed), attributes[:, 0], []
    of_shape = [np.flatnonzero(shapes == number) for number in range(10)]
    wanted = np.full(count, -1) if share is None else (np.arange(count) < share * count).astype(int)
    for want in wanted:
        while True:
            one, two = rng.choice(of_shape[rng.integers(10)], 2)
            matched = partner[attributes[one, 1]] == attributes[two, 2]
            if want in (-1, int(matched)):
                break
        found.append((one, two, matched))
    table = np.array(found)
    return Pairs(table[:, :2], table[:, 2])


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Crop 40 to 100 % of the area, flip, and change brightness, contrast, saturation (0.2) and hue (0.02) of 80 %."""
    n = len(pictures)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    side = uniform(0.4, 1.0).sqrt()
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side * flip, side
    theta[:, 0, 2], theta[:, 1, 2] = (1 - side) * uniform(-1, 1), (1 - side) * uniform(-1, 1)
    grid = nn.functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    cut = nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    acts = (uniform(0, 1) < 0.8).float()[:, None, None, None]
    bright, contrast, colour = (uniform(0.8, 1.2)[:, None, None, None] for _ in range(3))
    grey = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    changed = cut * bright
    middle = (changed * grey).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    changed = middle + contrast * (changed - middle)
    luma = (changed * grey).sum(dim=1, keepdim=True)
    changed = turned_hue(luma + colour * (changed - luma), uniform(-0.02, 0.02) * 2 * torch.pi)
    return (acts * changed + (1 - acts) * cut).clamp(0, 1)


def turned_hue(pictures: Tensor, angle: Tensor) -> Tensor:
    """Turn colours around the grey axis, (N,) radians."""
    cos, sin = angle.cos(), angle.sin()
    third, cross = (1 - cos) / 3, sin / 3**0.5
    matrix = torch.stack([third + cos, third - cross, third + cross], dim=1)
    matrix = torch.stack([matrix, matrix.roll(1, 1), matrix.roll(2, 1)], dim=1)
    return torch.einsum("nij,njhw->nihw", matrix, pictures)


class Tower(nn.Module):
    """Three convolutions, and their 2 x 2 map as one token: (N, 3, 32, 32) -> (N, 1, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel in ((3, 32, 5), (32, 64, 3), (64, 128, 3)):
            layers += [
                nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(512, width))
        self.to(memory_format=torch.channels_last)

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
            token = self.body(pictures.to(memory_format=torch.channels_last))
        return token.float()[:, None]


def train(pictures: Pictures, pairs: Pairs, settings: FuseSettings, untrained: bool) -> Fusion:
    """Return towers and transformer, trained by the loss of ``settings``."""
    torch.manual_seed(settings.seed)
    net = Fusion([Tower(settings.width), Tower(settings.width)], settings.width)
    head = projection_head(settings.width)
    whole = nn.ModuleList([net, head])
    optimiser = torch.optim.AdamW(whole.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)
    steps = settings.epochs * (len(pairs.numbers) // settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    present = torch.ones(settings.batch, 2, dtype=torch.bool)
    whole.train()
    for _ in range(20 if untrained else 0):  # of an untrained one, BatchNorm learns what is usual
        with torch.no_grad():
            draw = torch.randint(len(pairs.numbers), (settings.batch,), generator=generator).numpy()
            for m in (0, 1):
                net.tokens(m, pictures.pixels[pairs.numbers[draw, m]])
    step = 0
    for _ in range(0 if untrained else settings.epochs):
        order = torch.randperm(len(pairs.numbers), generator=generator).numpy()
        for start in range(0, len(order) - settings.batch + 1, settings.batch):
            rows = pairs.numbers[order[start : start + settings.batch]]
            originals = [pictures.pixels[rows[:, m]] for m in (0, 1)]
            views = [[augment(each, generator) for each in originals] for _ in range(2)]
            optimiser.zero_grad()
            loss_of(net, head, views, present, settings).backward()
            optimiser.step()
            schedule.step()
            step += 1
    return net.eval()


@torch.inference_mode()
def embed(net: Fusion, pictures: Pictures, pairs: Pairs, joint: bool) -> np.ndarray:
    """Return (P, D) vectors of pairs: fused, or of each picture alone, side by side."""
    tokens = [net.tokens(m, pictures.pixels) for m in (0, 1)]
    if joint:
        own = [tokens[m][pairs.numbers[:, m]] for m in (0, 1)]
        return net.fuse(own, torch.ones(len(pairs.numbers), 2, dtype=torch.bool)).numpy()
    return torch.cat([net.alone(m, tokens[m])[pairs.numbers[:, m]] for m in (0, 1)], dim=1).numpy()


def probe(x: np.ndarray, y: np.ndarray, tested: np.ndarray, truth: np.ndarray) -> float:
    """Return the accuracy of a linear probe, its cost chosen on 40 % of the rows it learns from."""
    scaler, cut = StandardScaler().fit(x), int(0.6 * len(x))
    x, tested = scaler.transform(x), scaler.transform(tested)
    order = np.random.default_rng(0).permutation(len(x))
    one, two = order[:cut], order[cut:]
    scores = [LogisticRegression(C=cost, max_iter=500).fit(x[one], y[one]).score(x[two], y[two]) for cost in COSTS]
    best = COSTS[int(np.argmax(scores))]
    return float(LogisticRegression(C=best, max_iter=500).fit(x, y).score(tested, truth))


def measure(objective: str, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """Train twice (on pairs as they come, and on pairs that belong together) and return what the probes reach."""
    data, other = make_pictures(seed)
    partner = np.random.default_rng([seed, 2]).permutation(10)
    settings = FuseSettings(
        objective="comm" if objective == "untrained" else objective, epochs=given.epochs, batch=64, width=given.width,
        lr=given.lr, weight_decay=1e-4, seed=seed,
    )  # fmt: skip
    joint, untrained, found = objective in ("comm", "untrained"), objective == "untrained", {}
    for biased in (False, True):
        pairs = draw_pairs(data.attributes, given.pairs, partner, 1.0 if biased else None, [seed, 3, biased])
        net = train(data, pairs, settings, untrained)
        share = 0.5 if biased else None
        learnt = draw_pairs(data.attributes, given.probed, partner, share, [seed, 4, biased])
        tested = draw_pairs(other.attributes, 2000, partner, share, [seed, 5, biased])
        x, z = embed(net, data, learnt, joint), embed(net, other, tested, joint)
        if biased:
            found["synergy"] = probe(x, learnt.matched, z, tested.matched)
            continue
        for name, side, which in (("redundancy", 0, 0), ("unique 1", 0, 1), ("unique 2", 1, 1)):
            y, truth = data.attributes[learnt.numbers[:, side], which], other.attributes[tested.numbers[:, side], which]
            found[name] = probe(x, y, z, truth)
    return found


def show(path: Path) -> None:
    """Print the table of what is there, in Markdown."""
    found = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines():
        record = json.loads(line)
        for name in ("redundancy", "unique 1", "unique 2", "synergy"):
            found[record["objective"]][name].append(100 * record[name])
        found[record["objective"]]["uniqueness"].append(50 * (record["unique 1"] + record["unique 2"]))
    columns = ("redundancy", "uniqueness", "unique 1", "unique 2", "synergy")
    print(f"| objective | seeds | {' | '.join(columns)} |\n|---|--:|{'--:|' * len(columns)}")
    for objective in OBJECTIVES:
        if objective in found:
            values = found[objective]
            cells = [f"{np.mean(values[name]):.1f} ± {np.std(values[name]):.1f}" for name in columns]
            print(f"| {objective} | {len(values['synergy'])} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--probed", type=int, default=4000, help="pairs a probe learns from")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    path = given.folder / "results.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in range(0 if given.table else given.seeds):
        for objective in given.objectives:
            if any((each["objective"], each["seed"]) == (objective, seed) for each in done):
                continue
            began = time.perf_counter()
            found = measure(objective, seed, given)
            record = {"objective": objective, "seed": seed, **found, "seconds": round(time.perf_counter() - began)}
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(json.dumps(record), flush=True)
    show(path)


if __name__ == "__main__":
    main()
