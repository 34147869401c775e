"""Settings: precedence, readable errors, who may reach an anonymous server, and what children are given."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from server.access import Limits
from server.settings import PREFIX, Settings, SettingsError, is_loopback, load_settings

DIGEST = hashlib.sha256(b"key").hexdigest()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def problems(flags: dict[str, str] | None = None, env_file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, env_file=env_file)
    return caught.value.lines


def test_the_names_other_people_rely_on_are_there_with_their_defaults():
    settings = load_settings(env_file=None)
    assert (settings.host, settings.port, settings.redis_url) == ("127.0.0.1", 8000, None)
    assert settings.model == "smollm2-135m"
    assert settings.data_dir == Path.home() / ".local/share/perennial"
    assert settings.sliding_window == 512
    promised = (
        "host port redis_url data_dir model api_keys api_keys_file slots sliding_window max_queue snapshot_every "
        "session_ttl_s log_level"
    )
    assert set(promised.split()) <= set(Settings.model_fields)


def test_every_setting_says_what_it_is_and_who_uses_it():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict)
        assert set(str(field.json_schema_extra["used_by"]).split()) <= {"serve", "api", "worker", "generate"}


def test_a_flag_beats_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    env = tmp_path / ".env"
    env.write_text("PERENNIAL_PORT=1001\nPERENNIAL_SLOTS=11\nPERENNIAL_MAX_QUEUE=111\nOTHER_THING=x\n")
    monkeypatch.setenv("PERENNIAL_PORT", "1002")
    monkeypatch.setenv("PERENNIAL_SLOTS", "12")
    settings = load_settings({"port": "1003"}, env_file=env)
    assert (settings.port, settings.slots, settings.max_queue) == (1003, 12, 111)


def test_each_bad_setting_is_one_line_with_its_name_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "PORT": "eighty",
        "SLOTS": "0",
        "OPS": "quick",
        "BATCH_INVARIANT": "perhaps",
        "DRAIN_S": "inf",
        "STORE_PATIENCE_S": "0",
        "KEY_PREFIX": "a b",
        "REDIS_URL": "http://x",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    lines = problems({"max_queue": "-1"})
    assert len(lines) == 9
    assert all("\n" not in line for line in lines)
    found = {line.split(":")[0]: line for line in lines}
    assert found["PERENNIAL_PORT"].endswith(
        "'eighty' is not allowed; expected a whole number of at least 0 and at most 65535"
    )
    assert found["PERENNIAL_OPS"].endswith("expected one of auto, ref, cpu, cuda")
    assert found["PERENNIAL_BATCH_INVARIANT"].endswith("expected true or false")
    assert found["PERENNIAL_STORE_PATIENCE_S"].endswith("expected a number above 0.0") or found[
        "PERENNIAL_STORE_PATIENCE_S"
    ].endswith("expected a number above 0")
    assert "redis://" in found["PERENNIAL_REDIS_URL"]
    assert "--max-queue" in found


def test_an_unknown_name_is_an_error_that_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    env = tmp_path / ".env"
    env.write_text("PERENNIAL_SLIDING_WINDOWS=64\n")
    monkeypatch.setenv("PERENNIAL_PROT", "1")
    assert problems(env_file=env) == [
        "PERENNIAL_PROT: there is no such setting; did you mean PERENNIAL_PORT?",
        "PERENNIAL_SLIDING_WINDOWS: there is no such setting; did you mean PERENNIAL_SLIDING_WINDOW?",
    ]


def test_kubernetes_own_variables_are_explained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERENNIAL_SERVICE_HOST", "10.0.0.1")
    (line,) = problems()
    assert "enableServiceLinks" in line


def test_the_default_of_max_tokens_is_within_its_limit():
    (line,) = problems({"max_tokens_limit": "10"})
    assert line.startswith("PERENNIAL_MAX_TOKENS_DEFAULT")


def test_keys_are_hashes_with_or_without_a_label(tmp_path: Path):
    other = hashlib.sha256(b"other").hexdigest()
    file = tmp_path / "keys"
    file.write_text(f"# comment\n\n  blue:{other}  # at the end\n")
    settings = load_settings({"api_keys": f"{DIGEST.upper()} , ", "api_keys_file": str(file)}, env_file=None)
    assert settings.access().tenants == {DIGEST: f"key-{DIGEST[:12]}", other: "blue"}
    assert not settings.check_exposure()


def test_a_key_in_place_of_its_hash_is_refused_and_never_shown(tmp_path: Path):
    secret = "sk-very-secret"
    (line,) = problems({"api_keys": f"{DIGEST},{secret}"})
    assert "entry 2" in line
    file = tmp_path / "keys"
    file.write_text(f"red:{DIGEST}\n{secret}\n")
    with pytest.raises(SettingsError, match="line 2") as caught:
        load_settings({"api_keys_file": str(file)}, env_file=None).access()
    assert secret not in line + str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({"api_keys_file": str(tmp_path / "none")}, env_file=None).access()


def test_limits_follow_a_key_in_place_of_the_defaults(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"blue:{hashlib.sha256(b'b').hexdigest()} ; rpm=0 ; max_tokens=512  # as many as it likes\n")
    flags = {"api_keys": f"red:{DIGEST};concurrent=4;rpm=9", "api_keys_file": str(file), "requests_per_minute": "60"}
    access = load_settings(flags | {"max_stored_bytes": "1000"}, env_file=None).access()
    assert access.default == Limits(rpm=60, stored_bytes=1000)
    assert access.limits == {
        "red": Limits(concurrent=4, rpm=9, stored_bytes=1000),
        "blue": Limits(rpm=0, stored_bytes=1000, max_tokens=512),
    }


def test_keys_of_one_label_share_the_tightest_limits():
    other = hashlib.sha256(b"other").hexdigest()
    listed = f"a:{DIGEST};rpm=60;concurrent=2,a:{other};rpm=6;concurrent=0,a:{DIGEST}"
    access = load_settings({"api_keys": listed}, env_file=None).access()
    assert access.tenants == {DIGEST: "a", other: "a"}
    assert access.limits == {"a": Limits(rpm=6, concurrent=2)}


def test_a_key_belongs_to_one_tenant():
    with pytest.raises(SettingsError, match="API_KEYS, entry 2: the same key"):
        load_settings({"api_keys": f"a:{DIGEST},b:{DIGEST}"}, env_file=None).access()


@pytest.mark.parametrize("limits", [";rpm", ";rpm=-1", ";rpm=many", ";speed=9", "rpm=9", ";rpm=9,9", ";", ";rpm=1e3"])
def test_a_limit_that_means_nothing_is_refused(limits: str):
    assert "entry" in problems({"api_keys": f"a:{DIGEST}{limits}"})[0]


def test_origins_are_origins():
    settings = load_settings({"cors_origins": "https://a.example, http://localhost:3000,http://[::1]:5"}, env_file=None)
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000", "http://[::1]:5")
    assert load_settings({"cors_origins": "*"}, env_file=None).cors_origins == ("*",)
    for wrong in ("a.example", "https://a.example/", "https://*.example", "null", "ftp://a"):
        (line,) = problems({"cors_origins": wrong})
        assert "without a path" in line


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_without_keys_only_loopback_is_served(host: str, loopback: bool):
    assert is_loopback(host) is loopback
    settings = load_settings({"host": host}, env_file=None)
    if loopback:
        assert settings.check_exposure()
    else:
        with pytest.raises(SettingsError, match="PERENNIAL_API_KEYS"):
            settings.check_exposure()
        assert load_settings({"host": host, "allow_anonymous": "true"}, env_file=None).check_exposure()
        assert not load_settings({"host": host, "api_keys": DIGEST}, env_file=None).check_exposure()


def test_a_child_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch):
    settings = load_settings(
        {
            "port": "0",
            "batch_invariant": "true",
            "api_keys": f"a:{DIGEST},{DIGEST}",
            "drain_s": "2.5",
            "data_dir": "~/x",
        },
        env_file=None,
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings(env_file=None) == settings


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERENNIAL_REDIS_URL", "")
    monkeypatch.setenv("PERENNIAL_API_KEYS_FILE", "")
    monkeypatch.setenv("PERENNIAL_API_KEYS", "")
    settings = load_settings(env_file=None)
    assert (settings.redis_url, settings.api_keys_file, settings.api_keys) == (None, None, ())
