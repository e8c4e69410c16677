"""The networks of tf_keras.applications, as `keras/ResNet50` and so on: a benchmark's network like any other.

They are built by tf_keras itself, in the current graph, without weights to download and with logits in place of a
softmax. What is of this program:

- Each kernel decays but for depthwise ones, as in slim (those of ConvNeXt are grouped ones to Keras, and decay); batch
  norm's updates are in UPDATE_OPS, variables in MODEL_VARIABLES. Batch norm's decay and dropout are Keras' own.
- Some contain their preprocessing, for pixels from 0 to 255 (`_PIXELS`). It is left in, as a part of the published
  network, and given such pixels, made from images between -1 and 1.
- NCHW is Keras' channels_first. It computes pools and depthwise convolutions in NHWC, between transpositions, on CPUs.
- Keras compiles grouped convolutions with XLA on CPUs; here TensorFlow computes them, by oneDNN.
"""

from __future__ import annotations

import functools
import math
import os
import warnings
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.machine import capabilities
from bench.models.registry import register

if TYPE_CHECKING:
    from bench.models.layers import Layers

# Beginnings of the names of networks that have what is said.
_PIXELS = ('ConvNeXt', 'EfficientNet', 'MobileNetV3', 'RegNet', 'ResNetRS')
_GROUPED = ('ConvNeXt', 'RegNet')
_NHWC_ALONE = (*_GROUPED, 'NASNet')
_MEANS_SUBTRACTED = ('ResNet50', 'ResNet101', 'ResNet152', 'VGG')
_LEAST_IMAGE_SIZES = {'Inception': 75, 'Xception': 71}

# Image size; parameters, all variables of Keras' model; multiply-adds of an image. For 1001 classes.
_NETWORKS = {
    'ConvNeXtBase': (224, 88_592_489, 15_354_730_496),
    'ConvNeXtLarge': (224, 197_768_873, 34_361_435_136),
    'ConvNeXtSmall': (224, 50_224_457, 8_683_713_024),
    'ConvNeXtTiny': (224, 28_589_897, 4_455_532_032),
    'ConvNeXtXLarge': (224, 350_199_017, 60_921_032_704),
    'DenseNet121': (224, 8_063_529, 2_834_162_688),
    'DenseNet169': (224, 14_309_545, 3_359_844_992),
    'DenseNet201': (224, 20_244_905, 4_291_367_808),
    'EfficientNetB0': (224, 5_331_852, 385_816_032),
    'EfficientNetB1': (240, 7_857_520, 686_804_112),
    'EfficientNetB2': (260, 9_178_978, 993_563_280),
    'EfficientNetB3': (300, 12_322_072, 1_827_142_928),
    'EfficientNetB4': (380, 19_468_616, 4_393_772_816),
    'EfficientNetB5': (456, 30_564_576, 10_266_386_800),
    'EfficientNetB6': (528, 43_267_448, 19_067_595_840),
    'EfficientNetB7': (600, 66_661_248, 37_745_886_752),
    'EfficientNetV2B0': (224, 7_201_593, 718_087_456),
    'EfficientNetV2B1': (240, 8_213_405, 1_196_820_640),
    'EfficientNetV2B2': (260, 10_179_783, 1_697_544_240),
    'EfficientNetV2B3': (300, 14_469_159, 3_011_460_352),
    'EfficientNetV2L': (480, 119_029_129, 56_079_700_288),
    'EfficientNetV2M': (480, 54_432_669, 24_582_461_664),
    'EfficientNetV2S': (384, 21_613_641, 8_365_618_432),
    'InceptionResNetV2': (299, 55_875_273, 13_155_795_552),
    'InceptionV3': (299, 23_853_833, 5_713_218_144),
    'MobileNet': (224, 4_254_889, 568_741_376),
    'MobileNetV2': (224, 3_540_265, 300_775_552),
    'MobileNetV3Large': (224, 5_508_713, 216_591_040),
    'MobileNetV3Small': (224, 2_555_993, 56_511_424),
    'NASNetLarge': (331, 88_953_851, 23_783_418_690),
    'NASNetMobile': (224, 5_327_773, 563_639_872),
    'RegNetX002': (224, 2_706_009, 199_040_240),
    'RegNetX004': (224, 5_194_569, 397_677_952),
    'RegNetX006': (224, 6_229_849, 600_890_640),
    'RegNetX008': (224, 7_297_641, 799_700_384),
    'RegNetX016': (224, 9_234_553, 1_602_850_704),
    'RegNetX032': (224, 15_360_121, 3_176_622_960),
    'RegNetX040': (224, 22_195_673, 3_964_500_176),
    'RegNetX064': (224, 26_285_089, 6_460_292_888),
    'RegNetX080': (224, 39_665_033, 7_995_134_336),
    'RegNetX120': (224, 46_204_681, 12_086_680_256),
    'RegNetX160': (224, 54_391_753, 15_940_757_504),
    'RegNetX320': (224, 107_976_097, 31_735_932_312),
    'RegNetY002': (224, 3_184_213, 199_514_448),
    'RegNetY004': (224, 4_371_737, 401_843_288),
    'RegNetY006': (224, 6_085_529, 601_221_600),
    'RegNetY008': (224, 6_293_825, 797_177_600),
    'RegNetY016': (224, 11_255_991, 1_612_077_048),
    'RegNetY032': (224, 19_504_011, 3_176_484_264),
    'RegNetY040': (224, 20_710_017, 3_973_289_536),
    'RegNetY064': (224, 30_666_981, 6_355_206_288),
    'RegNetY080': (224, 39_267_829, 7_963_059_328),
    'RegNetY120': (224, 51_921_169, 12_092_378_816),
    'RegNetY160': (224, 83_715_981, 15_911_513_296),
    'RegNetY320': (224, 145_208_771, 32_279_556_544),
    'ResNet50': (224, 25_638_761, 3_857_975_296),
    'ResNet50V2': (224, 25_615_849, 3_482_257_408),
    'ResNet101': (224, 44_709_225, 7_570_196_480),
    'ResNet101V2': (224, 44_677_609, 7_194_478_592),
    'ResNet152': (224, 60_421_993, 11_282_417_664),
    'ResNet152V2': (224, 60_382_697, 10_906_699_776),
    'ResNetRS50': (224, 35_747_337, 4_454_492_160),
    'ResNetRS101': (224, 63_726_345, 8_175_626_240),
    'ResNetRS152': (224, 86_775_305, 11_895_187_456),
    'ResNetRS200': (224, 93_388_297, 15_391_139_840),
    'ResNetRS270': (224, 130_106_569, 20_643_620_864),
    'ResNetRS350': (224, 164_270_409, 26_332_014_592),
    'ResNetRS420': (224, 192_264_265, 31_363_344_384),
    'VGG16': (224, 138_361_641, 15_470_268_416),
    'VGG19': (224, 143_671_337, 19_632_066_560),
    'Xception': (299, 22_912_529, 8_357_405_544),
}
# A training step of a benchmark has at most so many multiply-adds, forward, and 16 images.
_MULTIPLY_ADDS_OF_A_BATCH = 64e9


def _network(net: Layers, images: Any, name: str) -> Any:
    """Builds the network of that name in tf_keras.applications.

    Raises:
      UsageError: it shall share the variables of another one in this graph, which Keras does not; or it shall be
        trained without oneDNN and has grouped convolutions.
    """
    import tensorflow.compat.v1 as tf

    from bench.machine import tensorflow_build
    from bench.models import weight_decay

    if tf.get_variable_scope().reuse:
        raise UsageError([f'--num_clones: the networks of Keras share no variables, so keras/{name} has no clones.'])
    if net.is_training and name.startswith(_GROUPED) and not tensorflow_build.onednn_enabled():
        why = capabilities.detect(given=os.environ).onednn_reason  # the flags' variables, which tuning.py has set
        raise UsageError(
            [
                f'keras/{name} has grouped convolutions, whose gradients TensorFlow computes on CPUs by oneDNN '
                f'alone, which is off: {why} Inference needs no oneDNN: --forward_only.'
            ]
        )
    if name.startswith(_PIXELS):
        images = (images + 1) * 127.5
    keras = _keras(net)
    try:
        model = getattr(keras.applications, name)(
            weights=None,
            input_tensor=keras.layers.Input(tensor=images),
            classes=net.num_classes,
            classifier_activation=None,
        )
    finally:
        keras.backend.set_image_data_format('channels_last')
    for variable in model.weights:
        if variable.dtype.is_floating:  # not the counter of Keras' Normalization, which nothing averages
            tf.add_to_collection(tf.GraphKeys.MODEL_VARIABLES, variable)
    for variable in model.trainable_weights:
        if net.weight_decay and variable.op.name.endswith(('/kernel', '/pointwise_kernel')):
            tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, weight_decay.l2(net.weight_decay)(variable))
    for update in model.updates:
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
    for layer in model.layers:
        net.end(layer.name, layer.get_output_at(0))
    return model.output


def _keras(net: Layers) -> Any:
    """tf_keras, set up for building in the current graph."""
    import tf_keras

    tf_keras.backend.set_image_data_format('channels_last' if net.data_format == 'NHWC' else 'channels_first')
    # Variables get their values from the session that runs the network, and not from one that Keras makes.
    tf_keras.backend.manual_variable_initialization(True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Keras would like it set layer by layer, which its applications do not let us
        tf_keras.backend.set_learning_phase(int(net.is_training))
    tf_keras.layers.Conv2D._jit_compiled_convolution_op = tf_keras.layers.Conv2D.convolution_op
    return tf_keras


def _register(name: str, image_size: int, parameters: int, multiply_adds: int) -> None:
    register(
        f'keras/{name}',
        image_size=image_size,
        parameters=parameters,
        multiply_adds=multiply_adds,
        batch_size=max(1, min(16, 2 ** int(math.log2(_MULTIPLY_ADDS_OF_A_BATCH / multiply_adds)))),
        least_image_size=next((size for start, size in _LEAST_IMAGE_SIZES.items() if name.startswith(start)), 32),
        preprocessing='vgg' if name.startswith(_MEANS_SUBTRACTED) and not name.endswith('V2') else 'inception',
        data_formats=('NHWC',) if name.startswith(_NHWC_ALONE) else ('NHWC', 'NCHW'),
    )(functools.partial(_network, name=name))


for _name, _facts in _NETWORKS.items():
    _register(_name, *_facts)
