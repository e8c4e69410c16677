"""Jobs of tools/several_hosts.py on pretended hosts: they end in time, tell who failed, and leave no process."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
from program import ROOT


@pytest.fixture(scope='module')
def tool() -> Any:
    spec = importlib.util.spec_from_file_location('several_hosts', ROOT / 'tools' / 'several_hosts.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Hosts:
    """This machine, as the one host that there is."""

    def __init__(self, error: Exception | None = None) -> None:
        self.environment, self.killed, self._error = dict(os.environ), 0, error

    def words(self, number: int, words: Sequence[str]) -> list[str]:
        return [sys.executable, '-c', *words]

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def kill(self) -> None:
        self.killed += 1


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_a_failed_process_that_says_much_is_told_and_blocks_nobody(tool: Any) -> None:
    loud = "import sys; sys.stderr.write('x' * 1000000 + 'the end'); sys.exit(3)"
    hosts = Hosts()
    (told,) = tool.finish(hosts, [(1, ['pass']), (2, [loud])], 60.0)
    assert told.endswith('the end')
    assert hosts.killed == 1
    assert tool.finish(hosts, [(1, ['pass'])], 60.0) == []


@pytest.mark.parametrize('error', [None, OSError('the link is gone')])
def test_a_job_that_does_not_end_or_whose_network_is_gone_is_waited_for(tool: Any, error: Exception | None) -> None:
    before, begun = children(), time.monotonic()
    hosts = Hosts(error)
    job = [(1, ["import sys, time; print('alas', file=sys.stderr, flush=True); time.sleep(600)"]), (2, ['pass'])]
    if error is None:
        late, told, _ = tool.finish(hosts, job, 3.0)
        assert late == 'not done after 3 seconds'
        assert told == 'alas\n'
    else:
        with pytest.raises(OSError, match='the link is gone'):
            tool.finish(hosts, job, 600.0)
    assert time.monotonic() - begun < 30
    assert hosts.killed == 1
    assert [each for each in children() if each not in before] == []


def test_each_host_has_its_place_in_a_job(tool: Any) -> None:
    ((host, words),) = tool.horovod(3, ['--model=lenet'])
    assert host == 1
    assert words[words.index('-H') + 1] == '10.77.0.1:1,10.77.0.2:1,10.77.0.3:1'
    assert (words[words.index('-np') + 1], words[-1]) == ('3', '--model=lenet')
    places = tool.parameter_server(2, ['--model=lenet'])
    assert [host for host, _ in places] == [1, 2, 3]
    assert [words[-2:] for _, words in places] == [
        ['--job_name=ps', '--task_index=0'],
        ['--job_name=worker', '--task_index=0'],
        ['--job_name=worker', '--task_index=1'],
    ]
    assert all('--worker_hosts=10.77.0.2:2222,10.77.0.3:2222' in words for _, words in places)
