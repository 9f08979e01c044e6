"""A step of distill and one of C-MCR on the same made-up memories, reading of the batch included."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cmcr import ConnectConfig, Memory, Modality
from cmcr.connect import new_projectors
from cmcr.connect.methods.c_mcr import batch_loss
from cmcr.connect.methods.teacher import Teacher
from cmcr.connect.pairs import build_pairs
from cmcr.connect.validation import Validation
from cmcr.devices import matrix_products
from cmcr.memory import EncoderInfo, MemoryWriter, Row
from cmcr.memory.overlap import Side

ROWS, DIM = 8192, 512


def side(folder: Path, name: str, outer: Modality, seed: int) -> Side:
    """Return one side's part of a connection: as many texts as other rows."""
    draw = np.random.default_rng(seed)
    rows = [Row(str(number), "", None, None) for number in range(ROWS)]
    with MemoryWriter(folder / name, EncoderInfo(name, name, DIM)) as writer:
        for modality in (Modality.TEXT, outer):
            writer.append(modality, draw.standard_normal((ROWS, DIM), dtype=np.float32), rows)
    return Side(Memory.open(folder / name), Modality.TEXT, np.arange(ROWS), outer)


def steps(
    plain: ConnectConfig, distill: ConnectConfig, batch: int, trust: float
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what takes one step of each, with pairs of this ``trust``; what they read stays as long as they live."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name)
    sides = side(path, "a", Modality.IMAGE, 0), side(path, "b", Modality.AUDIO, 1)
    pairs = build_pairs(*sides, path / "pairs", 0.01)
    validation = Validation(pairs, list(sides), distill)

    teacher = Teacher(validation, path / "pairs")
    teacher.trust = trust  # that of random vectors would be 0
    rng, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def make(config: ConnectConfig) -> Callable[[], None]:
        maps = teacher.maps() if config.method == "distill" else new_projectors(config, DIM, DIM)
        model = torch.nn.ModuleList(maps)
        optimizer = torch.optim.AdamW(model.parameters())

        def step() -> None:
            assert folder.name
            rows = np.sort(rng.choice(len(pairs), batch, replace=False))
            optimizer.zero_grad()
            with matrix_products("cpu", config.precision):
                if config.method == "distill":
                    loss = teacher.loss((model[0], model[1]), teacher.batch(rows, rng), noise)
                else:
                    loss = batch_loss((model[0], model[1]), pairs.take(rows), config, noise)
                loss.backward()
            optimizer.step()

        return step

    return make(plain), make(distill)
