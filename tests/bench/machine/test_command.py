"""The command `machine` as a process, its tables and its advice."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.machine import advice, capabilities, cpu, facts, instruction_sets, libraries, numa, report, tuning
from bench.machine.options import MachineOptions
from bench.options import ThreadOptions

ROOT = Path(__file__).parents[3]
# What turns oneDNN on and off in the TensorFlow that is installed.
TURN = capabilities.switch(libraries.openmp())


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / 'run_benchmark.py'), 'machine', *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=300,
    )


@pytest.fixture(scope='module')
def found() -> dict[str, Any]:
    """What it tells of this machine, with oneDNN on."""
    done = run('--json', **{TURN.name: TURN.on})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_processor_and_memory_are_what_the_systems_own_tools_say(found: dict[str, Any]) -> None:
    lines = subprocess.run(
        ['lscpu'], capture_output=True, text=True, check=True, env={**os.environ, 'LC_ALL': 'C'}
    ).stdout.splitlines()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(':') for line in lines)}
    processor = found['processor']
    assert processor['threads'] == int(told['CPU(s)'])
    if 'NUMA node0 CPU(s)' in told:
        assert numa.parse(processor['nodes']['0']) == numa.parse(told['NUMA node0 CPU(s)'])
    if 'Model name' in told and told['Model name'] != '-':
        assert processor['name'] == told['Model name']
    memory = Path('/proc/meminfo').read_text()
    assert memory.split()[:2] == ['MemTotal:', str(found['memory']['total_bytes'] // 1024)]
    assert f'Cpus_allowed_list:\t{found["limits"]["affinity"]}\n' in Path('/proc/self/status').read_text()
    assert len(os.sched_getaffinity(0)) >= found['limits']['usable_cpus'] >= found['limits']['usable_cores'] >= 1


def test_onednn_is_seen_at_work_and_every_instruction_set_is_answered(found: dict[str, Any]) -> None:
    assert found['onednn']['on'] is True
    assert found['onednn']['convolutions']['fp32']
    rows = {row['name']: row for row in found['instruction_sets']}
    assert set(rows) == {one.name for one in instruction_sets.of_architecture(cpu.flags())}
    assert {name for name, row in rows.items() if row['processor'] == 'yes'} == cpu.flags() & set(rows)
    for row in rows.values():
        assert row['built'] in ('yes', 'no', 'unknown')
        if row['processor'] == 'no':
            assert row['onednn'] == 'no'


def test_what_onednn_would_do_is_not_seen_where_tensorflow_leaves_it_off(found: dict[str, Any]) -> None:
    rows = {row['name']: row['onednn'] for row in found['instruction_sets']}
    clean = {name: value for name, value in os.environ.items() if name != TURN.name}
    command = [sys.executable, str(ROOT / 'run_benchmark.py'), 'machine']
    done = subprocess.run([*command, '--json'], capture_output=True, text=True, check=True, env=clean)
    told = json.loads(done.stdout)
    if not told['onednn']['on']:
        for row in told['instruction_sets']:
            assert row['onednn_if_on'] == (rows[row['name']] if row['processor'] == 'yes' else None)
            assert row['onednn'] == 'no'
    done = subprocess.run(
        [*command, '--mkl=on', '--require=onednn'], capture_output=True, text=True, check=False, env=clean
    )
    assert done.stdout.startswith('onednn: met: ')


def test_onednn_turned_off_is_told_with_the_reason_and_fails_its_requirement() -> None:
    done = run('--require=onednn', **{TURN.name: TURN.off})
    assert done.returncode == 1
    assert done.stdout.startswith(f'onednn: not met: oneDNN is off: {TURN.name}={TURN.off} is set in the environment')


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        ('avx3', 'Did you mean avx?'),
        ('amx', 'Did you mean amx_tile'),
        ('built:openmp', 'built:openmp: there is no such requirement'),
        ('foo:avx2', 'foo:avx2: there is no such requirement'),
        ('onednn:', 'There are: '),
        ('', 'names nothing'),
        (',', 'names nothing'),
    ],
)
def test_a_requirement_that_does_not_exist_is_wrong_usage_and_not_unmet(words: str, told: str) -> None:
    done = run(f'--require={words}')
    assert (done.returncode, done.stdout) == (2, '')
    assert told in done.stderr


def test_what_the_processor_has_is_answered_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / 'tensorflow').mkdir()
    (tmp_path / 'tensorflow' / '__init__.py').write_text("raise AssertionError('imported')\n")
    known = {one.name for one in instruction_sets.of_architecture(cpu.flags())}
    has, lacks = sorted(known & cpu.flags())[0], sorted(known - cpu.flags())[:1]
    done = run(f'--require={has.upper()}', PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith(f'{has}: met: ')
    for name in lacks:
        done = run(f'--require={has},{name}', PYTHONPATH=str(tmp_path))
        assert done.returncode == 1
        assert f'{name}: not met: the processor' in done.stdout


def test_a_system_without_lscpu_and_ldd_leaves_things_unknown(tmp_path: Path) -> None:
    done = run('--require=openmp', PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, '')
    assert done.stdout.startswith('openmp: not met: unknown: ')


def test_a_broken_tensorflow_is_told_and_all_else_is_still_answered(tmp_path: Path) -> None:
    (tmp_path / 'tensorflow').mkdir()
    (tmp_path / 'tensorflow' / '__init__.py').write_text("raise ImportError('libtensorflow_cc.so.2: no such file')\n")
    done = run('--json', PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 'libtensorflow_cc.so.2: no such file' in told['tensorflow']['error']
    assert told['onednn']['on'] is None
    assert {row['onednn'] for row in told['instruction_sets']} == {'unknown'}
    assert told['processor']['threads'] == os.cpu_count()
    done = run('--require=onednn', PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert 'onednn: not met: unknown: ' in done.stdout


def test_tables_fit_in_a_hundred_columns_with_the_longest_of_names(found: dict[str, Any]) -> None:
    found['processor']['nodes'] = {str(node): f'{16 * node}-{16 * node + 15}' for node in range(8)}
    found['processor']['name'] = 'Intel(R) Xeon(R) Platinum 8480+ with a very long name of its own that never ends'
    found['instruction_sets'][0]['evidence'] = f'fp32: {", ".join(["brg_conv_fwd:avx10_1_512_amx_fp16"] * 3)}'
    lines = report.render(found, advice.advise(found), colours=False).splitlines()
    assert max(map(len, lines)) <= 100
    text = ' '.join(lines)
    for row in found['instruction_sets']:
        assert row['title'] in text
    assert 'node 7: 112-127' in text


def test_a_machine_that_tells_nothing_is_shown_as_unknown() -> None:
    nothing = facts.collect('TensorFlow could not be asked: it is not installed.')
    numbers = ('megahertz', 'most_megahertz', 'least_megahertz', 'thermal_throttles', 'cores', 'threads')
    for name in (*numbers, 'governor', 'hypervisor'):
        nothing['processor'][name] = None
    nothing['processor'] |= {'nodes': {}, 'caches': []}
    nothing['memory'] |= {'transparent_huge_pages': None, 'reserved_huge_pages': None, 'allocator': None}
    nothing = planned(nothing, openmp=None)
    nothing['tensorflow'] |= {'openmp': None, 'libc': None, 'package': None}
    nothing['limits']['cgroup_version'] = None
    text = report.render(nothing, advice.advise(nothing), colours=False)
    assert text.count('unknown') > 15
    assert 'None' not in text
    (heat,) = (line for line in text.splitlines() if line.strip().startswith('heat'))
    assert 'unknown: no counter here' in heat
    nothing['processor']['thermal_throttles'] = 7
    assert 'slowed the processors down 7 times' in report.render(nothing, advice.advise(nothing), colours=False)


def advised(told: dict[str, Any]) -> dict[str, str]:
    return {each.setting.partition('=')[0]: each.applies for each in advice.advise(told)}


def planned(told: dict[str, Any], environ: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """The facts where TensorFlow, the system or the environment are others."""
    here = dataclasses.replace(tuning.gather(MachineOptions()), **changes)
    settings = tuning.plan(MachineOptions(), ThreadOptions(), here, environ or {}).settings
    return {**told, 'tuning': [dataclasses.asdict(each) for each in settings]}


def test_advice_for_openmp_is_only_for_builds_that_have_it(found: dict[str, Any]) -> None:
    stock = advised(planned(found, openmp=()))
    assert (stock['--kmp_blocktime, --kmp_affinity'], stock['--omp_num_threads']) == ('no', 'no')
    intel = advised(planned(found, openmp=('libiomp5',)))
    assert (intel['--kmp_blocktime'], intel['--omp_num_threads']) == ('done', 'done')
    # GNU's reads OMP_* alone.
    gnu = advised(planned(found, openmp=('libgomp',)))
    assert (gnu['--kmp_blocktime, --kmp_affinity'], gnu['--omp_num_threads']) == ('no', 'done')
    unknown = advised(planned(found, openmp=None))
    assert unknown['--kmp_blocktime, --kmp_affinity, --omp_num_threads'] == 'unknown'


def test_advice_calls_done_what_the_environment_keeps_from_being_done(found: dict[str, Any]) -> None:
    thp = {**found, 'memory': {**found['memory'], 'transparent_huge_pages': 'madvise'}}
    here: dict[str, Any] = {'openmp': ('libiomp5',), 'huge_pages': 'madvise', 'glibc': (2, 36)}
    names = ('--num_intra_threads', '--num_inter_threads', '--kmp_blocktime', '--huge_pages')
    default = advised(planned(thp, **here))
    assert [default[name] for name in names] == ['done'] * 4
    environ = {
        'TF_NUM_INTRAOP_THREADS': '77', 'TF_NUM_INTEROP_THREADS': '2', 'KMP_BLOCKTIME': '200',
        'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0',
    }  # fmt: skip
    told = planned(thp, environ, **here)
    assert [advised(told)[name] for name in names] == ['no'] * 4
    reasons = {each.setting: each.reason for each in advice.advise(told)}
    assert 'TF_NUM_INTEROP_THREADS=2 is set in the environment' in reasons['--num_inter_threads=1']
    assert advised(planned(thp, {'TF_NUM_INTEROP_THREADS': '1'}, **here))['--num_inter_threads'] == 'done'
    assert advised(planned(thp, **{**here, 'glibc': (2, 31)}))['--huge_pages'] == 'no'


def test_advice_is_to_compute_in_what_a_run_would_refuse(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, 'flags', lambda: frozenset({'sse2', 'avx2', 'avx512_bf16'}))
    for limit, applies in (('', 'try'), ('AVX2', 'no')):
        monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
        monkeypatch.setenv(TURN.name, TURN.on)
        told = facts.collect('not asked')
        assert advised(told)['--precision'] == applies
    (row,) = (each for each in advice.advise(told) if each.setting == '--precision=bf16')
    assert row.reason.startswith('ONEDNN_MAX_CPU_ISA=AVX2 in the environment keeps oneDNN from')


def test_advice_follows_quota_governor_nodes_and_onednn(found: dict[str, Any]) -> None:
    quota = 'processors instead of a quota (docker run --cpuset-cpus'
    told = {**found, 'limits': {**found['limits'], 'cpu_quota': 1.5}}
    assert advised(told)[quota] == 'yes'
    assert advised({**found, 'limits': {**found['limits'], 'cpu_quota': None}})[quota] == 'done'
    for governor, applies in (('powersave', 'yes'), ('performance', 'done'), (None, 'unknown')):
        told = {**found, 'processor': {**found['processor'], 'governor': governor}}
        assert advised(told)['cpupower frequency-set -g performance'] == applies
    told = {**found, 'processor': {**found['processor'], 'nodes': {'0': '0', '1': '1'}}}
    assert advised(told)['--numa_node'] == 'try'
    rows = [{**row, 'processor': 'yes'} for row in found['instruction_sets']]
    told = {**found, 'onednn': {**found['onednn'], 'on': False, 'reason': 'why'}, 'instruction_sets': rows}
    assert (advised(told)['--mkl'], advised(told)['--precision']) == ('try', 'no')
