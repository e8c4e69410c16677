"""What is set before TensorFlow loads: the plan as a pure function, and what it is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.machine import capabilities, cpu, libraries, numa, tuning
from bench.machine.options import MachineOptions
from bench.options import ThreadOptions
from bench.runners.member import Place

STOCK = tuning.Facts(
    openmp=(),
    usable_cpus=4,
    usable_cores=2,
    own_cpus=4,
    cpus=frozenset({0, 1, 2, 3}),
    nodes={0: frozenset({0, 1}), 1: frozenset({2, 3})},
    memory_nodes=None,
    allocators={'tcmalloc': '/usr/lib/libtcmalloc_minimal.so.4'},
    glibc=(2, 36),
    huge_pages='never',
    onednn=True,
)
INTEL = dataclasses.replace(STOCK, openmp=('libiomp5',))


def planned(
    facts: tuning.Facts = STOCK,
    environ: Mapping[str, str] | None = None,
    threads: ThreadOptions | None = None,
    **options: Any,
) -> tuple[Mapping[str, str], dict[str, tuning.Setting]]:
    """The variables to add, and each setting by its flag."""
    plan = tuning.plan(MachineOptions(**options), threads or ThreadOptions(), facts, environ or {})
    return plan.environment, {each.setting: each for each in plan.settings}


def test_without_flags_a_stock_build_gets_threads_and_no_variables() -> None:
    added, found = planned()
    assert added == {}
    assert {name: (each.value, each.status) for name, each in found.items()} == {
        'mkl': (None, 'skipped'),
        'onednn_max_isa': (None, 'skipped'),
        'num_intra_threads': ('4', 'applied'),
        'num_inter_threads': ('1', 'applied'),
        'kmp_blocktime': (None, 'skipped'),
        'kmp_affinity': (None, 'skipped'),
        'omp_num_threads': (None, 'skipped'),
        'cpu_affinity': ('0-3', 'kept'),
        'numa_node': (None, 'skipped'),
        'allocator': ('system', 'skipped'),
        'huge_pages': (None, 'skipped'),
        'malloc_arenas': ('4', 'applied'),
    }
    assert all(each.reason.endswith('.') for each in found.values())


@pytest.mark.parametrize(
    ('facts', 'environ', 'expected'),
    [
        (STOCK, {'MALLOC_ARENA_MAX': '7'}, ('7', 'kept')),
        (STOCK, {'GLIBC_TUNABLES': 'glibc.malloc.arena_max=7'}, ('glibc.malloc.arena_max=7', 'kept')),
        (STOCK, {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}, ('4', 'applied')),
        (STOCK, {'LD_PRELOAD': '/usr/lib/libtcmalloc.so.4'}, (None, 'skipped')),
        (dataclasses.replace(STOCK, glibc=None), {}, (None, 'skipped')),
    ],
)
def test_heaps_are_limited_where_they_are_glibcs_and_the_user_says_nothing(
    facts: tuning.Facts, environ: dict[str, str], expected: tuple[str | None, str]
) -> None:
    added, found = planned(facts, environ)
    assert (found['malloc_arenas'].value, found['malloc_arenas'].status) == expected
    assert not any('arena' in f'{name}={value}'.lower() for name, value in added.items())


def test_intels_openmp_gets_a_thread_a_core_where_it_is_linked_and_nowhere_else() -> None:
    added, found = planned(INTEL)
    assert added == {
        'KMP_BLOCKTIME': '1',
        'KMP_AFFINITY': 'granularity=fine,compact,1,0',
        'OMP_NUM_THREADS': '2',
    }
    assert found['omp_num_threads'].status == 'applied'
    asked: dict[str, Any] = {'kmp_blocktime': 30, 'kmp_affinity': 'none', 'omp_num_threads': 3}
    assert planned(INTEL, **asked)[0] == {'KMP_BLOCKTIME': '30', 'KMP_AFFINITY': 'none', 'OMP_NUM_THREADS': '3'}
    added, found = planned(STOCK, **asked)
    assert added == {}
    assert 'not built with' in found['kmp_affinity'].reason


def test_under_a_quota_threads_are_not_bound_to_the_first_processors_where_those_of_other_containers_are_too() -> None:
    limited = dataclasses.replace(INTEL, usable_cpus=2)  # as with docker run --cpus=2 on a machine of four
    added, found = planned(limited)
    assert 'KMP_AFFINITY' not in added
    assert (found['kmp_affinity'].value, found['kmp_affinity'].status) == (None, 'skipped')
    assert 'Only 2 of 4 processors' in found['kmp_affinity'].reason
    assert found['kmp_blocktime'].status == 'applied'
    assert planned(limited, kmp_affinity='compact')[0]['KMP_AFFINITY'] == 'compact'
    # A process that is bound to as many has them for itself.
    assert 'KMP_AFFINITY' in planned(dataclasses.replace(limited, own_cpus=2))[0]


def test_gnus_openmp_reads_omp_and_not_kmp() -> None:
    added, _ = planned(dataclasses.replace(STOCK, openmp=('libgomp',)))
    assert added == {'OMP_NUM_THREADS': '2'}


def test_an_unknown_build_is_not_taken_for_one_with_openmp() -> None:
    added, found = planned(dataclasses.replace(STOCK, openmp=None), kmp_blocktime=0)
    assert added == {}
    assert (found['kmp_blocktime'].status, 'could not be told' in found['kmp_blocktime'].reason) == ('skipped', True)


@pytest.mark.parametrize(
    ('facts', 'name', 'on', 'off'), [(STOCK, 'TF_ENABLE_ONEDNN_OPTS', '1', '0'), (INTEL, 'TF_DISABLE_MKL', '0', '1')]
)
def test_onednn_is_turned_by_the_variable_that_the_build_reads(
    facts: tuning.Facts, name: str, on: str, off: str
) -> None:
    # intel-tensorflow 2.14 goes on with oneDNN under TF_ENABLE_ONEDNN_OPTS=0.
    assert planned(facts, mkl='on')[0][name] == on
    assert planned(facts, mkl='off')[0][name] == off
    for value, word in ((on, 'on'), (off, 'off')):
        assert planned(facts, {name: value}, mkl='auto')[1]['mkl'].value == word
        can = capabilities.detect({name: value}, frozenset({'avx2'}), openmp=facts.openmp)
        assert can.onednn is (word == 'on')
    other = {'TF_ENABLE_ONEDNN_OPTS': '0', 'TF_DISABLE_MKL': '1'}
    del other[name]
    assert capabilities.detect(other, frozenset({'avx512_vnni'}), openmp=facts.openmp).onednn
    assert planned(facts, other, mkl='on')[1]['mkl'].status == 'applied'


def test_what_the_environment_says_in_words_that_nobody_knows_is_told_as_what_holds() -> None:
    environ = {'TF_ENABLE_ONEDNN_OPTS': 'banana', 'ONEDNN_MAX_CPU_ISA': 'banana', 'OMP_NUM_THREADS': 'abc'}
    found = planned(STOCK, environ, mkl='on')[1]
    assert found['mkl'].value == ('on' if STOCK.onednn else 'off')
    assert 'takes for not set' in found['mkl'].reason
    assert (found['onednn_max_isa'].value, found['onednn_max_isa'].status) == (None, 'kept')
    assert 'which oneDNN does not know' in found['onednn_max_isa'].reason
    # Without OpenMP nothing reads it, whatever it is.
    assert found['omp_num_threads'].status == 'skipped'


@pytest.mark.parametrize(
    ('environ', 'options', 'setting', 'value'),
    [
        ({'TF_DISABLE_MKL': '0'}, {'mkl': 'off'}, 'mkl', 'on'),
        ({'TF_DISABLE_MKL': 'true'}, {}, 'mkl', 'off'),
        ({'ONEDNN_MAX_CPU_ISA': 'AVX2'}, {'onednn_max_isa': 'AVX512_CORE'}, 'onednn_max_isa', 'AVX2'),
        ({'DNNL_MAX_CPU_ISA': 'AVX'}, {'onednn_max_isa': 'AVX2'}, 'onednn_max_isa', 'AVX'),
        ({'KMP_BLOCKTIME': 'infinite'}, {'kmp_blocktime': 0}, 'kmp_blocktime', 'infinite'),
        ({'KMP_AFFINITY': 'disabled'}, {}, 'kmp_affinity', 'disabled'),
        ({'OMP_NUM_THREADS': '7'}, {'omp_num_threads': 2}, 'omp_num_threads', '7'),
        ({'LD_PRELOAD': '/opt/libjemalloc.so.2'}, {'allocator': 'tcmalloc'}, 'allocator', 'jemalloc'),
        ({'TF_NUM_INTRAOP_THREADS': '3'}, {}, 'num_intra_threads', '3'),
        ({'TF_NUM_INTEROP_THREADS': '2'}, {}, 'num_inter_threads', '2'),
    ],
)
def test_the_users_environment_wins_over_flags_and_defaults(
    environ: dict[str, str], options: dict[str, Any], setting: str, value: str
) -> None:
    added, found = planned(INTEL, environ, **options)
    assert not set(added) & set(environ)
    assert (found[setting].status, found[setting].value) == ('kept', value)
    assert next(iter(environ)) in found[setting].reason


@pytest.mark.parametrize('text', ['0', '-1', 'many', ''])
def test_a_number_of_threads_that_tensorflow_would_ignore_does_not_win(text: str) -> None:
    found = planned(environ={'TF_NUM_INTRAOP_THREADS': text})[1]
    assert (found['num_intra_threads'].status, found['num_intra_threads'].value) == ('applied', '4')


def test_other_preloaded_libraries_stay_behind_the_allocator() -> None:
    added, _ = planned(environ={'LD_PRELOAD': '/opt/libtrace.so'}, allocator='tcmalloc')
    assert added == {'LD_PRELOAD': '/usr/lib/libtcmalloc_minimal.so.4:/opt/libtrace.so'}


def test_a_node_gives_its_processors_and_tells_where_memory_comes_from() -> None:
    plan = tuning.plan(MachineOptions(numa_node=1), ThreadOptions(), STOCK, {})
    assert (plan.cpus, plan.node) == (frozenset({2, 3}), 1)
    unbound = planned(numa_node=1)[1]['numa_node'].reason
    bound = planned(dataclasses.replace(STOCK, memory_nodes=frozenset({1})), numa_node=1)[1]['numa_node'].reason
    assert 'could not be bound' in unbound
    assert 'could not be bound' not in bound
    assert tuning.plan(MachineOptions(cpu_affinity='0,3'), ThreadOptions(), STOCK, {}).cpus == frozenset({0, 3})


ASKED = dataclasses.replace(STOCK, huge_pages='madvise')


@pytest.mark.parametrize(
    ('facts', 'environ', 'options', 'expected'),
    [
        (ASKED, {}, {}, ('on', 'applied')),
        (ASKED, {}, {'huge_pages': 'off'}, ('off', 'applied')),
        (ASKED, {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}, {'huge_pages': 'on'}, ('off', 'kept')),
        (ASKED, {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=2'}, {}, ('on', 'kept')),
        (ASKED, {}, {'allocator': 'tcmalloc'}, (None, 'skipped')),
        (ASKED, {'LD_PRELOAD': '/opt/libjemalloc.so.2'}, {}, (None, 'skipped')),
        (dataclasses.replace(ASKED, glibc=(2, 31)), {}, {'huge_pages': 'on'}, (None, 'skipped')),
        (dataclasses.replace(ASKED, glibc=None), {}, {}, (None, 'skipped')),
        (dataclasses.replace(ASKED, huge_pages='always'), {}, {'huge_pages': 'off'}, ('on', 'skipped')),
        (dataclasses.replace(ASKED, huge_pages=None), {}, {'huge_pages': 'on'}, (None, 'skipped')),
    ],
)
def test_huge_pages_are_asked_for_where_asking_helps(
    facts: tuning.Facts, environ: dict[str, str], options: dict[str, Any], expected: tuple[str | None, str]
) -> None:
    added, found = planned(facts, environ, **options)
    assert (found['huge_pages'].value, found['huge_pages'].status) == expected
    assert ('GLIBC_TUNABLES' in added) == (expected == ('on', 'applied'))


def test_other_tunables_of_the_user_stay() -> None:
    added, _ = planned(ASKED, {'GLIBC_TUNABLES': 'glibc.malloc.arena_max=1'})
    assert added == {'GLIBC_TUNABLES': 'glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1'}


def test_typed_flags_that_do_not_hold_are_told_and_the_others_are_not() -> None:
    options = MachineOptions(mkl='off', kmp_blocktime=1, onednn_max_isa='AVX2', allocator='tcmalloc')
    threads = ThreadOptions(num_intra_threads=2)
    environ = {'TF_ENABLE_ONEDNN_OPTS': '1', 'TF_NUM_INTRAOP_THREADS': '2', 'LD_PRELOAD': '/x/libtcmalloc.so.4'}
    settings = tuning.plan(options, threads, STOCK, environ).settings
    told = tuning.not_applied(options, threads, settings)
    assert [sentence.split(' ', maxsplit=1)[0] for sentence in told] == ['--mkl=off', '--kmp_blocktime=1']
    assert 'TF_ENABLE_ONEDNN_OPTS=1' in told[0]


def test_of_several_processes_each_counts_its_share_of_the_processors_and_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Four cores of two threads, and two processes of horovodrun, which binds none of them.
    monkeypatch.setattr(cpu, 'cgroup_quota', lambda: None)
    monkeypatch.setattr(numa, 'allowed', lambda: frozenset(range(8)))
    monkeypatch.setattr(numa, 'cores', lambda: {each: frozenset({each % 4, each % 4 + 4}) for each in range(8)})
    alone, shared = tuning.gather(MachineOptions()), tuning.gather(MachineOptions(), Place(None, 0, 2, 2, ()))
    assert (alone.usable_cpus, alone.usable_cores, alone.own_cpus) == (8, 4, 8)
    assert (shared.usable_cpus, shared.usable_cores, shared.own_cpus) == (4, 2, 8)
    half = tuning.gather(MachineOptions(cpu_affinity='0-3'))
    assert (half.usable_cpus, half.usable_cores, half.own_cpus) == (4, 4, 4)
    bound = tuning.gather(MachineOptions(), Place(None, 0, 2, 2, (0, 1, 4, 5)))
    assert (bound.usable_cpus, bound.own_cpus) == (4, 4)
    monkeypatch.setattr(cpu, 'cgroup_quota', lambda: 1.5)
    limited = tuning.gather(MachineOptions())
    assert (limited.usable_cpus, limited.own_cpus) == (2, 8)


def test_allocators_are_found_by_their_files(tmp_path: Path) -> None:
    for name in ('libtcmalloc.so.4', 'libtcmalloc_minimal.so.4.5.9', 'libtcmalloc_minimal.so.4', 'libjemalloc.a'):
        (tmp_path / name).touch()
    assert libraries.find_allocator('tcmalloc', [tmp_path / 'none', tmp_path]) == tmp_path / 'libtcmalloc_minimal.so.4'
    assert libraries.find_allocator('jemalloc', [tmp_path]) is None


@pytest.mark.parametrize(
    ('lines', 'found'),
    [
        ('\tlibiomp5.so => /x/tensorflow/libiomp5.so (0x00007f)\n\tlibm.so.6 => /lib/libm.so.6 (0x1)', ('libiomp5',)),
        ('\tlibiomp5.so => not found', ('libiomp5',)),
        ('\tlibgomp-a34b3233.so.1 => /x/tensorflow.libs/libgomp-a34b3233.so.1.0.0 (0x1)', ('libgomp',)),
        ('\tlibompx.so.1 => /x/libompx.so.1 (0x1)\n\tlibpthread.so.0 => /lib/libpthread.so.0 (0x2)', ()),
        ('\tlibomp.so.5 => /usr/lib/llvm/libomp.so.5 (0x1)', ('libomp',)),
    ],
)
def test_openmp_is_known_by_what_the_loader_lists(lines: str, found: tuple[str, ...]) -> None:
    assert libraries.named(lines.split(), ('libiomp5', 'libomp', 'libgomp')) == found
