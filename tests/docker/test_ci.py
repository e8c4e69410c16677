"""What surrounds the images, on a real engine: the example for GitHub Actions, the compiler's image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from engine import IMAGE, ROOT, Engine, the_record

pytestmark = pytest.mark.container


def test_the_steps_of_the_example_for_github_actions_leave_a_record_and_lists(engine: Engine, tmp_path: Path) -> None:
    """All but the build, on a small network, in the shell that GitHub uses."""
    (job,) = yaml.safe_load((ROOT / 'docker/ci/github-actions.yml').read_text())['jobs'].values()
    steps = [step['run'] for step in job['steps'] if 'run' in step]
    assert steps[0] == 'docker/build.sh'
    # Stand-ins for the runner's client, and for its user, who is no root.
    bin_folder = tmp_path / 'bin'
    bin_folder.mkdir()
    for name, line in (('docker', f'exec {engine.client} "$@"'), ('id', 'echo 1001')):
        (bin_folder / name).write_text(f'#!/bin/sh\n{line}\n')
        (bin_folder / name).chmod(0o755)
    environment = {**os.environ, 'PATH': f'{bin_folder}:{os.environ["PATH"]}'}
    for step in steps[1:]:
        small = step.replace('resnet_v1_50', 'lenet --batch_size=8').replace('num_batches=20', 'num_batches=3')
        subprocess.run(['bash', '-eo', 'pipefail', '-c', small], cwd=tmp_path, env=environment, check=True, timeout=300)
    out = tmp_path / 'out'
    assert the_record(out)['container']['digest'] == engine.inspect(IMAGE)['Id']
    assert {path.stat().st_uid for path in (out, *out.rglob('*'))} == {1001}
    assert {path.name for path in (out / 'contents').iterdir()} == {'constraints.txt', 'debian.tsv', 'python.cdx.json'}
    kept = [step['with']['path'] for step in job['steps'] if 'upload-artifact' in step.get('uses', '')]
    assert kept == [out.name]


@pytest.mark.slow
def test_the_compilers_image_has_the_programs_of_every_step_that_compiles_tensorflow(engine: Engine) -> None:
    """Of docker/compile all that can be tried without TensorFlow's sources."""
    name, folder = f'{engine.name}-compiler', ROOT / 'docker'
    made = subprocess.run(
        [engine.client, 'build', '--file', folder / 'compile/Dockerfile', '--target', 'tools', '--tag', name, folder],
        env={**os.environ, 'DOCKER_BUILDKIT': '1'},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert made.returncode == 0, made.stderr
    try:
        steps = engine.shell('compile.sh --dry-run /sources /wheels', name).splitlines()
        assert '/wheels' in steps[-1]
        needed = ' '.join({step.split()[0] for step in steps}) + ' g++ patch patchelf python3 sha256sum unzip zip'
        assert engine.shell(f'for name in {needed}; do command -v $name >&2 || echo $name; done', name) == ''
    finally:
        engine('rmi', name)
