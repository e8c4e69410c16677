"""docker/build.sh and docker/compile/build.sh with a Docker client that only writes down its calls."""

from __future__ import annotations

import configparser
import datetime
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.machine import environment

ROOT = Path(__file__).parents[2]
WHEEL = 'tensorflow_cpu-2.18.1-cp311-cp311-linux_x86_64.whl'
SECRET = 'name:pass word$x@registry.example'

CLIENT = """#!{python} -IS
import pathlib, sys
words, here = sys.argv[1:], pathlib.Path({here!r})
with open(here / 'calls', 'a') as calls:
    print(*words, sep='\\t', file=calls)
for word in words:
    if word.startswith('id='):
        name, path = (part.partition('=')[2] for part in word.split(','))
        (here / name).write_bytes(pathlib.Path(path).read_bytes())
        (here / 'folder').write_text(str(pathlib.Path(path).parent))
if words[:1] == ['version']:
    print({version!r})
if words[:1] == ['pull']:
    (here / 'pulled').touch()
if words[:2] == ['image', 'inspect']:
    if not ({has_base} or (here / 'pulled').exists()):
        sys.exit(1)
    if {digest!r}:
        print({digest!r})
sys.exit(1 if words[:2] == ['buildx', 'version'] and not {buildx} or words[:1] == ['info'] and not {engine} else 0)
"""


LIBRARY = 'tensorflow/libtensorflow_framework.so.2'


def write_wheel(path: Path, library: str = LIBRARY) -> Path:
    """One with a library, what wheels say of themselves, and many files behind these, as TensorFlow has."""
    package = '-'.join(path.name.split('-')[:2])
    with zipfile.ZipFile(path, 'w') as wheel:
        for name in (library, f'{package}.dist-info/METADATA', f'{package}.dist-info/RECORD'):
            wheel.writestr(name, '# ' + 100 * 'x')
        for number in range(1000):
            wheel.writestr(f'tensorflow/include/tensorflow/core/a/header/of/many/{number}.h', '')
    return path


class Clone:
    """The files that build.sh needs, and a client that only pretends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / 'clone'
        for name in ('docker', 'bench/__init__.py', 'constraints.txt'):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.root / name)
        self.client()

    def client(
        self,
        version: str = '20.10.24',
        *,
        buildx: bool = False,
        engine: bool = True,
        digest: str = '',
        has_base: bool = True,
    ) -> None:
        path = self.folder / 'client'
        is_so = {'version': version, 'buildx': buildx, 'engine': engine, 'digest': digest, 'has_base': has_base}
        path.write_text(CLIENT.format(python=sys.executable, here=str(self.folder), **is_so))
        path.chmod(0o755)

    def build(self, *words: str, script: str = 'build.sh', **environment: str) -> subprocess.CompletedProcess[str]:
        given = {'PATH': os.environ['PATH'], 'HOME': str(self.folder), 'DOCKER': str(self.folder / 'client')}
        return subprocess.run(
            [self.root / 'docker' / script, *words],
            env={**given, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def builds(self) -> list[list[str]]:
        path = self.folder / 'calls'
        calls = path.read_text().splitlines() if path.exists() else []
        return [call.split('\t') for call in calls if call.startswith('build\t')]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def argument(call: list[str], name: str) -> str:
    """The value of a build argument."""
    (value,) = [word.partition('=')[2] for word in call if word.startswith(f'{name}=')]
    return value


def test_what_reaches_a_registry_is_a_secret_of_the_build_and_gone_afterwards(clone: Clone) -> None:
    (clone.folder / 'pip.conf').write_text(f'[global]\ntimeout = 7 # {SECRET}\n')
    (clone.folder / 'authority.pem').write_text('a certificate')
    done = clone.build(
        PIP_INDEX_URL=f'https://{SECRET}/',
        PIP_CONFIG_FILE=str(clone.folder / 'pip.conf'),
        SSL_CERT_FILE=str(clone.folder / 'authority.pem'),
        PIP_TARGET='/elsewhere',
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr + (clone.folder / 'calls').read_text()
    sourced = subprocess.run(
        ['bash', '-c', '. ./environment && printf %s "$PIP_INDEX_URL" && echo " ${PIP_TARGET-none}"'],
        cwd=clone.folder,
        env={'PATH': os.environ['PATH']},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sourced.stdout == f'https://{SECRET}/ none\n'
    assert SECRET in (clone.folder / 'pip_conf').read_text()
    assert (clone.folder / 'certificates').read_text() == 'a certificate'
    assert (clone.folder / 'apt_conf').read_text() == ''
    assert not Path((clone.folder / 'folder').read_text()).exists()


def test_every_pip_conf_counts_as_it_does_for_pip(clone: Clone) -> None:
    """The newer place for a user's own decides over the older one; another that the environment names replaces both."""
    # The option's name in letters that test_constraints.py does not take for somebody's registry.
    old = (
        '[global]\nindex\x2durl = https://old.example/\nextra-index\x2durl =\n    https://more.example/\n'
        '    # a remark\n'
    )
    new = (
        '; a remark\n[install]\nconstraint =\n    /a=b/c\n    index\x2durl = d\n'
        '[global]\nindex_url: https://new.example/?a=1\n'
    )
    for name, text in (('.pip', old), ('.config/pip', new)):
        (clone.folder / name).mkdir(parents=True)
        (clone.folder / name / 'pip.conf').write_text(text)
    (clone.folder / 'own.conf').write_text('[global]\nindex\x2durl = https://own.example/\n')

    def given(**environment: str) -> tuple[str, bool]:
        """What pip would take for its index, and whether for another one too: this machine may have one of its own."""
        assert clone.build(**environment).returncode == 0
        parser = configparser.RawConfigParser()
        parser.read_string((clone.folder / 'pip_conf').read_text())
        assert parser.sections() == ['global']  # a file of constraints is this machine's alone, all lines of it
        more = parser.get('global', 'extra-index\x2durl', fallback='')
        return parser['global']['index\x2durl'], '\nhttps://more.example/' in more

    assert given() == ('https://new.example/?a=1', True)
    assert given(PIP_CONFIG_FILE=str(clone.folder / 'own.conf')) == ('https://own.example/', False)
    assert clone.build(PIP_CONFIG_FILE='/dev/null').returncode == 0
    assert (clone.folder / 'pip_conf').read_text() == ''


def test_a_build_that_fails_fails_and_leaves_no_secret_behind(clone: Clone) -> None:
    client = clone.folder / 'client'
    client.write_text(client.read_text().replace('sys.exit(1 if', "sys.exit(1 if words[:1] == ['build'] or"))
    done = clone.build(PIP_INDEX_URL=f'https://{SECRET}/')
    assert done.returncode == 1
    assert len(clone.builds()) == 1
    assert not Path((clone.folder / 'folder').read_text()).exists()


def test_without_a_wheel_the_images_are_made_of_the_pinned_ones(clone: Clone) -> None:
    assert clone.build().returncode == 0
    made = {
        argument(call, 'IMAGE'): argument(call, 'TENSORFLOW' if argument(call, 'STAGE') == 'base' else 'COMPILED')
        for call in clone.builds()
    }
    assert made == {
        'darchr/tf-compiled-base:latest': 'tensorflow-cpu==2.18.1',
        'darchr/tf-bench:latest': 'darchr/tf-compiled-base:latest',
        'darchr/tf-compiled-base:mkl': 'intel-tensorflow==2.14.0',
        'darchr/tf-bench-mkl:latest': 'darchr/tf-compiled-base:mkl',
    }


def test_an_images_own_pins_win_and_the_others_stay(clone: Clone) -> None:
    assert clone.build().returncode == 0
    pins = (clone.root / 'build/image/constraints.txt').read_text().splitlines()  # of the last base: MKL's
    assert [line for line in pins if line.startswith('numpy==')] == ['numpy==1.26.4']
    assert 'horovod==0.28.1' in pins
    names = [line.split('==')[0].lower() for line in pins]
    assert len(names) == len(set(names))


def test_a_users_wheel_is_what_the_images_are_made_of(clone: Clone) -> None:
    wheel = write_wheel(clone.folder / WHEEL)
    done = clone.build(str(wheel))
    assert done.returncode == 0, done.stderr
    assert argument(clone.builds()[0], 'TENSORFLOW') == f'/wheels/{wheel.name}'
    assert {argument(call, 'IMAGE') for call in clone.builds()} == {
        'darchr/tf-compiled-base:compiled',
        'darchr/tf-bench:compiled',
    }
    assert [path.name for path in (clone.root / 'build/image/wheels').iterdir()] == [wheel.name]


def test_a_users_wheel_may_lie_where_the_user_is(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(clone.folder / WHEEL)
    monkeypatch.chdir(clone.folder)
    assert clone.build(WHEEL).returncode == 0


def test_paths_in_the_environment_may_be_relative_to_where_the_user_is(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(clone.folder / WHEEL)
    (clone.folder / 'own.pins').write_text('numpy==1.23.5\n')
    (clone.folder / 'own.pem').write_text('a certificate')
    monkeypatch.chdir(clone.folder)
    assert clone.build(WHEEL, PINS='own.pins', SSL_CERT_FILE='own.pem').returncode == 0
    pins = (clone.root / 'build/image/constraints.txt').read_text().splitlines()
    assert [line for line in pins if line.startswith('numpy==')] == ['numpy==1.23.5']
    assert 'horovod==0.28.1' in pins
    assert (clone.folder / 'certificates').read_text() == 'a certificate'
    done = clone.build(WHEEL, PINS='missing')
    assert (done.returncode, done.stderr) == (1, 'error: There is no PINS=missing.\n')


def test_labels_tell_when_an_image_was_made_and_on_which_base_where_that_is_known(clone: Clone) -> None:
    assert clone.build().returncode == 0
    for call in clone.builds():
        made = datetime.datetime.fromisoformat(argument(call, 'CREATED').replace('Z', '+00:00'))
        assert abs(made - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=2)
        assert '--label' not in call
    (clone.folder / 'calls').unlink()
    clone.client(digest='debian@sha256:12ab')
    assert clone.build(SOURCE_DATE_EPOCH='0').returncode == 0
    for call in clone.builds():
        assert argument(call, 'CREATED') == '1970-01-01T00:00:00Z'
        assert call[call.index('--label') + 1] == 'org.opencontainers.image.base.digest=sha256:12ab'


def test_a_base_that_is_not_here_is_pulled_so_that_its_digest_is_known(clone: Clone) -> None:
    clone.client(digest='debian@sha256:12ab', has_base=False)
    assert clone.build(BASE='debian:bookworm-slim').returncode == 0
    calls = [call.split('\t') for call in (clone.folder / 'calls').read_text().splitlines()]
    assert [call for call in calls if call[0] == 'pull'] == [['pull', '--quiet', 'debian:bookworm-slim']]
    assert all('org.opencontainers.image.base.digest=sha256:12ab' in call for call in clone.builds())


def test_help_is_the_scripts_own_first_lines(clone: Clone) -> None:
    done = clone.build('--help')
    assert done.returncode == 0
    assert 'docker/build.sh path/to/tensorflow.whl' in done.stdout
    assert 'set -e' not in done.stdout
    assert clone.builds() == []


@pytest.mark.parametrize('name', ['tf_nightly_cpu-2.19.0.dev20250101', 'intel_tensorflow-2.14.0', 'tensorflow-2.18.1'])
def test_a_wheel_of_tensorflow_is_taken_under_any_of_its_names(clone: Clone, name: str) -> None:
    done = clone.build(str(write_wheel(clone.folder / f'{name}-cp311-cp311-linux_x86_64.whl')))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ('name', 'library', 'told'),
    [
        ('bad.whl', LIBRARY, 'bad.whl is no name of a wheel'),
        ('foo-1-py3-none-any.whl', 'foo/__init__.py', 'is no wheel of TensorFlow'),
        ('tensorflow_text-2.18.1-cp311-cp311-linux_x86_64.whl', 'tensorflow_text/a.so', 'is no wheel of TensorFlow'),
        # It only depends on another one, as where there is none for a kind of processor.
        ('tensorflow-2.18.1-py3-none-any.whl', 'tensorflow/__init__.py', 'is no wheel of TensorFlow'),
    ],
)
def test_another_wheel_is_refused_before_anything_is_built(clone: Clone, name: str, library: str, told: str) -> None:
    done = clone.build(str(write_wheel(clone.folder / name, library)))
    assert done.returncode == 1
    assert told in done.stderr
    assert clone.builds() == []


def test_half_a_wheel_is_refused_before_anything_is_built(clone: Clone) -> None:
    wheel = write_wheel(clone.folder / WHEEL)
    wheel.write_bytes(wheel.read_bytes()[: wheel.stat().st_size // 3])
    done = clone.build(str(wheel))
    assert (done.returncode, clone.builds()) == (1, [])
    assert 'or its end is missing' in done.stderr


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['missing.whl'], 'no missing.whl'),
        (['vgg_16'], 'vgg_16 is no wheel'),
        (['--tests', 'own.whl'], '2 words are too many'),
    ],
    ids=['missing', 'word', 'several'],
)
def test_what_is_no_wheel_is_refused_before_anything_is_built(clone: Clone, words: list[str], told: str) -> None:
    done = clone.build(*words)
    assert done.returncode != 0
    assert told in done.stderr
    assert clone.builds() == []


@pytest.mark.parametrize(
    ('version', 'buildx', 'works'), [('20.10.24', False, True), ('28.2.2', False, False), ('28.2.2', True, True)]
)
def test_a_client_that_has_no_buildkit_is_told_what_to_install(
    clone: Clone, version: str, buildx: bool, works: bool
) -> None:
    clone.client(version, buildx=buildx)
    done = clone.build()
    assert (done.returncode == 0) == works
    assert works or 'buildx' in done.stderr


def test_no_engine_and_no_client_are_told_in_a_sentence(clone: Clone) -> None:
    clone.client(engine=False)
    for client, told in (('client', 'No Docker engine answers'), ('nothing', 'There is no')):
        done = clone.build(DOCKER=str(clone.folder / client))
        assert done.returncode == 1
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_compilation_has_the_same_secrets(clone: Clone) -> None:
    done = clone.build('avx512', script='compile/build.sh', PIP_INDEX_URL=f'https://{SECRET}/')
    assert done.returncode == 0, done.stderr
    (call,) = clone.builds()
    assert argument(call, 'INSTRUCTION_SET') == 'avx512'
    assert 'PIP_INDEX_URL=' in (clone.folder / 'environment').read_text()
    assert SECRET not in (clone.folder / 'calls').read_text()
    assert not Path((clone.folder / 'folder').read_text()).exists()


def test_where_an_engine_runs_without_root_its_root_stays_because_it_is_the_caller() -> None:
    """A namespace whose only user is the caller, as its root: what such engines make."""
    words = ['sh', '-c', 'echo $(id -u) $OMPI_ALLOW_RUN_AS_ROOT']
    done = subprocess.run(
        ['unshare', '--user', '--map-root-user', ROOT / 'docker/entrypoint', *words],
        env={'PATH': os.environ['PATH'], 'LOCAL_USER_ID': '1234'},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if 'unshare failed' in done.stderr:
        pytest.skip('this machine gives nobody a namespace of users')
    assert (done.stdout, done.stderr) == ('0 1\n', '')


def test_those_who_log_in_have_the_variables_that_change_how_tensorflow_computes() -> None:
    """As sshd takes them: quoted words, with backslashes before what would end them."""
    given = {f'{prefix}X': f'of {prefix}' for prefix in environment.PREFIXES}
    given |= {'TF_CPP_X': 'a "b" \\ c\'d #e', 'HOROVOD_X': 'two\nlines\\n', 'OMPI_MCA_x': '', 'OMP_NUM_THREADS': '07'}
    printed = subprocess.run(
        ['awk', '-f', ROOT / 'docker/ssh/set_env.awk'],
        env={**given, 'PATH': os.environ['PATH'], 'HOROVODX': '1', 'AWS_SECRET_ACCESS_KEY': SECRET},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # In double quotes, shells know the same two escapes.
    found = dict(word.split('=', 1) for word in shlex.split(printed))
    assert found == {**given, 'PATH': os.environ['PATH']}


SCRIPTS = [
    'docker/build.sh',
    'docker/secrets.sh',
    'docker/entrypoint',
    'docker/with_secrets',
    '.ci/run',
    'tools/setup_venv.sh',
]
LINTED = {
    'shellcheck': [*SCRIPTS, 'docker/compile/build.sh', 'docker/compile/compile.sh'],
    'hadolint': ['docker/Dockerfile', 'docker/compile/Dockerfile'],
}


@pytest.mark.parametrize('linter', LINTED)
def test_linters_of_scripts_and_build_files_find_nothing(linter: str) -> None:
    path = shutil.which(linter, path=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    if path is None:
        pytest.skip(f'{linter} is not installed: its package is in the extra test, where this machine has one')
    done = subprocess.run([path, *LINTED[linter]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
