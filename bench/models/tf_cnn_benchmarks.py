"""tf_cnn_benchmarks' names for networks that are not the ones here: the nearest, and the difference.

Where its network is the same one, its name is an alias in the family's file. Its names are those of its
models/model_config.py. G is 10^9 multiply-adds of an image, counted in both programs' graphs.
"""

from __future__ import annotations

_FIRST_UNIT = "slim's strides in the last unit of a block, tf_cnn_benchmarks' in the first unit of the next one"
_FIRST_3X3 = "slim's strides in the last unit of a block, the official one in the 3x3 of the next block's first unit"
_TWO_LAST_LAYERS = "tf_cnn_benchmarks adds a second fully connected layer to slim's last one"
_CIFAR_RESNET = "ResNets for CIFAR-10's images of 32x32 are not built here"
_CIFAR_DENSENET = "DenseNets for CIFAR-10's images of 32x32 are not built here"
_TWO_CONVOLUTIONS = 'ResNets with two 3x3 convolutions in a unit are not built here'

_NEAREST = {
    'alexnet': ('alexnet_v2', "slim's last map is 5x5 of 224 pixels, tf_cnn_benchmarks' 6x6 of 227 (0.74 and 0.84 G)"),
    'densenet40_k12': ('nasnet_cifar', _CIFAR_DENSENET),
    'densenet100_k12': ('nasnet_cifar', _CIFAR_DENSENET),
    'densenet100_k24': ('nasnet_cifar', _CIFAR_DENSENET),
    'googlenet': ('inception_v1', "slim's has batch norm and 3x3 branches, tf_cnn_benchmarks' 5x5 (1.50 and 1.58 G)"),
    'lenet5': ('lenet', "tf_cnn_benchmarks' has 512 outputs in its hidden layer, slim's 1024"),
    'mobilenet': ('mobilenet_v2', _TWO_LAST_LAYERS),
    'nasnet': ('nasnet_mobile', _TWO_LAST_LAYERS),
    'nasnetlarge': ('nasnet_large', _TWO_LAST_LAYERS),
    'resnet50': ('resnet_v1_50', f'{_FIRST_UNIT} (3.48 and 3.86 G)'),
    'resnet50_v2': ('resnet_v2_50', f'{_FIRST_UNIT} (3.48 and 3.86 G)'),
    'resnet101': ('resnet_v1_101', f'{_FIRST_UNIT} (7.19 and 7.57 G)'),
    'resnet101_v2': ('resnet_v2_101', f'{_FIRST_UNIT} (7.19 and 7.57 G)'),
    'resnet152': ('resnet_v1_152', f'{_FIRST_UNIT} (10.91 and 11.28 G)'),
    'resnet152_v2': ('resnet_v2_152', f'{_FIRST_UNIT} (10.91 and 11.28 G)'),
    **{f'resnet{size}{v}': ('cifarnet', _CIFAR_RESNET) for size in (20, 32, 44, 56, 110) for v in ('', '_v2')},
    **{f'official_resnet{size}': ('resnet_v1_50', _TWO_CONVOLUTIONS) for size in (18, 34)},
    **{f'official_resnet{size}_v2': ('resnet_v2_50', _TWO_CONVOLUTIONS) for size in (18, 34)},
    **{f'official_resnet{size}': (f'resnet_v1_{size}', _FIRST_3X3) for size in (101, 152, 200)},
    **{f'official_resnet{size}_v2': (f'resnet_v2_{size}', _FIRST_3X3) for size in (50, 101, 152, 200)},
}

_NOTHING_LIKE_IT = {
    'deepspeech2': 'it recognizes speech',
    'ncf': 'it recommends films',
    'ssd300': 'it finds objects in pictures',
}


def refusal(name: str) -> str | None:
    """Why that name of tf_cnn_benchmarks' is refused, and the nearest network here; None for other names."""
    if name in _NOTHING_LIKE_IT:
        return f'{_NOTHING_LIKE_IT[name]}; the networks here classify images. `run_benchmark.py models` lists them.'
    if name not in _NEAREST:
        return None
    ours, why = _NEAREST[name]
    return f'{why}, so their speeds do not compare. The nearest here is {ours}.'
