"""Flags of the machine: the words, what is refused before TensorFlow loads, and what a run's record says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bench import flags
from bench.config import BenchmarkConfig
from bench.machine import capabilities, cpu, instruction_sets, libraries, numa
from bench.machine.options import MachineOptions, machine_problems

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / 'bench' / 'record.schema.json').read_text())

# What turns oneDNN on and off in the TensorFlow that is installed.
TURN = capabilities.switch(libraries.openmp())


def parsed(*words: str) -> tuple[BenchmarkConfig, list[str]]:
    return flags.parse(BenchmarkConfig, words, 'program')


@pytest.mark.parametrize(
    ('word', 'value'),
    [
        ('--mkl', 'on'),
        ('--mkl=True', 'on'),
        ('--mkl=1', 'on'),
        ('--mkl=on', 'on'),
        ('--nomkl', 'off'),
        ('--mkl=false', 'off'),
        ('--mkl=off', 'off'),
        ('--mkl=auto', 'auto'),
    ],
)
def test_mkl_is_a_switch_as_in_tf_cnn_benchmarks_and_a_word(word: str, value: str) -> None:
    config, problems = parsed(word, '--model=lenet')
    assert problems == []
    assert (config.machine.mkl, config.network.model) == (value, 'lenet')
    assert parsed(*flags.words(config))[0] == config


def test_another_word_for_mkl_is_refused_with_those_that_there_are() -> None:
    assert parsed('--mkl=yes')[1] == ['--mkl=yes: one of auto, on, off is expected.']


def test_layouts_are_refused_by_what_the_flag_makes_of_onednn() -> None:
    config, _ = parsed('--model=lenet', '--data_format=NCHW', '--mkl=off')
    (told,) = config.problems(lambda **given: capabilities.detect({}, frozenset({'avx512_vnni'}), **given))
    assert '--mkl=off was given' in told
    config, _ = parsed('--model=lenet', '--data_format=NCHW', '--mkl=on')
    assert config.problems(lambda **given: capabilities.detect({}, frozenset({'avx2'}), **given)) == []
    environ = {TURN.name: TURN.off}
    (told,) = config.problems(lambda **given: capabilities.detect(environ, frozenset({'avx2'}), **given))
    assert f'{TURN.name}={TURN.off} is set in the environment; unset it' in told


def test_bfloat16_is_refused_where_the_instruction_set_is_limited_below_it() -> None:
    zen4 = frozenset({'avx512_vnni', 'avx512_bf16'})
    for isa, can in (('AVX512_CORE', False), ('AVX512_CORE_BF16', True), ('AVX512_CORE_AMX_FP16', True)):
        given = MachineOptions(onednn_max_isa=isa).variables()
        assert capabilities.detect({}, zen4, given).bf16 is can
        # What stands in the environment counts, and not the flag.
        assert capabilities.detect({'ONEDNN_MAX_CPU_ISA': 'AVX2'}, zen4, given).bf16 is False


def test_an_instruction_set_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, 'flags', lambda: instruction_sets.LEVELS['AVX2'])
    options = MachineOptions(onednn_max_isa='AVX512_CORE')
    (told,) = machine_problems(options)
    assert told == '--onednn_max_isa=AVX512_CORE would limit nothing: the processor has SSE41, AVX, AVX2.'
    assert machine_problems(MachineOptions(onednn_max_isa='AVX2')) == []
    # TensorFlow's own kernels keep to it, too.
    assert machine_problems(MachineOptions(onednn_max_isa='AVX2', mkl='off')) == []


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ({'cpu_affinity': 'all'}, ['--cpu_affinity=all: numbers of processors', 'Usable are 0-1,4-5']),
        ({'cpu_affinity': '0-7'}, ['--cpu_affinity=0-7: this process may run on 0-1,4-5']),
        ({'numa_node': 7}, ['--numa_node=7: there is no such node', 'has 0, 1, 2']),
        ({'numa_node': 2}, ['--numa_node=2: its processors are 2-3', 'runs on 0-1,4-5']),
        ({'numa_node': 0, 'cpu_affinity': '0,4'}, ['--cpu_affinity=0,4 names others']),
        ({'numa_node': 0, 'cpu_affinity': '1'}, []),
        ({'numa_node': 1}, []),
    ],
)
def test_processors_that_this_process_may_not_use_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], told: list[str]
) -> None:
    monkeypatch.setattr(numa, 'allowed', lambda: frozenset({0, 1, 4, 5}))
    monkeypatch.setattr(numa, 'nodes', lambda: {n: frozenset(c) for n, c in enumerate(((0, 1), (4, 5), (2, 3)))})
    problems = machine_problems(MachineOptions(**options))
    assert len(problems) == (1 if told else 0)
    assert all(text in problems[0] for text in told)


def test_an_allocator_that_is_not_installed_is_refused_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, 'find_allocator', lambda name: None)
    monkeypatch.delenv('LD_PRELOAD', raising=False)
    (told,) = machine_problems(MachineOptions(allocator='tcmalloc'))
    assert 'apt-get install libtcmalloc-minimal4' in told
    monkeypatch.setenv('LD_PRELOAD', '/opt/libjemalloc.so.2')  # which wins, whatever is installed
    assert machine_problems(MachineOptions(allocator='tcmalloc')) == []


def run(folder: Path, *words: str, **environment: str) -> tuple[dict[str, Any], str]:
    """The record of a small run, and what it said on standard error."""
    done = subprocess.run(
        [sys.executable, str(ROOT / 'run_benchmark.py'), '--model=lenet', '--batch_size=8', '--num_warmup_batches=1',
         '--num_batches=3', f'--result_dir={folder}', *words],
        capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    record = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record, done.stderr


def test_a_runs_record_says_what_was_applied_and_tensorflow_did_it(tmp_path: Path) -> None:
    one = min(numa.allowed())
    record, _ = run(tmp_path, '--mkl=off', f'--cpu_affinity={one}')
    assert record['build']['onednn'] is False
    settings = {each['setting']: (each['value'], each['status']) for each in record['tuning']}
    assert settings['mkl'] == ('off', 'applied')
    assert settings['cpu_affinity'] == (str(one), 'applied')
    assert settings['num_intra_threads'] == ('1', 'applied')
    assert record['config']['threads']['num_intra_threads'] == 1
    assert TURN.name not in record['environment'], 'what the program set is not what the user set'
    assert record['container'] is None or record['container']['runtime']


def test_a_runs_record_says_what_the_environment_kept_and_tensorflow_did_that(tmp_path: Path) -> None:
    record, told = run(
        tmp_path, '--mkl=off', '--kmp_blocktime=0', **{TURN.name: TURN.on, 'TF_NUM_INTRAOP_THREADS': '1'}
    )
    assert record['build']['onednn'] is True
    settings = {each['setting']: (each['value'], each['status']) for each in record['tuning']}
    assert (settings['mkl'], settings['num_intra_threads']) == (('on', 'kept'), ('1', 'kept'))
    assert record['config']['threads']['num_intra_threads'] == 1
    assert record['environment'][TURN.name] == TURN.on
    assert f'--mkl=off was not applied: {TURN.name}={TURN.on}' in told
    if settings['kmp_blocktime'][1] == 'skipped':
        assert '--kmp_blocktime=0 was not applied: No effect' in told
