"""Containers as their engines leave marks in them: files and lines as they are in real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import container

ID = '0123456789abcdef' * 4
HOST_MOUNTS = '27 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw\n'


def mounts(source: str) -> str:
    """As mountinfo has the three files that an engine mounts over the image's."""
    return ''.join(
        f'{number} 500 254:1 {source}/{name} /etc/{name} rw,relatime - ext4 /dev/vda1 rw\n'
        for number, name in ((510, 'resolv.conf'), (511, 'hostname'), (512, 'hosts'))
    )


def root(folder: Path, **files: str) -> Path:
    """A file system with these files: dots in names are slashes."""
    for name, text in files.items():
        path = folder / name.replace('__', '/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_docker_is_known_with_both_versions_of_control_groups(tmp_path: Path) -> None:
    folder = f'/var/lib/docker/containers/{ID}'
    second = root(
        tmp_path / 'v2', **{'.dockerenv': '', 'proc__self__cgroup': '0::/\n', 'proc__self__mountinfo': mounts(folder)}
    )
    assert container.facts({}, second) == {'runtime': 'docker', 'image': None, 'digest': None, 'id': ID}
    groups = f'4:memory:/docker/{ID}\n1:cpu:/docker/{ID}\n'
    first = root(
        tmp_path / 'v1', **{'.dockerenv': '', 'proc__self__cgroup': groups, 'proc__self__mountinfo': mounts(folder)}
    )
    assert container.facts({}, first) == container.facts({}, second)


def test_the_image_is_what_the_environment_tells(tmp_path: Path) -> None:
    folder = root(tmp_path, **{'.dockerenv': '', 'proc__self__mountinfo': mounts(f'/var/lib/docker/containers/{ID}')})
    told = {'TF_BENCH_IMAGE': 'darchr/tf-bench:0.1.0', 'TF_BENCH_IMAGE_DIGEST': 'sha256:12ab'}
    found = container.facts(told, folder)
    assert found == {'runtime': 'docker', 'image': 'darchr/tf-bench:0.1.0', 'digest': 'sha256:12ab', 'id': ID}


def test_podman_tells_its_image_itself(tmp_path: Path) -> None:
    text = f'engine="podman-4.9.4"\nname="bench"\nid="{ID}"\nimage="localhost/tf-bench:latest"\nrootless=1\n'
    folder = root(tmp_path, **{'run__.containerenv': text, 'proc__self__cgroup': '0::/\n'})
    expected = {'runtime': 'podman', 'image': 'localhost/tf-bench:latest', 'digest': None, 'id': ID}
    assert container.facts({'container': 'podman'}, folder) == expected


def test_kubernetes_is_known_by_its_mounts_without_its_variables(tmp_path: Path) -> None:
    folder = root(tmp_path, proc__self__mountinfo=mounts('/var/lib/kubelet/pods/7c0c1f3e-9f6b/etc-hosts'))
    found = container.facts({}, folder)
    assert found is not None
    assert found['runtime'] == 'kubernetes'


@pytest.mark.parametrize(
    ('environment', 'groups', 'runtime'),
    [
        ({'KUBERNETES_SERVICE_HOST': '10.96.0.1'}, '0::/\n', 'kubernetes'),
        ({'APPTAINER_CONTAINER': '/images/bench.sif'}, '0::/user.slice\n', 'apptainer'),
        ({'container': 'systemd-nspawn'}, '0::/\n', 'systemd-nspawn'),
        ({}, f'0::/kubepods.slice/cri-containerd-{ID}.scope\n', 'kubernetes'),
        ({}, f'0::/system.slice/docker-{ID}.scope\n', 'docker'),
        ({}, f'12:cpu:/machine.slice/libpod-{ID}.scope\n', 'podman'),
        ({}, '1:name=systemd:/lxc/web\n', 'lxc'),
    ],
)
def test_other_engines_are_known(tmp_path: Path, environment: dict[str, str], groups: str, runtime: str) -> None:
    found = container.facts(environment, root(tmp_path, proc__self__cgroup=groups))
    assert found is not None
    assert found['runtime'] == runtime


def test_an_engine_that_leaves_no_mark_is_unknown_where_the_image_tells_of_itself(tmp_path: Path) -> None:
    # nerdctl: the mounts come from /var/lib/nerdctl, whose folders are named otherwise.
    source = f'/var/lib/nerdctl/1935db59/etchosts/default/{ID}'
    folder = root(tmp_path, proc__self__cgroup='0::/\n', proc__self__mountinfo=mounts(source))
    image = 'darchr/tf-bench:latest'
    found = container.facts({'TF_BENCH_IMAGE': image}, folder)
    assert found == {'runtime': 'unknown', 'image': image, 'digest': None, 'id': None}
    assert container.facts({}, folder) is None


@pytest.mark.parametrize(
    'files',
    [
        {'proc__self__cgroup': '0::/init.scope\n', 'proc__self__mountinfo': HOST_MOUNTS},
        # A virtual machine whose disk was made from an image.
        {'.dockerenv': '', 'proc__self__cgroup': '0::/\n', 'proc__self__mountinfo': HOST_MOUNTS},
        # A host with engines and pods of its own: their mounts are elsewhere, their services are no containers.
        {
            'proc__self__cgroup': '0::/system.slice/docker.service\n',
            'proc__self__mountinfo': f'90 27 0:50 / /var/lib/kubelet/pods/7c0c1f3e/volumes/x rw - tmpfs tmpfs rw\n'
            f'91 27 0:51 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n{HOST_MOUNTS}',
        },
        {'proc__self__cgroup': '0::/system.slice/containerd.service\n'},
        {},
    ],
)
def test_a_host_is_no_container(tmp_path: Path, files: dict[str, str]) -> None:
    assert container.facts({}, root(tmp_path, **files)) is None
