"""The measurement of a network against a connection whose delay and rate are known."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.exchange import network
from bench.screen import Screen

ROOT = Path(__file__).parents[3]
DELAY, RATE = 0.02, 40e6


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Passes on what comes, DELAY later and no faster than RATE: a slow link."""
    line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def send() -> None:
        free = 0.0
        while True:
            came, data = line.get()
            if not data:
                return
            free = max(free, came + DELAY) + len(data) / RATE
            time.sleep(max(0.0, free - time.monotonic()))
            sink.sendall(data)

    threading.Thread(target=send, daemon=True).start()
    while data := source.recv(1 << 16):
        line.put((time.monotonic(), data))
    line.put((0.0, b''))


@pytest.fixture
def slow_link() -> Iterator[str]:
    """The address of a link to somebody who answers."""
    with socket.create_server(('127.0.0.1', 0)) as answering, socket.create_server(('127.0.0.1', 0)) as link:
        threading.Thread(target=network.answer, args=[answering], daemon=True).start()

        def run() -> None:
            here, _ = link.accept()
            there = socket.create_connection(answering.getsockname())
            for each in (here, there):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=pump, args=[there, here], daemon=True).start()
            pump(here, there)

        threading.Thread(target=run, daemon=True).start()
        yield f'127.0.0.1:{link.getsockname()[1]}'


def test_delay_and_rate_of_a_link_are_found(slow_link: str) -> None:
    with Screen() as screen:
        found = network.measured(slow_link, 0.5, screen)
    # A loaded machine can only make the link slower.
    assert found['latency_seconds'] == pytest.approx(DELAY, rel=0.5)
    for way in ('bandwidth_out', 'bandwidth_in'):
        assert 0.3 * RATE < found[way] < 1.3 * RATE


def run(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / 'run_benchmark.py'), 'network', *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def test_two_processes_measure_what_is_between_them() -> None:
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / 'run_benchmark.py'), 'network', f'--listen={port}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as answering:
        assert answering.stdout is not None
        assert answering.stdout.readline().startswith(f'listening at port {port}')
        done = run(f'--connect=127.0.0.1:{port}', '--seconds=0.2', '--json')
        assert answering.wait(timeout=30) == 0
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found['to'] == f'127.0.0.1:{port}'
    assert 0 < found['latency_seconds'] < 0.1
    assert found['bandwidth_out'] > 1e7 and found['bandwidth_in'] > 1e7
    assert 'microseconds one way' in done.stderr


def test_nobody_there_is_told_with_what_to_start() -> None:
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    done = run(f'--connect=127.0.0.1:{port}')
    assert done.returncode == 1
    assert f'127.0.0.1:{port}' in done.stderr and '--listen' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('words', [('--connect=nowhere',), ('--connect=a:1', '--listen=2'), ('--listen=0',)])
def test_an_address_that_is_none_is_refused(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert all(word.split('=')[0] in done.stderr for word in words)
