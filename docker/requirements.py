"""Prints the requirements of setup.cfg, without TensorFlow, which an image has from elsewhere.

    python docker/requirements.py setup.cfg [EXTRA]

With an extra's name: that extra alone. Without: what the program needs, its command `serve` included.
"""

from __future__ import annotations

import configparser
import sys


def main(path: str, extra: str | None = None) -> None:
    """Prints a requirement a line."""
    parser = configparser.ConfigParser()
    parser.read(path)
    extras = parser['options.extras_require']
    texts = [extras[extra]] if extra else [parser['options']['install_requires'], extras['serve']]
    for line in ''.join(texts).splitlines():
        if line and not line.startswith(('#', 'tensorflow')):
            print(line)


if __name__ == '__main__':
    main(*sys.argv[1:])
