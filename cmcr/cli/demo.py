"""``cmcr demo``: the whole job on the embedded default."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from cmcr import console


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write everything into.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
) -> None:
    """Write unpaired pictures, sounds, texts and shapes; embed, connect, retrieve and evaluate them: two minutes."""
    from cmcr.cli import call
    from cmcr.demo import commands, write_page, write_world

    start = time.perf_counter()
    console.say(f"== Write unpaired files of the tiny world into {out}")
    write_world(out, seed)
    for title, steps in commands(out):
        console.say("")
        console.say(f"== {title}")
        for step in steps:
            console.say("")
            console.say(f"$ cmcr {shlex.join(step)}")
            code = call(step)
            if code:
                raise typer.Exit(code)
    target = write_page(out)
    console.say("")
    console.say(f"Done in {time.perf_counter() - start:.0f} s. Open {target} in a browser, then try your own:")
    heard, said, memories = out / "spaces/audio-visual-ensemble", out / "spaces/3d-language-ensemble", out / "mem"
    console.say(f"  cmcr retrieve {said} 'three large red drums' --in {memories}/ulip --modality point_cloud -k 5")
    console.say(f"  cmcr retrieve {heard} SOUND.wav --in {memories}/clip --modality image --html hits.html")
    console.say("  cmcr embed YOUR_IMAGES/ --encoder tiny-clip -o mem/yours")
