"""The schema of records and the options say the same."""

from __future__ import annotations

import dataclasses

import jsonschema
from program import SCHEMA

from bench.config import BenchmarkConfig


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_option_is_in_the_schema() -> None:
    groups = SCHEMA['properties']['config']['properties']
    for field in dataclasses.fields(BenchmarkConfig):
        options = getattr(BenchmarkConfig(), field.name)
        assert set(groups[field.name]['properties']) == {option.name for option in dataclasses.fields(options)}
