"""A benchmark harness for convolutional networks on TensorFlow: how fast do they train and infer on this machine?"""

__version__ = '0.1.0'
