"""What the families of preprocessing have in common: decoding a part of a picture, resizing and mirroring it."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any

# The side of the largest block that a JPEG is coded in.
_MARGIN = 16


def decode(encoded: Tensor, channels: int) -> Tensor:
    """A whole picture: [H, W, channels] uint8."""
    image = tf.io.decode_jpeg(encoded, channels=channels)
    image.set_shape([None, None, channels])
    return image


def decode_window(encoded: Tensor, window: Tensor, channels: int) -> Tensor:
    """A window of a picture for training: [height, width, channels] uint8; little more than the window is decoded.

    With libjpeg's faster inverse DCT and plain chroma upsampling, which move values by 0.14 of 255 on average: far
    less than the distortions of training.

    Args:
      window: int32 [4]: top, left, height, width.
    """
    return tf.io.decode_and_crop_jpeg(
        encoded, window, channels=channels, dct_method='INTEGER_FAST', fancy_upscaling=False
    )


def decode_exact_window(encoded: Tensor, begin: Tensor, end: Tensor, channels: int) -> Tensor:
    """The same for evaluation, with exactly the values that the whole picture would be decoded to.

    Args:
      begin: int32 [2]: top and left.
      end: int32 [2]: bottom and right, not included.
    """
    # Chroma is upsampled from the neighbours too, so a window decoded on its own differs at its edges.
    first = tf.maximum(begin - _MARGIN, 0)
    last = tf.minimum(end + _MARGIN, shape(encoded)[:2])
    image = tf.io.decode_and_crop_jpeg(encoded, tf.concat([first, last - first], 0), channels=channels)
    top, left = tf.unstack(begin - first)
    height, width = tf.unstack(end - begin)
    return image[top : top + height, left : left + width]


def shape(encoded: Tensor) -> Tensor:
    """int32 [3]: height, width and channels, from a JPEG's header."""
    return tf.io.extract_jpeg_shape(encoded)


def resize(image: Tensor, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Bilinear, from [H, W, C] to float32 [height, width, C], with pixels' corners where TensorFlow 1 had them."""
    size = tf.stack([height, width])
    return tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=size, align_corners=False)[0]


def mirror(image: Tensor, flip: Tensor) -> Tensor:
    """[H, W, C], left and right exchanged where the boolean `flip` is true."""
    return tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)


def crop_or_pad(image: Tensor, size: int) -> Tensor:
    """The middle [size, size, C] of a picture, with zeros around it where it is smaller."""
    return tf.image.resize_image_with_crop_or_pad(image, size, size)


def square(image: Tensor, size: int, channels: int) -> Tensor:
    """The same as float32, with the shape that it is known to have."""
    return tf.ensure_shape(tf.cast(image, tf.float32), [size, size, channels])
