"""What the machine can do, from recorded flags and control groups of other machines than this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import program
import pytest

from bench.machine import capabilities, cpu, memory

ROOT = Path(__file__).parents[3]

HASWELL = frozenset({'sse4_1', 'avx', 'avx2', 'fma'})
CASCADE_LAKE = HASWELL | {'avx512f', 'avx512_vnni'}
ZEN4 = CASCADE_LAKE | {'avx512_bf16'}
SAPPHIRE_RAPIDS = ZEN4 | {'amx_tile', 'amx_bf16', 'amx_int8'}
AVX512 = HASWELL | {'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'}
GRAVITON2 = frozenset({'asimd', 'asimddp'})
GRAVITON3 = frozenset({'asimd', 'asimddp', 'bf16', 'i8mm', 'sve'})
GRAVITON4 = GRAVITON3 | {'sve2'}


@pytest.mark.parametrize(
    ('flags', 'environment', 'onednn', 'bf16'),
    [
        (HASWELL, {}, False, False),
        (HASWELL, {'TF_ENABLE_ONEDNN_OPTS': '1'}, True, False),
        (CASCADE_LAKE, {}, True, False),
        (ZEN4, {}, True, True),
        (ZEN4, {'TF_ENABLE_ONEDNN_OPTS': '0'}, False, False),
        (ZEN4, {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE'}, True, False),
        (ZEN4, {'ONEDNN_MAX_CPU_ISA': 'avx512_core_bf16'}, True, True),
        (SAPPHIRE_RAPIDS, {'ONEDNN_MAX_CPU_ISA': 'AVX2'}, True, False),
        (SAPPHIRE_RAPIDS, {}, True, True),
        (GRAVITON2, {}, False, False),
        (GRAVITON3, {}, True, False),
        (GRAVITON4, {}, False, False),
        (ZEN4, {'TF_ENABLE_ONEDNN_OPTS': 'on'}, True, True),
    ],
)
def test_onednn_and_bf16_as_tensorflow_would_decide(
    flags: frozenset[str], environment: dict[str, str], onednn: bool, bf16: bool
) -> None:
    found = capabilities.detect(environment, flags, openmp=())
    assert (found.onednn, found.bf16) == (onednn, bf16)
    assert bool(found.onednn_reason) != found.onednn
    assert bool(found.bf16_reason) != found.bf16


@pytest.mark.parametrize(
    ('flags', 'environment', 'level'),
    [
        (HASWELL, {}, 'avx2'),
        (AVX512, {}, 'avx512'),
        (AVX512, {'ONEDNN_MAX_CPU_ISA': 'avx2'}, 'avx2'),
        (AVX512, {'DNNL_MAX_CPU_ISA': 'AVX512_CORE_BF16'}, 'avx512'),
        (AVX512, {'ONEDNN_MAX_CPU_ISA': '', 'DNNL_MAX_CPU_ISA': 'SSE41'}, 'avx2'),
        (AVX512 | {'amx_tile'}, {}, 'amx'),
        (AVX512 | {'amx_tile'}, {'ONEDNN_MAX_CPU_ISA': 'DEFAULT'}, 'amx'),
        (AVX512 | {'amx_tile'}, {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE_AMX'}, 'amx'),
        (AVX512 | {'amx_tile'}, {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE_FP16'}, 'avx512'),
        (GRAVITON3, {}, ''),
    ],
)
def test_onednn_is_said_to_compute_with_what_it_has(
    flags: frozenset[str], environment: dict[str, str], level: str
) -> None:
    assert capabilities.vector_level(environment, flags) == level


def test_this_processors_onednn_is_what_tensorflow_says() -> None:
    code = 'from bench.machine import tensorflow_build; print(tensorflow_build.onednn_enabled())'
    assert program.python(code).stdout == f'{capabilities.detect().onednn}\n'


@pytest.mark.parametrize(
    ('files', 'quota'),
    [
        ({'cpu.max': '150000 100000'}, 1.5),
        ({'cpu.max': 'max 100000'}, None),
        ({'cpu/cpu.cfs_quota_us': '50000', 'cpu/cpu.cfs_period_us': '100000'}, 0.5),
        ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, None),
        ({}, None),
    ],
)
def test_cgroup_quota_of_both_versions(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    _fill(tmp_path, files)
    assert cpu.cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ('files', 'limit'),
    [
        ({'memory.max': '2147483648'}, 2147483648),
        ({'memory.max': 'max'}, None),
        ({'memory/memory.limit_in_bytes': '1073741824'}, 1073741824),
        ({'memory/memory.limit_in_bytes': '9223372036854771712'}, None),
        ({}, None),
    ],
)
def test_cgroup_memory_limit_of_both_versions(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    _fill(tmp_path, files)
    assert memory.cgroup_limit(tmp_path) == limit


def _fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + '\n')


def test_usable_cpus_follow_the_affinity_mask() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpu.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_peak_memory_is_what_was_held_at_most() -> None:
    code = (
        'from bench.machine import memory\n'
        'before = memory.peak_bytes()\n'
        "held = b'x' * (300 * 2**20)\n"
        'del held\n'
        'print(memory.peak_bytes() - before)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 290 * 2**20 < int(done.stdout) < 330 * 2**20
