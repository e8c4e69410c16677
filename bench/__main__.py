"""`python -m bench`: the same program as run_benchmark.py."""

import sys

from bench.cli import main

sys.exit(main(sys.argv[1:]))
