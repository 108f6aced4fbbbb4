"""Writer: a video file with the sound of another one; playable whenever it ends."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from saliencykit.core.errors import InputError
from saliencykit.video.disk_full_guard import ReserveFile
from saliencykit.video.reader import VideoInfo, need_av

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_INDEX = 2 * 2**20  # bytes for the index at the end of a file: at 20 per frame, an hour
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


@final
class Writer:
    """A video that is written to a temporary file, and moved to its path by `finish`.

    Frames are H.264 (VP9 in .webm) of constant quality, at the times of the source video. Sound is
    copied without decoding.

    `count` and `last` are the number of frames in the file so far, and the time of the last one.

    Args:
        path: Ends in .mp4, .m4v, .mov, .mkv or .webm.
        source: The video whose sound is copied.
        info: Of that video.
        comment: Written to the file's metadata.

    Raises:
        InputError: The suffix is no supported format, the directory cannot be written, or the
            format does not support the sound.
    """

    def __init__(self, path: Path, source: Path, info: VideoInfo, comment: str) -> None:
        need_av()
        import av
        from av.error import FFmpegError

        self.path, self.info, self.count, self.last, self._given = path, info, 0, Fraction(0), 0
        check_name(path)
        width, height = (side + side % 2 for side in info.size)
        self._reserve = ReserveFile(path)
        self._source: ExitStack = ExitStack()
        try:
            self._file: OutputContainer = av.open(
                self._reserve, "w", format=FORMATS[path.suffix.lower()]
            )
            self._file.metadata["comment"] = comment
            codec, options = _encoder(path.suffix.lower())
            video = self._file.add_stream(
                codec, rate=info.fps.limit_denominator(1001), options=options
            )
            self._video = cast("VideoStream", video)
            self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
            self._video.codec_context.time_base = info.time_base
            self._video.codec_context.sample_aspect_ratio = info.aspect
            self._sound = self._copied_sound(source)
            self._file.start_encoding()
        except BaseException as error:
            self._source.close()
            self._reserve.drop()
            if isinstance(error, InputError) or not isinstance(
                error, FFmpegError | OSError | ValueError
            ):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"{str(path)!r} cannot be written: {reason}. Another format may help: --output "
                "NAME.mkv"
            ) from error

    @property
    def full(self) -> bool:
        """Is the disk full? The file can still be finished, but no frame added."""
        return self._reserve.full

    def write(self, frame: "VideoFrame", time: Fraction) -> None:
        """Add a frame, later than those before, and the sound up to its time."""
        base = self.info.time_base
        frame.pts, frame.time_base = round(time / base), base
        for packet in self._video.encode(frame):
            self._mux(packet)
        self._given += 1
        self._mux_sound(time)

    def finish(self, *, whole: bool) -> bool:
        """Close the file and move it to its path.

        Args:
            whole: Did the source end? Then the rest of the sound is copied, too.

        Returns:
            Is there a file? False if no frame was written; an existing file then stays.

        Raises:
            InputError: The disk is too full to finish the file.
        """
        try:
            if self._given == 0:
                self._file.close()
                self._reserve.drop()
                return False
            if whole and not self.full:
                self._mux_sound(None)
            self._flush()
            self._file.close()
            self._reserve.keep()
        except OSError as error:
            self._reserve.drop()
            raise InputError(
                f"{str(self.path)!r} cannot be finished: {error.strerror or error}."
            ) from error
        finally:
            self._source.close()
        return True

    def _mux(self, packet: "Packet[Any]") -> None:
        if packet.pts is not None and packet.time_base is not None:
            self.last = max(self.last, packet.pts * packet.time_base)
        self._file.mux(packet)
        self.count += 1

    def _flush(self) -> None:
        """Write the encoder's last frames; on a full disk, as many as fit beside the index."""
        for packet in self._video.encode(None):
            if self.full and packet.size > self._reserve.left - _INDEX:
                return
            self._mux(packet)

    def _copied_sound(self, source: Path) -> "Iterator[tuple[Packet[Any], Stream]] | None":
        """Open the source a second time, for its sound."""
        import av

        file = self._source.enter_context(av.open(str(source)))
        if not file.streams.audio:
            return None
        unfit = [
            s.codec.canonical_name
            for s in file.streams.audio
            if s.codec.canonical_name not in self._file.supported_codecs
        ]
        if unfit:
            name = f"{self.path.stem}.mkv"
            raise InputError(
                f"the sound is copied without conversion, and {self.path.suffix} does not support "
                f"{unfit[0]}; write --output {name}."
            )
        streams = {
            stream.index: self._file.add_stream_from_template(stream)
            for stream in file.streams.audio
        }
        start = self.info.start

        def packets() -> "Iterator[tuple[Packet[Any], Stream]]":
            for packet in file.demux(list(file.streams.audio)):
                if packet.dts is None or packet.time_base is None:
                    continue  # the empty packet at the end
                shift = round(start / packet.time_base)
                packet.dts -= shift
                packet.pts = None if packet.pts is None else packet.pts - shift
                yield packet, streams[packet.stream.index]

        return packets()

    def _mux_sound(self, until: Fraction | None) -> None:
        """Write the packets that start before a time; None: all. A damaged end is omitted."""
        from av.error import FFmpegError

        while self._sound is not None and not self.full:
            try:
                packet, stream = next(self._sound)
            except (StopIteration, FFmpegError):
                self._sound = None
                return
            time = (
                packet.dts * packet.time_base
                if packet.dts is not None and packet.time_base is not None
                else Fraction(0)
            )
            packet.stream = stream
            self._file.mux(packet)
            if until is not None and time >= until:
                return


def check_name(path: Path) -> None:
    """Check that the suffix is a format that can be written.

    Raises:
        InputError: It is not.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"--output for a video must end in {', '.join(FORMATS)}; got {str(path)!r}."
        )
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a directory; --output for a video is a file.")


def _encoder(suffix: str) -> tuple[str, dict[str, str]]:
    import av

    if suffix == ".webm":
        return "libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6"}
    if "libx264" in av.codecs_available:
        return "libx264", {"crf": "20", "preset": "veryfast"}
    return "mpeg4", {"qscale": "3"}
