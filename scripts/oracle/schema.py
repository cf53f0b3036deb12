"""Checks TOML files against the JSON Schemas of docs/schema with the jsonschema package.

    schema.py FOLDER_OF_SCHEMAS KIND FILE [KIND FILE ...]

Prints a line a file: "ok FILE" or "bad FILE: where: message"; exit code 1 if a schema itself is invalid.
"""

import json
import sys
import tomllib
from pathlib import Path

from jsonschema import Draft202012Validator


def main(schemas, *arguments):
    for kind, file in zip(arguments[::2], arguments[1::2]):
        schema = json.loads((Path(schemas) / f"{kind}.schema.json").read_text())
        Draft202012Validator.check_schema(schema)
        with open(file, "rb") as text:
            document = tomllib.load(text)
        errors = list(Draft202012Validator(schema).iter_errors(document))
        if not errors:
            print(f"ok {file}")
            continue
        error = errors[0]
        where = ".".join(str(part) for part in error.absolute_path) or "."
        print(f"bad {file}: {where}: {error.message.splitlines()[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
