"""docker/compile/compile.sh with curl, git and Bazel that only write down their calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

STAND_IN = """#!/bin/sh
printf '%s' "$(basename "$0")" >> {calls}
printf '\\t%s' "$@" >> {calls}
printf '\\n' >> {calls}
case $(basename "$0") in
    git) for folder; do :; done; mkdir -p "$folder"; printf '#!/bin/sh\\nenv > env\\n' > "$folder/configure"
         chmod +x "$folder/configure" ;;
    bazel) mkdir -p bazel-bin/tensorflow/tools/pip_package/wheel_house
           : > bazel-bin/tensorflow/tools/pip_package/wheel_house/tensorflow_cpu-2.18.1-cp311-cp311-linux_x86_64.whl ;;
esac
"""


def compile_tensorflow(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs compile.sh with programs that only write down what they were called with."""
    bin_folder = folder / 'bin'
    bin_folder.mkdir()
    for name in ('curl', 'git', 'sha256sum', 'install', 'bazel'):
        (bin_folder / name).write_text(STAND_IN.format(calls=folder / 'calls'))
        (bin_folder / name).chmod(0o755)
    return subprocess.run(
        ['bash', ROOT / 'docker/compile/compile.sh', *words],
        env={'PATH': f'{bin_folder}:{os.environ["PATH"]}', **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=60,
    )


def test_the_steps_of_the_compilation_lead_to_a_wheel(tmp_path: Path) -> None:
    done = compile_tensorflow(tmp_path, str(tmp_path / 'sources'), str(tmp_path / 'wheels'), INSTRUCTION_SET='avx512')
    assert done.returncode == 0, done.stderr
    assert [path.suffix for path in (tmp_path / 'wheels').iterdir()] == ['.whl']
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert [call.split('\t')[0] for call in calls] == ['curl', 'sha256sum', 'install', 'git', 'bazel']
    assert {'--config=mkl', '--config=opt', '//tensorflow/tools/pip_package:wheel'} <= set(calls[-1].split('\t'))
    environment = (tmp_path / 'sources' / 'env').read_text()
    assert 'CC_OPT_FLAGS=-march=cascadelake' in environment
    assert 'TF_NEED_CUDA=0' in environment


def test_a_dry_run_of_the_compilation_calls_nothing(tmp_path: Path) -> None:
    done = compile_tensorflow(tmp_path, '--dry-run', 'sources', 'wheels')
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / 'calls').exists()
    assert 'bazel' in done.stdout


@pytest.mark.parametrize('name', ['avx2', 'avx512', 'avx512_bf16', 'amx', 'native'])
def test_the_compiler_knows_the_processor_of_every_instruction_set(tmp_path: Path, name: str) -> None:
    if not shutil.which('gcc'):
        pytest.skip('gcc is not installed, which alone knows its -march= names')
    printed = compile_tensorflow(tmp_path, '--dry-run', 'sources', 'wheels', INSTRUCTION_SET=name).stdout
    (march,) = re.findall(r'-march=[\w-]+', printed)
    macros = subprocess.run(
        ['gcc', march, '-dM', '-E', '-x', 'c', '/dev/null'], capture_output=True, text=True, check=True
    ).stdout
    wanted = {'avx2': '__AVX2__', 'avx512': '__AVX512VNNI__', 'avx512_bf16': '__AVX512BF16__', 'amx': '__AMX_BF16__'}
    assert name == 'native' or f'#define {wanted[name]} 1' in macros


def test_an_instruction_set_below_avx2_is_refused(tmp_path: Path) -> None:
    done = compile_tensorflow(tmp_path, 'sources', 'wheels', INSTRUCTION_SET='sse4_1')
    assert done.returncode == 2
    assert 'avx2, avx512' in done.stderr
    assert not (tmp_path / 'calls').exists()
