"""Pictures that are not 8-bit, and large ones: what becomes of them, and what is told."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from bench import errors
from bench.data.convert.encoders import Encoders

# From black to white in 4,096 steps.
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16


@pytest.fixture(scope='module')
def encoders() -> Iterator[Encoders]:
    with Encoders(1) as made:
        yield made


def saved(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tiff_of_12_bits(pixels: np.ndarray) -> bytes:
    """Values below 4096, two in three bytes, the highest bits first."""
    height, width = pixels.shape
    first, second = pixels.reshape(-1, 2).astype(np.uint32).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(packed)}
    directory = struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', tag, 4, 1, tags[tag]) for tag in tags)
    return b'II*\0' + struct.pack('<I', 8 + len(packed)) + packed + directory + bytes(4)


@pytest.mark.parametrize('data', [saved(RAMP, 'PNG'), saved(RAMP, 'TIFF'), tiff_of_12_bits(RAMP >> 4)])
def test_grey_of_more_than_8_bits_keeps_its_shades(encoders: Encoders, data: bytes) -> None:
    with Image.open(io.BytesIO(encoders.jpeg(data).data)) as image:
        assert abs(np.asarray(image, float) - (RAMP >> 8)[..., np.newaxis]).max() <= 3


@pytest.mark.parametrize(('kind', 'told'), [(np.float32, 'floating-point'), (np.int32, 'signed or 32-bit')])
def test_pixels_of_which_nobody_knows_the_white_are_refused(encoders: Encoders, kind: type, told: str) -> None:
    with pytest.raises(errors.DataError, match=f'{told} pixels, and nothing tells'):
        encoders.jpeg(saved(RAMP.astype(kind), 'TIFF'))


def test_a_large_photo_is_taken_without_a_remark_and_one_too_large_is_not_called_broken(encoders: Encoders) -> None:
    large = saved(np.full((9500, 10000), 99, np.uint8), 'JPEG')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert encoders.jpeg(large).width == 10000
    assert large.count(struct.pack('>HH', 9500, 10000)) == 1
    with pytest.raises(errors.DataError, match='has 182 megapixels, and TensorFlow decodes fewer than 179'):
        encoders.jpeg(large.replace(struct.pack('>HH', 9500, 10000), struct.pack('>HH', 13000, 14000)))
