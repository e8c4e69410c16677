"""Whether others are there, asked of gRPC's own server, of one that hangs, and of ports where nobody is."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from bench.errors import NotMetError, StoppedError
from bench.runners import peers
from bench.screen import Screen


@contextlib.contextmanager
def grpc_server() -> Iterator[str]:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port('127.0.0.1:0')
    server.start()
    try:
        yield f'127.0.0.1:{port}'
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Accepts connections, as the kernel does for a process that hangs, and says nothing."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        yield f'127.0.0.1:{server.getsockname()[1]}'


def nobody() -> str:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return f'127.0.0.1:{server.getsockname()[1]}'


SERVER = """
import concurrent.futures, grpc, time
server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
print(server.add_insecure_port('127.0.0.1:0'), flush=True)
server.start()
time.sleep(60)
"""


@contextlib.contextmanager
def other_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gRPC server in another process, and its address."""
    with subprocess.Popen([sys.executable, '-c', SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = f'127.0.0.1:{int(process.stdout.readline())}'
            peers.wait({'worker 1': address}, 30.0, lambda told: None)
            yield process, address
        finally:
            process.kill()


def test_a_grpc_server_answers_and_others_do_not() -> None:
    with grpc_server() as alive, silent_server() as silent:
        assert peers.answers(alive, 5)
        assert not peers.answers(silent, 0.2)
        assert not peers.answers(nobody(), 0.2)
        assert not peers.answers('no-such-host.invalid:2222', 0.2)
        assert peers.gone({'ps 0': alive, 'worker 1': silent}) == (
            f'worker 1 ({silent}) does not answer any more: killed, hanging, or cut off the network.'
        )
        assert peers.gone({'ps 0': alive}) is None


def test_a_server_of_another_protocol_does_not_pass_for_one_of_ours() -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        assert not peers.answers(f'127.0.0.1:{server.getsockname()[1]}', 5)
        thread.join()


def test_waiting_names_who_is_missing_and_not_who_is_there() -> None:
    missing = nobody()
    told: list[str] = []
    with grpc_server() as alive, pytest.raises(NotMetError) as error:
        peers.wait({'ps 0': alive, 'worker 1': missing}, 1.0, told.append)
    assert f'worker 1 ({missing})' in str(error.value)
    assert 'ps 0' not in str(error.value)
    # What a worker that was started may be doing.
    assert '--wait_seconds' in str(error.value) and '--skip_bad_records' in str(error.value)
    assert told and set(told) == {f'waiting for worker 1 ({missing})'}


def test_waiting_ends_when_a_late_one_has_come() -> None:
    address = nobody()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))

    def come(_told: str) -> None:
        # The first time that somebody is waited for.
        if server.add_insecure_port(address):
            server.start()

    try:
        peers.wait({'ps 0': address}, 30.0, come)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP], ids=['killed', 'stopped'])
def test_a_watch_names_a_process_that_is_gone_and_no_other(number: int) -> None:
    lost = threading.Event()
    with grpc_server() as alive, other_process() as (process, address):
        with peers.Watch({'ps 0': alive, 'worker 1': address}, lost.set, lost_after=1.0) as watch:
            assert not lost.wait(2.5)
            process.send_signal(number)
            assert lost.wait(30)
            assert watch.lost is not None
            assert watch.lost.startswith(f'worker 1 ({address}) does not answer')


def test_a_watch_has_less_patience_with_a_port_that_is_closed_than_with_one_that_is_silent() -> None:
    lost = threading.Event()
    with silent_server() as silent, other_process() as (process, address):
        process.kill()
        begun = time.monotonic()
        with peers.Watch({'worker 1': address}, lost.set) as watch:
            assert lost.wait(30)
            assert time.monotonic() - begun < 8, 'a launcher that knows already waits no longer for the others'
        assert watch.lost is not None and address in watch.lost
        lost.clear()
        with peers.Watch({'worker 1': silent}, lost.set):
            assert not lost.wait(4)


def test_many_silent_ones_are_noticed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, '_PATIENCE', 1.0)
    lost = threading.Event()
    with contextlib.ExitStack() as stack:
        silent = {f'worker {number}': stack.enter_context(silent_server()) for number in range(5)}
        begun = time.monotonic()
        with peers.Watch(silent, lost.set, lost_after=0.5) as watch:
            assert lost.wait(30)
            assert time.monotonic() - begun < 4
    assert watch.lost is not None
    for name, address in silent.items():
        assert f'{name} ({address})' in watch.lost


def test_waiting_goes_on_though_an_end_is_wished() -> None:
    told: list[str] = []
    with pytest.raises(StoppedError, match=r'^interrupted while waiting for ps 0 \(127'):
        peers.wait({'ps 0': nobody()}, 60.0, told.append, lambda: len(told) == 2)


def test_who_is_waited_for_is_told_again_and_again_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for screen in (Screen(), Screen(silent=True)):
        for text in ('waiting for a, b', 'waiting for a, b', 'waiting for b', 'waiting for b'):
            screen.waiting(text)
        assert capsys.readouterr().out == 'waiting for a, b\nwaiting for b\n'


def test_a_watch_forgets_who_may_go() -> None:
    with peers.Watch({'worker 1': nobody()}, lost_after=0.5) as watch:
        watch.forget('worker 1')
        time.sleep(3)
        assert watch.lost is None
