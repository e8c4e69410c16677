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
from bench.data.preprocessing import FAMILIES, Preprocessing, colours, family_of, module, pictures
from bench.models import registry

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


BILINEAR = pictures.resizer('bilinear', 0)


def crops(name: str, jpeg: bytes, size: int, count: int) -> Any:
    """Training crops [count, size, size, 3] of one picture."""

    def crop(index: Any) -> Any:
        picture = pictures.Jpeg(tf.constant(jpeg), 3, exact=False)
        return module(name).crop_training(picture, size, tf.stack([tf.constant(5, tf.int64), index]), BILINEAR)

    def build() -> Any:
        return tf.data.make_one_shot_iterator(tf.data.Dataset.range(count).map(crop).batch(count)).get_next()

    return compute(build)


def evaluated(name: str, jpeg: bytes, size: int, channels: int) -> Any:
    """The evaluation crop of a picture, in the current graph."""
    return module(name).crop_evaluation(pictures.Jpeg(tf.constant(jpeg), channels, exact=True), size, BILINEAR)


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
    jpeg = (IMAGES / 'great_dane.jpg').read_bytes()
    image = compute(lambda: module(name).normalize(evaluated(name, jpeg, size, wanted.shape[-1])[tf.newaxis])[0])
    step = max(size // 16, 1)
    np.testing.assert_allclose(image[step // 2 :: step, step // 2 :: step], wanted, atol=1e-3)
    np.testing.assert_allclose([image.mean(), image.std()], REFERENCE[f'{kind}/moments'], atol=1e-3)


@pytest.mark.parametrize('name', ['great_dane.jpg', 'colours_200x48.jpg', 'grey_70x50.jpg'])
def test_evaluation_window_is_cut_as_from_the_whole_picture(name: str) -> None:
    jpeg = (IMAGES / name).read_bytes()

    def build() -> Any:
        whole = tf.image.central_crop(tf.io.decode_jpeg(jpeg, channels=3), 0.875)
        return evaluated('inception', jpeg, 64, 3), tf.image.resize_bilinear(whole[tf.newaxis], [64, 64])[0]

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
    assert scipy.stats.ks_2samp(found_heights[flips], found_heights[~flips]).pvalue > LEAST_P


def chances(numbers: int, count: int, seed: int = 5) -> Any:
    """Random numbers as the pipeline draws them for a batch."""
    return np.random.RandomState(seed).uniform(size=[numbers, count, 1, 1, 1]).astype(np.float32)


@pytest.mark.parametrize('size', [150, 64, 32])
def test_scaled_decoding_is_no_farther_from_the_averaged_pixels_than_full_decoding(size: int) -> None:
    # Of 392 pixels, 150 are left at a half, 64 at a quarter, 32 at an eighth.
    jpeg = (IMAGES / 'great_dane.jpg').read_bytes()
    begin, extent = np.array([0, 24], np.int32), np.array([392, 400], np.int32)

    def build() -> Any:
        whole = tf.io.decode_jpeg(jpeg, channels=3)[:392, 24:424]
        scaled = pictures.Jpeg(tf.constant(jpeg), 3, exact=False).window(begin, extent, size)
        averaged = tf.image.resize_area(tf.cast(whole, tf.float32)[tf.newaxis], [size, size])[0]
        return tf.shape(scaled), BILINEAR(scaled, size, size), BILINEAR(whole, size, size), averaged

    shape, scaled, full, averaged = compute(build)
    ratio = 2 ** int(np.log2(392 // size))
    np.testing.assert_array_equal(shape[:2], extent // ratio)
    # About a fifth here.
    assert ((scaled - averaged) ** 2).mean() < 0.5 * ((full - averaged) ** 2).mean()


@pytest.mark.parametrize(('top', 'left', 'height', 'width'), [(0, 0, 98, 76), (36, 48, 62, 84), (32, 64, 64, 80)])
def test_an_exact_window_has_the_very_pixels_of_the_whole_picture(top: int, left: int, height: int, width: int) -> None:
    # Colours that change from pixel to pixel, at half the resolution of brightness: they are mixed with neighbours.
    pixels = np.random.RandomState(0).randint(0, 256, [120, 150, 3]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', quality=90, subsampling=2)

    def build() -> Any:
        picture = pictures.Jpeg(tf.constant(file.getvalue()), 3, exact=True)
        begin, extent = np.array([top, left], np.int32), np.array([height, width], np.int32)
        return picture.window(begin, extent, 32), tf.io.decode_jpeg(file.getvalue(), channels=3)

    found, whole = compute(build)
    np.testing.assert_array_equal(found, whole[top : top + height, left : left + width])


@pytest.mark.parametrize(('extent', 'ratio'), [((129, 390), 1), ((130, 390), 2), ((390, 259), 2), ((390, 260), 4)])
def test_a_window_is_never_scaled_below_what_it_is_resized_to(extent: tuple[int, int], ratio: int) -> None:
    least = 65
    jpeg = (IMAGES / 'great_dane.jpg').read_bytes()
    picture = pictures.Jpeg(jpeg, 3, exact=False)
    found = compute(lambda: picture.window(tf.constant([0, 0]), tf.constant(extent), least))
    assert found.shape == (extent[0] // ratio, extent[1] // ratio, 3)
    assert min(found.shape[:2]) >= least


@pytest.mark.parametrize(('top', 'left'), [(0, 0), (37, 51), (200, 301)])
def test_a_training_window_shows_the_same_part_as_the_whole_picture(top: int, left: int) -> None:
    jpeg = (IMAGES / 'great_dane.jpg').read_bytes()

    def build() -> Any:
        picture = pictures.Jpeg(tf.constant(jpeg), 3, exact=False)
        whole = tf.io.decode_jpeg(jpeg, channels=3)
        found = picture.window(np.array([top, left], np.int32), np.array([190, 180], np.int32), 190)
        return found, whole[top : top + 190, left : left + 180]

    found, wanted = compute(build)
    assert found.shape == wanted.shape == (190, 180, 3)
    error = found.astype(float) - wanted
    assert abs(error).mean() < 1.5 and abs(error.mean((0, 1))).max() < 0.5


@pytest.mark.parametrize('method', ['nearest', 'bilinear', 'bicubic', 'area'])
@pytest.mark.parametrize(('height', 'width'), [(30, 70), (150, 40), (97, 61)])
def test_resizing_is_tensorflow_1s(method: str, height: int, width: int) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, [97, 61, 3], np.uint8)
    kind = {
        'nearest': tf.image.ResizeMethod.NEAREST_NEIGHBOR,
        'bilinear': tf.image.ResizeMethod.BILINEAR,
        'bicubic': tf.image.ResizeMethod.BICUBIC,
        'area': tf.image.ResizeMethod.AREA,
    }[method]
    found, wanted = compute(
        lambda: (
            pictures.resizer(method, 0)(tf.constant(pixels), height, width),
            tf.image.resize_images(pixels, [height, width], kind),
        )
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-3)


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
    ours = compute(lambda: colours.adjust_saturation(images, factors[:, None, None, None]))
    wanted = compute(lambda: [tf.image.adjust_saturation(images[i] / 255, factors[i]) for i in range(4)])
    # Brightness makes colours outside 0..255, which are clipped in the end.
    np.testing.assert_allclose(np.clip(ours, 0, 255), np.clip(np.array(wanted) * 255, 0, 255), atol=0.01)


def saturated(colour: Any, factor: float) -> Any:
    """A colour of 0..1 with its saturation changed, in hues."""
    if max(colour) <= 0:
        return np.full(3, max(colour))
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    return np.array(colorsys.hsv_to_rgb(hue, min(saturation * factor, 1), value))


@pytest.mark.parametrize('pixel', [(100, 0, 30), (250, 100, 180), (20, 5, 5)])
def test_inception_colours_have_slims_distribution(pixel: tuple[int, int, int]) -> None:
    count = 4000
    images = np.tile(np.array(pixel, np.float32), (count, 1, 1, 1))
    ours = compute(lambda: module('inception').distort(tf.constant(images), chances(2, count)))[:, 0, 0]
    random = np.random.RandomState(0)

    slims = []
    for _ in range(count):
        colour = np.array(pixel) / 255 + random.uniform(-32 / 255, 32 / 255)
        slims.append(np.clip(saturated(colour, random.uniform(0.5, 1.5)), 0, 1) * 255)
    for channel in range(3):
        assert scipy.stats.ks_2samp(ours[:, channel], np.array(slims)[:, channel]).pvalue > LEAST_P


def test_cifarnet_contrast_keeps_the_mean_and_stretches_as_slims() -> None:
    count = 2000
    images = np.tile(np.array([[100], [140]], np.float32)[None, :, None, :], (count, 1, 1, 3)).reshape(count, 2, 1, 3)
    distorted = compute(lambda: module('cifarnet').distort(tf.constant(images), chances(2, count)))
    brightness = distorted.mean((1, 2, 3)) - 120
    contrast = (distorted[:, 1, 0, 0] - distorted[:, 0, 0, 0]) / 40
    assert scipy.stats.kstest(brightness, scipy.stats.uniform(-63, 126).cdf).pvalue > LEAST_P
    assert scipy.stats.kstest(contrast, scipy.stats.uniform(0.2, 1.6).cdf).pvalue > LEAST_P


def test_hue_is_turned_as_tensorflow_turns_it() -> None:
    random = np.random.RandomState(0)
    images = random.uniform(0, 255, [4, 9, 9, 3]).astype(np.float32)
    images[0, 0, 0], images[0, 0, 1] = 0, 128
    turns = np.array([-0.2, -0.05, 0.1, 0.2], np.float32)
    ours = compute(lambda: colours.turn_hue(tf.constant(images), turns[:, None, None, None]))
    wanted = compute(lambda: [tf.image.adjust_hue(images[i] / 255, turns[i]) for i in range(4)])
    np.testing.assert_allclose(ours, np.array(wanted) * 255, atol=0.02)


def test_distortions_have_tf_cnn_benchmarks_distribution_in_its_two_orders() -> None:
    # Two pixels, so that contrast has something to stretch; even and odd places differ in where contrast comes.
    pixels = np.array([[200, 60, 30], [90, 80, 150]]) / 255
    count = 3000
    images = np.tile((pixels * 255).astype(np.float32)[None, :, None, :], (count, 1, 1, 1))
    ours = compute(lambda: colours.distort(tf.constant(images), chances(colours.CHANCES, count)))[:, :, 0] / 255
    random = np.random.RandomState(1)

    def turned(colour: Any, turn: float) -> Any:
        if max(colour) <= 0:
            return colour
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        return np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))

    def contrasted(image: Any, factor: float) -> Any:
        return image.mean(0) + (image - image.mean(0)) * factor

    theirs = []
    for index in range(count):
        image = pixels + random.uniform(-32, 32) / 255
        saturation, turn, contrast = random.uniform(0.5, 1.5), random.uniform(-0.2, 0.2), random.uniform(0.5, 1.5)
        if index % 2:
            image = contrasted(image, contrast)
        image = np.array([turned(saturated(colour, saturation), turn) for colour in image])
        if index % 2 == 0:
            image = contrasted(image, contrast)
        theirs.append(np.clip(image, 0, 1))
    wanted = np.array(theirs)
    for order in range(2):
        for pixel in range(2):
            for channel in range(3):
                found = ours[order::2, pixel, channel], wanted[order::2, pixel, channel]
                assert scipy.stats.ks_2samp(*found).pvalue > LEAST_P, (order, pixel, channel)


def test_every_network_has_a_preprocessing_and_slims_where_slim_names_one() -> None:
    assert all(network.preprocessing in FAMILIES for network in registry.all_networks())
    # As slim's preprocessing_factory.py maps them.
    slims = {
        'cifarnet': 'cifarnet',
        'lenet': 'lenet',
        'inception_v3': 'inception',
        'inception_resnet_v2': 'inception',
        'mobilenet_v1': 'inception',
        'mobilenet_v2_140': 'inception',
        'nasnet_large': 'inception',
        'pnasnet_mobile': 'inception',
        'resnet_v1_50': 'vgg',
        'resnet_v1_200': 'vgg',
        'resnet_v2_101': 'vgg',
        'vgg_a': 'vgg',
        'vgg_19': 'vgg',
    }
    assert {name: family_of(name) for name in slims} == slims


def test_a_familys_name_and_an_alias_of_a_network_name_a_preprocessing() -> None:
    assert [family_of(name) for name in (*FAMILIES, 'vgg16', 'inception3')] == [*FAMILIES, 'vgg', 'inception']


def test_an_unknown_preprocessing_is_refused_with_the_nearest() -> None:
    with pytest.raises(errors.UsageError, match=r'--preprocessing_name=incepton.*Did you mean inception'):
        family_of('incepton')


@pytest.mark.parametrize(
    ('preprocessing', 'training', 'evaluation'),
    [
        (Preprocessing('vgg'), True, True),
        (Preprocessing('inception'), True, True),
        (Preprocessing('lenet'), False, False),
        (Preprocessing('cifarnet'), False, False),
        (Preprocessing('cifarnet', eval_method='vgg'), False, True),
    ],
)
def test_whether_pictures_are_resized_is_known_of_each_preprocessing(
    preprocessing: Preprocessing, training: bool, evaluation: bool
) -> None:
    found = [preprocessing.resizes(is_training=is_training) for is_training in (True, False)]
    assert found == [training, evaluation]
    # And it is true.
    for is_training, resizes in zip((True, False), found, strict=True):
        assert _shrinks(preprocessing, is_training) == resizes


def _shrinks(preprocessing: Preprocessing, is_training: bool) -> bool:
    """Whether a gradient of 400 pixels comes out more or less steep than it is."""
    jpeg, size = gradient(400, 400), 40
    if is_training:
        images = crops(preprocessing.family, jpeg, size, 9)
    else:
        name = preprocessing.eval_method or preprocessing.family
        images = compute(lambda: evaluated(name, jpeg, size, 3))[np.newaxis]
    # The half of the training crops is mirrored.
    steepness = abs(images[:, 20, 35, 0] - images[:, 20, 5, 0]) / (30 * 255 / 399)
    # The median, because a few of cifarnet's parts reach into the zeros around the picture.
    return bool(np.median(abs(steepness - 1)) > 0.1)
