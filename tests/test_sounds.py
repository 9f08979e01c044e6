"""Sounds as programs really write them: of unknown length, cut, tagged, chained.

What is whole is read to its last sample whatever its header says, what is cut is refused with figures, and what the
vector cannot show is told.
"""

import io
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
import soundfile

from cmcr.decode import common, decoding, sounds
from cmcr.decode.sounds import read_audio
from cmcr.errors import ItemError

RATE = 16_000
RNG = np.random.default_rng(0)
TONE = (0.4 * np.sin(np.arange(2 * RATE) * 0.05) + 0.02 * RNG.normal(size=2 * RATE)).astype(np.float32)


def encoded(samples=TONE, kind="WAV", subtype=None, rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype, **options)
    return file.getvalue()


WAV, AIFF, RF64, W64, AU, NIST = (encoded(kind=kind) for kind in ("WAV", "AIFF", "RF64", "W64", "AU", "NIST"))
FLAC, OGG, OPUS = encoded(kind="FLAC"), encoded(kind="OGG"), encoded(kind="OGG", subtype="OPUS")
MP3 = encoded(kind="MP3", bitrate_mode="VARIABLE")
LITTLE_AU = encoded(kind="AU", endian="LITTLE")


def without_header(mp3):
    """Take the first frame away, which holds no sound but the Xing header."""
    at = mp3.find(mp3[:2], 4)
    assert b"Xing" in mp3[:at] or b"Info" in mp3[:at]
    return mp3[at:]


def patched(data, at, value, width=4, order="little"):
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


def read(data, rate=RATE, **options):
    with decoding() as item:
        return read_audio(data, rate, **options), item.notes


def whole(data, tmp_path):
    (tmp_path / "sound").write_bytes(data)
    return soundfile.read(tmp_path / "sound", dtype="float32", always_2d=True)[0].mean(axis=1)


# What was read rightly before stays as it was: libsndfile in one go is the reference.

SUBTYPES = [("WAV", each) for each in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")]
SUBTYPES += [
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "GSM610"),
    ("WAVEX", "PCM_24"),
    ("WAVEX", "FLOAT"),
    ("RF64", "PCM_16"),
]
SUBTYPES += [("AIFF", "PCM_S8"), ("AIFF", "PCM_16"), ("AIFF", "PCM_24"), ("AIFF", "FLOAT"), ("W64", "PCM_16")]
SUBTYPES += [("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AU", "PCM_16"), ("VOC", "PCM_16")]


@pytest.mark.parametrize(("kind", "subtype"), SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_exact_formats_are_bit_for_bit_what_they_were(kind, subtype, channels, monkeypatch, tmp_path):
    monkeypatch.setattr(sounds, "_BLOCK", 4096)  # several blocks
    many = np.stack([TONE * (1 - 0.15 * n) for n in range(channels)], axis=1)
    if kind == "VOC" or "ADPCM" in subtype or subtype == "GSM610":
        many = many[:, : 1 if subtype == "GSM610" else 2]  # as many as they can have
    data = encoded(many, kind, subtype)
    np.testing.assert_array_equal(read(data)[0], np.clip(whole(data, tmp_path), -1, 1))


@pytest.mark.parametrize(
    ("data", "apart"),
    [(MP3, 1e-5), (encoded(kind="MP3", bitrate_mode="CONSTANT"), 1e-5), (OGG, 1e-5), (OPUS, 2e-3)],
    ids=["mp3 vbr", "mp3 cbr", "vorbis", "opus"],
)
def test_lossy_formats_differ_by_rounding_alone(data, apart, tmp_path):
    ours, theirs = read(data)[0], whole(data, tmp_path)
    if data is OPUS:  # decoded at 48,000 a second and resampled, where libopus filters itself
        assert abs(len(ours) - len(theirs)) <= 1
        inner = slice(1000, len(theirs) - 1000)
        assert np.corrcoef(ours[inner], theirs[inner])[0, 1] > 0.99
    else:
        np.testing.assert_allclose(ours, theirs, atol=apart)


@pytest.mark.parametrize("channels", [7, 8, 9, 64])
def test_many_channels_of_a_stream_are_mixed(channels, tmp_path):
    many = np.stack([TONE * (n + 1) / channels for n in range(channels)], axis=1)
    data = encoded(many, "OGG")
    np.testing.assert_allclose(read(data)[0], whole(data, tmp_path), atol=1e-5)


def test_both_libraries_agree_on_plain_wav():
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"):
        data = encoded(np.stack([TONE, TONE / 3], axis=1), subtype=subtype)
        with av.open(io.BytesIO(data)) as container:
            from cmcr.decode.containers import joined

            parts = [block.mean(axis=1) for block, _ in joined(container.decode(audio=0))]
        np.testing.assert_array_equal(read(data)[0], np.concatenate(parts))


# A length that the header does not tell, or tells wrongly.


@pytest.mark.parametrize("size", [0, 0x7F00_0000, 0x7FFF_F000, 0x7FFF_FFDB, 0xFFFF_FFFF])
def test_a_wav_of_unknown_size_is_read_to_its_end(size):
    for outer in (size, len(WAV) - 8, min(size + 36, 0xFFFF_FFFF)):
        np.testing.assert_array_equal(read(patched(patched(WAV, 40, size), 4, outer))[0], read(WAV)[0])


@pytest.mark.parametrize("size", [0, 8, 0x7F00_0008, 0xFFFF_FFFF])
def test_an_aiff_of_unknown_size_is_read_to_its_end(size):
    data = patched(AIFF, AIFF.find(b"SSND") + 4, size, order="big")
    data = patched(patched(data, 4, 0, order="big"), AIFF.find(b"COMM") + 10, 0, order="big")
    np.testing.assert_array_equal(read(data)[0], read(AIFF)[0])


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 2**64 - 1])
def test_long_wavs_of_unknown_size_are_read_to_their_end(size):
    for data in (RF64, b"BW64" + RF64[4:]):
        np.testing.assert_array_equal(read(patched(data, data.find(b"ds64") + 16, size, 8))[0], read(RF64)[0])
    w64 = patched(W64, W64.find(b"data") + 16, size if size != 0xFFFF_FFFF else 24, 8)
    np.testing.assert_array_equal(read(w64)[0], read(W64)[0])


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x7EFF_F000, len(AU)])
def test_an_au_of_unknown_size_is_read_to_its_end(size):
    np.testing.assert_array_equal(read(patched(AU, 8, size, order="big"))[0], read(AU)[0])
    np.testing.assert_array_equal(read(patched(LITTLE_AU, 8, size))[0], read(AU)[0])


def test_a_flac_of_unknown_length_is_read_to_its_end():
    data = patched(FLAC, 21, FLAC[21] & 0xF0, 1)[:22] + bytes(4) + FLAC[26:]
    np.testing.assert_array_equal(read(data)[0], read(FLAC)[0])
    with pytest.raises(ItemError, match="truncated sound: it ends within its frame"):
        read(data[:-50])


def test_a_wav_without_samples_has_none_though_tags_follow():
    empty = encoded(TONE[:0])
    for data in (empty, empty + b"LIST\x04\0\0\0INFO"):
        with pytest.raises(ItemError, match="no samples"):
            read(data)


def test_a_size_that_counts_the_header_is_no_truncation():
    np.testing.assert_array_equal(read(patched(WAV, 40, len(WAV)))[0], read(WAV)[0])


def test_an_mp3_of_variable_rate_without_header_is_heard_whole():
    full, bare = read(MP3)[0], read(without_header(MP3))[0]
    assert len(bare) >= len(TONE)
    delay = np.correlate(bare, TONE, "valid").argmax()  # which only the header says
    assert np.corrcoef(bare[delay : delay + len(TONE)], full)[0, 1] > 0.999


def test_vbr_of_a_low_rate_has_no_seams(tmp_path):
    speech = np.where(np.arange(6 * RATE) // 3000 % 2, 0.3, 0.01) * np.tile(TONE, 3)
    data = encoded(speech.astype(np.float32), "MP3", bitrate_mode="VARIABLE", compression_level=0.99)
    np.testing.assert_allclose(read(data)[0], whole(data, tmp_path), atol=1e-5)


# What is cut.


@pytest.mark.parametrize("part", [0.2, 0.31, 0.5, 0.97, -20, -1])
@pytest.mark.parametrize(
    "data",
    [
        WAV,
        AIFF,
        RF64,
        b"BW64" + RF64[4:],
        W64,
        AU,
        LITTLE_AU,
        NIST,
        encoded(kind="NIST", subtype="ULAW"),
        FLAC,
        OGG,
        OPUS,
        MP3,
        without_header(MP3),
    ],
    ids=[
        "wav",
        "aiff",
        "rf64",
        "bw64",
        "w64",
        "au",
        "little au",
        "nist",
        "nist u-law",
        "flac",
        "vorbis",
        "opus",
        "mp3",
        "mp3 without header",
    ],
)
def test_what_is_cut_is_refused(data, part):
    with pytest.raises(ItemError, match=r"truncated sound: .*\d"):
        read(data[: part if part < 0 else int(len(data) * part)])


def test_a_cut_sound_is_refused_whatever_its_outer_size_says():
    with pytest.raises(ItemError, match="truncated sound: 50000 of 64044 bytes"):
        read(patched(WAV[:50_000], 4, 49_992))
    np.testing.assert_array_equal(read(patched(WAV, 4, 900_000))[0], read(WAV)[0])  # and is whole whatever it says


def test_an_mp3_with_fewer_frames_than_its_header_counts_is_cut():
    body = without_header(MP3)
    at = body.find(body[:2], len(body) // 2)  # between two frames
    with pytest.raises(ItemError, match=r"truncated sound: \d+ of \d+ frames"):
        read(MP3[: len(MP3) - len(body)] + body[:at])
    frames = struct.unpack(">I", MP3[MP3.find(b"Info" if b"Info" in MP3[:100] else b"Xing") + 8 :][:4])[0]
    head = MP3[:4].ljust(36, b"\0") + b"VBRI" + bytes(10) + struct.pack(">I", 2 * frames)
    with pytest.raises(ItemError, match=rf"truncated sound: \d+ of {2 * frames} frames"):
        read(head.ljust(len(MP3) - len(body), b"\0") + body)


@pytest.mark.parametrize(
    ("head", "reason"), [(b"\xff\xf1\x50\x80", "an AAC sound"), (b"\xff\xfb\x00\x44", "of a free bit rate")]
)
def test_kinds_of_mpeg_audio_that_are_not_read_are_named(head, reason):
    with pytest.raises(ItemError, match=f"{reason}, which is not read; convert it to FLAC"):
        read(head + bytes(5000))


def test_an_ogg_without_its_last_page_is_cut():
    with pytest.raises(ItemError, match=r"truncated sound: no end of its stream in \d+ bytes"):
        read(OGG[: OGG.rfind(b"OggS")])


@pytest.mark.parametrize("data", [FLAC, OGG, MP3], ids=["flac", "ogg", "mp3"])
def test_a_beginning_is_read_though_the_end_is_cut(data):
    long = {id(FLAC): "FLAC", id(OGG): "OGG", id(MP3): "MP3"}[id(data)]
    cut = encoded(np.tile(TONE, 5), long)
    cut = cut[: int(len(cut) * 0.8)]
    assert len(read(cut, max_seconds=1)[0]) == RATE
    with pytest.raises(ItemError, match="truncated"):
        read(cut)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_recorded_from_the_middle_of_a_stream_is_no_truncation(subtype):
    data = encoded(np.tile(TONE, 4), "OGG", subtype)
    pages = [data.index(b"OggS")]
    while (at := data.find(b"OggS", pages[-1] + 4)) > 0:
        pages.append(at)
    first = next(at for at in pages if int.from_bytes(data[at + 6 : at + 14], "little"))
    middle = pages[(pages.index(first) + len(pages)) // 2]
    found, notes = read(data[:first] + data[middle:])
    assert 2 * RATE < len(found) < 6 * RATE
    assert not notes


@pytest.mark.parametrize("samples", [1, 500, 1000])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_short_oggs_are_whole(samples, subtype):
    found, notes = read(encoded(0.3 * np.sin(np.arange(samples) * 0.05), "OGG", subtype, 48_000), 48_000)
    assert 0 < len(found) < samples + 0.03 * 48_000
    assert not notes


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000, 96_000])
def test_short_vorbis_has_its_samples_and_no_others(rate, channels):
    for count in (1, 65, 257, 512, 1000, 2049, 5000):
        data = encoded(0.2 * RNG.normal(size=(count, channels)), "OGG", rate=rate)
        found, notes = read(data, rate)
        assert len(found) == count and not notes
        exact = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].mean(axis=1)
        np.testing.assert_array_equal(found, np.clip(exact, -1, 1))


def test_short_vorbis_is_joined_cut_and_damaged_like_longer():
    one, two = (encoded(TONE[:count], "OGG") for count in (10_000, 777))
    np.testing.assert_array_equal(read(one + two + one)[0], np.concatenate([read(each)[0] for each in (one, two, one)]))
    assert len(read(one + two, max_seconds=0.65)[0]) == 10_400
    broken = one[:-30] + b"\xff\0\xff" + one[-27:]
    for data in (broken, broken + two, two + broken):
        with pytest.raises(ItemError, match="damaged sound: 0 of 10000 samples"):
            read(data)
    with pytest.raises(ItemError, match="truncated"):
        read(two + one[:-30])


def test_a_long_delay_of_opus_is_no_damage():
    end = OPUS.index(b"OggS", 4)
    first = patched(patched(OPUS[:end], OPUS.index(b"OpusHead") + 10, 12_000, 2), 22, 0)  # a quarter of a second
    remainder = 0
    for byte in first:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C1_1DB7 if remainder >> 31 else 0)) & 0xFFFF_FFFF
    found, notes = read(patched(first, 22, remainder) + OPUS[end:])
    assert RATE < len(found) < 1.9 * RATE
    assert not notes


def test_damage_within_is_refused_or_told():
    broken = bytearray(FLAC)
    broken[len(FLAC) // 2] ^= 0xFF
    with pytest.raises(ItemError, match=r"damaged|truncated"):
        read(bytes(broken))
    at = OGG.find(b"OggS", 4000)
    with pytest.raises(ItemError, match=r"damaged sound: \d+ of 32000 samples"):
        read(OGG[: at + 60] + b"\xff\0\xff" + OGG[at + 63 :])  # the page is passed over, for its checksum is wrong
    long = bytearray(encoded(np.tile(TONE, 10), "MP3"))
    at = long.find(long[:2], len(long) // 2)
    long[at + 4 : at + 40] = b"\xff" * 36
    found, notes = read(bytes(long))
    assert len(found) > 19.8 * RATE and (not notes or "cannot be decoded" in notes[0])


# What stands around the sound.

ID3 = b"ID3\x04\0\0" + bytes([(1_500_000 >> shift) & 127 for shift in (21, 14, 7, 0)]) + bytes(1_500_000)
TAGS = [
    b"TAG" + b"x" * 125,
    bytes(700),
    b"APETAGEX" + struct.pack("<IIII", 2000, 60, 1, 0) + b"k" * 36,
    b"LIST\x04\0\0\0INFO",
]


@pytest.mark.parametrize("data", [WAV, AIFF, W64, FLAC, OGG, MP3], ids=["wav", "aiff", "w64", "flac", "ogg", "mp3"])
def test_tags_before_and_behind_are_no_sound(data):
    clean = read(data)[0]
    np.testing.assert_array_equal(read(ID3 + data)[0], clean)
    for tag in TAGS:
        found, notes = read(data + tag)
        assert notes == []
        np.testing.assert_array_equal(found[: len(clean)], clean)
        assert len(found) - len(clean) <= (1152 if data is MP3 else 0)  # an encoder's padding, at most
    with pytest.raises(ItemError, match="truncated sound: 900 bytes, and its ID3 tag alone has 1500010"):
        read(ID3[:900])


@pytest.mark.parametrize(
    "second",
    [
        encoded(TONE[:RATE], "OGG"),
        encoded(np.stack([TONE[:RATE]] * 2, axis=1), "OGG"),
        encoded(TONE[: 3 * RATE // 2], "OGG", rate=24_000),
        encoded(np.tile(TONE, 2)[:48_000], "OGG", "OPUS", rate=48_000),
        encoded(TONE[:RATE], "OGG", "OPUS"),
    ],
    ids=["alike", "stereo", "another rate", "another codec and rate", "another codec"],
)
def test_all_streams_of_a_chained_ogg_are_heard(second):
    one, two = read(OGG)[0], read(second)[0]
    both = read(OGG + second)[0]
    assert len(both) == len(one) + len(two) == 3 * RATE
    np.testing.assert_allclose(both, np.concatenate([one, two]), atol=1e-6)
    assert len(read(OGG + second, max_seconds=2.5)[0]) == 2.5 * RATE
    with pytest.raises(ItemError, match="truncated"):
        read(OGG + second[:-40])


def test_streams_without_number_are_refused():
    tiny = encoded(TONE[:10], "OGG", "OPUS")
    with pytest.raises(ItemError, match="more than 1000 streams"):
        read(tiny * 1100)


def test_mpeg_audio_in_a_wav_is_read_and_judged_as_both():
    body = without_header(MP3)
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 0x55, 1, RATE, 4000, 1, 0)
    data = head + b"data" + struct.pack("<I", len(body)) + body
    np.testing.assert_array_equal(read(data)[0], read(body)[0])
    with pytest.raises(ItemError, match=rf"truncated sound: {len(data) - 999} of {len(data)} bytes"):
        read(data[:-999])


def test_mp3s_joined_at_another_rate_are_resampled():
    both = read(without_header(MP3) + without_header(encoded(np.tile(TONE, 2)[:48_000], "MP3", rate=24_000)))[0]
    assert 4 * RATE <= len(both) <= 4.3 * RATE


# Bounds.


def silent_flac(seconds, total=0):
    """Return a FLAC at 48,000 a second whose frames say in 14 bytes each: 4096 zeros; nothing else is in it."""
    whole = encoded(np.zeros(4096 * 3, np.float32), "FLAC", rate=48_000)
    with av.open(io.BytesIO(whole)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    head = patched(whole[: whole.find(packets[0])], 21, 0xF0 & whole[21], 1)
    head = head[:22] + total.to_bytes(4, "big") + head[26:]
    return head + packets[0] * (seconds * 48_000 // 4096 + 1)


def test_a_tiny_file_of_hours_is_stopped(monkeypatch):
    monkeypatch.setattr(sounds, "MAX_SECONDS", 20.0)
    data = silent_flac(30)
    assert len(data) < 20_000
    with pytest.raises(ItemError, match="more than 20 seconds of sound; cut it into parts"):
        read(data)
    with pytest.raises(ItemError, match="100 seconds; at most 20 are decoded"):
        read(silent_flac(1, total=4_800_000))
    assert len(read(data, max_seconds=1)[0]) == RATE


def test_memory_is_reserved_before_it_grows(monkeypatch):
    monkeypatch.setattr(common, "BUDGET", common.Budget(1_000_000))
    with pytest.raises(ItemError, match="CMCR_DECODE_BYTES"):
        read(silent_flac(30), 48_000)
    with pytest.raises(ItemError, match="CMCR_DECODE_BYTES"):
        read(encoded(TONE[:16_000], rate=1_000), 96_000)  # small until it is resampled
    assert len(read(WAV)[0]) == len(TONE)


def test_any_number_of_channels_takes_no_more_memory_than_one():
    import tracemalloc

    many = encoded(np.zeros((20_000, 200), np.float32), subtype="PCM_U8")
    tracemalloc.start()
    read(many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6  # all channels at once would be 16 MB


def test_only_formats_and_codecs_of_sound_files_are_tried(monkeypatch):
    with av.open(file := io.BytesIO(), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray((TONE[None, :4096] * 32767).astype(np.int16), format="s16", layout="mono")
        block.sample_rate = RATE
        container.mux(stream.encode(block))
        container.mux(stream.encode())
    tag = b"ID3\x04\0\0\0\0\0\0"
    for data in (file.getvalue(), b"#EXTM3U\n#EXTINF:6,\n/etc/passwd\n", b"ffconcat version 1.0\nfile x.wav\n"):
        with pytest.raises(ItemError, match="sound"):
            read(data)
        with pytest.raises(ItemError, match="not a sound, or damaged"):
            read(tag + data)
    monkeypatch.setattr(sounds, "_CODECS", "flac")
    assert read(FLAC)[0].size
    with pytest.raises(ItemError):
        read(MP3)


# What the vector does not show.


def test_samples_far_above_one_are_told():
    assert read(encoded(TONE * 32_768 / 0.8, subtype="FLOAT"))[1][0].startswith("samples reach 1")
    loud = np.abs(TONE).max()
    assert read(encoded(TONE / loud * 16_384, subtype="FLOAT"))[1] == ["samples reach 16384; clipped to [-1, 1]"]
    assert read(encoded(TONE / loud * 1.2, subtype="FLOAT"))[1] == []
    assert read(WAV)[1] == read(MP3)[1] == []


def test_channels_that_cancel_are_told():
    def notes(*channels):
        return read(encoded(np.stack(channels, axis=1)))[1]

    told = notes(TONE, -TONE)
    assert told == ["its channels cancel each other in the mix to mono (rms 0.284 each, 0.000 mixed)"]
    assert notes(TONE, -0.9 * TONE) and notes(TONE, -TONE, 0 * TONE)
    noise = RNG.normal(size=(8, len(TONE))) * 0.1
    assert notes(TONE, TONE) == notes(TONE, 0 * TONE) == notes(0 * TONE, 0 * TONE) == notes(*noise) == []


def test_nothing_is_said_on_stderr_and_threads_do_not_meet(capfd):
    rng, good = np.random.default_rng(1), {id(data): read(data)[0] for data in (WAV, FLAC, OGG, MP3)}

    def broken(data):
        worse = bytearray(data)
        for place in rng_places[id(data)]:
            worse[place] ^= 0x55
        return bytes(worse)

    rng_places = {id(data): rng.integers(len(data), size=20) for data in (WAV, FLAC, OGG, MP3)}
    barrier = threading.Barrier(4)

    def work(data):
        barrier.wait()
        for _ in range(5):
            try:
                read(broken(data))
            except ItemError as error:
                assert "\n" not in str(error)
            np.testing.assert_array_equal(read(data)[0], good[id(data)])

    with pytest.raises(ItemError):
        read(patched(AIFF, 35, 0xFFFF_FFFF))  # leads before the beginning of the file
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, (WAV, FLAC, OGG, MP3)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [WAV, AIFF, RF64, W64, FLAC, OGG, OPUS, MP3])
def test_flipped_and_cut_bytes_never_do_worse_than_an_item_error(data):
    rng = np.random.default_rng(len(data))
    for _ in range(25):
        broken = bytearray(data[: rng.integers(1, len(data) + 1)])
        head = min(len(broken), 200)
        for place in [*rng.integers(head, size=rng.integers(4)), *rng.integers(len(broken), size=rng.integers(9))]:
            broken[place] = rng.integers(256)
        try:
            assert read(bytes(broken), max_seconds=5)[0].size
        except ItemError as error:
            assert "\n" not in str(error)
