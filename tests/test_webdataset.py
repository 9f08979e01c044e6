"""Which members of a tar become items, and that none is lost without a word."""

import io
import os
import tarfile

import pytest

from cmcr.errors import InputError, ItemError
from cmcr.items import read_items
from cmcr.items import tars as webdataset
from cmcr.items.tars import index_tar
from cmcr.modality import Modality

IMAGE, TEXT, AUDIO = Modality.IMAGE, Modality.TEXT, Modality.AUDIO


def tar_bytes(*members, mark=True):
    """Return a tar of (name, data) or of ready TarInfos, with or without the end mark."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for each in members:
            info, data = (each, b"") if isinstance(each, tarfile.TarInfo) else (tarfile.TarInfo(each[0]), each[1])
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
        end = tar.offset
    return file.getvalue() if mark else file.getvalue()[:end]


def header(name, size=0, kind=tarfile.REGTYPE, body=b""):
    """Return one block of a header with any size, and a right sum, followed by padded bytes."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"%011o\0" % size if 0 <= size < 8**11 else b"\x80" + (size % 256**11).to_bytes(11, "big")
    if size < 0:
        block[124:136] = b"\xff" + (size % 256**11).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + body + bytes(-len(body) % 512)


def pax(**fields):
    """Return a pax header that gives the next member other fields."""
    body = b""
    for name, value in fields.items():
        record = f" {name.replace('__', '.')}={value}\n".encode()
        length = len(record)
        while length != len(record) + len(str(length)):
            length = len(record) + len(str(length))
        body += str(length).encode() + record
    return header("pax", len(body), tarfile.XHDTYPE, body)


def read(path, data=None, modality=IMAGE):
    if data is not None:
        path.write_bytes(data)
    return read_items(str(path), modality, (IMAGE, TEXT, AUDIO))


def contents(found):
    return {item.id: item.read() for item in found.items if not item.problem}


def problems(found):
    return [(item.id, item.problem) for item in found.items if item.problem]


# Which member is the item


@pytest.mark.parametrize("names", [("0.depth.png", "0.png"), ("0.png", "0.depth.png"), ("0.PNG", "0.seg.depth.PNG")])
def test_the_photo_is_the_member_with_one_suffix_wherever_it_stands(tmp_path, names):
    data = {name: b"photo" if name.count(".") == 1 else b"depth" for name in names}
    found = read(tmp_path / "x.tar", tar_bytes(*data.items(), ("1.depth.png", b"alone"), ("0.txt", b"words")))
    assert contents(found) == {"0": b"photo"} and not problems(found)
    aside = sum(count for suffix, count in found.ignored.items() if "depth" in suffix)
    assert aside == 2 and found.ignored[".txt"] == 1


def test_a_field_of_several_suffixes_is_taken_where_it_is_the_only_one(tmp_path):
    found = read(tmp_path / "x.tar", tar_bytes(("0.rgb.png", b"0"), ("1.rgb.png", b"1"), ("0.txt", b"words")))
    assert contents(found) == {"0": b"0", "1": b"1"}
    tar = tar_bytes(("0.rgb.png", b"0"), ("0.depth.png", b"1"), ("0.txt", b"words"))
    with pytest.raises(InputError, match=r"looked for .*\.png.*; saw .*\.rgb\.png \(1\), \.depth\.png \(1\)"):
        read(tmp_path / "x.tar", tar)
    # One shard without photos is no reason to take its depth maps, where the shard beside it has photos.
    (tmp_path / "a.tar").write_bytes(tar_bytes(("0.png", b"photo"), ("0.depth.png", b"depth")))
    (tmp_path / "b.tar").write_bytes(tar_bytes(("1.depth.png", b"depth")))
    assert contents(read(tmp_path / "[ab].tar")) == {"0": b"photo"}


@pytest.mark.parametrize("names", [("0.jpg", "0.png"), ("0.png", "0.jpg")])
def test_of_two_photos_of_a_key_the_first_suffix_by_the_alphabet_counts(tmp_path, names):
    path = tmp_path / "x.tar"
    found = read(path, tar_bytes(("9.png", b"9"), *((name, name.encode()) for name in names), ("1.png", b"1")))
    assert [item.id for item in found.items] == ["9", "0", "0", "1"]
    assert contents(found) == {"9": b"9", "0": b"0.jpg", "1": b"1"}
    assert problems(found) == [("0", f"has the same id as {path}!0.jpg")]
    assert found.items[2].source == f"{path}!0.png"


def test_of_two_members_of_one_name_the_later_counts(tmp_path):
    path = tmp_path / "x.tar"
    found = read(path, tar_bytes(("0.png", b"old"), ("1.png", b"1"), ("0.png", b"new")))
    assert contents(found) == {"0": b"new", "1": b"1"}
    assert problems(found) == [("0", "a later member of the tar has its name")]
    with tarfile.open(path) as tar:
        assert tar.extractfile("0.png").read() == b"new"  # as tar itself has it


# Nothing is lost


@pytest.mark.parametrize("padding", [0, 512, 5 * 512, 3 << 20])
def test_tars_one_after_another_are_read_to_the_end(tmp_path, padding):
    parts = [tar_bytes((f"{n}.png", bytes([65 + n]) * 700), (f"{n}.txt", b"words")) for n in range(3)]
    found = read(tmp_path / "x.tar", bytes(padding).join(parts) + bytes(padding))
    assert contents(found) == {str(n): bytes([65 + n]) * 700 for n in range(3)}
    assert not problems(found) and found.ignored == {".txt": 3}
    bare = tar_bytes(("a.png", b"a"), mark=False) + tar_bytes(("b.png", b"b"))
    assert contents(read(tmp_path / "x.tar", bare)) == {"a": b"a", "b": b"b"}


def test_a_hole_after_the_end_mark_is_passed_over(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(("0.png", b"0")))
    os.truncate(path, 1 << 40)
    assert contents(read(path)) == {"0": b"0"} and not problems(read(path))
    with path.open("r+b") as file:
        file.seek(1 << 39)
        file.write(tar_bytes(("1.png", b"1")))
    assert contents(read(path)) == {"0": b"0", "1": b"1"} and not problems(read(path))


BREAKS = {
    "what is no tar": (tar_bytes(("0.png", b"0")) + b"hello\n", "what follows its end mark is no tar"),
    "no tar far behind": (tar_bytes(("0.png", b"0")) + bytes(9999) + b"hello" * 999, "what follows its end mark"),
    "a bad header": (
        tar_bytes(("0.png", b"0"), mark=False) + b"x" * 512 + tar_bytes(("1.png", b"1")),
        "invalid header",
    ),
    "half a header": (tar_bytes(("0.png", b"0"), mark=False) + header("1.png", 5)[:300], "invalid header"),
    "no end mark": (tar_bytes(("0.png", b"0"), mark=False), "no end mark, as if it were cut off"),
    "below zero": (tar_bytes(("0.png", b"0"), mark=False) + header("1.png", -512) * 3, "a size below zero"),
    "below zero in pax": (
        tar_bytes(("0.png", b"0"), mark=False) + pax(size=-1536) + header("1.png") * 2,
        "a size below zero",
    ),
    "beyond the file": (tar_bytes(("0.png", b"0"), mark=False) + header("1.png", 1 << 50), "unexpected end of data"),
    "beyond any file": (
        tar_bytes(("0.png", b"0"), mark=False) + pax(size=10**30) + header("1.png") + b"x" * 512,
        "unexpected end of data",
    ),
    "a header of 2**60 bytes": (
        tar_bytes(("0.png", b"0"), mark=False) + header("pax", 1 << 60, tarfile.XHDTYPE),
        f"a header of {1 << 60} bytes",
    ),
    "a long name of -512 bytes": (
        tar_bytes(("0.png", b"0"), mark=False) + header("long", -512, tarfile.GNUTYPE_LONGNAME) + b"x" * 4096,
        "a header of -512 bytes",
    ),
    "headers in headers": (tar_bytes(("0.png", b"0"), mark=False) + pax(comment="x") * 2000, "invalid header"),
    "digits": (tar_bytes(("0.png", b"0"), mark=False) + pax(comment="7" * 60_000) + header("1.png"), "100 digits"),
    "sparse maps": (
        tar_bytes(("0.png", b"0"), mark=False) + pax(GNU__sparse__map="a,b", GNU__sparse__size="x") + header("1.png"),
        "invalid header",
    ),
    "fields without end": (
        tar_bytes(("0.png", b"0"), mark=False)
        + header("g", len(body := b"".join(b"%d %04d=%s\n" % (9, n, b"x") for n in range(1500))), tarfile.XGLTYPE, body)
        + header("1.png"),
        "global headers without end",
    ),
}


@pytest.mark.parametrize(("data", "why"), BREAKS.values(), ids=BREAKS)
def test_what_breaks_off_keeps_what_is_whole_and_says_so(tmp_path, data, why):
    found = read(tmp_path / "x.tar", data)
    assert found.items[0].read() == b"0"
    name, problem = problems(found)[-1]
    assert name.endswith(" and after") and why in problem
    for item in found.items[1:]:
        with pytest.raises(ItemError):
            item.read()


def test_names_are_labels_only(tmp_path):
    names = ["../../up.png", "/etc/abs.png", "a/../b.png", "./c.png", "d//e.png", "..", "f/.png", "g\n\x1b[31m.png"]
    found = read(tmp_path / "x.tar", tar_bytes(*((name, name.encode()) for name in names)))
    assert [item.id for item in found.items] == [
        "../../up", "/etc/abs", "a/../b", "c", "d/e", "g\n\x1b[31m"
    ]  # fmt: skip
    assert all(item.path == tmp_path / "x.tar" for item in found.items)
    nameless = header("x.png", 1, body=b"1")
    empty = bytearray(nameless[:512])
    empty[:100] = bytes(100)
    empty[148:156] = b" " * 8
    empty[148:156] = b"%06o\0 " % sum(empty)
    assert index_tar(tmp_path / "x.tar")
    (tmp_path / "y.tar").write_bytes(bytes(empty) + nameless[512:] + tar_bytes(("0.png", b"0")))
    assert contents(read(tmp_path / "y.tar")) == {"0": b"0"}


def test_what_is_no_plain_file_is_a_problem_that_says_what_it_is(tmp_path):
    kinds = {"hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE, "pipe": tarfile.FIFOTYPE, "disk": tarfile.BLKTYPE}
    infos = [tarfile.TarInfo(f"{name}.png") for name in kinds]
    for info, kind in zip(infos, kinds.values(), strict=True):
        info.type, info.linkname = kind, "0.png"
    sparse = pax(GNU__sparse__map="0,1", GNU__sparse__size=10**12) + header("sparse.png", 1, body=b"x")
    data = tar_bytes(("0.png", b"0"), *infos, mark=False) + sparse + bytes(1024)
    found = read(tmp_path / "x.tar", data)
    assert contents(found) == {"0": b"0"}
    link = "not a regular file: a link to '0.png'"
    expected = {"hard": link, "soft": link, "pipe": "not a regular file", "disk": "not a regular file"}
    assert dict(problems(found)) == expected | {"sparse": "not a regular file"}


def test_an_end_mark_alone_is_an_empty_tar(tmp_path):
    with pytest.raises(InputError, match="saw no file at all"):
        read(tmp_path / "x.tar", bytes(10240))
    assert contents(read(tmp_path / "x.tar", bytes(10240) + tar_bytes(("0.png", b"0")))) == {"0": b"0"}


def test_headers_are_all_that_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(*((f"{n}.png", b"x" * 100_000) for n in range(5))))
    sizes = []
    real = webdataset._Headers.read

    def counted(self, size=-1):
        sizes.append(size)
        return real(self, size)

    monkeypatch.setattr(webdataset._Headers, "read", counted)
    assert len(index_tar(path)) == 5
    assert max(sizes) == tarfile.BLOCKSIZE


def test_members_with_other_dots_alone_are_refused_with_the_reason(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_bytes(("cat.0.png", b"1"), ("cat.1.png", b"2"), ("dog.1.png", b"3")))
    reason = r"up to the first dot, so \.0\.png is one of several things about it; rename those to embed to KEY\.png"
    with pytest.raises(InputError, match=reason):
        read_items(f"{tmp_path}/x.tar", IMAGE, (IMAGE, TEXT))
    with pytest.raises(InputError, match=r"saw \.1\.png \(2\), \.0\.png \(1\)$"):
        read_items(f"{tmp_path}/x.tar", TEXT, (IMAGE, TEXT))
