"""What can go wrong, as a tree of exceptions whose texts are written for the person at the keyboard.

BenchError               exit status 1: the run failed
├── UsageError           exit status 2: the command line asks for something that cannot be
├── StoppedError         exit status 1: the user wished an end before there was anything to keep
├── NotMetError          exit status 1: the processes of a job did not find each other; there is nothing to keep
└── DataError            exit status 1: a dataset, a shard, a record or a picture is not what it should be
    └── DamagedError     ... truncated or damaged, and whole again where it is fetched again
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class BenchError(Exception):
    """A failure to tell in a sentence or two: what is wrong, the value seen, what to do instead."""

    exit_status = 1


class UsageError(BenchError):
    """All that is wrong with a command line, found at once."""

    exit_status = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__('\n'.join(problems))
        self.problems = tuple(problems)


class StoppedError(BenchError):
    """The user wished an end before there was anything to keep; the text says what was being done."""


class NotMetError(BenchError):
    """The processes of a job did not find each other, so that none began; the text says who is missing, or what is."""


class DataError(BenchError):
    """Input data that cannot be read; the text names the file and, where there is one, the record."""


class DamagedError(DataError):
    """A file that is truncated, damaged or another one: what was downloaded is to be downloaded again."""


def number(count: int, noun: str, plural: str | None = None) -> str:
    """'1 file' or '3 files'; `plural` where that is not the noun and an s."""
    return f'{count} {noun if count == 1 else plural or noun + "s"}'


def nearest(word: str, known: Iterable[str], spellings: Mapping[str, str] | None = None) -> str:
    """' Did you mean X?' for the known word that is most like `word` in any case, or '' where none is.

    Args:
      spellings: what people may write for a known word, and that word.
    """
    words = {each.lower(): told for each, told in (spellings or {}).items()} | {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    return f' Did you mean {words[found[0]]}?' if found else ''
