"""The command `network`: latency and bandwidth between two machines, which the projection of scaling needs.

One process listens, the other connects; without an address both are on this machine, which then measures the
loopback. Plain TCP, as what exchanges gradients uses it: half of a small message's round trip, and the rate of a long
stream in each direction.
"""

from __future__ import annotations

import datetime
import json
import platform
import socket
import statistics
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

from bench.errors import BenchError
from bench.exchange.options import NetworkConfig, address_of
from bench.screen import Screen

_ECHO, _TAKE, _GIVE = b'E', b'T', b'G'
_ROUND_TRIPS = 500
_BLOCK = 1 << 20
# A connection is at full speed after a while.
_RAMP_SECONDS = 0.3
_CONNECT_SECONDS = 10.0


def run(config: NetworkConfig, _words: Sequence[str]) -> int:
    """Measures and prints, or answers another process that does.

    Raises:
      BenchError: nobody answers, or the connection is lost.
    """
    with Screen(to_stderr=config.json) as screen:
        try:
            if config.listen is not None:
                with socket.create_server(('', config.listen)) as server:
                    screen.line(f'listening at port {config.listen}; on the other machine: network --connect=HOST:PORT')
                    answer(server)
                return 0
            found = measured(config.connect, config.seconds, screen)
        except OSError as error:
            where = config.connect or (f'port {config.listen}' if config.listen else 'this machine')
            raise BenchError(
                f'The network to {where} cannot be measured: {error.strerror or error}. '
                'Start `network --listen=PORT` on the other machine first.'
            ) from None
        screen.line(f'{"to":<12}{found["to"]}')
        screen.line(f'{"latency":<12}{1e6 * found["latency_seconds"]:.1f} microseconds one way')
        for way, key in (('out', 'bandwidth_out'), ('in', 'bandwidth_in')):
            screen.line(f'{"bandwidth":<12}{found[key] / 1e6:,.0f} MB/s {way} ({8 * found[key] / 1e9:.2f} Gbit/s)')
    if config.json:
        print(json.dumps(found, indent=1))
    return 0


def measured(address: str | None, seconds: float, screen: Screen) -> dict[str, Any]:
    """Latency in seconds, bandwidth in bytes per second in each direction, and between whom.

    Raises:
      OSError: no connection, or a lost one.
    """
    if address is None:
        with socket.create_server(('127.0.0.1', 0)) as server:
            thread = threading.Thread(target=answer, args=[server], daemon=True)
            thread.start()
            found = _ask('127.0.0.1', server.getsockname()[1], seconds, screen)
            thread.join()
    else:
        host, port = address_of(address) or ('', 0)
        found = _ask(host, port, seconds, screen)
    return {
        'time': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'from': platform.node(),
        'to': address or 'this machine (loopback)',
        **found,
    }


def answer(server: socket.socket) -> None:
    """Does what one connection asks for, until it is closed."""
    connection, _ = server.accept()
    block = bytearray(_BLOCK)
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while order := connection.recv(1):
            if order == _ECHO:
                connection.sendall(order)
            elif order == _TAKE:
                left = struct.unpack('!Q', _exactly(connection, 8))[0]
                while left:
                    seen = connection.recv_into(block, min(left, _BLOCK))
                    if not seen:
                        return
                    left -= seen
                connection.sendall(order)
            elif order == _GIVE:
                left = struct.unpack('!Q', _exactly(connection, 8))[0]
                while left:
                    sent = connection.send(memoryview(block)[: min(left, _BLOCK)])
                    left -= sent


def _ask(host: str, port: int, seconds: float, screen: Screen) -> dict[str, float]:
    with socket.create_connection((host, port), timeout=_CONNECT_SECONDS) as connection:
        connection.settimeout(max(_CONNECT_SECONDS, 10 * seconds))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        screen.progress('measuring the latency')
        trips = []
        for _ in range(_ROUND_TRIPS):
            start = time.perf_counter()
            connection.sendall(_ECHO)
            _exactly(connection, 1)
            trips.append(time.perf_counter() - start)
            if sum(trips) > seconds + 1:
                break
        rates = {}
        for order, name in ((_TAKE, 'out'), (_GIVE, 'in')):
            screen.progress(f'measuring the bandwidth, {name}')
            amount, took = _BLOCK, 0.0
            while took < _RAMP_SECONDS:
                amount *= 4
                took = _transfer(connection, order, amount)
            # As much as takes the given time at the rate of what went before.
            amount = max(_BLOCK, int(amount / took * seconds))
            rates[name] = amount / _transfer(connection, order, amount)
    return {
        'latency_seconds': statistics.median(trips) / 2,
        'bandwidth_out': rates['out'],
        'bandwidth_in': rates['in'],
    }


def _transfer(connection: socket.socket, order: bytes, amount: int) -> float:
    """Seconds for so many bytes to be sent and acknowledged, or to be received."""
    block = bytearray(_BLOCK)
    start = time.perf_counter()
    connection.sendall(order + struct.pack('!Q', amount))
    left = amount
    while left:
        if order == _TAKE:
            left -= connection.send(memoryview(block)[: min(left, _BLOCK)])
        else:
            seen = connection.recv_into(block, min(left, _BLOCK))
            if not seen:
                raise ConnectionResetError('the connection was closed')
            left -= seen
    if order == _TAKE:
        _exactly(connection, 1)
    return time.perf_counter() - start


def _exactly(connection: socket.socket, size: int) -> bytes:
    seen = b''
    while len(seen) < size:
        more = connection.recv(size - len(seen))
        if not more:
            raise ConnectionResetError('the connection was closed')
        seen += more
    return seen
