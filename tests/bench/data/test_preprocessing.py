"""Preprocessing against the values that slim's published code gives, and the distributions of its distortions."""

from __future__ import annotations

import colorsys
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow.compat.v1 as tf
from PIL import Image

from bench import errors
from bench.data.preprocessing import family

IMAGES = Path(__file__).parents[2] / 'data' / 'images'
# `<family>-<size>` is every (size // 16)-th value of slim's evaluation preprocessing of great_dane.jpg, from the
# (size // 32)-th on, and `.../moments` the mean and the standard deviation of all.
REFERENCE = np.load(IMAGES / 'great_dane_evaluation.npz')
# The least probability of a sample under the right distribution at which it is still taken for right. Seeds are fixed.
LEAST_P = 1e-3


def compute(build: Any) -> Any:
    """The value of the tensors that `build` makes."""
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


def gradient(height: int, width: int) -> bytes:
    """A JPEG that is redder to the right and greener to the bottom, so that its windows show where they are."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width)
    pixels[:, :, 1] = np.linspace(0, 255, height)[:, None]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', quality=100, subsampling=0)
    return file.getvalue()


def crops(name: str, jpeg: bytes, size: int, count: int) -> Any:
    """Training crops [count, size, size, 3] of one picture."""

    def build() -> Any:
        crop = family(name).crop_training
        seeds = tf.data.Dataset.range(count)
        images = seeds.map(lambda index: crop(jpeg, size, 3, tf.stack([tf.constant(5, tf.int64), index])))
        return tf.data.make_one_shot_iterator(images.batch(count)).get_next()

    return compute(build)


def windows(images: Any, height: int, width: int) -> tuple[Any, Any, Any]:
    """Heights, widths and flips of the windows of a gradient that became `images`."""
    step = images.shape[1] / (images.shape[1] - 1)  # the last pixel of a resized window is one step before its end
    across = (images[:, 5:-5, -2, 0] - images[:, 5:-5, 1, 0]).mean(1) / (images.shape[2] - 3) * (images.shape[2] - 1)
    down = (images[:, -2, 5:-5, 1] - images[:, 1, 5:-5, 1]).mean(1) / (images.shape[1] - 3) * (images.shape[1] - 1)
    return down * step / 255 * (height - 1), abs(across) * step / 255 * (width - 1), across < 0


@pytest.mark.parametrize('kind', sorted(key for key in REFERENCE.files if '/' not in key))
def test_evaluation_is_what_slim_computes(kind: str) -> None:
    name, size = kind.split('-', maxsplit=1)[0], int(kind.split('-')[1])
    wanted = REFERENCE[kind]
    module = family(name)
    jpeg = (IMAGES / 'great_dane.jpg').read_bytes()
    image = compute(lambda: module.normalize(module.crop_evaluation(jpeg, size, wanted.shape[-1])[tf.newaxis])[0])
    step = max(size // 16, 1)
    np.testing.assert_allclose(image[step // 2 :: step, step // 2 :: step], wanted, atol=1e-3)
    np.testing.assert_allclose([image.mean(), image.std()], REFERENCE[f'{kind}/moments'], atol=1e-3)


@pytest.mark.parametrize('name', ['great_dane.jpg', 'colours_200x48.jpg', 'grey_70x50.jpg'])
def test_evaluation_window_is_cut_as_from_the_whole_picture(name: str) -> None:
    jpeg = (IMAGES / name).read_bytes()

    def build() -> Any:
        whole = tf.image.central_crop(tf.io.decode_jpeg(jpeg, channels=3), 0.875)
        return family('inception').crop_evaluation(jpeg, 64, 3), tf.image.resize_bilinear(whole[tf.newaxis], [64, 64])[
            0
        ]

    found, wanted = compute(build)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_inception_windows_have_slims_distribution_of_areas_and_aspects() -> None:
    height, width, count = 200, 300, 1500
    found_heights, found_widths, flips = windows(crops('inception', gradient(height, width), 64, count), height, width)

    def slims() -> Any:
        box = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
        sizes = tf.data.Dataset.range(count).map(
            lambda _: tf.image.sample_distorted_bounding_box(
                [height, width, 3], box, seed=3, min_object_covered=0.1, aspect_ratio_range=(0.75, 1.33),
                area_range=(0.05, 1.0), max_attempts=100,
            )[1]
        )  # fmt: skip
        return tf.data.make_one_shot_iterator(sizes.batch(count)).get_next()

    sizes = compute(slims)
    assert scipy.stats.ks_2samp(found_heights * found_widths, sizes[:, 0] * sizes[:, 1]).pvalue > LEAST_P
    assert scipy.stats.ks_2samp(found_widths / found_heights, sizes[:, 1] / sizes[:, 0]).pvalue > LEAST_P
    assert scipy.stats.binomtest(int(flips.sum()), count).pvalue > LEAST_P
    # Whether a picture is mirrored must say nothing about its window.
    areas = found_heights * found_widths
    assert scipy.stats.ks_2samp(areas[flips], areas[~flips]).pvalue > LEAST_P


def test_vgg_windows_are_squares_of_pictures_whose_shorter_side_is_256_to_512() -> None:
    height, width, size, count = 400, 600, 160, 400
    found_heights, found_widths, flips = windows(crops('vgg', gradient(height, width), size, count), height, width)
    np.testing.assert_allclose(found_heights, found_widths, atol=8)  # three of the 255 steps of the gradient
    drawn = np.random.RandomState(0).randint(256, 513, 5000)
    assert scipy.stats.ks_2samp(found_heights, height * size / drawn).pvalue > LEAST_P
    assert scipy.stats.binomtest(int(flips.sum()), count).pvalue > LEAST_P


def test_vgg_windows_reach_every_part_of_the_picture() -> None:
    images = crops('vgg', gradient(256, 512), 224, 300)
    left, top = np.minimum(images[:, 100, 0, 0], images[:, 100, -1, 0]), images[:, 0, 100, 1]
    assert left.min() < 5 and top.min() < 5
    assert np.maximum(images[:, 100, 0, 0], images[:, 100, -1, 0]).max() > 250 and images[:, -1, 100, 1].max() > 250


@pytest.mark.parametrize(('name', 'size'), [('inception', 32), ('vgg', 300), ('cifarnet', 150), ('lenet', 150)])
def test_pictures_smaller_than_the_network_wants_are_taken(name: str, size: int) -> None:
    jpeg = (IMAGES / 'colours_80x60.jpg').read_bytes()
    assert crops(name, jpeg, size, 20).shape == (20, size, size, 3)


def test_cifarnet_windows_are_the_picture_with_4_zeros_around_moved_and_mirrored() -> None:
    rows = np.arange(32, dtype=np.uint8)
    pixels = np.stack([np.tile(rows, (32, 1)) * 3 + 90, np.tile(rows[:, None], (1, 32)) * 3 + 90], -1)
    file = io.BytesIO()
    Image.fromarray(np.concatenate([pixels, pixels[..., :1]], -1)).save(file, 'JPEG', quality=100, subsampling=0)
    images = crops('cifarnet', file.getvalue(), 32, 1000)
    # Rows of zeros at the top less those at the bottom tell where each window was: 0 to 8, all alike.
    tops = np.array([4 + (image[16:, 16, 1] < 20).sum() - (image[:16, 16, 1] < 20).sum() for image in images])
    assert scipy.stats.chisquare(np.bincount(tops, minlength=9)).pvalue > LEAST_P


def test_inception_saturation_is_tensorflows() -> None:
    random = np.random.RandomState(0)
    images = random.uniform(-40, 295, [4, 9, 9, 3]).astype(np.float32)
    images[0, 0, 0], images[0, 0, 1] = 0, 128
    factors = np.array([0.5, 0.9, 1.2, 1.5], np.float32)
    ours = compute(lambda: family('inception').adjust_saturation(images, factors[:, None, None, None]))
    wanted = compute(lambda: [tf.image.adjust_saturation(images[i] / 255, factors[i]) for i in range(4)])
    # Brightness makes colours outside 0..255, which are clipped in the end.
    np.testing.assert_allclose(np.clip(ours, 0, 255), np.clip(np.array(wanted) * 255, 0, 255), atol=0.01)


@pytest.mark.parametrize('pixel', [(100, 0, 30), (250, 100, 180), (20, 5, 5)])
def test_inception_colours_have_slims_distribution(pixel: tuple[int, int, int]) -> None:
    count = 4000
    images = np.tile(np.array(pixel, np.float32), (count, 1, 1, 1))
    seed = np.array([5, -1])
    ours = compute(lambda: family('inception').distort(tf.constant(images), seed))[:, 0, 0]
    random = np.random.RandomState(0)

    def saturated(colour: Any, factor: float) -> Any:
        if max(colour) <= 0:
            return np.zeros(3)
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        return np.array(colorsys.hsv_to_rgb(hue, min(saturation * factor, 1), value))

    slims = []
    for _ in range(count):
        colour = np.array(pixel) / 255
        brightness, factor = random.uniform(-32 / 255, 32 / 255), random.uniform(0.5, 1.5)
        if random.randint(4) == 0:
            colour = saturated(colour + brightness, factor)
        else:
            colour = saturated(colour, factor) + brightness
        slims.append(np.clip(colour, 0, 1) * 255)
    for channel in range(3):
        assert scipy.stats.ks_2samp(ours[:, channel], np.array(slims)[:, channel]).pvalue > LEAST_P


def test_cifarnet_contrast_keeps_the_mean_and_stretches_as_slims() -> None:
    count = 2000
    images = np.tile(np.array([[100], [140]], np.float32)[None, :, None, :], (count, 1, 1, 3)).reshape(count, 2, 1, 3)
    distorted = compute(lambda: family('cifarnet').distort(tf.constant(images), np.array([5, -1])))
    brightness = distorted.mean((1, 2, 3)) - 120
    contrast = (distorted[:, 1, 0, 0] - distorted[:, 0, 0, 0]) / 40
    assert scipy.stats.kstest(brightness, scipy.stats.uniform(-63, 126).cdf).pvalue > LEAST_P
    assert scipy.stats.kstest(contrast, scipy.stats.uniform(0.2, 1.6).cdf).pvalue > LEAST_P


def test_an_unknown_family_is_refused_with_the_nearest() -> None:
    with pytest.raises(errors.UsageError, match='Did you mean vgg'):
        family('vgg16')
