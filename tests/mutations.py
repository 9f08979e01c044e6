"""Damage to small valid examples of everything that is read, by a seed: each ends in success or in an error of ours.

``python mutations.py FOLDER SEED COUNT [LOADER ...]`` makes the examples in FOLDER (unless they are there) and reads
COUNT damaged copies, taking the loaders in turn. It prints a line before each and, where something else than one of our
errors was raised, or time or memory ran over, a line after it.
"""

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tarfile
import traceback
import warnings
import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cmcr.errors import CmcrError
from cmcr.modality import Modality

SECONDS = 10
"""Of the processor, for one mutant: many times what the slowest takes."""
GROWTH = 1 << 30
"""Bytes that one mutant may add to the largest size that the process ever had."""

VALUES = [None, [], {}, "", -1, 0, 1, True, 1e400, float("nan"), 10**30, 2**31, -(2**63), "\udcff", "a\0b", "../x", 0.5]
TEXTS = [
    b'"',
    b"\0",
    b"\r",
    b"\xff",
    b"\x1b[31m",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"9" * 5000,
    b"nan",
    b"-1",
    b"1e999",
]
TEXTS += [b"\xef\xbb\xbf", b"\t", b",", b"\n\n", b"0x" + b"f" * 9000, b"'", b"\\ud800", b"\xe2\x80\xae", b"1979-05-27"]
NUMBERS = [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]


# How bytes are damaged: functions of (bytes, random.Random) to bytes.


def flipped(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def _part(data, rng):
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice([1, 4, 16, 200, 5000]))


def removed(data, rng):
    start, end = _part(data, rng)
    return data[:start] + data[end:]


def doubled(data, rng):
    start, end = _part(data, rng)
    return data[:end] + data[start:end] * rng.choice([1, 1, 50]) + data[end:]


def levelled(data, rng):
    start, end = _part(data, rng)
    return data[:start] + rng.choice([b"\0", b"\xff", b" "]) * (end - start) + data[end:]


def swapped(data, rng):
    (a, b), (c, d) = sorted([_part(data, rng), _part(data, rng)])
    return data if b > c else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def inserted(data, rng):
    start = rng.randrange(len(data))
    return data[:start] + rng.choice([rng.randbytes(rng.choice([1, 8, 300])), rng.choice(TEXTS)]) + data[start:]


def resized(data, rng):
    """Put an extreme number where a header may hold a size."""
    number, kind = rng.choice(NUMBERS), rng.choice(["<I", ">I", "<H", ">H", "<Q", ">Q"])
    packed = struct.pack(kind, number & (256 ** struct.calcsize(kind) - 1))
    start = rng.randrange(min(len(data), rng.choice([64, 512, len(data)])))
    return data[:start] + packed + data[start + len(packed) :]


def emptied(data, rng):
    return b""


BYTES = [flipped, flipped, cut, removed, doubled, levelled, swapped, inserted, resized, resized, emptied]


# How JSON is damaged.


def _places(value, found):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            _places(value[key], found)
    return found


def json_changed(value, rng):
    """Change one value, name or length anywhere in a JSON value."""
    value = json.loads(json.dumps(value))
    places = _places(value, [])
    if not places or rng.random() < 0.05:
        return rng.choice(VALUES)
    for _ in range(rng.choice([1, 1, 2])):
        holder, key = rng.choice(places)
        if key not in (holder if isinstance(holder, dict) else range(len(holder))):
            continue  # the change before took it away
        how = rng.randrange(4)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[rng.choice(["", "x", "id", str(key).upper()])] = holder.pop(key)
        elif how == 2:
            holder[key] = [holder[key], holder[key]]
        else:
            holder[key] = rng.choice(VALUES)
    return value


def json_text(value, rng):
    text = json.dumps(value)
    if rng.random() < 0.15:  # what no value can say: depth, a key twice
        deep = rng.choice(["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, "9" * 5000, "1e400", '"\\ud800"'])
        spots = [i for i, c in enumerate(text) if c in ":,[" and i + 1 < len(text)] or [0]
        spot = rng.choice(spots) + 1
        return text[:spot] + deep + rng.choice(["", ","]) + text[spot:]
    return text


def of_json(data, rng):
    return json_text(json_changed(json.loads(data), rng), rng).encode("utf-8", "replace")


def of_json_lines(data, rng):
    lines = data.decode().splitlines()
    spot = rng.randrange(len(lines))
    lines[spot] = json_text(json_changed(json.loads(lines[spot]), rng), rng)
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def of_npy(data, rng):
    """Change the header's text, and keep its length right."""
    size = struct.unpack("<H", data[8:10])[0]
    header = data[10 : 10 + size].decode()
    found = rng.choice([*"(),:'{}<", "shape", "descr", "f", "2", "4", "8", "False", "True"])
    put = rng.choice(["-1", "99999999999", "0", "O", "<f2", "V8", "(1,)", "", "None", "[" * 900, "<i8", "10**9", ")"])
    header = header.replace(found, put, 1).encode()
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + size :]


def of_safetensors(data, rng):
    size = struct.unpack("<Q", data[:8])[0]
    header = json_text(json_changed(json.loads(data[8 : 8 + size]), rng), rng).encode("utf-8", "replace")
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def of_state(data, rng):
    """Change names, shapes, types and kinds in a checkpoint that torch wrote."""
    found = torch.load(io.BytesIO(data), weights_only=False)
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    name = rng.choice(list(state))
    value = state[name]
    how = rng.randrange(9)
    if how == 0:
        del state[name]
    elif how == 1:
        state[rng.choice(["", "x", name + ".x", name.replace("0", "99999999"), 3])] = state.pop(name)
    elif how == 2:
        state[name] = value.reshape(-1)
    elif how == 3:
        state[name] = value[:0] if value.ndim else value[None]
    elif how == 4:
        state[name] = value.to(rng.choice([torch.int64, torch.bool, torch.float64, torch.complex64, torch.bfloat16]))
    elif how == 5:
        state[name] = rng.choice([None, 3, "x", [1], {"a": value}, value.tolist() if value.ndim < 2 else []])
    elif how == 6:
        state[name] = value.to_sparse() if value.ndim else value
    elif how == 7:
        state[name] = torch.full_like(value, float("nan")) if value.is_floating_point() else value
    else:
        state[name] = value[None] if value.ndim < 4 else value[0]
    buffer = io.BytesIO()
    torch.save(rng.choice([found, found, state, {"model": found}, [state]]), buffer)
    return buffer.getvalue()


STRUCTURED = {
    ".json": of_json,
    ".jsonl": of_json_lines,
    ".npy": of_npy,
    ".safetensors": of_safetensors,
    ".pt": of_state,
}


def damaged(data, name, rng):
    special = STRUCTURED.get(Path(name).suffix)
    if special and rng.random() < 0.6:
        return special(data, rng)
    return rng.choice(BYTES)(data, rng) if data else b"\0"


# What is read: for each loader a function that writes its example, and one that reads it.


def picture(folder, kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8))
    image.save(folder / f"a.{kind}")


def read_picture(folder, kind):
    from cmcr.decode.images import read_image

    read_image((folder / f"a.{kind}").read_bytes()).load()


def sound(folder, kind):
    import soundfile

    samples = np.sin(np.arange(4000) / 9).astype(np.float32) / 2
    soundfile.write(folder / f"a.{kind}", np.stack([samples, samples], 1), 16_000)


def read_sound(folder, kind):
    from cmcr.decode.sounds import read_audio

    assert np.isfinite(read_audio((folder / f"a.{kind}").read_bytes(), 16_000)).all()


def cloud(folder, kind):
    import trimesh

    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    path = folder / f"a.{kind}"
    if kind == "npy":
        np.save(path, points)
    elif kind == "pickle":
        np.save(folder / "a.npy", {"xyz": points}, allow_pickle=True)
    elif kind == "npz":
        np.savez(path, points=points)
    elif kind in ("xyz", "pts", "txt"):
        np.savetxt(path, points)
    else:
        mesh = trimesh.creation.box()
        mesh.export(path)


def read_cloud(folder, kind):
    from cmcr.shapes.clouds import read_point_cloud

    suffix = ".npy" if kind == "pickle" else f".{kind}"
    read_point_cloud((folder / f"a{suffix}").read_bytes(), suffix)


def video(folder, kind):
    import av

    with av.open(str(folder / f"a.{kind}"), "w") as file:
        pictures = file.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        tone = file.add_stream("aac", rate=16_000)
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * number, np.uint8), format="rgb24")
            file.mux(pictures.encode(frame))
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 12_800), np.float32), format="fltp", layout="mono")
        heard.sample_rate = 16_000
        file.mux(tone.encode(heard))
        for stream in (pictures, tone):
            file.mux(stream.encode(None))


def read_video(folder, kind):
    from cmcr.decode import videos as videos
    from cmcr.errors import ItemError

    path = folder / f"a.{kind}"
    with contextlib.suppress(ItemError):
        videos.frames_at(path, videos.evenly(videos.duration(path), 2))
    videos.samples(path)


TABLE = [{"id": f"t{n}", "text": f"a red drum, number {n}", "image": f"{n}.png", "label": "drum"} for n in range(6)]


def table(folder, kind):
    lines = [json.dumps(row) for row in TABLE] if kind == "jsonl" else None
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(TABLE[0]), *(mark.join(f'"{cell}"' for cell in row.values()) for row in TABLE)]
    (folder / f"a.{kind}").write_text("\n".join(lines or [row["text"] for row in TABLE]) + "\n")


def read_table(folder, kind):
    from cmcr.items import read_items

    for item in read_items(str(folder / f"a.{kind}"), Modality.TEXT, [Modality.TEXT]).items:
        _content(item)


def _content(item):
    from cmcr.errors import ItemError

    with contextlib.suppress(ItemError):
        item.read()


def read_labels(folder, kind):
    from cmcr.datasets import read_labels

    read_labels(folder / f"a.{kind}")


def read_pairs(folder, kind):
    from cmcr.datasets.pairs import read_pairs

    read_pairs(folder / f"a.{kind}")


def archive(folder):
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(4):
            for kind, data in (("png", b"\x89PNG" + bytes(700)), ("txt", b"a red drum"), ("json", b"{}")):
                info = tarfile.TarInfo(f"d/{number:03d}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def read_archive(folder):
    from cmcr.items import read_items

    for item in read_items(str(folder / "a.tar"), Modality.TEXT, [Modality.TEXT, Modality.IMAGE]).items:
        _content(item)


def esc50(folder):
    (folder / "meta").mkdir()
    (folder / "audio").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(4):
        (folder / "audio" / f"{number}.wav").write_bytes(b"RIFF")
        rows.append(f"{number}.wav,1,0,dog,True,1,A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")


def modelnet(folder):
    for name in ("chair_0001", "lamp_0001"):
        (folder / name[:-5]).mkdir()
        np.savetxt(folder / name[:-5] / f"{name}.txt", np.ones((9, 6)), delimiter=",")
    (folder / "modelnet40_shape_names.txt").write_text("chair\nlamp\n")
    (folder / "modelnet40_test.txt").write_text("chair_0001\nlamp_0001\n")


def cache(folder):
    import pickle

    (folder / "modelnet40_shape_names.txt").write_text("chair\nlamp\n")
    clouds = [np.ones((9, 6), np.float32)] * 3
    data = pickle.dumps([clouds, [np.array([n % 2], np.int32) for n in range(3)]])
    (folder / "modelnet40_test_9pts_fps.dat").write_bytes(data)


def h5(folder):
    import h5py

    (folder / "shape_names.txt").write_text("chair\nlamp\n")
    with h5py.File(folder / "test.h5", "w") as file:
        file["data"], file["label"] = np.ones((3, 9, 3), np.float32), np.array([[0], [1], [0]], np.uint8)


def read_labelled(folder):
    from cmcr.datasets import read_labelled

    for item in read_labelled(folder, unpack=folder / "unpacked").inputs.items:
        _content(item)


def vggss(folder):
    rows = [{"file": f"v{n}", "class": "dog", "bbox": [[0.1, 0.1, 0.5, 0.6], [0, 0, 1, 1]]} for n in range(3)]
    (folder / "vggss.json").write_text(json.dumps(rows))


def flickr(folder):
    (folder / "Annotations").mkdir()
    box = "<bbox><a>x</a><xmin>1</xmin><ymin>2</ymin><xmax>90</xmax><ymax>80</ymax></bbox>"
    (folder / "Annotations" / "1.xml").write_text(f"<annotation>{box}{box}</annotation>")
    (folder / "flickr_test.csv").write_text("1\n2\n")


def ave(folder):
    (folder / "testSet.txt").write_text("Dog&v1&good&0&5\nCat&v2&good&1.5&4\n")


def read_clips(folder):
    from cmcr.datasets import read_clips

    read_clips(folder, unpack=folder / "unpacked")


def proposals(folder):
    (folder / "boxes.json").write_text(json.dumps({f"p{n}": [[0.1, 0.1, 0.5, 0.6], [0, 0, 1, 1]] for n in range(3)}))


def read_proposals(folder):
    from cmcr.evaluate.localization.proposals import read_boxes

    read_boxes(folder / "boxes.json")


def names(folder):
    (folder / "labels.json").write_text(json.dumps({"modelnet40": ["chair", "lamp"], "other": ["a photo of {}"]}))


def read_class_names(folder):
    from cmcr.evaluate.zero_shot.classes import class_labels, load_templates

    for read in (
        lambda: class_labels(["chair", "lamp"], folder / "labels.json", "modelnet40"),
        lambda: load_templates(str(folder / "labels.json"), "other"),
    ):
        with contextlib.suppress(CmcrError):
            read()


def result(folder):
    values = {"image_to_text": {"recall@1": 0.5, "recall@5": 0.7}}
    found = {"name": "retrieval", "values": values, "chance": {"recall@1": 0.1}, "n": 10, "gallery": 10}
    found |= {"settings": {"method": "c-mcr", "seed": 0}, "fingerprints": {"a": "x"}, "versions": {"cmcr": "1"}}
    (folder / "result.json").write_text(json.dumps(found))
    shutil.copy(folder / "result.json", folder / "other.json")


def read_result(folder):
    from cmcr.evaluate.compare.page import compare_page
    from cmcr.evaluate.compare.results import compare_results

    compare_page(compare_results([str(folder / "result.json"), str(folder / "other.json")]))


def memory(folder):
    from spaces import make_memory, texts

    sounds = {f"a{n}": (f"s/{n}.wav", None, f"sound {n}".encode()) for n in range(9)}
    made = make_memory(folder / "mem", "hearer", {Modality.TEXT: texts(9), Modality.AUDIO: sounds})
    from cmcr.memory import EncoderInfo, MemoryWriter, Skip

    with MemoryWriter(
        folder / "mem", EncoderInfo(made.encoder.name, made.encoder.fingerprint, made.encoder.dim), "float32"
    ) as writer:
        writer.append(
            Modality.AUDIO,
            np.zeros((0, made.encoder.dim), np.float32),
            [],
            [Skip("z", Modality.AUDIO, "z.wav", None, "bad")],
        )
        writer.remove({Modality.AUDIO: [2, 8]})


def read_memory(folder):
    from cmcr.cli import call
    from cmcr.memory import Memory

    opened = Memory.open(folder / "mem")
    opened.verify()
    for use in (
        lambda: opened.skipped(),
        lambda: [opened.row(m, 3) for m in opened.modalities],
        lambda: [opened.vectors(m) for m in opened.modalities],
        lambda: [opened.vectors(m, [0, 2]) for m in opened.modalities],
        lambda: [[r.id for r in opened.metadata(m)] for m in opened.modalities],
        lambda: _called(call, ["info", str(folder / "mem")]),
    ):
        with contextlib.suppress(CmcrError):
            use()


def _called(call, arguments):
    os.environ["CMCR_TRACEBACK"] = "1"
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        call(arguments)
    finally:
        sys.stdout, sys.stderr = out, err


def space(folder):
    from spaces import make_space

    for kind in ("mlp", "linear", "route"):
        make_space(kind, centered=("text",)).save(folder / kind)


def read_space(folder):
    from cmcr.cli import call
    from cmcr.space import ConnectedSpace

    for kind in ("mlp", "linear", "route"):
        _rehash(folder / kind)
        for arguments in (["info", str(folder / kind)], ["info", "--verify", str(folder / kind)]):
            _called(call, arguments)
        try:
            opened = ConnectedSpace.from_pretrained(folder / kind)
            opened.project(np.ones((2, 12), np.float32), encoder="seer", modality="text")
        except CmcrError:
            pass


def _rehash(folder):
    """Name the damaged file's own hash, as whoever edits a space would."""
    import hashlib

    try:
        config = json.loads((folder / "config.json").read_bytes())
        config["model_sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))
    except Exception:
        pass


def classifier(folder):
    from labelled import table

    from cmcr.classify import Classifier, ClassifySettings

    Classifier.fit(table(rows=12), ClassifySettings(epochs=1, width=4)).save(folder / "model")


def read_classifier(folder):
    from labelled import table

    from cmcr.classify import Classifier

    _rehash(folder / "model")
    Classifier.from_pretrained(folder / "model").predict(table(rows=12))


def class_lists(folder):
    (folder / "train.csv").write_text("a_1.jpg,one,a\nb_1.jpg,two,b\n")
    (folder / "test.txt").write_text("ID\ttext,image\n1\tpositive,positive\n2\tneutral,negative\n")
    (folder / "validate.csv").write_text("label,youtube_id,time_start,time_end,split\nbowling,ab,5,15,val\n")
    (folder / "val.txt").write_text("[6.2 - 8.2]\tSes01F_F000\tneu\t[2.5, 2.5, 2.5]\n")


def read_class_lists(folder):
    from cmcr.datasets import read_class_list

    for path in (folder, *sorted(folder.iterdir())):
        with contextlib.suppress(CmcrError):
            read_class_list(path)


def index(folder):
    from cmcr.search import build_index, save_index

    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for kind in ("flat", "hnsw", "ivf"):
        path = folder / f"{kind}.faiss"
        save_index(build_index(kind, lambda: iter([vectors])), path, memory="m", space="s", modality=Modality.TEXT)


def read_index(folder):
    from cmcr.search import load_index

    for kind in ("flat", "hnsw", "ivf"):
        with contextlib.suppress(CmcrError):
            load_index(folder / f"{kind}.faiss", memory="m", space="s").search(np.ones((1, 16), np.float32) / 4, 3)


def _pairs():
    from cmcr.connect.pairs import Pairs

    rows = np.random.default_rng(0).normal(size=(4, 40, 6)).astype(np.float16)
    return Pairs(rows[0], rows[1], rows[2], rows[3])


def _train(path, epochs):
    from cmcr.connect import ConnectConfig
    from cmcr.connect.methods.c_mcr import fit

    config = ConnectConfig(epochs=epochs, min_steps=1, batch_size=20, hidden=8)
    fit(_pairs(), np.arange(40), config, lambda *p: {"selection": 0.0}, checkpoint=path, device="cpu")


def run(folder):
    _train(folder / "checkpoint.safetensors", 2)


def read_run(folder):
    _train(folder / "checkpoint.safetensors", 3)


def recipe(folder):
    lines = ['method = "distill"', "epochs = 4", "lr = 0.01", "center = true", 'pairing = "topk:5"', "lambda = 0.5"]
    (folder / "recipe.toml").write_text("\n".join(lines) + "\n")


def read_recipe(folder):
    from cmcr.connect import ConnectConfig

    ConnectConfig.from_toml(folder / "recipe.toml")


def heads(folder):
    from test_heads import audio_visual

    torch.save(dict(audio_visual(8, 12).items()), folder / "clap_clip.pt")


def read_heads(folder):
    from cmcr.space import import_heads

    import_heads(folder / "clap_clip.pt")


def ulip(folder):
    from checkpoints_ulip import write_ulip

    write_ulip(folder / "ulip.pt", layout="ulip-1")


def read_ulip(folder):
    from cmcr.encoders import load_encoder

    _encoded(
        load_encoder(f"ulip:{folder / 'ulip.pt'}"),
        Modality.POINT_CLOUD,
        ".npy",
        np.random.default_rng(0).normal(size=(600, 3)),
    )


def _encoded(encoder, modality, suffix, content):
    from cmcr.items import Item

    buffer = io.BytesIO()
    np.save(buffer, content.astype(np.float32))
    _embedded(encoder, Item("a", modality, f"a{suffix}", path=Path(f"a{suffix}")), buffer.getvalue())


def _embedded(encoder, item, data):
    """Embed as ``embed`` does, which lists an item for whatever an encoder raises over it, and goes on."""
    try:
        encoder.encode(item.modality, [encoder.prepare(item, data)])
    except Exception as error:
        if isinstance(error, MemoryError):
            raise


def laion(folder):
    from checkpoints_clap import write_laion

    write_laion(folder / "clap.pt", text_layers=1)


def read_laion(folder):
    from cmcr.encoders import load_encoder

    encoder = load_encoder(f"hf_clap:{folder / 'clap.pt'}")
    _heard(encoder)


def _heard(encoder):
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(2000))
    from cmcr.items import Item

    item = Item("a", Modality.AUDIO, "a.wav", path=Path("a.wav"))
    _embedded(encoder, item, data.getvalue())


def hub_clap(folder):
    from checkpoints_clap import write_hub_folder

    write_hub_folder(folder / "clap", tokenizer=False)


def read_hub_clap(folder):
    from cmcr.encoders import load_encoder

    _heard(load_encoder(f"hf_clap:{folder / 'clap'}"))


CLIP = {"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8}}
CLIP |= {"text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}}


def clip(folder):
    import open_clip

    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    _register(folder)
    model = open_clip.create_model("tiny-mutant", load_weights=False)
    torch.save(model.state_dict(), folder / "clip" / "open_clip_pytorch_model.bin")
    torch.save(model.state_dict(), folder / "model.pt")


def _register(folder):
    import open_clip

    if "tiny-mutant" not in open_clip.list_models():
        import logging
        import tempfile

        place = Path(tempfile.mkdtemp())
        (place / "tiny-mutant.json").write_text(json.dumps(CLIP))
        open_clip.add_model_config(place)
        logging.getLogger().setLevel(logging.ERROR)


def read_clip(folder):
    from cmcr.encoders import load_encoder
    from cmcr.items import Item

    _register(folder)
    data = io.BytesIO()
    Image.new("RGB", (20, 20)).save(data, "PNG")
    for name in (f"open_clip:local-dir:{folder / 'clip'}", f"open_clip:tiny-mutant/{folder / 'model.pt'}"):
        try:
            encoder = load_encoder(name)
            _embedded(encoder, Item("a", Modality.IMAGE, "a.png", path=Path("a.png")), data.getvalue())
        except CmcrError:
            pass


def vectors(folder):
    np.save(folder / "v.npy", np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
    (folder / "ids.txt").write_text("".join(f"i{n}\n" for n in range(5)))
    (folder / "texts.txt").write_text("".join(f"text {n}\n" for n in range(5)))


def read_vectors(folder):
    from cmcr.embed import import_vectors

    import_vectors(
        folder / "v.npy",
        folder / "ids.txt",
        folder / "mem",
        encoder_name="e",
        modality=Modality.TEXT,
        sources=folder / "texts.txt",
    )


def retrieval(folder):
    import pyarrow as pa
    from pyarrow import parquet

    for place in ("img_emb", "text_emb", "metadata"):
        (folder / "cr" / place).mkdir(parents=True)
    for kind in ("img", "text"):
        np.save(folder / "cr" / f"{kind}_emb" / f"{kind}_emb_0.npy", np.ones((4, 6), np.float16))
    columns = {
        "key": [f"{n:04d}" for n in range(4)],
        "image_path": [f"{n}.jpg" for n in range(4)],
        "caption": ["a"] * 4,
    }
    parquet.write_table(pa.table(columns), folder / "cr" / "metadata" / "metadata_0.parquet")


def read_retrieval(folder):
    from cmcr.embed import import_clip_retrieval

    import_clip_retrieval(folder / "cr", folder / "mem", encoder_name="e")


def plan(folder):
    from cmcr.files import write_json

    memory(folder)
    manifest = json.loads((folder / "mem" / "manifest.json").read_bytes())
    fields = {"encoder": manifest["encoder"], "dtype": "float32", "modality": "text", "shard_size": 3, "items": 9}
    write_json(folder / "mem" / "staged" / "plan.json", fields | {"digest": "x", "shards": 1, "rows": 7, "skipped": 1})


def read_plan(folder):
    from cmcr.embed.staging import Plan
    from cmcr.memory import Memory

    found = Plan.read(folder / "mem")
    if found is not None:
        opened = Memory.open(folder / "mem")
        found.before(opened)
        found.committed(opened.manifest)


def _kinds(make, read, kinds, prefix):
    return {f"{prefix}.{k}": (lambda f, k=k: make(f, k), lambda f, k=k: read(f, k)) for k in kinds.split()}


LOADERS = {
    **_kinds(picture, read_picture, "png jpg gif webp tif bmp", "picture"),
    **_kinds(sound, read_sound, "wav flac mp3 ogg aiff", "sound"),
    **_kinds(cloud, read_cloud, "npy npz pickle xyz pts ply off obj stl", "cloud"),
    **_kinds(video, read_video, "mp4 mkv", "video"),
    **_kinds(table, read_table, "jsonl csv tsv txt", "table"),
    **_kinds(table, read_labels, "jsonl csv", "labels"),
    **_kinds(table, read_pairs, "jsonl csv", "pairs"),
    "tar": (archive, read_archive),
    "esc50": (esc50, read_labelled),
    "modelnet": (modelnet, read_labelled),
    "ulip-dat": (cache, read_labelled),
    "h5": (h5, read_labelled),
    "vggss": (vggss, read_clips),
    "flickr": (flickr, read_clips),
    "ave": (ave, read_clips),
    "proposals": (proposals, read_proposals),
    "class names": (names, read_class_names),
    "result": (result, read_result),
    "memory": (memory, read_memory),
    "plan": (plan, read_plan),
    "space": (space, read_space),
    "classifier": (classifier, read_classifier),
    "class lists": (class_lists, read_class_lists),
    "index": (index, read_index),
    "run": (run, read_run),
    "recipe": (recipe, read_recipe),
    "heads": (heads, read_heads),
    "ulip": (ulip, read_ulip),
    "laion": (laion, read_laion),
    "hf_clap": (hub_clap, read_hub_clap),
    "open_clip": (clip, read_clip),
    "vectors": (vectors, read_vectors),
    "clip-retrieval": (retrieval, read_retrieval),
}


class TooLongError(BaseException):
    """Raised by the clock; no ``Exception``, which readers turn into errors of theirs."""


def _too_long(number, frame):
    raise TooLongError


def mutant(example, scratch, rng):
    """Copy an example and damage one of its files; returns that file's name."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(example, scratch)
    files = sorted(p for p in scratch.rglob("*") if p.is_file() and p.name != ".lock")
    chosen = rng.choice(files)
    chosen.write_bytes(damaged(chosen.read_bytes(), chosen.name, rng))
    return chosen.relative_to(scratch).as_posix()


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tried(read, folder, seconds=SECONDS):
    """Return what reading a mutant did wrong, or an empty text."""
    before = peak()
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor's time: the machine may have other work
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except CmcrError as error:
        if not str(error).strip():
            return f"an error without a word: {error!r}"
    except TooLongError:
        return "".join(traceback.format_exc()[-1500:])
    except BaseException as error:
        return "".join(traceback.format_exception(error)[-6:])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if peak() - before > GROWTH:
        return f"took {(peak() - before) >> 20} MiB"
    return ""


def tell(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(folder, seed, count, wanted):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _too_long)
    torch.set_num_threads(1)
    loaders = wanted or list(LOADERS)
    for number in range(count):
        name = loaders[number % len(loaders)]
        make, read = LOADERS[name]
        example = folder / name
        if not example.exists():
            example.mkdir(parents=True)
            make(example)
            shutil.rmtree(folder / "scratch", ignore_errors=True)
            shutil.copytree(example, folder / "scratch")
            tell(f"example {name}")
            if fault := tried(read, folder / "scratch", 100):  # libraries are loaded now
                tell(f"FAULT example {name}: {fault}")
        rng = random.Random(f"{seed} {name} {number}")
        file = mutant(example, folder / "scratch", rng)
        tell(f"mutant {seed} {name} {number} {file}")
        if fault := tried(read, folder / "scratch"):
            tell(f"FAULT {seed} {name} {number} {file}: {fault}")
    tell("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
