"""The compose file: valid by the specification's schema, closed without keys, and understood by what it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from loadtest.flags import parser
from server.settings import Settings, load_settings
from support.compose import MissingVariableError, compose, interpolate

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
KEYS = {"PERENNIAL_API_KEYS": f"alice:{'0' * 64}"}
SERVING = ("api", "worker", "worker-gpu")
OURS = (*SERVING, "loadtest")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    read: dict[str, Any] = compose(FILE, KEYS)["services"]
    return read


def test_it_is_valid_by_the_compose_specification():
    schema = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    jsonschema.validate(compose(FILE, KEYS), schema)
    broken = compose(FILE, KEYS)
    broken["services"]["api"]["restarts"] = "always"
    with pytest.raises(jsonschema.ValidationError, match="restarts"):
        jsonschema.validate(broken, schema)


@pytest.mark.parametrize("environment", [{}, {"PERENNIAL_API_KEYS": ""}, {"PERENNIAL_ALLOW_ANONYMOUS": ""}], ids=str)
def test_it_will_not_start_without_keys(environment: Mapping[str, str]):
    with pytest.raises(MissingVariableError, match="set PERENNIAL_API_KEYS"):
        compose(FILE, environment)


@pytest.mark.parametrize("environment", [KEYS, {"PERENNIAL_ALLOW_ANONYMOUS": "true"}], ids=["keys", "anonymous"])
def test_what_it_sets_is_what_the_commands_understand(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch):
    for name, service in compose(FILE, environment)["services"].items():
        if name not in SERVING:
            continue
        with monkeypatch.context() as patch:
            for variable, value in {"PERENNIAL_HOST": "0.0.0.0", **service["environment"]}.items():
                patch.setenv(variable, value)
            settings = load_settings(env_file=None)
            assert settings.redis_url == "redis://valkey:6379/0"
            if name == "api":
                assert settings.check_exposure() is ("PERENNIAL_API_KEYS" not in environment)
            else:
                assert settings.worker_metrics_port == 9100


def test_allowing_nobody_is_not_allowing_anybody():
    """`PERENNIAL_ALLOW_ANONYMOUS=false` and no key pass compose; the api itself refuses to listen."""
    service = compose(FILE, {"PERENNIAL_ALLOW_ANONYMOUS": "false"})["services"]["api"]
    environment = {"PATH": "/usr/bin:/bin", "PERENNIAL_HOST": "0.0.0.0", **service["environment"]}
    command = [sys.executable, "-m", "server.cli", *service["command"]]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "PERENNIAL_ALLOW_ANONYMOUS=true" in ran.stderr


def test_the_load_test_understands_its_command_and_knows_the_api(services: dict[str, Any]):
    flags = parser().parse_args(services["loadtest"]["command"])
    assert flags.url == "http://api:8000"
    assert flags.remote, "another container is another machine"
    assert flags.key_variable in services["loadtest"]["environment"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert services["loadtest"]["entrypoint"][0] in scripts
    assert set(services["loadtest"]["networks"]) & set(services["api"]["networks"])


def test_a_stop_waits_for_the_drain(services: dict[str, Any]):
    for name in SERVING:
        grace = int(services[name]["stop_grace_period"].removesuffix("s"))
        # the supervisor's own figure for the last commit and the last byte, and as much again
        assert grace >= float(services[name]["environment"]["PERENNIAL_DRAIN_S"]) + 10


def test_the_store_never_evicts_and_logs_every_write(services: dict[str, Any]):
    flags = services["valkey"]["command"]
    given = dict(zip(flags[1::2], flags[2::2], strict=True))
    assert (given["--appendonly"], given["--appendfsync"]) == ("yes", "everysec")
    assert given["--maxmemory-policy"] == "noeviction"
    assert "sessions:/data" in services["valkey"]["volumes"]
    assert services["valkey"]["networks"] == ["inside"], "the store is not to be reached from outside"
    assert "ports" not in services["valkey"]


def test_everything_restarts_is_pinned_and_holds_no_privilege(services: dict[str, Any]):
    for name, service in services.items():
        assert service["restart"] == ("no" if name == "loadtest" else "unless-stopped"), name
        assert service["cap_drop"] == ["ALL"], name
        assert re.search(r":[\w.-]+$", service["image"]), name
        assert not service["image"].endswith(":latest") or name in OURS, name
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["build"]["target"] == ("cuda" if name == "worker-gpu" else "cpu")
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {"worker-gpu": ["gpu"], "loadtest": ["loadtest"]}
    assert "container_name" not in services["worker"], "a name of its own could not be scaled"


def test_what_it_mounts_is_there(services: dict[str, Any]):
    named = yaml.safe_load(FILE.read_text())["volumes"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in named


def test_the_image_is_made_of_what_is_let_in():
    """Every file that the Dockerfile copies passes `.dockerignore`, and its stages have the targets that are built."""
    text = (ROOT / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [part for line in copied for part in line if not part.startswith("--")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in allowed or str(Path(source).parent) in allowed, source
    assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.M)[-2:] == ["cuda", "cpu"], "the last is the default"
    bases = set(re.findall(r"^FROM (\S+:\S+) AS", text, re.M))
    assert bases == {"python:3.11-slim"}


def test_whatever_is_no_python_is_packaged_too():
    """What the sources need beside themselves is in the wheel that the image installs."""
    listing = ["git", "ls-files", "model", "server", "loadtest"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    # of a package by its path inside; of every package by the name alone
    patterns = [f"{package.replace('.', '/')}/{one}" for package, some in packaged.items() for one in some]
    for name in tracked:
        candidates = (name, f"*/{Path(name).name}")
        known = name.endswith(".py") or any(fnmatch(one, pattern) for one in candidates for pattern in patterns)
        assert known, f"{name} would be missing from the image: add it to tool.setuptools.package-data"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}-${B}", "a-"),
        ("${A:-x}${B:-x}${C:-${A}}", "axa"),
        ("${B-x}${C-x}", "x"),
        ("${A:+x}${B:+x}${C+x}", "x"),
        ("$$A", "$A"),
        ("${A:?gone}", "a"),
    ],
)
def test_interpolation_is_composes(text: str, value: str):
    assert interpolate(text, {"A": "a", "B": ""}) == value


def test_every_setting_that_the_file_takes_from_outside_exists():
    names = set(re.findall(r"\$\{(PERENNIAL_[A-Z_]+)", FILE.read_text()))
    own = {"PERENNIAL_IMAGE", "PERENNIAL_CUDA_IMAGE"}
    assert own < names
    assert {name.removeprefix("PERENNIAL_").lower() for name in names - own} < set(Settings.model_fields)
