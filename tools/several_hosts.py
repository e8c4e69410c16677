#!/usr/bin/env python3
"""Jobs across several hosts on this one machine, over a slow network: speeds, bytes, and the projection beside them.

  tools/several_hosts.py --rate=200 --delay=10          Mbit/s of each host's link, milliseconds one way
  tools/several_hosts.py -- --model=cifarnet            flags of the benchmark behind --

Needs root, iproute2, Horovod, and the kernel's tun and tbf. A host is a network namespace with an address and a name
(unshare --uts) of its own. Its link is a tun device, of which tc (tbf) limits what is sent; this process is the switch
between them, which holds every packet for the delay and passes no more to a host than its link carries. (netem, which
does all of that, is missing in many kernels.) The default network is small, as all hosts compute on the same
processors: with few bytes to exchange the projection would be one of how they share these.

Exit status: 0 when every job ended well.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, str(ROOT / 'run_benchmark.py')]
DEFAULT = ['--model=lenet', '--batch_size=8', '--num_warmup_batches=2', '--num_batches=10']
LINK, MTU = 'wire', 32_000
PORT = 2222
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# In the place of ssh, for horovodrun: options, each with a value, the host, more options, the command.
_SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
host=$1; shift
while [ "${1#-}" != "$1" ]; do shift 2; done
exec ip netns exec "PREFIX${host##*.}" unshare --uts sh -c "hostname host${host##*.} && $*"
"""


class Hosts:
    """Hosts 1 to `count`, and the switch between them, as long as it is entered.

    Args:
      rate: of each link in each direction, bytes per second.
      delay: of each packet, seconds.
    """

    def __init__(self, count: int, rate: float, delay: float) -> None:
        self._prefix = f'tfb{os.getpid()}-'
        self._numbers = range(1, count + 1)
        self._rate, self._delay = rate, delay
        self._end = threading.Event()
        self._links: dict[bytes, int] = {}

    def __enter__(self) -> Hosts:
        try:
            for number in self._numbers:
                self._make(number)
        except BaseException:
            self.__exit__()
            raise
        self._thread = threading.Thread(target=self._switch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if hasattr(self, '_thread'):
            self._thread.join()
        for link in self._links.values():
            os.close(link)
        for number in self._numbers:
            subprocess.run(['ip', 'netns', 'del', self.name(number)], capture_output=True, check=False)

    def name(self, number: int) -> str:
        """Of the namespace."""
        return f'{self._prefix}{number}'

    def words(self, number: int, words: Sequence[str]) -> list[str]:
        """The command that runs these words on a host."""
        named = ['unshare', '--uts', 'sh', '-c', f'hostname host{number} && exec "$@"', 'sh']
        return ['ip', 'netns', 'exec', self.name(number), *named, *words]

    def sent(self, number: int) -> int:
        """Bytes that a host has sent."""
        words = ['ip', '-n', self.name(number), '-s', '-j', 'link', 'show', 'dev', LINK]
        ((link,)) = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return int(link['stats64']['tx']['bytes'])

    @contextlib.contextmanager
    def ssh(self) -> Iterator[dict[str, str]]:
        """An environment in which `ssh ADDRESS COMMAND` runs it on that host."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'ssh'
            path.write_text(_SSH.replace('PREFIX', self._prefix))
            path.chmod(0o755)
            yield {**os.environ, 'PATH': f'{folder}:{os.environ["PATH"]}'}

    def _make(self, number: int) -> None:
        name, where = self.name(number), ['-n', self.name(number)]
        limit = ['tbf', 'rate', f'{8 * self._rate:.0f}bit', 'burst', '256kb', 'limit', '64mb']
        _run('ip', 'netns', 'add', name)
        self._links[bytes([10, 77, 0, number])] = _tun(name)
        _run('ip', *where, 'link', 'set', 'lo', 'up')
        _run('ip', *where, 'addr', 'add', f'{address(number)}/24', 'dev', LINK)
        _run('ip', *where, 'link', 'set', 'dev', LINK, 'mtu', str(MTU), 'up')
        _run('tc', *where, 'qdisc', 'add', 'dev', LINK, 'root', *limit)

    def _switch(self) -> None:
        """Passes packets on, each `delay` after it came, or when those before it are through."""
        queues: dict[int, deque[tuple[float, bytes]]] = {link: deque() for link in self._links.values()}
        free = dict.fromkeys(queues, 0.0)
        with select.epoll() as poll:
            for link in queues:
                poll.register(link, select.EPOLLIN)
            while not self._end.is_set():
                due = min((queue[0][0] for queue in queues.values() if queue), default=time.monotonic() + 0.2)
                for link, _ in poll.poll(max(0.0, due - time.monotonic())):
                    packet = os.read(link, 65536)
                    to = self._links.get(packet[16:20])
                    if to is not None:  # and not to many, which nobody listens to here
                        free[to] = max(free[to] + len(packet) / self._rate, time.monotonic() + self._delay)
                        queues[to].append((free[to], packet))
                now = time.monotonic()
                for link, queue in queues.items():
                    while queue and queue[0][0] <= now:
                        os.write(link, queue.popleft()[1])


def address(number: int) -> str:
    """Of a host."""
    return f'10.77.0.{number}'


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'{" ".join(words)}: {done.stderr.strip()}')


def _tun(namespace: str) -> int:
    """This process's end of a new tun device in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path('/proc/thread-self/ns/net').open() as home, Path(f'/run/netns/{namespace}').open() as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'setns')
        try:
            link = os.open('/dev/net/tun', os.O_RDWR)
            fcntl.ioctl(link, _TUNSETIFF, struct.pack('16sH22x', LINK.encode(), _IFF_TUN | _IFF_NO_PI))
        finally:
            libc.setns(home.fileno(), _CLONE_NEWNET)
    return link


def measure_network(hosts: Hosts, path: Path) -> None:
    """What `network --json` prints of the way from host 2 to host 1."""
    with subprocess.Popen(hosts.words(1, [*PROGRAM, 'network', f'--listen={PORT}']), stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        words = [*PROGRAM, 'network', f'--connect={address(1)}:{PORT}', '--json']
        path.write_bytes(subprocess.run(hosts.words(2, words), stdout=subprocess.PIPE, check=True).stdout)


def horovod(hosts: Hosts, workers: int, words: Sequence[str]) -> list[subprocess.Popen[str]]:
    """A rank on each of the first hosts."""
    ranks = ','.join(f'{address(number)}:1' for number in range(1, workers + 1))
    run = [str(Path(sys.executable).with_name('horovodrun')), '--gloo', '--network-interfaces', LINK]
    with hosts.ssh() as environment:
        job = hosts.words(1, [*run, '-np', str(workers), '-H', ranks, *PROGRAM, *words])
        process = subprocess.Popen(job, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        process.wait()
    return [process]


def parameter_server(hosts: Hosts, workers: int, words: Sequence[str]) -> list[subprocess.Popen[str]]:
    """A server on host 1, and a worker on each of the next ones."""
    others = ','.join(f'{address(number)}:{PORT}' for number in range(2, workers + 2))
    shared = ['--variable_update=parameter_server', f'--ps_hosts={address(1)}:{PORT}', f'--worker_hosts={others}']
    places = [('ps', 0), *(('worker', task) for task in range(workers))]
    return [
        subprocess.Popen(
            hosts.words(host, [*PROGRAM, *words, *shared, f'--job_name={job}', f'--task_index={task}']),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host, (job, task) in enumerate(places, 1)
    ]


def run_job(hosts: Hosts, kind: str, workers: int, folder: Path, words: Sequence[str]) -> None:
    """Runs a job, and prints its speed and what its last worker sent in a step.

    Raises:
      SystemExit: a process of it failed.
    """
    last = workers + (kind == 'parameter_server')
    before, old = hosts.sent(last), set(folder.glob('*.json'))
    start = {'horovod': horovod, 'parameter_server': parameter_server}[kind]
    failed = []
    for process in start(hosts, workers, [*words, f'--result_dir={folder}']):
        _, told = process.communicate()
        failed += [told] if process.returncode else []
    if failed:
        raise SystemExit(f'{kind}, {workers} workers:\n' + '\n'.join(failed))
    (path,) = set(folder.glob('*.json')) - old
    record = json.loads(path.read_text())
    worker, exchange = record['workers'][-1], record['distribution']['exchange']
    steps = len(worker['warmup_seconds']) + len(worker['step_seconds'])
    seen = (hosts.sent(last) - before) / steps
    print(
        f'{kind:<18}{workers:>2} workers on {", ".join(record["distribution"]["hosts"])}: '
        f'{record["throughput"]["images_per_second"]:.2f} images/sec; in a step the last one sent '
        f'{seen / 1e6:.2f} MB, by the record {exchange["sent_bytes"] / 1e6:.2f}',
        flush=True,
    )


def main() -> int:
    """Makes the hosts, measures their network, runs the jobs, and compares the projection with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, default=4)
    parser.add_argument('--rate', type=float, default=200.0, help='Mbit/s')
    parser.add_argument('--delay', type=float, default=10.0, help='ms one way')
    parser.add_argument('--kinds', default='horovod,parameter_server')
    parser.add_argument('--folder', type=Path, default=ROOT / 'results' / 'several_hosts')
    parser.add_argument('words', nargs='*', default=DEFAULT)
    options = parser.parse_args()
    words = [*options.words, '--num_intra_threads=1']
    options.folder.mkdir(parents=True)
    with Hosts(options.hosts, options.rate * 1e6 / 8, options.delay / 1e3) as hosts:
        network, alone = options.folder / 'network.json', options.folder / 'alone'
        measure_network(hosts, network)
        subprocess.run([*PROGRAM, *words, f'--result_dir={alone}'], stdout=subprocess.DEVNULL, check=True)
        for kind in options.kinds.split(','):
            # One host is the server.
            for workers in range(2, options.hosts + (kind == 'horovod')):
                run_job(hosts, kind, workers, options.folder / kind, words)
        for kind in options.kinds.split(','):
            records = f'{alone},{options.folder / kind}'
            subprocess.run([*PROGRAM, 'scaling', records, f'--network={network}'], check=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
