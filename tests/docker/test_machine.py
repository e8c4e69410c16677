"""`machine` in a container: what it tells are the container's limits, and beside them the machine's own facts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engine import IMAGE, MKL_IMAGE, Engine

from bench.machine import cpu, numa

pytestmark = pytest.mark.container

GIB = 2**30


def told(engine: Engine, *options: str, image: str = IMAGE) -> dict[str, Any]:
    """What `machine --json` tells in a container with these options."""
    words = ['run_benchmark.py', 'machine', '--json']
    return json.loads(engine.run(['--network', 'none', *options], words, image).stdout)


def skip_without_limits(engine: Engine) -> None:
    if engine('info', '--format', '{{.CPUCfsQuota}} {{.MemoryLimit}}').stdout.strip() != 'true true':
        pytest.skip('this engine cannot limit processors or memory')


def test_a_container_of_one_processor_and_two_gibibytes_is_told_in_every_line(engine: Engine) -> None:
    skip_without_limits(engine)
    found = told(engine, '--cpus=1', '-m', '2g')
    assert found['limits'] == {
        **found['limits'],
        'affinity': numa.format_list(numa.allowed()),
        'cpu_quota': pytest.approx(1),
        'usable_cpus': 1,
        'usable_cores': 1,
        'memory_limit_bytes': 2 * GIB,
    }
    assert found['memory']['usable_bytes'] == 2 * GIB < found['memory']['total_bytes']
    assert (found['container']['runtime'], found['container']['image']) == ('docker', f'{IMAGE}:latest')
    assert len(found['container']['id']) == 64
    here = cpu.facts()
    assert {name: found['processor'][name] for name in ('name', 'vendor', 'threads')} == {
        name: here[name] for name in ('name', 'vendor', 'threads')
    }
    quota = next(each for each in found['advice'] if 'instead of a quota' in each['setting'])
    assert quota['applies'] == 'yes'
    assert found['tensorflow']['version'] == '2.18.1'
    assert all(row['processor'] == ('yes' if row['name'] in cpu.flags() else 'no') for row in found['instruction_sets'])


def test_processors_that_the_container_is_bound_to_are_its_affinity(engine: Engine) -> None:
    last = max(numa.allowed())
    limits = told(engine, f'--cpuset-cpus={last}')['limits']
    assert (limits['affinity'], limits['usable_cpus'], limits['cpu_quota']) == (str(last), 1, None)


def test_the_mkl_image_computes_on_intels_openmp_and_is_advised_on_it(engine: Engine) -> None:
    found = told(engine, image=MKL_IMAGE)
    assert found['tensorflow']['openmp'] == ['libiomp5']
    assert (found['onednn']['on'], found['onednn']['runtime']) == (True, 'OpenMP')
    assert {each['applies'] for each in found['advice'] if each['setting'].startswith('--kmp_')} == {'done'}


@pytest.mark.skipif(len(numa.allowed()) < 2, reason='there is one processor alone, which every thread is bound to')
def test_under_a_quota_the_mkl_image_does_not_bind_its_threads_to_the_first_processors(engine: Engine) -> None:
    skip_without_limits(engine)
    rows = {row['setting']: row for row in told(engine, '--cpus=1', image=MKL_IMAGE)['tuning']}
    assert rows['kmp_affinity']['status'] == 'skipped'
    assert rows['kmp_blocktime']['status'] == 'applied'


def test_the_mkl_image_turns_onednn_off_by_the_variable_that_it_reads(engine: Engine) -> None:
    assert told(engine, '-e', 'TF_DISABLE_MKL=1', image=MKL_IMAGE)['onednn']['on'] is False
