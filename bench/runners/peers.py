"""Whether the other processes of a job are there: waiting for them at the start, noticing that one is gone later.

A process is asked by what its gRPC server does with any new connection: it answers the HTTP/2 preface with its own
settings (RFC 9113, 3.4). A process that was killed refuses the connection, one that hangs or was stopped (SIGSTOP)
accepts it, as the kernel does that, and is silent. All are asked at the same time, so that the silence of many lasts no
longer than that of one. Knows nothing of TensorFlow.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from bench.errors import NotMetError, StoppedError

# The preface and an empty frame of settings: 0 bytes of type 4 on stream 0.
_HELLO = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
# Seconds. A server whose threads are all busy may take a while.
_PATIENCE, _SHORT, _BETWEEN = 5.0, 1.5, 1.0
# For threads that have to begin, and to end.
_GRACE = 0.5
# A process is lost when it has been silent for so long, or when nobody has listened at its port for so long.
_LOST_AFTER, _CLOSED_AFTER = 10.0, 2.0


def answers(address: str, seconds: float) -> bool | None:
    """Whether a gRPC server answers at host:port within so many seconds; None where nobody listens at the port."""
    host, _, port = address.rpartition(':')
    end = time.monotonic() + seconds
    try:
        with socket.create_connection((host.strip('[]'), int(port)), timeout=seconds) as connection:
            connection.sendall(_HELLO)
            seen = b''
            while len(seen) < 9:
                connection.settimeout(max(0.01, end - time.monotonic()))
                more = connection.recv(64)
                if not more:
                    return False
                seen += more
            return seen[3] == _SETTINGS
    except ConnectionRefusedError:
        return None
    except (OSError, ValueError):
        return False


def _ask(peers: Mapping[str, str], seconds: float) -> dict[str, bool | None]:
    """What each answers within so many seconds."""
    end = time.monotonic() + seconds
    found: dict[str, bool | None] = dict.fromkeys(peers, False)

    def ask(name: str, address: str) -> None:
        found[name] = answers(address, seconds)

    # Daemons, because a name may take longer to be looked up than anybody waits for it.
    threads = [threading.Thread(target=ask, args=peer, daemon=True) for peer in peers.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end + _GRACE - time.monotonic()))
    return dict(found)


def wait(
    peers: Mapping[str, str],
    seconds: float,
    waiting: Callable[[str], None],
    stop_requested: Callable[[], bool] = lambda: False,
) -> None:
    """Returns as soon as all of them answer.

    Args:
      peers: names and addresses.
      seconds: how long at the most.
      waiting: is told, again and again, who is missing.
      stop_requested: whether to give up.

    Raises:
      NotMetError: some did not; it names them.
      StoppedError: a stop was requested before.
    """
    end = time.monotonic() + seconds
    missing = dict(peers)
    while True:
        answered = _ask(missing, min(_PATIENCE, max(0.05, end - time.monotonic())))
        missing = {name: address for name, address in missing.items() if not answered[name]}
        if not missing:
            return
        if stop_requested():
            raise StoppedError(f'interrupted while waiting for {_listed(missing)}.')
        if time.monotonic() >= end:
            raise NotMetError(
                f'Waited {seconds:.0f} seconds for {_listed(missing)}, and no answer came. Start what is missing, with '
                'the same --ps_hosts and --worker_hosts everywhere; look whether a firewall is between; '
                '--wait_seconds is how long the others wait, also while workers with --skip_bad_records look through '
                'all records before they answer.'
            )
        waiting(f'waiting for {_listed(missing)}')
        time.sleep(min(0.2, max(0.0, end - time.monotonic())))


def gone(peers: Mapping[str, str]) -> str | None:
    """A sentence that names those who do not answer now; None where all do."""
    answered = _ask(peers, _SHORT)
    silent = {name: address for name, address in peers.items() if not answered[name]}
    return _sentence(silent) if silent else None


class Watch:
    """While it is entered, a thread asks the others once a second whether they are there.

    Attributes:
      lost: a sentence that names who is gone; None as long as all are there.
    """

    def __init__(
        self, peers: Mapping[str, str], on_loss: Callable[[], None] | None = None, lost_after: float = _LOST_AFTER
    ) -> None:
        """
        Args:
          peers: names and addresses.
          on_loss: called once, in the thread, when one is gone.
          lost_after: seconds of silence.
        """
        self.lost: str | None = None
        self._silent_since: dict[str, float] = {}
        self._peers = dict(peers)
        self._on_loss = on_loss
        self._lost_after = lost_after
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name='watch', daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        # It may be in a connection that takes its time; it is a daemon, and harms nobody.
        with contextlib.suppress(RuntimeError):
            self._thread.join(0.1)

    def end(self) -> None:
        """Nobody is needed from here on, so that nobody can be lost."""
        self._end.set()

    def is_over(self, seconds: float) -> bool:
        """Whether nobody is needed any more, for which it waits so many seconds at the most."""
        return self._end.wait(seconds)

    def forget(self, name: str) -> None:
        """It may end now."""
        self._peers.pop(name, None)

    def _look(self) -> None:
        while not self._end.wait(_BETWEEN):
            gone, peers, asked = {}, dict(self._peers), time.monotonic()
            for name, is_there in _ask(peers, _PATIENCE).items():
                if is_there:
                    self._silent_since.pop(name, None)
                elif name in self._peers:
                    since = self._silent_since.setdefault(name, asked)
                    patience = self._lost_after if is_there is False else min(_CLOSED_AFTER, self._lost_after)
                    if time.monotonic() - since > patience:
                        gone[name] = peers[name]
            if gone and not self._end.is_set():
                self.lost = _sentence(gone)
                if self._on_loss:
                    self._on_loss()
                return


def _sentence(gone: Mapping[str, str]) -> str:
    verb = 'does' if len(gone) == 1 else 'do'
    return f'{_listed(gone)} {verb} not answer any more: killed, hanging, or cut off the network.'


def _listed(peers: Mapping[str, str]) -> str:
    return ', '.join(f'{name} ({address})' for name, address in peers.items())
