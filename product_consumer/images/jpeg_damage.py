"""JPEG files that libjpeg complains about: are all their rows there?

libjpeg fills what is missing with grey and only warns; a missing end mark it takes for missing
data. Neither says how much was decoded. That shows when more data is put behind each scan: a scan
that is whole ignores it, another one reads on.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from PIL import Image, ImageChops

LACKING_ROWS: Final = 17
LACKING_SHARE: Final = 1 / 16
LACKING_SHARE_OF_PROGRESSIVE: Final = 1 / 4
"""What a damaged file with an end mark and all its scans may lack: a row of its largest blocks and
the pixels above it that are smoothed, or a share of its height. A single wrong byte also makes
libjpeg read some blocks too many or too few; in one scan of a progressive file it may be many."""

_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_RESTART_INTERVAL = 0xDD
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE_FRAME = 0xC2
_COEFFICIENTS = 64
# A marker that a length follows: not a stuffed FF, fill, a restart or TEM.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
# Where restarts are expected, libjpeg skips markers without a meaning.
_MARKER_AMONG_RESTARTS = re.compile(rb"\xff([\xc0-\xcf\xd9-\xef\xfe])")
_END_MARK = b"\xff\xd9"
# Bytes without a pattern, and without the start of a marker.
_NOISE = hashlib.shake_128(b"any text").digest(512).replace(b"\xff", b"")
_STRIP_ROWS = 256


@dataclass
class _Structure:
    """Where the scans of a file end, and which coefficients they hold."""

    frame: int = 0
    has_restarts: bool = False
    scans: list[tuple[int, int]] = field(default_factory=list)
    """First byte of each scan's data, and the byte behind it."""
    missing_bits: dict[int, list[int]] = field(default_factory=dict)
    """Of each component's coefficients, how many low bits no scan holds; 16 for no scan at all."""

    @property
    def is_complete(self) -> bool:
        """Whether the scans hold every coefficient, if the last one ends where it should."""
        bits = [bits for component in self.missing_bits.values() for bits in component]
        return self.frame in _HUFFMAN_FRAMES and bool(bits) and not any(bits)


def load_damaged_jpeg(data: bytes) -> Image.Image:
    """Return the loaded image of a file that libjpeg complained about.

    Raises ``OSError``, as Pillow does for a truncated file, when rows are missing.
    """
    structure, has_end_mark = _read_structure(data), _has_end_mark(data)
    mended = data
    if not has_end_mark and structure.is_complete:
        mended = data.rstrip(b"\xff") + _END_MARK
    image = _load(mended)
    if structure.frame not in _HUFFMAN_FRAMES:
        return image
    try:
        lacking = _lacking_rows(image, _with_noise(mended, structure))
    except OSError:
        # A marker is damaged, and the noise came to stand in a header: nothing is learned.
        return _load(data)
    is_bearable = has_end_mark and structure.is_complete
    if lacking > (_bearable_rows(structure, image.height) if is_bearable else 0):
        raise OSError(f"truncated: {lacking} of {image.height} rows have no data")
    return image


def _bearable_rows(structure: _Structure, height: int) -> int:
    is_progressive = structure.frame == _PROGRESSIVE_FRAME
    share = LACKING_SHARE_OF_PROGRESSIVE if is_progressive else LACKING_SHARE
    return max(LACKING_ROWS, int(height * share))


def _has_end_mark(data: bytes) -> bool:
    return data.find(_END_MARK, max(data.rfind(b"\xff\xda"), 0)) >= 0


def _load(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.load()
    return image


def _lacking_rows(image: Image.Image, with_noise: bytes) -> int:
    """Return how many rows, counted from the bottom, the noise has changed."""
    other = _load(with_noise)
    for top in range(0, image.height, _STRIP_ROWS):
        box = (0, top, image.width, min(top + _STRIP_ROWS, image.height))
        difference = ImageChops.difference(image.crop(box), other.crop(box)).getbbox()
        if difference is not None:
            return image.height - top - difference[1]
    return 0


def _with_noise(data: bytes, structure: _Structure) -> bytes:
    pieces, position = [], 0
    for start, end in structure.scans:
        pieces.append(data[position:end])
        pieces.append(_noise_behind(data, start, end) if structure.has_restarts else _NOISE)
        position = end
    return b"".join([*pieces, data[position:]])


def _noise_behind(data: bytes, start: int, end: int) -> bytes:
    """Return noise with the restart marks that should come next in this scan."""
    last = max(range(8), key=lambda number: data.rfind(bytes((0xFF, 0xD0 + number)), start, end))
    found = data.rfind(bytes((0xFF, 0xD0 + last)), start, end) >= 0
    first = last + 1 if found else 0
    return b"".join(_NOISE + bytes((0xFF, 0xD0 + (first + number) % 8)) for number in range(8))


def _read_structure(data: bytes) -> _Structure:
    structure = _Structure()
    scan_start = 0
    for marker, content, start, end in _segments(data):
        if scan_start:
            structure.scans.append((scan_start, start))
            scan_start = 0
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and not structure.frame:
            structure.frame = marker
            structure.missing_bits = {number: [16] * _COEFFICIENTS for number in content[6::3]}
        elif marker == _RESTART_INTERVAL:
            structure.has_restarts |= any(content)
        elif marker == _START_OF_SCAN:
            _take_scan(structure, content)
            scan_start = end
    return structure


def _take_scan(structure: _Structure, content: bytes) -> None:
    """Note the coefficients that a scan holds (ITU-T T.81 B.2.3)."""
    count = content[0] if content else 0
    components, band = content[1 : 1 + 2 * count : 2], content[1 + 2 * count :]
    if len(band) < 3:
        return
    is_progressive = structure.frame == _PROGRESSIVE_FRAME
    first, last, bits = (band[0], band[1], band[2] & 15) if is_progressive else (0, 63, 0)
    for component in components:
        missing = structure.missing_bits.get(component, [])
        missing[first : last + 1] = [bits] * len(missing[first : last + 1])


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield marker, content, start and end of each segment, and of the end of the file.

    The number of markers is bounded by ``has_too_many_scans``.
    """
    position, pattern = 2, _MARKER
    while found := pattern.search(data, position):
        marker = found[1][0]
        if marker == _END_OF_IMAGE:
            break
        start, content_start = _before_fill(data, found.start()), found.end() + 2
        position = found.end() + int.from_bytes(data[found.end() : content_start])
        content = data[content_start:position]
        if marker == _RESTART_INTERVAL and any(content):
            pattern = _MARKER_AMONG_RESTARTS
        yield marker, content, start, position
    end = found.start() if found else len(data)
    yield _END_OF_IMAGE, b"", _before_fill(data, end), end


def _before_fill(data: bytes, position: int) -> int:
    """Step back over bytes FF that only fill up to a marker; noise behind one would be a marker."""
    while position and data[position - 1] == 0xFF:
        position -= 1
    return position
