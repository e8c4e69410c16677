#!/usr/bin/env python3
"""Jobs across several hosts on this one machine, over a slow network: speeds, bytes, and the projection beside them.

  tools/several_hosts.py --rate=200 --delay=10          Mbit/s of each host's link, milliseconds one way
  tools/several_hosts.py -- --model=cifarnet            flags of the benchmark behind --

Needs root, iproute2, Horovod, and the kernel's tun and tbf. A host is a network namespace with an address and a name
(unshare --uts) of its own. Its link is a tun device, of which tc (tbf) limits what is sent; this process is the switch
between them, which holds every packet for the delay and passes no more to a host than its link carries. (netem, which
does all of that, is missing in many kernels.) The default network is small, as all hosts compute on the same
processors: with few bytes to exchange the projection would be one of how they share these.

Exit status: 0 when every job ended well. However this program ends, but by SIGKILL, the hosts and what runs on them
are gone then.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, str(ROOT / 'run_benchmark.py')]
DEFAULT = ['--model=lenet', '--batch_size=8', '--num_warmup_batches=2', '--num_batches=10']
LINK, MTU = 'wire', 32_000
PORT = 2222
# Seconds for what is no job: a network is measured in some, a process begins in fewer.
SHORT = 120.0
# What `ip netns exec` puts in the place of files in /etc.
_ETC = Path('/etc/netns')
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
        self._error: BaseException | None = None
        self._links: dict[bytes, int] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Hosts:
        with contextlib.ExitStack() as stack:
            self.environment = self._with_ssh(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            stack.callback(self._remove)
            for number in self._numbers:
                self._make(number)
            thread = threading.Thread(target=self._run_switch, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._end.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._stack.close()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raises what stopped the switch, without which nothing that the hosts send arrives."""
        if self._error is not None:
            raise self._error

    def kill(self) -> None:
        """Kills all that runs on the hosts."""
        for number in self._numbers:
            words = ['ip', 'netns', 'pids', self.name(number)]
            pids = map(int, subprocess.run(words, capture_output=True, text=True, check=False).stdout.split())
            for pid in set(pids) - {os.getpid()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _remove(self) -> None:
        self.kill()
        for link in self._links.values():
            os.close(link)
        for number in self._numbers:
            subprocess.run(['ip', 'netns', 'del', self.name(number)], capture_output=True, check=False)
            shutil.rmtree(_ETC / self.name(number), ignore_errors=True)

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

    def _with_ssh(self, folder: Path) -> dict[str, str]:
        """An environment in which `ssh ADDRESS COMMAND` runs it on that host."""
        path = folder / 'ssh'
        path.write_text(_SSH.replace('PREFIX', self._prefix))
        path.chmod(0o755)
        return {**os.environ, 'PATH': f'{folder}:{os.environ["PATH"]}'}

    def _make(self, number: int) -> None:
        name, where = self.name(number), ['-n', self.name(number)]
        limit = ['tbf', 'rate', f'{8 * self._rate:.0f}bit', 'burst', '256kb', 'limit', '64mb']
        _run('ip', 'netns', 'add', name)
        # Gloo asks for the address of its own host's name.
        (_ETC / name).mkdir(parents=True)
        names = (f'{address(each)} host{each}\n' for each in self._numbers)
        (_ETC / name / 'hosts').write_text(''.join(['127.0.0.1 localhost\n', *names]))
        self._links[bytes([10, 77, 0, number])] = _tun(name)
        _run('ip', *where, 'link', 'set', 'lo', 'up')
        _run('ip', *where, 'addr', 'add', f'{address(number)}/24', 'dev', LINK)
        _run('ip', *where, 'link', 'set', 'dev', LINK, 'mtu', str(MTU), 'up')
        _run('tc', *where, 'qdisc', 'add', 'dev', LINK, 'root', *limit)

    def _run_switch(self) -> None:
        try:
            self._switch()
        except BaseException as error:
            self._error = error

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


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """The process is gone when this is left, and also after so many seconds."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def measure_network(hosts: Hosts, path: Path) -> None:
    """What `network --json` prints of the way from host 2 to host 1."""
    listening = hosts.words(1, [*PROGRAM, 'network', f'--listen={PORT}'])
    with subprocess.Popen(listening, stdout=subprocess.PIPE) as one, killed_at_the_end(one, SHORT):
        assert one.stdout is not None
        one.stdout.readline()
        words = [*PROGRAM, 'network', f'--connect={address(1)}:{PORT}', '--json']
        done = subprocess.run(hosts.words(2, words), stdout=subprocess.PIPE, check=True, timeout=SHORT)
        path.write_bytes(done.stdout)


def horovod(workers: int, words: Sequence[str]) -> list[tuple[int, list[str]]]:
    """A rank on each of the first hosts: hosts, and what to run on them."""
    ranks = ','.join(f'{address(number)}:1' for number in range(1, workers + 1))
    run = [str(Path(sys.executable).with_name('horovodrun')), '--gloo', '--network-interfaces', LINK]
    return [(1, [*run, '-np', str(workers), '-H', ranks, *PROGRAM, *words])]


def parameter_server(workers: int, words: Sequence[str]) -> list[tuple[int, list[str]]]:
    """A server on host 1, and a worker on each of the next ones: hosts, and what to run on them."""
    others = ','.join(f'{address(number)}:{PORT}' for number in range(2, workers + 2))
    shared = ['--variable_update=parameter_server', f'--ps_hosts={address(1)}:{PORT}', f'--worker_hosts={others}']
    places = [('ps', 0), *(('worker', task) for task in range(workers))]
    return [
        (host, [*PROGRAM, *words, *shared, f'--job_name={job}', f'--task_index={task}'])
        for host, (job, task) in enumerate(places, 1)
    ]


def finish(hosts: Hosts, job: Sequence[tuple[int, list[str]]], seconds: float) -> list[str]:
    """Runs the processes of a job to their end, which is after so many seconds at the latest, and tells who failed."""
    with contextlib.ExitStack() as stack:
        stack.callback(hosts.kill)
        processes: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        for host, words in job:
            # A file, because a pipe that nobody reads fills up.
            told = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                hosts.words(host, words), env=hosts.environment, stdout=subprocess.DEVNULL, stderr=told
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append((process, told))
        end = time.monotonic() + seconds
        while any(process.poll() is None for process, _ in processes):
            hosts.check()
            if time.monotonic() > end:
                return [f'not done after {seconds:.0f} seconds', *(_text(told) for _, told in processes)]
            time.sleep(0.1)
        return [_text(told) for process, told in processes if process.returncode]


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors='replace')


def run_job(hosts: Hosts, kind: str, workers: int, folder: Path, words: Sequence[str], seconds: float) -> None:
    """Runs a job, and prints its speed and what its last worker sent in a step.

    Raises:
      SystemExit: a process of it failed, or it took longer than so many seconds.
    """
    last = workers + (kind == 'parameter_server')
    before, old = hosts.sent(last), set(folder.glob('*.json'))
    job = {'horovod': horovod, 'parameter_server': parameter_server}[kind]
    failed = finish(hosts, job(workers, [*words, f'--result_dir={folder}']), seconds)
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
    parser.add_argument('--seconds', type=float, default=600.0, help='that a job may take')
    name = f'several_hosts_{time.strftime("%Y%m%dT%H%M%S")}'
    parser.add_argument('--folder', type=Path, default=ROOT / 'results' / name, help='that is not there yet')
    parser.add_argument('words', nargs='*', default=DEFAULT)
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f'--folder={options.folder} is there already, with the records of other runs.')
    words = [*options.words, '--num_intra_threads=1']
    options.folder.mkdir(parents=True)
    signal.signal(signal.SIGTERM, _end)
    with Hosts(options.hosts, options.rate * 1e6 / 8, options.delay / 1e3) as hosts:
        network, alone = options.folder / 'network.json', options.folder / 'alone'
        measure_network(hosts, network)
        single = [*PROGRAM, *words, f'--result_dir={alone}']
        subprocess.run(single, stdout=subprocess.DEVNULL, check=True, timeout=options.seconds)
        for kind in options.kinds.split(','):
            # One host is the server.
            for workers in range(2, options.hosts + (kind == 'horovod')):
                run_job(hosts, kind, workers, options.folder / kind, words, options.seconds)
        for kind in options.kinds.split(','):
            records = f'{alone},{options.folder / kind}'
            subprocess.run([*PROGRAM, 'scaling', records, f'--network={network}'], check=True, timeout=SHORT)
    return 0


def _end(*_: object) -> None:
    """Ends this program so that it cleans up, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


if __name__ == '__main__':
    sys.exit(main())
