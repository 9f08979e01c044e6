"""Frames and sound of videos, against videos whose every frame is known."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cmcr import media
from cmcr.decode import common, decoding
from cmcr.decode import videos as video
from cmcr.errors import ItemError

FPS, SECONDS, RATE = 10, 6, 22_050
SIZE = (48, 32)


def shade(number):
    return 20 + 3 * number


def write(
    path, *, codec="mpeg4", container=None, gop=12, start=0.0, rotation=None, stereo=False, sound=True, pictures=True,
    heard=SECONDS, size=SIZE, options=None, matrix=None, aspect=None, top=0,
):  # fmt: skip
    """Write six seconds at ten frames a second: frame n is of grey shade(n), its left half brighter; a 440 Hz tone."""
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        if pictures:
            stream = file.add_stream(codec, rate=FPS)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.gop_size, stream.max_b_frames = gop, 2
            stream.bit_rate = 2_000_000
            if rotation is not None:
                stream.set_display_rotation(rotation)
            if matrix is not None:
                a, b, c, d = (round(each * 65536) for each in matrix)
                stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
        if sound:
            layout = "stereo" if stereo else "mono"
            ears = file.add_stream("aac" if container is None else "pcm_s16le", rate=RATE, layout=layout)
        if pictures:
            for number in range(FPS * SECONDS):
                grey = np.full((size[1], size[0], 3), shade(number), np.uint8)
                grey[:, : size[0] // 2] += 30
                grey[: size[1] // 4] += top
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = number + round(start * FPS), Fraction(1, FPS)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        if sound:
            tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE * heard) / RATE)
            both = np.stack([tone, 0 * tone] if stereo else [tone]).astype(np.float32)
            pcm = container is not None
            for at in range(0, both.shape[1], 1024):
                part = both[:, at : at + 1024]
                packed = (part.T.reshape(1, -1) * 32767).astype(np.int16) if pcm else np.ascontiguousarray(part)
                block = av.AudioFrame.from_ndarray(packed, format="s16" if pcm else "fltp", layout=layout)
                block.sample_rate, block.pts = RATE, at
                file.mux(ears.encode(block))
            file.mux(ears.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("video") / "clip.mp4", options={"movflags": "faststart"})


def right(image):
    """Return the shade of the right half."""
    return np.asarray(image)[:, SIZE[0] // 2 + 8 :].mean()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm", "a.ts"])
@pytest.mark.parametrize("gop", [1, 12, 1000])
def test_the_nearest_frame_is_found_from_any_key_frame_distance(tmp_path, name, gop):
    codec = {".webm": "libvpx", ".ts": "mpeg2video"}.get(Path(name).suffix, "mpeg4")
    path = write(tmp_path / name, codec=codec, gop=gop, sound=False)
    times = [0.0, 0.04, 0.06, 2.91, 3.0, 5.88, 1.52]
    found = [right(image) for image in video.frames_at(path, times)]
    naive = [shade(min(range(FPS * SECONDS), key=lambda n: abs(n / FPS - time))) for time in times]
    assert found == pytest.approx(naive, abs=1.4)


def test_times_count_from_the_first_picture(tmp_path):
    path = write(tmp_path / "late.mkv", start=3.0, sound=False)
    assert right(video.frames_at(path, [0.5])[0]) == pytest.approx(shade(5), abs=1.4)


def test_a_frame_is_a_whole_rgb_picture(clip):
    (image,) = video.frames_at(clip, [1.0])
    assert (image.mode, image.size) == ("RGB", SIZE)
    left = np.asarray(image)[:, : SIZE[0] // 2 - 8].mean()
    assert left - right(image) == pytest.approx(30, abs=3)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write a turned video")
@pytest.mark.parametrize(("degrees", "bright"), [(90, "bottom"), (-90, "top"), (180, "right")])
def test_frames_are_turned_upright(tmp_path, degrees, bright):
    path = write(tmp_path / "turned.mp4", rotation=degrees, sound=False)
    pixels = np.asarray(video.frames_at(path, [2.0])[0]).mean(axis=2)
    assert pixels.shape == (SIZE if degrees != 180 else SIZE[::-1])
    half = {"bottom": pixels[28:], "top": pixels[:20], "right": pixels[:, 28:]}[bright]
    assert half.mean() == pytest.approx(shade(20) + 30, abs=4)


# A right-angled matrix (a, b, c, d): (x, y) goes to (a x + c y, b x + d y).
MOVES = [(sign_a, 0, 0, sign_b) for sign_a in (1, -1) for sign_b in (1, -1)]
MOVES += [(0, sign_a, sign_b, 0) for sign_a in (1, -1) for sign_b in (1, -1)]


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_matrix"), reason="this PyAV cannot write a display matrix")
@pytest.mark.parametrize("matrix", MOVES)
def test_frames_are_turned_and_mirrored_as_their_display_matrix_says(tmp_path, matrix):
    pixels = np.asarray(video.frames_at(write(tmp_path / "a.mp4", matrix=matrix, top=60, sound=False), [2.0])[0]).mean(
        axis=2
    )
    plain = np.asarray(video.frames_at(write(tmp_path / "b.mp4", top=60, sound=False), [2.0])[0]).mean(axis=2)
    a, b, c, d = matrix
    expected = np.zeros_like(pixels)
    height, width = plain.shape
    for y, x in np.ndindex(height, width):  # the definition, pixel by pixel
        to_x, to_y = a * x + c * y, b * x + d * y
        to_x += (width - 1) * (a < 0) + (height - 1) * (c < 0)
        to_y += (width - 1) * (b < 0) + (height - 1) * (d < 0)
        expected[to_y, to_x] = plain[y, x]
    np.testing.assert_allclose(pixels, expected, atol=1)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_matrix"), reason="this PyAV cannot write a display matrix")
def test_a_turn_by_no_right_angle_is_told(tmp_path):
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    path = write(tmp_path / "tilted.mp4", matrix=(cos, sin, -sin, cos), sound=False)
    with decoding() as item:
        image = video.frames_at(path, [2.0])[0]
    assert image.size[0] > SIZE[0] and image.size[1] > SIZE[1] and np.asarray(image)[0, 0].max() == 0
    assert item.notes == ["turned by 30 degrees, with black corners"]
    flat = write(tmp_path / "flat.mp4", matrix=(1, 1, 1, 1), sound=False)
    assert video.frames_at(flat, [2.0])[0].size == SIZE  # all of it on one line: no matrix


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.ts", "mpeg2video")])
def test_pixels_are_made_square(tmp_path, name, codec):
    wide = write(tmp_path / name, codec=codec, aspect=Fraction(2, 1), sound=False)
    if codec == "mpeg2video":  # which knows but few shapes of the whole picture: 16:9 here
        wide = write(tmp_path / name, codec=codec, aspect=Fraction(32, 27), sound=False)
    (image,) = video.frames_at(wide, [1.0])
    assert image.size == ((57, 32) if codec == "mpeg2video" else (96, 32))
    half = np.asarray(image).mean(axis=2)
    assert half[:, : half.shape[1] // 2 - 8].mean() - half[:, half.shape[1] // 2 + 8 :].mean() == pytest.approx(
        30, abs=3
    )
    if codec == "mpeg4":
        narrow = write(tmp_path / name, codec=codec, aspect=Fraction(1, 2), sound=False)
        assert video.frames_at(narrow, [1.0])[0].size == (24, 32)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_matrix"), reason="this PyAV cannot write a display matrix")
def test_pixels_are_made_square_before_the_picture_is_turned(tmp_path):
    path = write(tmp_path / "both.mp4", matrix=(0, 1, -1, 0), aspect=Fraction(2, 1), sound=False)
    assert video.frames_at(path, [1.0])[0].size == (32, 96)


def test_pictures_are_bounded_as_they_are_shown(tmp_path, monkeypatch):
    path = write(tmp_path / "wide.mp4", aspect=Fraction(20, 1), sound=False)
    assert video.frames_at(path, [1.0])[0].size == (960, 32)
    monkeypatch.setattr(video, "MAX_PIXELS", 20_000)
    with pytest.raises(ItemError, match="960 x 32 pixels; at most 20000"):
        video.frames_at(path, [1.0])
    monkeypatch.setattr(common, "BUDGET", common.Budget(500_000))
    monkeypatch.setattr(video, "MAX_PIXELS", 400_000)
    with pytest.raises(ItemError, match="CMCR_DECODE_BYTES"):
        video.frames_at(path, [1.0])


def test_evenly_spaced_times_are_the_middles_of_equal_parts():
    assert video.evenly(10.0, 1) == [5.0]
    assert video.evenly(10.0, 5) == [1.0, 3.0, 5.0, 7.0, 9.0]


def test_the_duration_is_known_even_where_the_header_does_not_say_it(clip, tmp_path):
    assert video.duration(clip) == pytest.approx(SECONDS, abs=0.01)
    assert video.duration(write(tmp_path / "by-the-container.mkv", sound=False)) == pytest.approx(SECONDS, abs=0.01)
    live = write(tmp_path / "live.mkv", sound=False, options={"live": "1"})
    with av.open(str(live)) as container:
        assert not container.duration and not container.streams.video[0].duration
    assert video.duration(live) == pytest.approx(SECONDS, abs=0.11)


def test_sound_keeps_its_place_its_pitch_and_its_mean_over_channels(clip, tmp_path):
    mono, rate = video.samples(clip)
    assert (rate, mono.dtype) == (RATE, np.float32)
    assert len(mono) == pytest.approx(RATE * SECONDS, abs=2048)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert np.corrcoef(mono[RATE : 2 * RATE], tone)[0, 1] > 0.99  # whole seconds later the same phase: no delay
    stereo = write(tmp_path / "stereo.mkv", stereo=True, pictures=False, container="matroska")
    half, _ = video.samples(stereo)
    assert np.abs(half).max() == pytest.approx(0.25, abs=0.01)


def test_sound_at_another_rate_is_resampled(clip):
    mono, rate = video.samples(clip, 16_000)
    assert (rate, len(mono)) == (16_000, pytest.approx(16_000 * SECONDS, abs=2000))
    spectrum = np.abs(np.fft.rfft(mono[:16_000]))
    assert spectrum.argmax() == 440
    assert np.abs(mono).max() <= 1


def test_damage_is_an_item_error(clip, tmp_path):
    data = clip.read_bytes()
    cases = {"empty.mp4": b"", "noise.mp4": np.random.default_rng(0).bytes(5000), "cut.mp4": data[: len(data) // 2]}
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ItemError):
            video.frames_at(path, [5.5])
        with pytest.raises(ItemError):
            video.samples(path)
    (tmp_path / "folder.mp4").mkdir()
    for name in ("folder.mp4", "missing.mp4"):
        with pytest.raises(ItemError, match="cannot be read"):
            video.duration(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_video_that_is_cut_off_still_gives_the_pictures_it_has(tmp_path, name):
    path = write(tmp_path / name, options={"movflags": "faststart"} if name == "cut.mp4" else {})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert right(video.frames_at(path, [0.5])[0]) == pytest.approx(shade(5), abs=1.4)
    with pytest.raises(ItemError, match=r"cut off: no picture at 5\.5 s"):
        video.frames_at(path, [5.5, 0.5])
    with pytest.raises(ItemError, match=r"cut off after [34]\.\d of 6\.\d s|damaged"):
        video.samples(path)


def test_a_sound_shorter_than_its_pictures_is_whole(tmp_path):
    path = write(tmp_path / "short.mkv", heard=2)
    assert len(video.samples(path)[0]) == pytest.approx(2 * RATE, abs=2048)


def test_flipped_bytes_never_do_worse_than_an_item_error(clip, tmp_path):
    data, rng = bytearray(clip.read_bytes()), np.random.default_rng(1)
    path = tmp_path / "flipped.mp4"
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 40)):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        for read in (lambda: video.frames_at(path, [1.0]), lambda: video.samples(path)):
            try:
                read()
            except ItemError as error:
                assert "\n" not in str(error)


def test_a_video_without_sound_or_without_pictures_says_so(tmp_path):
    with pytest.raises(ItemError, match="no sound"):
        video.samples(write(tmp_path / "mute.mp4", sound=False))
    with pytest.raises(ItemError, match="no pictures"):
        video.duration(write(tmp_path / "blind.mkv", pictures=False, container="matroska"))


def test_a_playlist_that_names_another_file_is_not_followed(clip, tmp_path):
    segment = write(tmp_path / "secret.ts", codec="mpeg2video", sound=False)
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{segment}\n#EXT-X-ENDLIST\n",
        "concat.mp4": "ffconcat version 1.0\nfile secret.ts\n",
    }.items():
        (tmp_path / name).write_text(text)
        with av.open(str(tmp_path / name)) as followed:  # as FFmpeg does when it is not told otherwise
            assert len(list(followed.decode(video=0))) > 1
        with pytest.raises(ItemError, match="not a video"):
            video.frames_at(tmp_path / name, [1.0])


def test_sizes_are_bounded(clip, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 1000)
    with pytest.raises(ItemError, match="48 x 32 pixels"):
        video.frames_at(clip, [1.0])
    monkeypatch.setattr(video, "MAX_SECONDS", 4.0)
    with pytest.raises(ItemError, match="more than 4 seconds"):
        video.samples(clip)
    monkeypatch.setattr(video, "MAX_PIXELS", 10_000)
    with pytest.raises(ItemError, match="6 seconds; expected"):
        video.duration(clip)
    with pytest.raises(ItemError, match="more than 4 seconds"):
        video.frames_at(clip, [1.0])


def test_a_stream_that_grows_on_the_way_is_stopped(tmp_path, monkeypatch):
    small = write(tmp_path / "small.ts", codec="mpeg2video", sound=False).read_bytes()
    large = write(tmp_path / "large.ts", codec="mpeg2video", sound=False, size=(96, 64), start=8).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    assert [image.size for image in video.frames_at(tmp_path / "both.ts", [1.0, 9.0])] == [SIZE, (96, 64)]
    monkeypatch.setattr(video, "MAX_PIXELS", 3000)
    assert video.frames_at(tmp_path / "both.ts", [1.0])[0].size == SIZE
    with pytest.raises(ItemError, match="not a video, or damaged"):
        video.frames_at(tmp_path / "both.ts", [9.0])


def test_a_frame_that_is_damaged_is_passed_over_for_the_nearest_whole_one(tmp_path):
    path = write(tmp_path / "damaged.ts", codec="mpeg2video", sound=False)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    while True:
        broken = bytearray(data)
        for place in rng.integers(100, len(data) - 1000, size=8):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        with suppress(av.FFmpegError), av.open(str(path)) as container:
            frames = [(f.time, f.is_corrupt, np.asarray(f.to_image())) for f in container.decode(video=0)]
            bad = next((time for time, corrupt, _ in frames[1:] if corrupt), None)
            if bad is not None:
                break
    nearest = min((abs(time - bad), time, index) for index, (time, corrupt, _) in enumerate(frames) if not corrupt)
    (found,) = video.frames_at(path, [bad - frames[0][0]])
    np.testing.assert_array_equal(found, frames[nearest[2]][2])


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    with av.open(str(tmp_path / "nan.mkv"), "w") as file:
        stream = file.add_stream("pcm_f32le", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(np.full((1, RATE), np.nan, np.float32), format="flt", layout="mono")
        block.sample_rate = RATE
        file.mux(stream.encode(block))
    with pytest.raises(ItemError, match="non-finite"):
        video.samples(tmp_path / "nan.mkv")


def test_whatever_a_decoder_raises_is_one_items_fault(clip, monkeypatch):
    monkeypatch.setattr(video, "_shown", lambda frame, aspect: frame.unknown)
    with pytest.raises(ItemError, match=r"damaged video: .*unknown"):
        video.frames_at(clip, [1.0])


def test_what_is_unpacked_is_used_again_until_the_video_changes(clip, tmp_path, monkeypatch):
    source = tmp_path / "source.mp4"
    source.write_bytes(clip.read_bytes())
    frames = [tmp_path / "frames" / f"{n}.png" for n in (1, 2)]
    sound = tmp_path / "audio" / "s.wav"

    def unpack():
        video.unpack_frames(source, [1.0, 2.0], frames)
        video.unpack_sound(source, sound)

    unpack()
    assert right(media.read_image(frames[1].read_bytes())) == pytest.approx(shade(20), abs=1.4)
    assert len(media.read_audio(sound.read_bytes(), RATE)) == len(video.samples(source)[0])
    before = [path.read_bytes() for path in (*frames, sound)]
    with monkeypatch.context() as patched:
        patched.setattr(video, "frames_at", None)
        patched.setattr(video, "samples", None)
        unpack()
    write(source, options={"movflags": "faststart"})
    unpack()
    assert [path.read_bytes() for path in (*frames, sound)] == before  # the same video, decoded anew
    write(tmp_path / "other.mp4", size=(96, 64)).replace(source)
    unpack()
    assert frames[0].read_bytes() != before[0]
    frames[0].unlink()
    unpack()
    assert frames[0].exists()


def test_a_failed_unpack_leaves_nothing(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ItemError):
        video.unpack_sound(tmp_path / "bad.mp4", tmp_path / "out" / "bad.wav")
    assert not (tmp_path / "out").exists()


def test_the_library_says_nothing_on_its_own(clip, tmp_path, capfd):
    broken = bytearray(clip.read_bytes())
    broken[2000:2400] = b"\xff" * 400
    (tmp_path / "broken.mp4").write_bytes(broken)
    for read in (lambda path: video.frames_at(path, [1.0, 3.0]), video.samples):
        with suppress(ItemError):
            read(tmp_path / "broken.mp4")
    assert capfd.readouterr() == ("", "")
