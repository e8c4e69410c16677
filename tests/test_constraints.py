"""The pins: complete, fitting, and from whatever registry a user has."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def pins() -> dict[str, str]:
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith('#')]
    assert all(re.fullmatch(r'[A-Za-z0-9_.-]+==[A-Za-z0-9.]+', line) for line in requirements)
    found = [line.split('==') for line in requirements]
    assert len({canonicalize_name(name) for name, _ in found}) == len(found)
    return {canonicalize_name(name): version for name, version in found}


def named_requirements() -> list[Requirement]:
    """Of setup.cfg, with its extras, and what the set-up installs besides."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg')
    texts = [parser['options']['install_requires'], *parser['options.extras_require'].values()]
    lines = [line for text in texts for line in text.splitlines() if line and not line.startswith('#')]
    return [Requirement(line) for line in [*lines, 'pip', 'setuptools<81', 'wheel', 'cmake<4', 'tf_keras==2.18.*']]


def test_every_requirement_has_a_pin_that_fits_it() -> None:
    pinned = pins()
    for requirement in named_requirements():
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


def test_what_requirements_require_has_a_pin_too() -> None:
    """So that two set-ups a year apart install the same, on every Python that setup.cfg allows."""
    pinned = pins()
    todo = {canonicalize_name(requirement.name) for requirement in named_requirements()} - {'tf-keras'}
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        seen.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another processor or Python, or left out here: flask, horovod
        for text in requires:
            requirement = Requirement(text)
            if any(applies(requirement, python) for python in ('3.10', '3.11', '3.12')):
                todo |= {canonicalize_name(requirement.name)} - seen
    assert sorted(seen - set(pinned)) == []


def applies(requirement: Requirement, python: str) -> bool:
    machine = {'python_version': python, 'python_full_version': f'{python}.0', 'extra': ''}
    return requirement.marker is None or requirement.marker.evaluate({**machine, 'platform_machine': 'x86_64'})


def test_no_registry_is_named_so_that_everyones_own_is_used() -> None:
    hosts = re.compile('|'.join([r'pypi' + r'\.org', 'python' + 'hosted', 'index' + '-url', 'find' + '-links']))
    ignored = {'.git', '.venv', '.ruff_cache', '.mypy_cache', '.pytest_cache', '__pycache__', 'build'}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ignored and not name.endswith('.egg-info')]
        for name in files:
            text = (Path(folder) / name).read_text(encoding='utf-8', errors='ignore')
            assert not hosts.search(text), Path(folder) / name
