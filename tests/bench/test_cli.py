"""The command line, driven as people drive it: what is refused, with which words, and how little is loaded for that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from program import ROOT, command, python, run

from bench import errors
from bench.cli import main


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--model=rsenet_v1_50'], ['--model=rsenet_v1_50', 'Did you mean resnet_v1_50?']),
        (['--model=resnet50'], ['tf_cnn_benchmarks', 'resnet_v1_50']),
        (['vgg_16'], ['run_benchmark.py --model=vgg_16']),
        (['benchmrk'], ['Did you mean benchmark?']),
        (['--batch_size=0'], ['--batch_size=0: 1 or more']),
        (['--batch_size=ten'], ['--batch_size=ten: a whole number']),
        (['--batch_size=1000000000'], ['a smaller --batch_size']),
        (['--num_intra_threads=1000000'], ['at most 1024']),
        (['--num_classes=2000000000'], ['--num_classes=2000000000: at most 1000000']),
        (['--num_batches=-3'], ['--num_batches=-3: 1 or more']),
        (['--max_seconds=inf'], ['--max_seconds=inf']),
        (['--learning_rate=nan'], ['--learning_rate=nan']),
        (['--data_format=nchw'], ['NHWC, NCHW', 'Did you mean NCHW?']),
        (['--batchsize=4'], ['--batchsize is no flag', 'Did you mean batch_size?']),
        (['--repetitions=5'], ['--repetitions is no flag of this command. It is one of `sweep`; leave it out here.']),
        (['--order_seed=5'], ['It is one of `autotune` and `sweep`; leave it out here.']),
        (['machine', '--batch_size=5'], ['It is one of `benchmark`; leave it out here.']),
        (['--forward_only=maybe'], ['true or false']),
        (['--model=lenet', 'extra'], ["'extra' is a stray word"]),
        (['--model'], ['--model']),
        (['--nojson=1'], ['nojson']),
        (['--result_dir='], ['names no file or folder']),
        (['--data_dir='], ['--data_dir=: it names no file or folder']),
        (['--data_dir=' + 'x' * 300], ['longer than the 255 bytes']),
        (['--device=gpu'], ['Leave it out']),
        (['--flagfile=/bin/sh'], ['--flagfile=/bin/sh: this program reads no flags from a file']),
        (['--input_only'], ['--data_dir']),
        (['--model=vgg_16', '--image_size=8'], ['--image_size=8 is too small for vgg_16']),
        (['--data_dir=/no/such/folder'], ['/no/such/folder']),
        (['--result_dir=/proc/version/x'], ['--result_dir=/proc/version/x', 'not a folder']),
        (['--result_dir=/proc/results'], ['--result_dir=/proc/results', 'no file can be written in /proc']),
        (['--variable_update=distributed_replicated'], ['are averaged: that is horovod here.']),
        (['--job_name=chief'], ['--job_name=chief: one of ps, worker is expected. It is the first worker']),
        (['--num_ps=2'], ['no effect with --variable_update=local: it is for parameter_server. Leave it out.']),
        (['--compression=fp16'], ['no effect with --variable_update=local: it is for horovod. Leave it out.']),
        (['models', 'vgg17*'], ["'vgg17*'"]),
        # As it was typed, and not as another program calls it.
        (['--train_image_size=0'], ['--train_image_size=0: 1 or more']),
        (['--model_name=vgg17', '--dataset_dir=/no'], ['--model_name=vgg17', '--dataset_dir=/no']),
        (['--nosync_replicas', '--num_workers=2'], ['error: --nosync_replicas has no effect']),
        (['--nocross_replica_sync', '--num_workers=2'], ['error: --nocross_replica_sync has no effect']),
        (['--sync_replicas=false', '--num_workers=2'], ['error: --sync_replicas has no effect']),
        (['--noclone_on_cpu'], ['error: --noclone_on_cpu: the networks are computed']),
        (['--noforward_only', '--eval_image_size=9'], ['--eval_image_size has no effect without --forward_only;']),
        (['--image_size=64', '--train_image_size=8'], ['--train_image_size=8 is too small for vgg_16']),
        (['convert', '--data_name=flower', '--data_dir=x'], ['--data_name=flower: one of']),
    ],
)
def test_wrong_usage_is_told_with_value_and_remedy(words: list[str], told: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2, done.stderr
    for text in told:
        assert text in done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stdout == ''


@pytest.mark.parametrize(
    ('words', 'count'),
    [
        (['--variable_update=parameter_server', '--job_name=chief', '--ps_hosts=a:1', '--worker_hosts=b:1'], 1),
        (['--job_name=chief', '--task_index=1', '--ps_hosts=a:1', '--worker_hosts=b:1'], 1),
        (['--variable_update=distributed', '--num_ps=2', '--num_workers=2'], 1),
        (['--num_workers=two', '--compression=fp16'], 1),
        (['--data_dir=', '--data_name=flowers'], 1),
        (['--forward_only=maybe', '--eval_image_size=32'], 1),
        # Of its own.
        (['--num_workers=two', '--ignore_missing_vars'], 2),
    ],
)
def test_of_a_value_that_is_not_understood_only_that_is_told(
    words: list[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['--model=lenet', *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == count, lines
    assert any('is expected' in line or 'names no file' in line for line in lines)


# With the file that a search wrote, too: it is read by a run, and the search's own flags are not.
@pytest.mark.parametrize('start', [[], ['benchmark'], ['--settings=/no/such/file']])
@pytest.mark.parametrize(
    'word', ['--autotune_seconds=60', '--allow_bf16', '--noallow_bf16', '--allow_batch_size', '--settings_file=x.json']
)
def test_who_forgets_autotune_is_not_told_so(start: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*start, '--model=lenet', word]) == 2
    name = word.partition('=')[0]
    told = f'error: {name} is no flag of this command. It is read with --autotune alone: add that, or leave it out.\n'
    assert told in capsys.readouterr().err


def test_all_problems_are_told_together() -> None:
    done = run('--model=vgg17', '--batch_size=0', '--foo=1', 'bar', '--precision=fp17', '--input_only')
    assert done.returncode == 2
    for text in ('vgg17', '--batch_size=0', '--foo', "'bar'", 'fp17', '--input_only'):
        assert text in done.stderr
    assert all(line.startswith('error: ') for line in done.stderr.splitlines())


def test_nchw_without_onednn_is_refused_before_tensorflow_fails() -> None:
    done = run('--model=lenet', '--data_format=NCHW', TF_ENABLE_ONEDNN_OPTS='0')
    assert done.returncode == 2
    assert 'TF_ENABLE_ONEDNN_OPTS=0' in done.stderr
    assert '--data_format=NHWC' in done.stderr


def test_bf16_without_the_instructions_is_refused() -> None:
    done = run('--model=lenet', '--precision=bf16', ONEDNN_MAX_CPU_ISA='AVX2')
    assert done.returncode == 2
    assert '--precision=fp32' in done.stderr


@pytest.mark.parametrize(
    'words', [['--help'], ['benchmark', '--help'], ['models'], ['--model=nonsense'], ['--version']]
)
def test_answers_that_need_no_tensorflow_do_not_load_it(words: list[str]) -> None:
    code = f'import sys; from bench.cli import main; main({words!r}); sys.exit("tensorflow" in sys.modules)'
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_without_its_environment_the_program_says_how_to_have_it() -> None:
    # -S: nothing that was installed is found.
    words = [sys.executable, '-S', str(ROOT / 'run_benchmark.py'), '--model=lenet']
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert re.match(r'error: \w+ is not installed for ', told)
    assert '`source .venv/bin/activate`' in told and '`make setup`' in told


# It is numpy and scipy that take most of half a second.
def test_no_help_and_no_refusal_waits_for_what_computes(tmp_path: Path) -> None:
    refused = (
        ['--model=nonsense'],
        ['--settings=/no/such/file'],
        ['autotune', '--model=nonsense'],
        ['convert', '--data_name=flower'],
        ['labels', 'nonsense'],
        ['machine', '--require=avx9'],
        ['models', 'nonsense'],
        ['network', '--nonsense'],
        ['scaling', '--nonsense'],
        ['sweep', '--model=lenet,lenett'],
        ['sweep', '--model=lenet', f'--sweep_dir={tmp_path}'],
    )
    (tmp_path / 'sweep.json').write_text('{"schema_version": 1, "cells": []}')
    code = (
        'import sys; from bench.cli import COMMANDS, main\n'
        'assert [main([name, "--help"]) for name in COMMANDS] == [0] * len(COMMANDS)\n'
        f'assert [main(words) for words in {refused!r}] == [2] * {len(refused)}\n'
        'loaded = {"matplotlib", "numpy", "pandas", "rich", "scipy", "tensorflow"} & set(sys.modules)\n'
        'sys.exit(" ".join(sorted(loaded)) or 0)'
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_file_names_that_an_output_has_no_letters_for_are_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / 'grün.py').write_text(
        'from bench.models.registry import register\n@register("own", image_size=8)\ndef own(net, images): ...\n'
    )
    done = run('models', 'grün.py', cwd=tmp_path, PYTHONIOENCODING='ascii', PYTHONDONTWRITEBYTECODE='1')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'gr\\xfcn.py:own' in done.stdout
    refused = run('--data_dir=grün', PYTHONIOENCODING='ascii')
    assert refused.returncode == 2
    assert refused.stderr.startswith('error: --data_dir=gr\\xfcn: ')


def test_help_names_every_flag_and_its_aliases() -> None:
    text = run('--help').stdout
    for word in (
        '--model=',
        '--model_name',
        '--dataset_dir',
        '--num_batches=',
        '--forward_only',
        '--precision=fp32|bf16',
    ):
        assert word in text


def test_models_lists_by_pattern_and_as_json() -> None:
    lines = run('models', 'vgg*').stdout.splitlines()
    assert any(line.startswith('vgg_16 ') for line in lines)
    assert not any(line.startswith('lenet') for line in lines)
    assert run('models', '--model=vgg*').stdout.splitlines() == lines
    (vgg,) = json.loads(run('models', 'vgg_16', '--json').stdout)
    assert (vgg['parameters'], vgg['multiply_adds']) == (138_361_641, 15_470_268_416)


def test_a_tf_cnn_benchmarks_name_is_an_alias_where_the_network_is_the_same() -> None:
    assert [row['name'] for row in json.loads(run('models', 'inception3', '--json').stdout)] == ['inception_v3']


@pytest.mark.parametrize('words', [['models'], ['models', 'vgg*'], ['--help'], ['models', '--json']])
def test_a_listing_that_is_cut_by_its_reader_ends_without_a_word(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command(*words), stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b'')


def test_a_full_disk_under_a_listing_is_told_once() -> None:
    for words in (['models'], ['models', 'vgg_16']):
        with open('/dev/full', 'w') as full:  # noqa: PTH123
            done = subprocess.run(command(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, 'error: standard output: No space left on device.\n')


def test_a_closed_standard_output_is_no_failure() -> None:
    words = ['sh', '-c', '"$@" >&-', 'sh', *command('models', 'vgg_16')]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize(('count', 'told'), [(0, '0 classes'), (1, '1 class'), (2, '2 classes')])
def test_one_is_not_called_several(count: int, told: str) -> None:
    assert errors.number(count, 'class', 'classes') == told
    assert errors.number(count, 'file') == told.replace('classes', 'files').replace('class', 'file')
