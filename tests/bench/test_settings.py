"""Settings files: what a run takes from them, what it refuses, and what its record says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import program
import pytest

from bench import settings
from bench.config import BenchmarkConfig
from bench.models import registry
from bench.runners import summary


def write(path: Path, flags: dict[str, str], **changes: Any) -> Path:
    """A file as `autotune` writes it here."""
    machine = {**settings.machine_facts(), **changes.pop('machine', {})}
    contents = {
        'schema_version': settings.SCHEMA_VERSION,
        'flags': flags,
        'for': {'model': 'trivial', 'job': 'training', 'image_size': 224, **changes.pop('purpose', {})},
        'machine': machine,
        'machine_fingerprint': settings.fingerprint(machine),
        **changes,
    }
    path.write_text(json.dumps(contents))
    return path


def parsed(*words: str) -> tuple[BenchmarkConfig, list[str]]:
    return settings.parse(BenchmarkConfig, words, 'program')


def test_a_typed_flag_loses_against_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / 'found.json', {'num_inter_threads': '2', 'precision': 'bf16', 'xla': 'true'})
    words = (f'--settings={path}', '--precision=fp32', '--noxla', '--model=trivial')
    config, problems = parsed(*words)
    assert problems == []
    assert (config.threads.num_inter_threads, config.network.precision, config.step.xla) == (2, 'fp32', False)
    told = settings.told(config, words)
    assert told is not None
    assert [(each['flag'], each['value'], each['status']) for each in told['flags']] == [
        ('num_inter_threads', '2', 'applied'),
        ('precision', 'bf16', 'typed'),
        ('xla', 'true', 'typed'),
    ]
    assert parsed(*words[1:])[0].threads.num_inter_threads is None
    # Written out it is the same run without the file.
    assert settings.written_out(config).threads == config.threads
    assert settings.written_out(config).found.settings is None


def test_a_file_makes_of_a_run_another_one(tmp_path: Path) -> None:
    path = write(tmp_path / 'found.json', {'xla': 'true', 'model': 'vgg_16'})
    _, (problem,) = parsed(f'--settings={path}', '--model=trivial')
    assert 'has --model, which `autotune` does not write' in problem


def test_a_flag_that_the_environment_decides_is_told_as_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TF_NUM_INTEROP_THREADS', '1')
    monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', '0')
    path = write(tmp_path / 'found.json', {'num_inter_threads': '2', 'num_intra_threads': '1', 'xla': 'true'})
    told = settings.told(parsed(f'--settings={path}')[0], [f'--settings={path}'])
    assert told is not None
    assert [each['status'] for each in told['flags']] == ['kept', 'applied', 'applied']
    jsonschema.validate(told, program.SCHEMA['properties']['settings'])
    assert '--num_inter_threads=2 (not applied: the environment' in summary.settings_text(told)


def test_settings_found_for_another_batch_are_used_without_a_word(tmp_path: Path) -> None:
    purpose = {'model': 'lenet', 'image_size': 28, 'batch_size': 32, 'data_format': 'NHWC', 'workers': 1}
    path = write(tmp_path / 'found.json', {'precision': 'bf16'}, purpose=purpose)

    def warned(*words: str) -> list[str]:
        config = parsed('--model=lenet', f'--settings={path}', *words)[0]
        told = settings.told(config, words)
        jsonschema.validate(told, program.SCHEMA['properties']['settings'])
        resolved = config.resolved(registry.get('lenet'), None, usable_cpus=2)
        return [each['text'] for each in settings.warnings(told, resolved)]

    assert warned('--batch_size=32') == []
    # What the file says itself, it is not found for.
    assert warned('--batch_size=32', '--precision=fp32') == []
    (text,) = warned('--batch_size=64', '--data_format=NCHW', '--num_workers=2')
    assert '(batch_size 32, not 64, data_format NHWC, not NCHW, workers 1, not 2)' in text


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({'usable_cpus': 4711}, 'usable_cpus 4711 there'),
        ({'processor': 'Another CPU'}, 'processor Another CPU there'),
        ({'tensorflow': 'tensorflow 1.15'}, 'tensorflow tensorflow 1.15 there'),
    ],
)
def test_settings_of_another_machine_are_applied(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = write(tmp_path / 'found.json', {'num_inter_threads': '2'}, machine=change)
    config, problems = parsed(f'--settings={path}')
    (problem,) = problems
    assert 'was found on another machine' in problem
    assert told in problem
    assert 'type its flags yourself: --num_inter_threads=2' in problem
    assert config.threads.num_inter_threads is None


def test_a_file_that_is_no_settings_file_ends_in_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / 'found.json'
    assert 'No such file' in parsed(f'--settings={path}')[1][0]
    assert 'Is a directory' in parsed(f'--settings={tmp_path}')[1][0]
    for text in ('', '[]', '{"flags": {}}', '\0', '{"schema_version": 1, "flags": 3, "for": {}, "machine": {}}'):
        path.write_text(text)
        assert parsed(f'--settings={path}')[1] == [f'--settings={path} is no file that `autotune` wrote.']
    path.write_bytes(b'\xff\xfe')
    assert 'no file that `autotune` wrote' in parsed(f'--settings={path}')[1][0]
    write(path, {}, schema_version=99)
    assert 'schema version 99' in parsed(f'--settings={path}')[1][0]


def test_flags_of_the_file_are_not_checked_or_their_file_is_not_named(tmp_path: Path) -> None:
    path = write(tmp_path / 'found.json', {'num_inter_threads': 'many', 'num_intra_threads': '0'})
    problems = parsed(f'--settings={path}', '--batch_size=0')[1]
    assert len(problems) == 3
    assert '--batch_size=0: 1 or more' in problems[0]
    assert all(problem.startswith(f'--settings={path}: --n') for problem in problems[1:])


def test_the_record_does_not_say_what_the_settings_brought(tmp_path: Path) -> None:
    path = write(tmp_path / 'found.json', {'num_inter_threads': '2', 'batch_size': '4'}, purpose={'model': 'lenet'})
    folder = tmp_path / 'results'
    done = program.run(
        '--model=trivial', '--batch_size=3', '--num_batches=2', f'--settings={path}', f'--result_dir={folder}'
    )
    assert done.returncode == 0, done.stderr
    record = program.the_record(folder)
    assert record['config']['threads']['num_inter_threads'] == 2
    assert record['config']['network']['batch_size'] == 3
    assert record['settings']['flags'][1] == {'flag': 'batch_size', 'value': '4', 'status': 'typed'}
    assert '--num_inter_threads=2' in record['repeat']
    assert '--settings' not in record['repeat']
    (warning,) = [each for each in record['warnings'] if each['code'] == 'settings_for_another_run']
    assert 'model lenet, not trivial' in warning['text']
    assert f'{path}: --num_inter_threads=2 (applied), --batch_size=4 (typed)' in done.stdout
