"""tf_slim, made importable: the one place that knows what this TensorFlow calls the legacy layers tf_slim needs.

tf_slim's batch norm makes TensorFlow load `tf_keras.legacy_tf_layers.normalization` (TensorFlow 2.16 and later) or
`keras.legacy_tf_layers.normalization` (earlier); the packages keep it under `src`.
"""

from __future__ import annotations

import importlib
import sys
import warnings

import tensorflow as tf


def _alias_legacy_layers() -> None:
    version = tuple(int(part) for part in tf.__version__.split('.')[:2])
    package = 'tf_keras' if version >= (2, 16) else 'keras'
    for module in ('', '.base', '.convolutional', '.core', '.normalization', '.pooling'):
        name = f'{package}.legacy_tf_layers{module}'
        if name not in sys.modules:
            sys.modules[name] = importlib.import_module(f'{package}.src.legacy_tf_layers{module}')


_alias_legacy_layers()
# tf_slim's batch norm calls layers in a way that newer TensorFlow would like changed; users can do nothing about it.
warnings.filterwarnings('ignore', message='`layer.apply` is deprecated')
slim = importlib.import_module('tf_slim')
