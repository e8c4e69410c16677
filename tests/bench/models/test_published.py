"""The published checkpoints' facts, against the lines of the tables that they are from."""

from __future__ import annotations

import re

import pytest

from bench.models import registry
from bench.models.published import CHECKPOINTS

# From tensorflow/models: research/slim/README.md, below it nets/mobilenet_v1.md and nets/mobilenet/README.md.
# Name there, archive, top-1, top-5.
_SLIMS_README = """
Inception V1|inception_v1_2016_08_28.tar.gz|69.8|89.6
Inception V2|inception_v2_2016_08_28.tar.gz|73.9|91.8
Inception V3|inception_v3_2016_08_28.tar.gz|78.0|93.9
Inception V4|inception_v4_2016_09_09.tar.gz|80.2|95.2
Inception-ResNet-v2|inception_resnet_v2_2016_08_30.tar.gz|80.4|95.3
ResNet V1 50|resnet_v1_50_2016_08_28.tar.gz|75.2|92.2
ResNet V1 101|resnet_v1_101_2016_08_28.tar.gz|76.4|92.9
ResNet V1 152|resnet_v1_152_2016_08_28.tar.gz|76.8|93.2
ResNet V2 50|resnet_v2_50_2017_04_14.tar.gz|75.6|92.8
ResNet V2 101|resnet_v2_101_2017_04_14.tar.gz|77.0|93.7
ResNet V2 152|resnet_v2_152_2017_04_14.tar.gz|77.8|94.1
ResNet V2 200||79.9|95.2
VGG 16|vgg_16_2016_08_28.tar.gz|71.5|89.8
VGG 19|vgg_19_2016_08_28.tar.gz|71.1|89.8
MobileNet_v1_1.0_224|mobilenet_v1_1.0_224.tgz|70.9|89.9
MobileNet_v1_0.50_160|mobilenet_v1_0.5_160.tgz|59.1|81.9
MobileNet_v1_0.25_128|mobilenet_v1_0.25_128.tgz|41.5|66.3
MobileNet_v2_1.4_224|mobilenet_v2_1.4_224.tgz|74.9|92.5
MobileNet_v2_1.0_224|mobilenet_v2_1.0_224.tgz|71.9|91.0
NASNet-A_Mobile_224|nasnet-a_mobile_04_10_2017.tar.gz|74.0|91.6
NASNet-A_Large_331|nasnet-a_large_04_10_2017.tar.gz|82.7|96.2
PNASNet-5_Large_331|pnasnet-5_large_2017_12_13.tar.gz|82.9|96.2
PNASNet-5_Mobile_224|pnasnet-5_mobile_2017_12_13.tar.gz|74.2|91.9
MobileNet_v1_0.75_224|mobilenet_v1_0.75_224.tgz|68.4|88.2
float_v2_0.35_224|mobilenet_v2_0.35_224.tgz|60.3|82.9
Large dm=1 (float)|v3-large_224_1.0_float.tgz|75.2|
Small dm=1 (float)|v3-small_224_1.0_float.tgz|67.5|
Large minimalistic (float)|v3-large-minimalistic_224_1.0_float.tgz|72.3|
Small minimalistic (float)|v3-small-minimalistic_224_1.0_float.tgz|61.9|
MobilenetEdgeTPU dm=0.75 (8-bit)|mobilenet_edgetpu_224_0.75.tgz||
MobilenetEdgeTPU dm=1 (8-bit)|mobilenet_edgetpu_224_1.0.tgz||
"""


def _our_name(theirs: str) -> str:
    """The network that a line of the tables speaks of."""
    name = theirs.lower().replace(' (float)', '').replace(' (8-bit)', '').replace('float_v2', 'mobilenet_v2')
    name = re.sub(r'^(large|small)( dm=1)?( minimalistic)?$', r'mobilenet_v3_\1\3', name)
    name = (
        name.replace('mobilenetedgetpu', 'mobilenet_edgetpu')
        .replace('nasnet-a', 'nasnet')
        .replace('nasnet-5', 'nasnet')
    )
    name = re.sub('[ -]', '_', name)
    name = re.sub(r'_(dm=)?1(\.0_224)?$', '', name)
    name = re.sub(r'_(?:dm=)?([01])\.(\d\d?)(_\d+)?$', lambda m: f'_{m[1]}{m[2]:0<2}', name)
    return re.sub('_(224|331)$', '', name)


@pytest.mark.parametrize('line', _SLIMS_README.split('\n')[1:-1])
def test_archive_and_accuracies_are_those_of_slims_tables(line: str) -> None:
    theirs, archive, top_1, top_5 = line.split('|')
    checkpoint = CHECKPOINTS[_our_name(theirs)]
    assert (checkpoint.archive or '') == archive
    assert ['' if x is None else str(x) for x in (checkpoint.top_1, checkpoint.top_5)] == [top_1, top_5]


def test_no_checkpoint_is_of_no_line_or_of_no_network() -> None:
    assert sorted(CHECKPOINTS) == sorted({_our_name(line.split('|')[0]) for line in _SLIMS_README.split('\n')[1:-1]})
    for name in CHECKPOINTS:
        assert registry.get(name).name == name


def test_weights_from_caffe_have_1000_classes_and_all_others_1001() -> None:
    # slim's README, Troubleshooting: "the VGG and ResNet V1 final layers have only 1000 outputs rather than 1001".
    for name, checkpoint in CHECKPOINTS.items():
        assert checkpoint.num_classes == (1000 if name.startswith(('vgg_', 'resnet_v1_')) else 1001)


def test_images_are_of_the_size_that_the_archive_tells_or_the_network_has() -> None:
    for name, checkpoint in CHECKPOINTS.items():
        told = re.search(r'_(\d{3})(?:_[\d.]+(?:_float)?)?\.tgz', checkpoint.archive or '')
        if told:
            assert checkpoint.image_size == int(told[1])
        elif not name.startswith('resnet_v2'):  # README: "use Inception pre-processing and input image size of 299"
            assert checkpoint.image_size == registry.get(name).image_size


def test_an_address_is_the_published_folder_and_the_archive() -> None:
    addresses = {name: checkpoint.address for name, checkpoint in CHECKPOINTS.items()}
    assert addresses['vgg_16'] == 'http://download.tensorflow.org/models/vgg_16_2016_08_28.tar.gz'
    assert addresses['resnet_v2_200'] is None
    assert all(
        re.fullmatch(r'https?://[\w./-]+/(models|checkpoints|mobilenet_v1_\w+)/[\w.-]+gz', a)
        for a in addresses.values()
        if a
    )
