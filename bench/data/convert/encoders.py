"""TensorFlow's own codecs, called from threads: a picture that passes here is one that the input pipeline can decode.

Every JPEG is decoded once, at an eighth of its size: that reads all of its bytes, and so finds what is truncated or
corrupt, in three quarters of the time. JPEGs that are not RGB or grey become RGB as in TF-Slim's ImageNet converter, by
decoding and encoding at quality 100, but found by their content instead of a list of 23 names; PNGs and other formats
are read by Pillow and encoded in the same way. MNIST's and CIFAR-10's pixels become PNGs as in TF-Slim.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image, UnidentifiedImageError

from bench import errors
from bench.machine import remarks

Array = Any

_QUALITY = 100
# TensorFlow decodes no picture of so many pixels: it makes no more than 2 ** 29 bytes of one (jpeg_mem.cc).
_PIXELS = (1 << 29) // 3
# The TIFF tag BitsPerSample.
_BITS = 258
_RATIO = 8


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """A JPEG, its size in pixels, and its channels: 3 for RGB, 1 for grey."""

    data: bytes
    height: int
    width: int
    channels: int


class Encoders:
    """The codecs in a session of their own; their methods may be called from several threads at once.

    Args:
      threads: how many threads will call them.
    """

    def __init__(self, threads: int) -> None:
        # Pillow looks for its formats when it opens the first picture, which must not be in several threads.
        Image.init()
        # Pillow would warn of half of what is refused here.
        Image.MAX_IMAGE_PIXELS = None
        config = tf.ConfigProto(inter_op_parallelism_threads=threads, intra_op_parallelism_threads=1)
        remarks.silence(config)
        self._session = tf.Session(graph=tf.Graph(), config=config)
        with self._session.graph.as_default():
            encoded = tf.placeholder(tf.string, [])
            pixels = tf.placeholder(tf.uint8, [None, None, 3])
            images = tf.placeholder(tf.uint8, [None, None, None, None])
            make = self._session.make_callable
            self._check = make(tf.shape(tf.io.decode_jpeg(encoded, ratio=_RATIO)), [encoded])
            decoded = tf.io.decode_jpeg(encoded, channels=3)
            self._recode = make(tf.io.encode_jpeg(decoded, format='rgb', quality=_QUALITY), [encoded])
            self._encode = make(tf.io.encode_jpeg(pixels, format='rgb', quality=_QUALITY), [pixels])
            pngs = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string, parallel_iterations=1)
            self._pngs = make(pngs, [images])

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def jpeg(self, data: bytes) -> Jpeg:
        """A picture of any format as a JPEG that can be decoded; an RGB or grey JPEG stays as it is.

        Raises:
          errors.DataError: the picture is broken.
        """
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = _size(image)
                channels = 1 if image.mode == 'L' else 3
                # MPO is a JPEG with further pictures behind it, as telephones write them.
                if image.format not in ('JPEG', 'MPO'):
                    channels, data = 3, self._encode(_rgb(image))
                elif image.mode not in ('RGB', 'L'):
                    data = self._recode(data)
                else:
                    self._check(data)
        except tf.errors.InvalidArgumentError as error:
            raise errors.DataError('the picture is broken: TensorFlow cannot decode it') from error
        except UnidentifiedImageError as error:
            raise errors.DataError('the picture is broken: it begins as no picture does') from error
        except (OSError, SyntaxError, ValueError) as error:
            raise errors.DataError(f'the picture is broken: {error}') from error
        return Jpeg(data, height, width, channels)

    def pngs(self, images: Array) -> Sequence[bytes]:
        """PNGs of images, uint8 [N, H, W, C] with C = 1 (grey) or 3 (RGB)."""
        return list(self._pngs(images))


def _size(image: Image.Image) -> tuple[int, int]:
    """A picture's width and height.

    Raises:
      errors.DataError: it is too large.
    """
    width, height = image.size
    if width * height >= _PIXELS:
        raise errors.DataError(
            f'the picture has {width * height / 1e6:,.0f} megapixels, and TensorFlow decodes fewer than '
            f'{_PIXELS / 1e6:,.0f}: make it smaller'
        )
    return width, height


def _rgb(image: Image.Image) -> Array:
    """A picture's pixels, uint8 [H, W, 3].

    Raises:
      errors.DataError: nothing tells which of its numbers is white.
    """
    if image.mode in ('I', 'F'):
        raise errors.DataError(
            f'the picture has {"floating-point" if image.mode == "F" else "signed or 32-bit"} pixels, and nothing '
            'tells which number is white: make it one of 8 or 16 bits'
        )
    if image.mode.startswith('I;16'):
        # The highest 8 bits, as TensorFlow's decoder makes of PNGs, and Pillow of 16-bit colours.
        bits = getattr(image, 'tag_v2', {}).get(_BITS, (16,))[0]
        return np.repeat((np.asarray(image) >> (bits - 8)).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    return np.asarray(image.convert('RGB'))
