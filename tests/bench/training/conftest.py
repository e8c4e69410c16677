"""A folder for temporary files, for tests that look at what is left there."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty at first."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(folder))
    return folder
