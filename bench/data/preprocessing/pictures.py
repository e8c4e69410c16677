"""What the families of preprocessing have in common: decoding a part of a picture, resizing and mirroring.

Scaled decoding: libjpeg can compute a picture of a half, a quarter or an eighth of the size from the same
coefficients, which takes a fraction of the time (github.com/libjpeg-turbo/libjpeg-turbo, libjpeg.txt, scale_denom).
It is used in training where the part that is wanted is still at least as large as the network's images afterwards.
There its quality is that of full decoding or better, in this sense: what comes out is no farther from the part shrunk
by averaging all of its pixels. Bilinear resizing by more than 2 looks at few of the pixels; scaled decoding averages
them, and the mean square of the error was a fifth in a photo. tests/bench/data/test_preprocessing.py compares the two.
The part begins up to 7 pixels earlier, at a whole pixel of the scaled picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow.compat.v1 as tf

Tensor = Any
Resize = Callable[[Tensor, Any, Any], Tensor]

# The side of the largest block that a JPEG is coded in.
_MARGIN = 16
_RATIOS = (1, 2, 4, 8)
# TensorFlow 1's kernels, with pixels' corners where it had them; in the order of tf_cnn_benchmarks' round_robin.
_KERNELS = {
    'nearest': tf.raw_ops.ResizeNearestNeighbor,
    'bilinear': tf.raw_ops.ResizeBilinear,
    'bicubic': tf.raw_ops.ResizeBicubic,
    'area': tf.raw_ops.ResizeArea,
}


class Picture(Protocol):
    """A picture of which a part is wanted."""

    def shape(self) -> Tensor:
        """int32 [3]: height, width and channels."""

    def whole(self) -> Tensor:
        """[H, W, C] uint8."""

    def window(self, begin: Tensor, extent: Tensor, least: int) -> Tensor:
        """A part of the picture.

        Args:
          begin: int32 [2]: its top and left.
          extent: int32 [2]: its height and width.
          least: what it is resized to; it may come smaller than it is, but not smaller than this.

        Returns:
          [height, width, C] uint8.
        """


class Jpeg:
    """A JPEG, of which little more is decoded than is wanted.

    Args:
      encoded: string scalar.
      channels: that it is converted to.
      exact: whether the values must be those of the whole picture, decoded as by default, as in evaluation. Otherwise
        libjpeg's faster inverse DCT and plain chroma upsampling are used, which move values by 0.14 of 255 on average:
        far less than the distortions of training; and scaled decoding.
    """

    def __init__(self, encoded: Tensor, channels: int, *, exact: bool) -> None:
        self._encoded = encoded
        self._channels = channels
        self._exact = exact
        self._how = {} if exact else {'dct_method': 'INTEGER_FAST', 'fancy_upscaling': False}

    def shape(self) -> Tensor:
        """int32 [3]: height, width and channels, from the JPEG's header."""
        return tf.io.extract_jpeg_shape(self._encoded)

    def whole(self) -> Tensor:
        """[H, W, C] uint8."""
        image = tf.io.decode_jpeg(self._encoded, channels=self._channels, **self._how)
        image.set_shape([None, None, self._channels])
        return image

    def window(self, begin: Tensor, extent: Tensor, least: int) -> Tensor:
        """A part of the picture: see Picture."""
        if self._exact:
            return self._exact_window(begin, extent)
        window = tf.concat([begin, extent], 0)
        shrinkable = tf.reduce_min(extent) // least
        which = tf.reduce_sum(tf.cast(shrinkable >= _RATIOS[1:], tf.int32))
        return tf.switch_case(which, [functools.partial(self._decode, window, ratio) for ratio in _RATIOS])

    def _decode(self, window: Tensor, ratio: int) -> Tensor:
        # The window counts in pixels of the scaled picture.
        scaled = window if ratio == 1 else window // ratio
        return tf.io.decode_and_crop_jpeg(self._encoded, scaled, channels=self._channels, ratio=ratio, **self._how)

    def _exact_window(self, begin: Tensor, extent: Tensor) -> Tensor:
        # Chroma is upsampled from the neighbours too, so a window decoded on its own differs at its edges.
        first = tf.maximum(begin - _MARGIN, 0)
        last = tf.minimum(begin + extent + _MARGIN, self.shape()[:2])
        image = tf.io.decode_and_crop_jpeg(self._encoded, tf.concat([first, last - first], 0), channels=self._channels)
        return Pixels(image).window(begin - first, extent, 0)


class Pixels:
    """A picture that is decoded already.

    Args:
      image: [H, W, C] uint8.
    """

    def __init__(self, image: Tensor) -> None:
        self._image = image

    def shape(self) -> Tensor:
        """int32 [3]: height, width and channels."""
        return tf.shape(self._image)

    def whole(self) -> Tensor:
        """[H, W, C] uint8."""
        return self._image

    def window(self, begin: Tensor, extent: Tensor, least: int) -> Tensor:
        """A part of the picture, at its size: see Picture."""
        top, left = tf.unstack(begin)
        height, width = tf.unstack(extent)
        return self._image[top : top + height, left : left + width]


def any_format(encoded: Tensor, channels: int) -> Pixels:
    """A JPEG, PNG, GIF (its first picture) or BMP, decoded wholly."""
    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    image.set_shape([None, None, channels])
    return Pixels(image)


def resizer(method: str, position: Tensor) -> Resize:
    """The function that resizes.

    Args:
      method: bilinear, nearest, bicubic, area; or round_robin, which is these in turn.
      position: of the picture in its batch, an integer scalar.
    """
    if method != 'round_robin':
        return functools.partial(_resize, _KERNELS[method])

    def resize(image: Tensor, height: Tensor | int, width: Tensor | int) -> Tensor:
        which = tf.cast(position % len(_KERNELS), tf.int32)
        return tf.switch_case(
            which, [functools.partial(_resize, kernel, image, height, width) for kernel in _KERNELS.values()]
        )

    return resize


def _resize(kernel: Any, image: Tensor, height: Tensor | int, width: Tensor | int) -> Tensor:
    resized = kernel(images=image[tf.newaxis], size=tf.stack([height, width]), align_corners=False)[0]
    return tf.cast(resized, tf.float32)


def mirror(image: Tensor, chance: Tensor) -> Tensor:
    """[H, W, C] with left and right exchanged where the scalar `chance`, 0 to 1, is under a half.

    For single pictures, because so only the half of them is copied, by a kernel that knows pixels of 3 values. In a
    compiled function of the batch the reversed order would keep all else from being vectorized.
    """
    return tf.cond(chance < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def crop_or_pad(image: Tensor, size: int) -> Tensor:
    """The middle [size, size, C] of a picture, with zeros around it where it is smaller."""
    return tf.image.resize_image_with_crop_or_pad(image, size, size)


def square(image: Tensor, size: int) -> Tensor:
    """The same as float32, with the shape that it is known to have."""
    image.set_shape([size, size, image.shape[-1]])
    return tf.cast(image, tf.float32)
