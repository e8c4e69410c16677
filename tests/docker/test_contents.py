"""What the images hold, and what they must not."""

from __future__ import annotations

import datetime
import json
import time

import pytest
from engine import BASE_IMAGE, IMAGE, MKL_IMAGE, ROOT, Engine

pytestmark = pytest.mark.container

IMAGES = [BASE_IMAGE, f'{BASE_IMAGE}:mkl', IMAGE, MKL_IMAGE]
COMPILERS = 'as c++ c99 cc clang clang++ cmake cpp f95 g++ gcc gfortran ld make rustc'


@pytest.mark.parametrize('image', IMAGES)
def test_no_compiler_is_left(engine: Engine, image: str) -> None:
    assert engine.shell(f'for name in {COMPILERS}; do command -v $name || true; done', image) == ''
    named = engine.shell(r'find / -xdev \( -name cc1 -o -name cc1plus -o -name "collect2" -o -name "*.o" \)', image)
    assert named == ''


@pytest.mark.parametrize('image', IMAGES)
def test_no_cache_is_left(engine: Engine, image: str) -> None:
    found = engine.shell(
        'find ~root/.cache /tmp /var/tmp /var/cache/apt /var/cache/pip /var/cache/horovod /var/lib/apt/lists -type f '
        '2>/dev/null || true',
        image,
    )
    assert found == ''


@pytest.mark.parametrize('image', IMAGES)
def test_no_secret_of_the_build_is_left(engine: Engine, image: str) -> None:
    assert engine.shell('ls -A /run/secrets 2>/dev/null || true', image) == ''
    base = set(engine.shell('find / -xdev -name pip.conf', 'debian:bookworm-slim').split())
    assert set(engine.shell('find / -xdev -name pip.conf', image).split()) <= base
    told = engine('history', '--no-trunc', '--format', '{{.CreatedBy}}', image).stdout
    told += json.dumps(engine.inspect(image)['Config'])
    for word in ('INDEX_URL', 'TRUSTED_HOST', 'proxy', '://', 'PIP_'):
        assert word not in told, word
    assert engine.shell('find / -xdev -path "/etc/ssh/ssh_host*" -o -xdev -name "id_rsa*"', image) == ''


@pytest.mark.parametrize('image', IMAGES)
def test_labels_and_environment_tell_what_the_image_is(engine: Engine, image: str) -> None:
    name = image if ':' in image else f'{image}:latest'
    config = engine.inspect(image)['Config']
    labels = {key.removeprefix('org.opencontainers.image.'): value for key, value in config['Labels'].items()}
    assert labels['ref.name'] == name
    assert labels['version'] == '0.1.0'
    assert labels['base.name'] == 'debian:bookworm-slim'
    assert {'title', 'description', 'revision'} <= set(labels)
    datetime.datetime.fromisoformat(labels['created'].replace('Z', '+00:00'))
    assert f'TF_BENCH_IMAGE={name}' in config['Env']
    assert set(config['Volumes']) == {'/data', '/results'}


@pytest.mark.parametrize('image', IMAGES)
def test_the_lists_of_contents_are_complete_and_true(engine: Engine, image: str) -> None:
    listed = json.loads(engine.shell('cat /usr/share/tf-bench/python.cdx.json', image))
    assert listed['bomFormat'] == 'CycloneDX'
    pip = engine.shell('/opt/venv/bin/python -m pip list --format=json --disable-pip-version-check', image)
    installed = {(package['name'].lower(), package['version']) for package in json.loads(pip)}
    assert {(part['name'].lower(), part['version']) for part in listed['components']} == installed
    debian = engine.shell('cat /usr/share/tf-bench/debian.tsv', image)
    assert {tuple(line.split('\t')[:2]) for line in debian.splitlines()} == {
        tuple(line.split('\t'))
        for line in engine.shell("dpkg-query -W -f '${Package}\\t${Version}\\n'", image).splitlines()
    }
    assert any(line.startswith('gosu\t') for line in debian.splitlines())


@pytest.mark.parametrize('image', IMAGES)
def test_every_python_package_is_pinned_and_has_what_it_requires(engine: Engine, image: str) -> None:
    constraints = engine.shell('cat /usr/share/tf-bench/constraints.txt', image)
    pinned = {line.lower().replace('_', '-') for line in constraints.splitlines()}
    freeze = engine.shell('/opt/venv/bin/python -m pip list --format=freeze --disable-pip-version-check', image)
    loose = {line.lower().replace('_', '-') for line in freeze.splitlines() if not line.startswith('tf-bench')} - pinned
    assert loose == set()
    broken = engine.run(
        ['--entrypoint', 'python'], ['-m', 'pip', 'check', '--disable-pip-version-check'], image, check=False
    ).stdout.splitlines()
    # tf_keras asks for the package `tensorflow`, and tf-bench for tensorflow-cpu, whose parts here another one brings.
    broken = [line for line in broken if 'requires tensorflow' not in line and not line.startswith('No broken')]
    assert broken == []


@pytest.mark.parametrize('image', [IMAGE, MKL_IMAGE])
def test_the_health_check_passes_and_is_quick(engine: Engine, image: str) -> None:
    name = f'{engine.name}-health'
    options = ['--name', name, '--health-interval=1s', '--read-only']
    with engine.deadline(), engine.start(options, ['sh', '-c', 'echo started; exec sleep 600'], image) as process:
        assert process.stdout
        process.stdout.readline()
        health = {'Status': 'starting'}
        for _ in range(60):
            health = json.loads(engine('inspect', '--format', '{{json .State.Health}}', name).stdout)
            if health['Status'] != 'starting':
                break
            time.sleep(1)
        engine('kill', name)
        process.wait(60)
    assert health['Status'] == 'healthy', health
    loaded = engine.shell(
        "python -X importtime $(command -v run_benchmark.py) machine --require=avx 2>&1 | grep -c 'tensorflow' || true",
        image,
    )
    assert loaded.strip() == '0'  # what computes nothing disturbs no measurement


@pytest.mark.parametrize('image', [IMAGE, MKL_IMAGE])
def test_the_program_is_the_one_of_this_folder(engine: Engine, image: str) -> None:
    """Both ways: a file that is missing in the image, or there alone, is a difference."""
    assert engine.run(['-v', f'{ROOT}:/src:ro'], ['sh', '-c', _COMPARE], image).stdout == ''


_COMPARE = """
cd /src
for folder in bench analysis; do
    diff -rq -x __pycache__ $folder /opt/venv/lib/python3*/site-packages/$folder 2>&1 || true
done
diff -q run_benchmark.py /opt/venv/bin/run_benchmark.py 2>&1 || true
"""


@pytest.mark.parametrize('image', [IMAGE, MKL_IMAGE])
def test_horovod_talks_gloo_and_mpi_with_this_tensorflow(engine: Engine, image: str) -> None:
    code = 'import horovod.tensorflow as hvd; hvd.init(); print(hvd.gloo_built(), hvd.mpi_built(), hvd.size())'
    done = engine.run([], ['horovodrun', '-np', '2', '-H', 'localhost:2', '--gloo', 'python', '-c', code], image)
    assert done.stdout.count('True 2') == 2 or done.stdout.count('True True 2') == 2
    assert engine.run([], ['mpirun', '-np', '2', 'python', '-c', code], image).stdout.count('True True 2') == 2


@pytest.mark.slow
@pytest.mark.parametrize('image', [IMAGE, MKL_IMAGE])
def test_the_programs_own_tests_pass_in_the_image(engine: Engine, image: str) -> None:
    """`docker/build.sh --tests` makes the images with pytest."""
    made = engine('image', 'inspect', f'{image}:tests', check=False).returncode == 0
    assert made, f'there is no {image}:tests: docker/build.sh --tests'
    words = ['python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-n', 'auto', '--maxprocesses=4']
    chosen = ['--dist=loadfile', '-m', 'not slow and not container', 'tests/bench', 'tests/analysis']
    done = engine(
        *engine.run_words(['-v', f'{ROOT}:/src:ro', '-w', '/src'], [*words, *chosen], f'{image}:tests'),
        timeout=2400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
