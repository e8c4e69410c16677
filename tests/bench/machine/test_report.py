"""The tables of a machine that is not this one."""

from __future__ import annotations

from typing import Any

import pytest

from bench.machine import facts, report


@pytest.fixture(scope='module')
def here() -> dict[str, Any]:
    return facts.collect('not asked')


@pytest.mark.parametrize(
    ('quota', 'told'),
    [
        (0.5, 'as much time as 0.5 would give, on any of the affinity'),
        (1.5, 'as much time as 1.5 would give, on any of the affinity'),
        (8.0, 'as much time as 2 would give, on any of the affinity'),
        (None, '2 at a time, on 1 of the cores'),
    ],
)
def test_a_quota_is_told_as_more_time_than_it_is(here: dict[str, Any], quota: float | None, told: str) -> None:
    limits = {**here['limits'], 'affinity': '0,2', 'cpu_quota': quota, 'usable_cpus': 2, 'usable_cores': 1}
    text = report.render({**here, 'limits': limits}, [], colours=False)
    (line,) = (line for line in text.splitlines() if line.strip().startswith('processors  '))
    assert line.split(maxsplit=1)[1] == told
