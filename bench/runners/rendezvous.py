"""Horovod's meeting point for processes on this machine: the part of `horovodrun --gloo` that is not starting them.

The server is Horovod's own. It listens on the loopback interface alone, at a port that the system finds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def local(size: int) -> Iterator[list[dict[str, str]]]:
    """Runs the server and gives what each of `size` processes needs in its environment, by rank."""
    from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer
    from horovod.runner.util.network import get_local_intfs

    host = 'localhost'
    plan = get_host_assignments([HostInfo(host, size)], size)
    server = RendezvousHTTPServer(('127.0.0.1', 0), RendezvousHandler, verbose=0)
    server.daemon_threads = True
    server.init(plan)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        shared = create_run_env_vars('127.0.0.1', sorted(get_local_intfs()), server.server_address[1])
        yield [{name: str(value) for name, value in {**shared, **create_slot_env_vars(slot)}.items()} for slot in plan]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
