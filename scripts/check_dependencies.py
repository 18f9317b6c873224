"""Checks licences, origins and unused dependencies from `cargo metadata` on standard input.

    cargo metadata --format-version 1 --locked | python3 scripts/check_dependencies.py

Every crate's licence must be satisfied by the list in `deny.toml`, every crate must come from the
public registry, and every dependency that `Cargo.toml` declares must ask for some version and be
named somewhere in the sources. Only the standard library is used, and no network.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def satisfied(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by allowed licences: OR needs one side, AND both."""
    # Old manifests write `MIT/Apache-2.0`, which means OR.
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either() -> bool:
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both() -> bool:
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    return either()


def bad_licences(metadata: dict[str, Any]) -> list[str]:
    """Crates whose licence is not on the list."""
    rules = tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]
    allowed = set(rules["allow"])
    exceptions = {rule["crate"]: set(rule["allow"]) for rule in rules.get("exceptions", [])}
    return [
        f"{package['name']} {package['version']} has the licence {package['license']!r}, "
        "which deny.toml does not allow"
        for package in metadata["packages"]
        if not satisfied(
            package["license"] or "none-stated",
            allowed | exceptions.get(package["name"], set()),
        )
    ]


def strangers(metadata: dict[str, Any]) -> list[str]:
    """Crates from elsewhere than the registry, and dependencies of any version whatever."""
    problems = [
        f"{package['name']} {package['version']} comes from {package['source']}"
        for package in metadata["packages"]
        if package["source"] not in (None, REGISTRY)
    ]
    own = [package for package in metadata["packages"] if package["source"] is None]
    return problems + [
        f"Cargo.toml asks for any version of {dependency['name']}"
        for package in own
        for dependency in package["dependencies"]
        if dependency["req"] == "*"
    ]


def unused(metadata: dict[str, Any]) -> list[str]:
    """Declared dependencies that no source file names."""
    own = [package for package in metadata["packages"] if package["source"] is None]
    sources = "\n".join(
        file.read_text() for folder in ("src", "benches") for file in (ROOT / folder).rglob("*.rs")
    )
    problems = []
    for package in own:
        # Crates that are there for a feature alone are named as cargo-machete expects it.
        settings = (package.get("metadata") or {}).get("cargo-machete") or {}
        ignored = set(settings.get("ignored", []))
        for dependency in package["dependencies"]:
            name = dependency["rename"] or dependency["name"]
            word = name.replace("-", "_")
            if name not in ignored and not re.search(rf"\b{word}\b", sources):
                problems.append(f"Cargo.toml declares {name}, which no source file names")
    return problems


def main() -> int:
    """Prints what is wrong; the exit status."""
    metadata = json.load(sys.stdin)
    problems = bad_licences(metadata) + strangers(metadata) + unused(metadata)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        count = len(metadata["packages"])
        print(f"    licences and origins of {count} crates are fine, none is unused")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
