"""Which processes a job with parameter servers has, and which of them this one is: from flags or from TF_CONFIG.

TF_CONFIG is what operators of clusters put into the environment (Kubeflow's TFJob, and TensorFlow's own tools):
{"cluster": {"ps": ["host:port", ...], "worker": [...]}, "task": {"type": "worker", "index": 0}}. A "chief" or "master"
is worker 0, and the workers follow it. Knows nothing of TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.errors import UsageError

SERVER, WORKER = 'ps', 'worker'

_ADDRESS = re.compile(r'(?P<host>[^\s:/,]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})')
_CHIEFS = ('chief', 'master')
_EXAMPLE = (
    '{"cluster": {"ps": ["10.0.0.1:2222"], "worker": ["10.0.0.2:2222", "10.0.0.3:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a job.

    Attributes:
      servers, workers: their addresses, host:port, by their task numbers.
      job: 'ps' or 'worker', what this process is.
      task: its number among those.
    """

    servers: tuple[str, ...]
    workers: tuple[str, ...]
    job: str
    task: int

    @property
    def name(self) -> str:
        """What messages call this process: 'ps 0', 'worker 1'."""
        return f'{self.job} {self.task}'

    @property
    def peers(self) -> dict[str, str]:
        """Names and addresses of all other processes, the servers first."""
        all_of_them = {
            f'{job} {task}': address
            for job, addresses in ((SERVER, self.servers), (WORKER, self.workers))
            for task, address in enumerate(addresses)
        }
        return {name: address for name, address in all_of_them.items() if name != self.name}


def of(options: Any, environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that a process is in; None where parameter servers are not asked for, or only on this machine.

    Args:
      options: bench.distribution's, as they are meant in this environment. TF_CONFIG counts where they ask for
        parameter servers and tell no place.

    Raises:
      UsageError: flags or TF_CONFIG are not what they should be.
    """
    if options.kind != 'parameter_server':
        return None
    if options.job_name is None:
        return from_environment(environ)
    return from_flags(options.job_name, options.task_index, options.ps_hosts, options.worker_hosts)


def from_flags(job: str, task: int, servers: str | None, workers: str | None) -> Cluster:
    """The cluster that --job_name, --task_index, --ps_hosts and --worker_hosts (comma-separated) describe.

    Raises:
      UsageError: hosts are missing or wrong, or there is no such task.
    """
    lists = {'ps_hosts': _split(servers), 'worker_hosts': _split(workers)}
    missing = [f'--{name}=HOST:PORT,... is missing: --job_name needs it.' for name, hosts in lists.items() if not hosts]
    if missing:
        raise UsageError(missing)
    cluster = Cluster(lists['ps_hosts'], lists['worker_hosts'], job, task)
    wrong = [
        f'--{name}={",".join(hosts)}: {problem}'
        for name, hosts in lists.items()
        for problem in _address_problems(hosts)
    ]
    number = len(cluster.servers if job == SERVER else cluster.workers)
    if task >= number:
        flag = 'ps_hosts' if job == SERVER else 'worker_hosts'
        expected = '0' if number == 1 else f'0 to {number - 1}'
        wrong.append(f'--task_index={task}: --{flag} names {number}; {expected} is expected.')
    wrong += _shared(cluster)
    if wrong:
        raise UsageError(wrong)
    return cluster


def processes(environ: Mapping[str, str]) -> int:
    """How many processes TF_CONFIG names; 0 where there is none, or none that can be read."""
    try:
        return sum(len(hosts) for hosts in json.loads(environ.get('TF_CONFIG', '')).get('cluster', {}).values())
    except (ValueError, TypeError, AttributeError):
        return 0


def from_environment(environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that TF_CONFIG describes; None where there is none or it speaks of a single process.

    Raises:
      UsageError: it is not what it should be.
    """
    text = environ.get('TF_CONFIG', '').strip()
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _refused([f'this is no JSON: {error}.'], text) from None
    problems = _type_problems(config)
    if problems:
        raise _refused(problems, text)
    cluster = {job: tuple(hosts) for job, hosts in config.get('cluster', {}).items()}
    task = config.get('task', {})
    kind, index = task.get('type', ''), int(task.get('index', 0))
    if not cluster:
        return None
    leaders = [host for job in _CHIEFS for host in cluster.get(job, ())]
    workers = (*leaders, *cluster.get(WORKER, ()))
    if kind == WORKER:
        index += len(leaders)
    elif kind in _CHIEFS:
        kind = WORKER
    found = Cluster(cluster.get(SERVER, ()), workers, kind, index)
    problems = [problem for hosts in (found.servers, workers) for problem in _address_problems(hosts)] + _shared(found)
    if kind not in (SERVER, WORKER):
        problems.append(f'the task is {kind!r}; ps, worker, chief or master is expected.')
    elif not found.servers or not workers:
        problems.append('the cluster needs "ps" and "worker", each with at least one host:port.')
    elif not 0 <= index < len(found.servers if kind == SERVER else workers):
        problems.append(f'the task {kind} {task.get("index")} is not in the cluster.')
    if problems:
        raise _refused(problems, text)
    return found


def _type_problems(config: Any) -> list[str]:
    """What in a TF_CONFIG is of another type than it should be, by its name."""
    if not isinstance(config, dict):
        return [f'it is {_kind_of(config)}; an object with "cluster" and "task" is expected.']
    found = [
        f'"{name}" is {_kind_of(config[name])}; an object is expected.'
        for name in ('cluster', 'task')
        if not isinstance(config.get(name, {}), dict)
    ]
    if found:
        return found
    for job, hosts in config.get('cluster', {}).items():
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            found.append(f'the hosts of "{job}" are {_kind_of(hosts)}; a list of texts, each HOST:PORT, is expected.')
    kind, index = (config.get('task', {}).get(name, default) for name, default in (('type', ''), ('index', 0)))
    if not isinstance(kind, str):
        found.append(f'the type of the task is {_kind_of(kind)}; "ps", "worker", "chief" or "master" is expected.')
    # Some write it as a text.
    if isinstance(index, bool) or not isinstance(index, (int, str)) or not re.fullmatch(r'-?\d+', str(index)):
        found.append(f'the index of the task is {_kind_of(index)}; a whole number is expected.')
    return found


def _kind_of(value: Any) -> str:
    """What JSON calls a value, and the value where it is short."""
    if isinstance(value, (dict, list)):
        return 'an object' if isinstance(value, dict) else 'a list'
    kinds = {str: 'text', int: 'number', float: 'number'}
    return f'the {kinds.get(type(value), "word")} {_shown(json.dumps(value))}'


def _refused(problems: Sequence[str], text: str) -> UsageError:
    """All that is wrong with a TF_CONFIG; behind the last of it what a right one looks like."""
    found = [f'TF_CONFIG in the environment: {problem} It is {_shown(text)}' for problem in problems]
    return UsageError([*found[:-1], f"{found[-1]}. For example: TF_CONFIG='{_EXAMPLE}'"])


@contextlib.contextmanager
def reserved_addresses(number: int) -> Iterator[list[str]]:
    """As many free addresses of this machine, which no other program is given while this is entered.

    They are bound to, not listened at, so that a process which binds with SO_REUSEPORT (TensorFlow's servers do with
    TF_GRPC_REUSE_PORT=1 in their environment) can take them, and nobody can reach them before it has.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(('127.0.0.1', 0))
        yield [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]


def words(servers: Sequence[str], workers: Sequence[str], job: str, task: int) -> list[str]:
    """The flags that tell a process its place in a cluster."""
    return [
        f'--job_name={job}',
        f'--task_index={task}',
        f'--ps_hosts={",".join(servers)}',
        f'--worker_hosts={",".join(workers)}',
    ]


def _split(hosts: str | None) -> tuple[str, ...]:
    return tuple(host.strip() for host in (hosts or '').split(',') if host.strip())


def _address_problems(hosts: Sequence[str]) -> list[str]:
    found: list[str] = []
    for host in hosts:
        match: Any = _ADDRESS.fullmatch(host)
        if not match:
            found.append(f'{host!r} is no address; HOST:PORT is expected, such as 10.0.0.1:2222.')
        elif not 1 <= int(match['port']) <= 65535:
            found.append(f'{host}: a port is 1 to 65535.')
    return found


def _shared(cluster: Cluster) -> list[str]:
    """Addresses that are given to two processes."""
    everyone = [*cluster.servers, *cluster.workers]
    twice = sorted({address for address in everyone if everyone.count(address) > 1})
    return [f'{address} is given to {everyone.count(address)} processes; each needs its own.' for address in twice]


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f'{text[:200]}...'
