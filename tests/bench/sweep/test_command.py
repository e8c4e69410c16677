"""Sweeps of real runs, as a process: what they print and leave, and that one that is killed goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import program
import pytest

from bench.sweep.command import seconds_left

# Runs that take hardly longer than TensorFlow's start.
SHORT = ('--num_batches=3', '--num_warmup_batches=1', '--batch_size=2')
BROKEN = """
from bench.models.registry import register


@register('broken', image_size=8)
def broken(net, images):
    raise ValueError('no such layer')
"""
MENDED = "return net.dense(net.flatten(images), net.num_classes, 'logits', activation=None)"


# Stands for the program where only the sweep is looked at: it leaves a recorded record, with another speed.
QUICK = """
import json, os, sys, time
speed = float(sys.argv[2])
words = dict(word.lstrip('-').split('=', 1) for word in sys.argv[3:])
record = json.loads(open(sys.argv[1]).readline())
record['throughput']['images_per_second'] = speed
time.sleep(0.5)
if words['model'] == 'lenet' and speed > 1:
    sys.exit('error: no such layer.')
open(words['result_dir'] + '/net_train_x.json', 'w').write(json.dumps(record))
"""
QUICK_RECORD = program.ROOT / 'results' / 'baselines' / 'networks.jsonl'


def quick(folder: Path) -> str:
    """Two of them, the second twice as fast."""
    (folder / 'quick.py').write_text(QUICK)
    return '--programs=' + ';'.join(
        f'{name}={sys.executable} {folder / "quick.py"} {QUICK_RECORD} {speed}' for name, speed in (('a', 1), ('b', 2))
    )


def records(folder: Path) -> dict[str, float]:
    """When each record was written."""
    return {str(path): path.stat().st_mtime for path in folder.glob('runs/*/*/*_train_*.json')}


def table(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / 'table.json').read_text())
    return found


def test_a_cell_that_fails_stops_the_rest_or_loses_its_reason(tmp_path: Path) -> None:
    (tmp_path / 'broken.py').write_text(BROKEN)
    folder = tmp_path / 'sweep'
    words = ('sweep', f'--model={tmp_path / "broken.py"},trivial', *SHORT, '--repetitions=1', f'--sweep_dir={folder}')
    done = program.run(*words, '--json')
    assert done.returncode == 1, done.stderr
    broken, trivial = json.loads(done.stdout)['cells']
    assert 'no such layer' in broken['failures']['1']
    assert broken['images_per_second'] is None
    assert trivial['images_per_second']['estimate'] > 0
    assert json.loads(done.stdout) == table(folder)
    assert 'failed: ' in (folder / 'table.txt').read_text()
    # Typed again, it runs nothing and prints the same.
    before = records(folder)
    again = program.run(*words)
    assert again.returncode == 1
    assert 'no such layer' in again.stdout
    assert 'round 1' not in again.stdout
    assert records(folder) == before
    assert (folder / 'plot.png').exists()


def test_a_killed_sweep_begins_anew_or_runs_what_was_done(tmp_path: Path) -> None:
    folder = tmp_path / 'sweep'
    words = ('sweep', quick(tmp_path), '--model=trivial,lenet', f'--sweep_dir={folder}')
    for after in (3, 6):
        with subprocess.Popen(program.command(*words), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith(f'[ {after}/12]'):
                    break
            os.kill(process.pid, signal.SIGKILL)
    before = records(folder)
    assert 5 <= len(before) <= 7
    done = program.run(*words)
    assert done.returncode == 1, done.stderr
    after_ = records(folder)
    assert {path: after_[path] for path in before} == before
    assert len(after_) == 9
    rows = {(row['values']['program'], row['values']['model']): row for row in table(folder)['cells']}
    # The cell that fails was tried once; the others three times.
    failed = rows.pop(('b', 'lenet'))
    assert list(failed['failures'].values()) == ['no such layer.']
    assert all(sorted(row['rounds']) == ['1', '2', '3'] for row in rows.values())
    assert rows['b', 'trivial']['times_baseline'] == {'estimate': 2, 'low': 2, 'high': 2, 'confidence': 0.95}
    # More rounds are added to what is there: nine records and a failure.
    assert '10 of 16 runs are done already' in program.run(*words, '--repetitions=4').stdout
    assert len(records(folder)) == 12
    assert program.run(*words[:2], '--model=trivial', words[-1]).returncode == 2


@pytest.mark.slow
def test_what_failed_is_not_tried_again_or_with_it_what_was_done(tmp_path: Path) -> None:
    network, folder = tmp_path / 'own.py', tmp_path / 'sweep'
    network.write_text(BROKEN)
    words = ('sweep', f'--model={network},trivial', *SHORT, '--repetitions=1', f'--sweep_dir={folder}')
    assert program.run(*words).returncode == 1
    network.write_text(BROKEN.replace("raise ValueError('no such layer')", MENDED))
    retried = program.run(*words, '--retry_failed')
    assert retried.returncode == 0, retried.stderr + retried.stdout
    assert retried.stdout.count('round 1') == 1
    assert len(records(folder)) == 2


@pytest.mark.slow
def test_a_sweep_that_is_killed_begins_anew_or_leaves_its_run_behind(tmp_path: Path) -> None:
    words = ('sweep', '--model=trivial,lenet', *SHORT, '--repetitions=2', f'--sweep_dir={tmp_path}')
    with subprocess.Popen(program.command(*words), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith('[1/4]'):
                break
        time.sleep(1)
        child = _children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(child) == 1
    before = records(tmp_path)
    assert len(before) >= 1
    # The lock keeps the second sweep from its runs until the last run of the first has ended.
    done = program.run(*words)
    assert done.returncode == 0, done.stderr
    assert not _alive(child[0])
    after = records(tmp_path)
    assert {path: after[path] for path in before} == before
    assert len(after) == 4
    assert 'runs are done already' in done.stdout
    for row in table(tmp_path)['cells']:
        assert sorted(row['rounds']) == ['1', '2']
        assert row['images_per_second']['low'] < row['images_per_second']['estimate']


@pytest.mark.slow
def test_ctrl_c_leaves_no_table_or_a_process(tmp_path: Path) -> None:
    words = ('sweep', '--model=trivial', '--batch_size=2,4', '--num_batches=100000000', f'--sweep_dir={tmp_path}')
    with subprocess.Popen(
        program.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        output = next(iter(_waited(lambda: list(tmp_path.glob('runs/*/*/output.txt')))))
        _waited(lambda: '10\t' in output.read_text())
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1
    assert 'interrupted, 6 runs left to do. To go on: run_benchmark.py sweep --model=trivial' in out
    assert 'Traceback' not in err
    assert [row['rounds'] for row in table(tmp_path)['cells']] == [{}, {}]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_ctrl_c_does_not_end_a_sweep_that_waits_for_another(tmp_path: Path) -> None:
    folder = tmp_path / 'sweep'
    folder.mkdir()
    with (folder / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = program.command('sweep', quick(tmp_path), '--model=trivial', f'--sweep_dir={folder}')
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            _waited((folder / 'sweep.json').exists)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            # It would wait for a minute.
            _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert error.endswith('interrupted.\n')
    assert records(folder) == {}


def test_two_sweeps_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / 'sweep.json').write_text(json.dumps({'schema_version': 1, 'cells': [['--model=lenet']]}))
    done = program.run('sweep', '--model=trivial', f'--sweep_dir={tmp_path}')
    assert done.returncode == 2
    assert 'holds another sweep' in done.stderr
    assert 'run_benchmark.py --model=lenet' in done.stderr
    (tmp_path / 'sweep.json').write_text('{"cells": ')
    assert 'no description of a sweep' in program.run('sweep', '--model=trivial', f'--sweep_dir={tmp_path}').stderr


def test_wrong_words_of_a_sweep_are_run_or_load_tensorflow() -> None:
    words = ('--model=lenet,lenett', '--precision=fp32,bf17', '--repetitions=0', '--sweepdir=x')
    done = program.run('sweep', *words)
    assert done.returncode == 2
    for text in ('--precision=bf17: one of fp32, bf16', '--repetitions=0: 1 or more', 'Did you mean sweep_dir?'):
        assert text in done.stderr
    help_ = program.run('sweep', '--help').stdout
    assert '--ladder' in help_
    assert 'every flag of `benchmark`' in help_


def test_the_time_left_counts_other_cells_or_what_is_over() -> None:
    assert seconds_left([0, 1], {}, 0) == ''
    assert seconds_left([], {0: [5.0]}, 0) == ''
    # Cell 0 takes 10 s on average, cell 1 was not run: as long as the mean of the others. 3 s of the first are over.
    assert seconds_left([0, 1], {0: [8.0, 12.0], 2: [30.0]}, 3) == ', about 27 s left'
    assert seconds_left([0] * 60, {0: [10.0]}, 0) == ', about 10 min left'


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _waited(condition: Any, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError('it did not happen')
