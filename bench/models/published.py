"""The published checkpoints of slim's networks: which archive, for how many classes, how accurate.

Archives and accuracies are those of the table "Pre-trained Models" in slim's README (tensorflow/models,
research/slim/README.md) and, for the networks that it leaves to them, of the tables that it refers to:
nets/mobilenet_v1.md and nets/mobilenet/README.md. Accuracies are of single crops of ImageNet's validation images.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was published of a network.

    Attributes:
      archive: name of the file to download, or None where only the accuracy was published.
      top_1, top_5: percent of images whose class is the first, or among the first five; None where not published.
      image_size: height and width that the accuracy was measured with, which may not be the network's own.
      num_classes: of the last layer; 1001 with a background class, 1000 for weights converted from Caffe.
      folder: address of the archive's folder.
    """

    archive: str | None
    top_1: float | None
    top_5: float | None
    image_size: int = 224
    num_classes: int = 1001
    folder: str = 'http://download.tensorflow.org/models/'

    @property
    def address(self) -> str | None:
        """Where the archive is, or None where there is none."""
        return self.folder + self.archive if self.archive else None


_MOBILENET_EDGETPU = 'https://storage.cloud.google.com/mobilenet_edgetpu/checkpoints/'
_MOBILENET_V1 = 'http://download.tensorflow.org/models/mobilenet_v1_2018_02_22/'
_MOBILENET_V2 = 'https://storage.googleapis.com/mobilenet_v2/checkpoints/'
_MOBILENET_V3 = 'https://storage.googleapis.com/mobilenet_v3/checkpoints/'
_NASNET = 'https://storage.googleapis.com/download.tensorflow.org/models/'

CHECKPOINTS = {
    'inception_resnet_v2': Checkpoint('inception_resnet_v2_2016_08_30.tar.gz', 80.4, 95.3, 299),
    'inception_v1': Checkpoint('inception_v1_2016_08_28.tar.gz', 69.8, 89.6),
    'inception_v2': Checkpoint('inception_v2_2016_08_28.tar.gz', 73.9, 91.8),
    'inception_v3': Checkpoint('inception_v3_2016_08_28.tar.gz', 78.0, 93.9, 299),
    'inception_v4': Checkpoint('inception_v4_2016_09_09.tar.gz', 80.2, 95.2, 299),
    # Accuracies were published of their 8-bit weights alone.
    'mobilenet_edgetpu': Checkpoint('mobilenet_edgetpu_224_1.0.tgz', None, None, folder=_MOBILENET_EDGETPU),
    'mobilenet_edgetpu_075': Checkpoint('mobilenet_edgetpu_224_0.75.tgz', None, None, folder=_MOBILENET_EDGETPU),
    'mobilenet_v1': Checkpoint('mobilenet_v1_1.0_224.tgz', 70.9, 89.9, folder=_MOBILENET_V1),
    'mobilenet_v1_025': Checkpoint('mobilenet_v1_0.25_128.tgz', 41.5, 66.3, 128, folder=_MOBILENET_V1),
    'mobilenet_v1_050': Checkpoint('mobilenet_v1_0.5_160.tgz', 59.1, 81.9, 160, folder=_MOBILENET_V1),
    # Of nets/mobilenet_v1.md, whose archives are those of a later date.
    'mobilenet_v1_075': Checkpoint(
        'mobilenet_v1_0.75_224.tgz',
        68.4,
        88.2,
        folder='http://download.tensorflow.org/models/mobilenet_v1_2018_08_02/',
    ),
    'mobilenet_v2': Checkpoint('mobilenet_v2_1.0_224.tgz', 71.9, 91.0, folder=_MOBILENET_V2),
    'mobilenet_v2_035': Checkpoint('mobilenet_v2_0.35_224.tgz', 60.3, 82.9, folder=_MOBILENET_V2),
    'mobilenet_v2_140': Checkpoint('mobilenet_v2_1.4_224.tgz', 74.9, 92.5, folder=_MOBILENET_V2),
    'mobilenet_v3_large': Checkpoint('v3-large_224_1.0_float.tgz', 75.2, None, folder=_MOBILENET_V3),
    'mobilenet_v3_large_minimalistic': Checkpoint(
        'v3-large-minimalistic_224_1.0_float.tgz', 72.3, None, folder=_MOBILENET_V3
    ),
    'mobilenet_v3_small': Checkpoint('v3-small_224_1.0_float.tgz', 67.5, None, folder=_MOBILENET_V3),
    'mobilenet_v3_small_minimalistic': Checkpoint(
        'v3-small-minimalistic_224_1.0_float.tgz', 61.9, None, folder=_MOBILENET_V3
    ),
    'nasnet_large': Checkpoint('nasnet-a_large_04_10_2017.tar.gz', 82.7, 96.2, 331, folder=_NASNET),
    'nasnet_mobile': Checkpoint('nasnet-a_mobile_04_10_2017.tar.gz', 74.0, 91.6, folder=_NASNET),
    'pnasnet_large': Checkpoint('pnasnet-5_large_2017_12_13.tar.gz', 82.9, 96.2, 331, folder=_NASNET),
    'pnasnet_mobile': Checkpoint('pnasnet-5_mobile_2017_12_13.tar.gz', 74.2, 91.9, folder=_NASNET),
    'resnet_v1_50': Checkpoint('resnet_v1_50_2016_08_28.tar.gz', 75.2, 92.2, num_classes=1000),
    'resnet_v1_101': Checkpoint('resnet_v1_101_2016_08_28.tar.gz', 76.4, 92.9, num_classes=1000),
    'resnet_v1_152': Checkpoint('resnet_v1_152_2016_08_28.tar.gz', 76.8, 93.2, num_classes=1000),
    'resnet_v2_50': Checkpoint('resnet_v2_50_2017_04_14.tar.gz', 75.6, 92.8, 299),
    'resnet_v2_101': Checkpoint('resnet_v2_101_2017_04_14.tar.gz', 77.0, 93.7, 299),
    'resnet_v2_152': Checkpoint('resnet_v2_152_2017_04_14.tar.gz', 77.8, 94.1, 299),
    # Quoted in slim's README from the paper (arXiv:1603.05027, table 5), which measured it at 320 pixels.
    'resnet_v2_200': Checkpoint(None, 79.9, 95.2, 320),
    'vgg_16': Checkpoint('vgg_16_2016_08_28.tar.gz', 71.5, 89.8, num_classes=1000),
    'vgg_19': Checkpoint('vgg_19_2016_08_28.tar.gz', 71.1, 89.8, num_classes=1000),
}
