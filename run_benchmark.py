#!/usr/bin/env python3
"""The program: `./run_benchmark.py --model=vgg_16`, `./run_benchmark.py --help`."""

import sys

try:
    from bench.cli import main
except KeyboardInterrupt:
    # Ctrl-C before the program could take care of it.
    sys.exit(1)
except ModuleNotFoundError as error:
    if (error.name or 'bench').partition('.')[0] in ('bench', 'analysis'):
        raise
    print(
        f'error: {error.name} is not installed for {sys.executable}. Type `source .venv/bin/activate` first; where '
        'there is no such environment yet, `make setup` makes it.',
        file=sys.stderr,
    )
    sys.exit(1)

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
