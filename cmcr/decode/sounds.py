"""Decode sounds: untrusted bytes in, mono samples or an ItemError out.

Two libraries read them. libsndfile has what lies in chunks (WAV, AIFF and their kin), where positions are exact; it is
quick, and knows every subtype. PyAV has the streams (FLAC, Ogg, MPEG), whose length only decoding finds; but for
Vorbis of a single page. Both read from the beginning to the end and never seek.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from cmcr.decode import chunks, streams
from cmcr.decode.common import note, one_line, refuse_empty
from cmcr.decode.containers import joined, opened
from cmcr.decode.mixing import Mix
from cmcr.errors import ItemError

MAX_SECONDS = 3600.0
"""Sounds above an hour are refused, unless the caller only asks for a beginning."""

_BLOCK = 1 << 17  # samples of all channels
_FORMATS = "flac,ogg,mp3,wav"
_CODECS = "flac,vorbis,libvorbis,opus,libopus,speex,libspeex,mp3float,mp3,mp2float,mp2,mp1float,mp1,pcm_s16le"
_SLACK = 0.05  # seconds that an Ogg file may be shorter than it says
_DAMAGED = 0.1
"""Where more than this part of the frames cannot be decoded, the sound is no sound; what is less is told."""


def read_audio(data: bytes, rate: int, max_seconds: float | None = None) -> np.ndarray:
    """Decode a sound, mix its channels down and resample it.

    Args:
        data: A WAV, FLAC, MP3, Ogg or AIFF file, or another that libsndfile knows.
        rate: Samples a second wanted.
        max_seconds: Decode only this long a beginning; None decodes all, up to ``MAX_SECONDS``.

    Returns:
        (n,) float32 mono samples in [-1, 1], n >= 1.

    Raises:
        ItemError: empty, not a sound, truncated, too long, without samples, non-finite, or above the memory budget.
    """
    refuse_empty(data)
    mix, bare = Mix(max_seconds, MAX_SECONDS), streams.without_tags(data)
    if chunks.is_chunked(bare):
        bare = chunks.for_libsndfile(bare)
        is_stream = chunks.holds_mpeg(bare)
    else:  # behind an ID3 tag is MPEG audio, at times after some junk
        bare = chunks.with_true_length(bare)
        is_stream = streams.is_stream(bare) or len(bare) < len(data)
    (_decode_streams if is_stream else _decode_chunks)(bare, mix)
    mono, _ = mix.mono(rate)
    if not mono.size:
        raise ItemError("no samples")
    return mono


class _Bytes(io.BytesIO):
    """A file that stays where it is when it is sent before its beginning, as damaged headers would have it.

    An error in there could not leave libsndfile, and would be printed.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset, if it is one."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _decode_chunks(data: bytes, mix: Mix, position: int = 0) -> None:
    """Add what libsndfile reads to the mix; of Ogg, with the position that the last page tells."""
    import soundfile

    before = mix.count
    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            file.seekable = lambda: False  # else soundfile seeks after every read
            frames, rate, size = int(file.frames), int(file.samplerate), max(1, _BLOCK // file.channels)
            mix.expect(frames, rate)
            while not mix.full:
                block = file.read(min(size, max(1, frames - mix.count + before)), dtype="float32", always_2d=True)
                if not block.size:
                    break
                mix.add(block, rate)
    except soundfile.LibsndfileError as error:
        raise ItemError(f"damaged or unknown sound: {one_line(error.error_string)}") from error
    count, expected = mix.count - before, frames or position  # a page that is damaged has no frames
    if not mix.full and count < 0.9 * expected:  # of a codec in blocks the frames are an estimate
        raise ItemError(f"{'damaged' if position else 'truncated'} sound: {count} of {expected} samples")


def _decode_streams(data: bytes, mix: Mix) -> None:
    links, cut = streams.ogg_links(data) if data[:4] == b"OggS" else ([streams.Link(data, 0)], None)
    for link in links:
        try:
            if link.is_short_vorbis and not mix.full:
                _decode_chunks(link.data, mix, link.position)
            elif not mix.full:
                _Stream(link, mix).decode()
        except ItemError:
            if cut is None or link is not links[-1]:
                raise
    if cut is not None and not mix.full:
        raise ItemError(f"truncated sound: {cut}")


class _Stream:
    """One stream while it is decoded: what its header says, and what is found."""

    def __init__(self, link: streams.Link, mix: Mix) -> None:
        self._data, self._position, self._mix, self._before = link.data, link.position, mix, mix.count
        self._is_ogg = self._data[:4] == b"OggS"
        self._samples, self._frames = streams.flac_samples(self._data), streams.mpeg_frames(self._data)
        self._seconds = 0.0  # of Ogg
        self._packets = self._bad = 0
        self._first, self._last_is_bad = b"", False
        self._last: Any = None

    def decode(self) -> None:
        """Add what it holds to the mix.

        Raises:
            ItemError: no sound, less than its header says, a last frame that is not whole, or too many that are no use.
        """
        with opened(io.BytesIO(self._data), _FORMATS, "sound", {"codec_whitelist": _CODECS}) as container:
            for block, rate in joined(self._decoded(container)):
                self._mix.add(block, rate)
                if self._mix.full:
                    return
        self._check_last()
        self._check()

    def _decoded(self, container: Any) -> Iterator[Any]:
        import av

        stream = next(iter(container.streams.audio), None)
        if stream is None or stream.codec_context is None:
            raise ItemError("no sound in it")
        codec = stream.codec_context
        self._mix.expect(self._samples, codec.sample_rate)
        if self._is_ogg and len(container.streams) == 1:
            # A station's stream is recorded from its middle, where positions are far on; those of Opus count the delay.
            self._seconds = float((self._position - (stream.start_time or 0)) * stream.time_base)
            self._seconds -= codec.delay / codec.sample_rate
        codec.thread_count = 1  # the callers have threads enough
        codec.options = {"codec_whitelist": _CODECS} | ({"err_detect": "crccheck+explode"} if self._samples else {})
        for packet in container.demux(stream):
            if packet.size:  # the very last has none: it asks for what the decoder still holds
                self._packets += 1
                self._last, self._last_is_bad = packet, False
                self._first = self._first or bytes(packet)[:2]
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self._bad, self._last_is_bad = self._bad + 1, True

    def _check_last(self) -> None:
        if self._is_ogg or self._last is None or self._bad == self._packets:
            return
        last = bytes(self._last)
        length = 0 if self._samples else streams.mpeg_frame_bytes(last)
        is_short = len(last) < length if length else self._last_is_bad
        if last[:2] == self._first and is_short:
            raise ItemError(f"truncated sound: {self._found()}")
        if self._last_is_bad:  # no frame, but a tag or other junk behind them
            self._bad, self._packets = self._bad - 1, self._packets - 1

    def _found(self) -> str:
        if self._samples:
            return f"{self._mix.count - self._before} of {self._samples} samples"
        if self._frames:
            return f"{self._packets - 1} of {self._frames} frames"
        return f"it ends within its frame {self._packets}"

    def _check(self) -> None:
        count, expected = self._mix.count - self._before, self._samples or round(self._seconds * self._mix.rate)
        bad = f"{self._bad} of {self._packets} frames cannot be decoded"
        if self._bad > _DAMAGED * self._packets or (self._bad and self._samples):
            raise ItemError(f"damaged sound: {bad}")
        slack = _SLACK * self._mix.rate
        if count < (self._samples or 0.9 * expected - slack):  # a damaged page of Ogg is passed over
            how = "damaged" if self._is_ogg else "truncated or damaged"  # an Ogg file that is cut shows that itself
            raise ItemError(f"{how} sound: {count} of {expected} samples")
        if self._packets < self._frames - 1:  # some count the frame of the header, too
            raise ItemError(f"truncated sound: {self._packets} of {self._frames} frames")
        if self._bad or count < expected - slack:
            note(f"damaged: {bad}" if self._bad else f"damaged: {count} of {expected} samples can be decoded")
