"""A small space with encoders that run, over memories with real files: what a server is tested on."""

import io
import json

import numpy as np
import soundfile
from PIL import Image
from spaces import load_fake_encoder, make_memory, make_space, texts

from cmcr.ask import subject as asking
from cmcr.modality import Modality
from cmcr.serve import ReadySubject, Service, Serving, make_app

IMAGE, AUDIO, CLOUD, TEXT = Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD, Modality.TEXT
BASE = "http://127.0.0.1:8321"


def png(number=0, size=24):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def wav(number=0, seconds=0.6):
    buffer = io.BytesIO()
    samples = np.random.default_rng(number).uniform(-0.4, 0.4, int(16_000 * seconds))
    soundfile.write(buffer, samples, 16_000, format="WAV")
    return buffer.getvalue()


def npy(number=0, columns=3):
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(number).normal(size=(300, columns)).astype(np.float32))
    return buffer.getvalue()


def files(folder, suffix, make, count):
    """Write files, and return them as rows of a memory in ``folder/mem``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for number in range(count):
        (folder / f"{number}{suffix}").write_bytes(content := make(number))
        rows[f"{folder.name[0]}{number}"] = f"../../{folder.name}/{number}{suffix}", None, content
    return rows


def memories(folder, images=12, sounds=8, clouds=5):
    """Two memories: seer sees texts, pictures and clouds, hearer texts and sounds."""
    seen = {
        TEXT: texts(9),
        IMAGE: files(folder / "pictures", ".png", png, images),
        CLOUD: files(folder / "clouds", ".npy", npy, clouds),
    }
    heard = {TEXT: texts(9), AUDIO: files(folder / "sounds", ".wav", wav, sounds)}
    return [make_memory(folder / "mem" / "seer", "seer", seen), make_memory(folder / "mem" / "hearer", "hearer", heard)]


def service(folder, monkeypatch, load=load_fake_encoder, **given):
    """A service over ``memories``, asked through encoders of ``load``; the working directory is ``folder``."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(asking, "load_encoder", load)
    return Service(ReadySubject("spaces/av", make_space(**given)), memories(folder))


def client(served, settings=None, **options):
    """A client of the server's own page."""
    from starlette.testclient import TestClient

    return TestClient(make_app(served, settings or Serving(**options)), base_url=BASE, raise_server_exceptions=True)


def ask(asked, path="/search", **question):
    answer = asked.post(path, json=question)
    return answer.status_code, json.loads(answer.text)
