"""The kinds of cores as Linux tells them on Intel and ARM, and what is advised where there are several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.machine import advice, core_kinds, facts, numa, report


def system(root: Path, files: dict[str, str]) -> Path:
    """A tree like /sys/devices."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f'{text}\n')
    return root


def capacities(*numbers: int) -> dict[str, str]:
    return {f'system/cpu/cpu{cpu}/cpu_capacity': str(number) for cpu, number in enumerate(numbers)}


@pytest.mark.parametrize(
    ('files', 'kinds'),
    [
        # Alder Lake: eight P-cores of two threads, eight E-cores.
        ({'cpu_core/cpus': '0-15', 'cpu_atom/cpus': '16-23'}, {'P-cores': '0-15', 'E-cores': '16-23'}),
        # Arrow Lake H: P-cores are not the first processors.
        (
            {'cpu_core/cpus': '0-1,10-13', 'cpu_atom/cpus': '2-9', 'cpu_lowpower/cpus': '14-15'},
            {'P-cores': '0-1,10-13', 'E-cores': '2-9', 'low-power E-cores': '14-15'},
        ),
        # Two kinds of ARM's: the small ones come first.
        (capacities(446, 446, 446, 446, 1024, 1024), {'cores of capacity 1024': '4-5', 'cores of capacity 446': '0-3'}),
        # Three kinds; of one a core has a lower frequency.
        (
            capacities(325, 325, 325, 325, 870, 866, 860, 1024),
            {'cores of capacity 1024': '7', 'cores of capacity 870': '4-6', 'cores of capacity 325': '0-3'},
        ),
        # One kind: a server of Intel's, one of ARM's, one whose cores differ by a few hundredths.
        ({'cpu/type': '4', 'system/cpu/cpu0/topology/core_id': '0'}, {}),
        (capacities(1024, 1024, 1024), {}),
        (capacities(1024, 1009, 990), {}),
        # E-cores are turned off, and a list that is none.
        ({'cpu_core/cpus': '0-15', 'cpu_atom/cpus': ''}, {}),
        ({'system/cpu/cpu0/cpu_capacity': 'many', 'system/cpu/cpu1/cpu_capacity': '1024'}, {}),
    ],
)
def test_fast_cores_are_not_told_from_slow_ones(tmp_path: Path, files: dict[str, str], kinds: dict[str, str]) -> None:
    found = core_kinds.found(system(tmp_path, files))
    assert [(kind.name, numa.format_list(kind.cpus)) for kind in found] == list(kinds.items())


def collected(devices: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The facts of a machine whose kinds of cores are those of such a tree."""
    kinds = core_kinds.found(devices)
    with monkeypatch.context() as patch:
        patch.setattr(core_kinds, 'found', lambda: kinds)
        return facts.collect('not asked')


@pytest.fixture
def hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The facts of a machine with P-cores 0-15 and E-cores 16-23."""
    return collected(system(tmp_path, {'cpu_core/cpus': '0-15', 'cpu_atom/cpus': '16-23'}), monkeypatch)


@pytest.mark.parametrize(
    ('affinity', 'setting', 'applies'),
    [
        ('0-23', '--cpu_affinity=0-15', 'try'),
        ('4-7,20-23', '--cpu_affinity=4-7', 'try'),
        ('0-7', '--cpu_affinity=0-7', 'done'),
        ('16-23', '--cpu_affinity=0-15', 'no'),
    ],
)
def test_threads_on_slow_cores_are_not_warned_of(
    hybrid: dict[str, Any], affinity: str, setting: str, applies: str
) -> None:
    hybrid['limits']['affinity'] = affinity
    (row,) = (each for each in advice.advise(hybrid) if each.setting.startswith('--cpu_affinity'))
    assert (row.setting, row.applies) == (setting, applies)
    assert 'P-cores' in row.reason


ARM = capacities(325, 325, 325, 325, 870, 866, 860, 1024)


@pytest.mark.parametrize(
    ('files', 'affinity', 'advised'),
    [
        # 4 x 870 are more than 1 x 1024 and than 8 x 325.
        (ARM, '0-7', ('--cpu_affinity=4-7', 'try')),
        (ARM, '5-7', ('--cpu_affinity=5-7', 'done')),
        (ARM, '1-2', ('--cpu_affinity=4-7', 'no')),
        # 5 x 325 are more than 1 x 1024.
        (ARM, '0-3,7', None),
        # 2 x 1024 and 6 x 446.
        (capacities(446, 446, 446, 446, 1024, 1024), '0-5', None),
        # A laptop of two P-cores, of two threads each, and eight E-cores; with two of low power they are what to avoid.
        ({'cpu_core/cpus': '0-3', 'cpu_atom/cpus': '4-11'}, '0-11', None),
        (
            {'cpu_core/cpus': '0-3', 'cpu_atom/cpus': '4-11', 'cpu_lowpower/cpus': '12-13'},
            '0-13',
            ('--cpu_affinity=0-11', 'try'),
        ),
    ],
)
def test_few_fast_cores_are_advised_instead_of_many(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    affinity: str,
    advised: tuple[str, str] | None,
) -> None:
    machine = collected(system(tmp_path, files), monkeypatch)
    machine['limits']['affinity'] = affinity
    rows = [row for row in advice.advise(machine) if row.setting.startswith('--cpu_affinity')]
    assert [(row.setting, row.applies) for row in rows] == ([advised] if advised else [])


def test_kinds_of_cores_are_in_no_table(hybrid: dict[str, Any]) -> None:
    text = report.render(hybrid, advice.advise(hybrid), colours=False)
    (line,) = (line for line in text.splitlines() if 'kinds of cores' in line)
    assert line.split(maxsplit=3)[3] == 'P-cores: CPU 0-15; E-cores: CPU 16-23'
    hybrid['processor']['core_kinds'] = []
    advised = advice.advise(hybrid)
    assert not [each for each in advised if 'cpu_affinity' in each.setting], 'there is one kind'
    assert 'kinds of cores' not in report.render(hybrid, advised, colours=False)
