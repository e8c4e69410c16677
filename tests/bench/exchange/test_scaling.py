"""The projection from records to the screen: what is fitted, what is refused, and what is in the plot's file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAYLOAD, LATENCY, BANDWIDTH = 100e6, 1e-4, 1e8


def seconds(workers: int, compute: float = 2.0, factor: float = 0.5) -> float:
    return compute + factor * 2 * (workers - 1) * (LATENCY + PAYLOAD / workers / BANDWIDTH)


def record(
    workers: int, *, kind: str = 'horovod', took: float | None = None, num_clones: int = 1, **network: Any
) -> dict[str, Any]:
    rate = 8 * workers / (took or seconds(workers))
    return {
        'schema_version': 1,
        'config': {
            'network': {
                'model': 'vgg_16',
                'batch_size': 8,
                'image_size': 224,
                'data_format': 'NHWC',
                'precision': 'fp32',
                **network,
            },
            'step': {'num_clones': num_clones, 'forward_only': False},
            'threads': {'num_intra_threads': 2},
            'distribution': {'num_ps': 1 if kind == 'parameter_server' else None, 'variable_update': kind},
        },
        'ended': {'status': 'completed'},
        'images_per_step': 8 * workers,
        'workers': [{'rank': rank} for rank in range(workers)],
        'throughput': {'images_per_second': rate, 'low': 0.99 * rate, 'high': 1.01 * rate, 'confidence': 0.95},
        'distribution': {
            'variable_update': kind,
            'synchronous': True,
            'exchange': {'payload_bytes': int(PAYLOAD)},
        }
        if workers > 1
        else None,
    }


def halved(found: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that exchanges half the bytes."""
    found['distribution']['exchange']['payload_bytes'] //= 2
    return found


def test_a_run_that_the_model_does_not_hold_for_is_seen_beside_what_the_others_say_of_it(tmp_path: Path) -> None:
    # Twice as slow as the formula says: a fit to all would lie between.
    done = run(tmp_path, [record(1), record(2), record(4, took=2 * seconds(4))], '--json')
    assert done.returncode == 0, done.stderr
    *_, four = json.loads(done.stdout)['measured']
    assert four['from_others'] == pytest.approx(2 * four['images_per_second'])
    assert '+100.0 %' in done.stderr


def sharing(found: dict[str, Any], processors: int) -> dict[str, Any]:
    """The record of a run whose workers, of two threads each, were on so many processors."""
    for rank, worker in enumerate(found['workers']):
        worker |= {'host': 'one', 'cpus': sorted({2 * rank % processors, (2 * rank + 1) % processors})}
    return found


def test_runs_whose_workers_shared_processors_tell_how_others_scale(tmp_path: Path) -> None:
    own, shared = sharing(record(2), 4), sharing(record(8, took=99.0), 4)
    done = run(tmp_path, [record(1), own, record(4), shared], '--json')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row['workers'] for row in found['measured']] == [1, 2, 4]
    assert found['exchange_factor'] == pytest.approx(0.5)
    told = 'runs in which 8 workers of 2 threads shared 4 processors'
    assert found['left_out'][0].startswith(told)
    assert f'left out    {told}' in done.stderr


def test_other_files_in_a_folder_of_records_end_the_projection(tmp_path: Path) -> None:
    runs = tmp_path / 'runs'
    runs.mkdir()
    others = {
        'settings_vgg_16_training.json': {'schema_version': 1, 'flags': {}, 'for': {'workers': 1}},
        '0.profile.json': {'schema_version': 1, 'operations': []},
        'network.json': {'latency_seconds': LATENCY},
        'list.json': [],
    }
    for name, content in others.items():
        (runs / name).write_text(json.dumps(content))
    (runs / 'cut.json').write_text('{"schema_version": 1, "conf')
    os.mkfifo(runs / 'pipe.json')
    done = run(tmp_path, [record(n) for n in (1, 2, 4)], '--json')
    assert done.returncode == 0, done.stderr
    assert [row['workers'] for row in json.loads(done.stdout)['measured']] == [1, 2, 4]
    # One that was named was meant.
    for name in (*others, 'cut.json'):
        done = projected(tmp_path, f'{runs / "0.json"},{runs / name}')
        assert (done.returncode, done.stderr.count('error: ')) == (1, 1)
        assert f'{runs / name} is no record of a run' in done.stderr


def test_the_folder_of_a_sweep_holds_the_records_of_all_its_runs(tmp_path: Path) -> None:
    cells = tmp_path / 'runs' / 'runs'
    for number, count in enumerate((1, 2, 4)):
        for round_ in (1, 2):
            folder = cells / f'{number}_num_workers={count}' / f'0{round_}'
            folder.mkdir(parents=True)
            (folder / 'lenet.json').write_text(json.dumps(record(count)))
    (tmp_path / 'runs' / 'table.json').write_text(json.dumps({'schema_version': 1, 'cells': []}))
    done = run(tmp_path, [], '--json')
    assert done.returncode == 0, done.stderr
    assert [row['workers'] for row in json.loads(done.stdout)['measured']] == [1, 1, 2, 2, 4, 4]
    # Where a folder has records of its own, what lies in folders beside them is of other runs.
    done = run(tmp_path, [record(1), record(2)], '--json')
    assert [row['workers'] for row in json.loads(done.stdout)['measured']] == [1, 2]


def test_one_worker_with_all_processors_is_refused_beside_several_with_what_to_type(tmp_path: Path) -> None:
    several = record(2)
    several['config']['threads']['num_intra_threads'] = 1
    done = run(tmp_path, [record(1), several])
    assert done.returncode == 1
    assert 'threads of a worker: 1; ' in done.stderr
    assert 'run all with --num_intra_threads=1' in done.stderr


def test_records_may_be_named_as_the_shell_lists_them(tmp_path: Path) -> None:
    run(tmp_path, [record(n) for n in (1, 2, 4)])
    files = [str(path) for path in sorted((tmp_path / 'runs').iterdir())]
    done = projected(tmp_path, files[0], *files[1:], '--json')
    assert done.returncode == 0, done.stderr
    assert [row['workers'] for row in json.loads(done.stdout)['measured']] == [1, 2, 4]
    # Of commands that take one word, a second one is none.
    words = [sys.executable, str(ROOT / 'run_benchmark.py'), 'models', 'lenet', 'lenet']
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "'lenet' is a stray word" in done.stderr


def test_of_a_bad_network_and_bad_runs_both_are_told(tmp_path: Path) -> None:
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'empty.json').touch()
    words = ['scaling', str(tmp_path / 'runs'), f'--network={tmp_path / "empty.json"}']
    command = [sys.executable, str(ROOT / 'run_benchmark.py'), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f'{tmp_path / "empty.json"} is not what `network --json` prints: it is empty.' in done.stderr
    assert '0 training runs' in done.stderr


def test_words_take_the_place_of_the_flag_or_are_cut_at_commas_that_are_in_a_name(tmp_path: Path) -> None:
    places = [tmp_path / name / 'a.json' for name in ('flag', 'runs,old', 'more', 'most')]
    for count, place in zip((1, 2, 4, 8), places, strict=True):
        place.parent.mkdir()
        place.write_text(json.dumps(record(count)))
    flag, old, *listed = map(str, places)
    done = projected(tmp_path, old, ','.join(listed), f'--records={flag}', '--json')
    assert done.returncode == 0, done.stderr
    assert [row['workers'] for row in json.loads(done.stdout)['measured']] == [1, 2, 4, 8]
    # A list of many names is longer than one name may be.
    done = projected(tmp_path, ','.join([flag] * 500 + [old.replace(',', '-')]))
    assert (done.returncode, done.stderr.count('there is no such file')) == (2, 1)


def run(folder: Path, records: list[dict[str, Any]], *words: str) -> subprocess.CompletedProcess[str]:
    runs = folder / 'runs'
    runs.mkdir(exist_ok=True)
    for number, each in enumerate(records):
        (runs / f'{number}.json').write_text(json.dumps(each))
    return projected(folder, str(runs), *words)


def projected(folder: Path, records: str, *words: str) -> subprocess.CompletedProcess[str]:
    measured = {'latency_seconds': LATENCY, 'bandwidth_out': BANDWIDTH, 'bandwidth_in': 2 * BANDWIDTH}
    (folder / 'network.json').write_text(json.dumps(measured))
    command = [sys.executable, str(ROOT / 'run_benchmark.py'), 'scaling', records, *words]
    return subprocess.run(
        [*command, f'--network={folder / "network.json"}'], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_projection_is_that_of_the_formula_the_runs_were_made_with(tmp_path: Path) -> None:
    done = run(tmp_path, [record(n) for n in (1, 2, 4)], '--workers=64,8', '--json')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found['compute_seconds'] == pytest.approx(2.0)
    assert found['exchange_factor'] == pytest.approx(0.5)
    assert [row['workers'] for row in found['projected']] == [8, 64]
    for row in found['projected']:
        expected = row['workers'] * 8 / seconds(row['workers'])
        assert row['images_per_second'] == pytest.approx(expected)
        assert row['low'] < expected < row['high']
    assert [row['workers'] for row in found['measured']] == [1, 2, 4]
    for row in found['measured']:
        assert row['from_others'] == pytest.approx(row['images_per_second'])
    assert len(found['assumptions']) >= 4
    for text in found['assumptions']:
        assert text in done.stderr


def test_the_plot_is_a_png_where_it_was_asked_for_and_nothing_else_is_left(tmp_path: Path) -> None:
    plot = tmp_path / 'out' / 'plot.png'
    plot.parent.mkdir()
    done = run(tmp_path, [record(n) for n in (1, 2, 4)], f'--plot={plot}')
    assert done.returncode == 0, done.stderr
    assert plot.read_bytes().startswith(b'\x89PNG')
    assert list(plot.parent.iterdir()) == [plot]


@pytest.mark.parametrize(
    ('records', 'told'),
    [
        ([record(1), record(2, batch_size=16)], ['different work', 'batch 8', 'batch 16']),
        ([record(1)], ['none with several workers']),
        ([record(2), record(4, kind='parameter_server')], ['horovod', 'parameter_server']),
        ([], ['0 training runs']),
        ([record(1), {**record(2), 'ended': {'status': 'failed'}}], ['Among 1 training runs']),
        ([record(1, num_clones=2), record(2)], ['different work', '2 clones of batch 8']),
        ([{**record(1), 'config': record(1, kind='replicated')['config']}, record(2)], ['A record is of replicas']),
        ([record(2), halved(record(4))], ['different amounts', '50,000,000, 100,000,000 bytes']),
    ],
)
def test_runs_that_no_one_model_fits_are_refused(tmp_path: Path, records: list[Any], told: list[str]) -> None:
    done = run(tmp_path, records)
    assert done.returncode == 1
    assert all(part in done.stderr for part in told), done.stderr
    assert 'Traceback' not in done.stderr


def test_what_is_missing_is_told_at_once(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / 'run_benchmark.py'), 'scaling', str(tmp_path / 'none.json'), '--workers=0,x']
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    for part in ('none.json', '--network=FILE is missing', '--workers=0,x'):
        assert part in done.stderr
