"""`convert --dataset_name=flowers`: flower_photos.tgz to the shards of TF-Slim's download_and_convert_flowers.

Five classes, numbered in the order of their names; 350 pictures are for validation. TF-Slim's own choice of the 350
depends on the order in which its machine listed the files; here it depends on --seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench import errors
from bench.data import specifications, tfrecord
from bench.data.convert import folder, sources
from bench.data.convert.encoders import Jpeg
from bench.data.convert.options import ConvertConfig
from bench.data.convert.prepared import Prepared

CLASSES = specifications.get('flowers').label_names or ()


def prepare(config: ConvertConfig, files: Mapping[str, Path], unpacked: Path) -> Prepared:
    """The dataset.

    Raises:
      errors.DataError: the source is broken, or holds other pictures.
    """
    source = files[sources.FLOWERS]
    listing = folder.listed(source, unpacked)
    if listing.classes != CLASSES:
        raise errors.DataError(
            f'{source} holds the classes {", ".join(listing.classes[:10])}, and {sources.FLOWERS} '
            f'{", ".join(CLASSES)}. For pictures of your own: --dataset_name=folder'
        )

    def record(index: int, jpeg: Jpeg) -> bytes:
        label = int(listing.labels[index])
        return tfrecord.serialized(tfrecord.basic(jpeg.data, 'jpg', label, jpeg.height, jpeg.width))

    return folder.divided(config, listing, record)
