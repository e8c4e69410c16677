#!/usr/bin/env python3
"""The program: `./run_benchmark.py --model=vgg_16`, `./run_benchmark.py --help`."""

import sys

from bench.cli import main

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
