"""Every setting of every process, in one place: its name, type, default, bounds and one sentence about it.

The environment variable (`PERENNIAL_` + the name), the line in `.env`, the command-line flag and the text of `--help`
are all made from these fields, so they cannot disagree. Precedence: flag, environment, `.env`, default.

Invariants: a `Settings` is immutable and complete; nothing reads the environment after it is made. A name under
`PERENNIAL_` that no setting has is an error, since a mistyped setting that is quietly ignored is found too late.

It does not know what the settings do: no torch, no redis, no files but `.env` and the file of API keys.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.access import AN_ENTRY, Access, Limits, is_entry, read_access

PREFIX = "PERENNIAL_"
ENV_FILE = ".env"
LINK_VARIABLE = re.compile(r"^PERENNIAL_(SERVICE_(HOST|PORT)|PORT_\d+)")

ALIAS = re.compile(r"^[^=\s]{1,256}(=[^=\s]{1,256})?$")
ORIGIN = re.compile(r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?)$")


class SettingsError(Exception):
    """One readable line per setting that is wrong: its name, what is wrong with it, what is allowed."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def setting(default: Any, used_by: str, description: str, **constraints: Any) -> Any:
    """A field of `Settings`. `used_by` names the commands whose `--help` shows it."""
    return Field(default, description=description, json_schema_extra={"used_by": used_by}, **constraints)


SERVING = "serve api"
COMPUTING = "serve worker generate"
EVERYWHERE = "serve api worker generate"


class Settings(BaseSettings):
    """See the module. Times are seconds, sizes are bytes, lengths are tokens."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=True)

    # Where
    host: str = setting("127.0.0.1", SERVING, "Address to listen on. Without API keys only a loopback address.")
    port: int = setting(8000, SERVING, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    redis_url: str | None = setting(
        None,
        "serve api worker",
        "Redis or Valkey to use, redis://, rediss:// or unix://. Unset: `perennial serve` starts its own Valkey.",
    )
    data_dir: Path = setting(
        Path("~/.local/share/perennial"), "serve", "Where the embedded Valkey keeps sessions; survives restarts."
    )
    cache_dir: Path = setting(
        Path("~/.cache/perennial"), EVERYWHERE, "Converted tokenisers and the like; may be deleted at any time."
    )
    key_prefix: str = setting(
        "perennial",
        "serve api worker",
        "First part of every key in Redis, for several servers on one Redis.",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
    )

    # What
    model: str = setting(
        "smollm2-135m", EVERYWHERE, "A directory, a .gguf file, a hub name, or smollm2-135m.", min_length=1
    )
    model_aliases: Annotated[tuple[str, ...], NoDecode] = setting(
        (),
        SERVING,
        "Comma-separated other names by which OpenAI-style clients may call the model: a plain name, or name=model for "
        "one that counts only while that model is served.",
    )
    ops: Literal["auto", "ref", "cpu", "cuda"] = setting(
        "auto",
        COMPUTING,
        "Kernels: auto picks by what the machine has and the model can use; cuda serves Mamba and Mamba-2; ref is the "
        "plain reference.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", COMPUTING, "Number format of the window's keys and values; auto is what the kernels do best."
    )
    threads: int = setting(0, COMPUTING, "Threads the worker computes with; 0 = one per core.", ge=0, le=1024)
    memory: str = setting(
        "auto",
        COMPUTING,
        "A trained memory, laid over the model: a memory.safetensors of `perennial train`; shipped is the one that "
        "comes with smollm2-135m; none; auto takes the shipped one where there is one.",
    )
    sliding_window: int = setting(512, COMPUTING, "Tokens of exact attention kept per session.", ge=16, le=1_048_576)
    batch_invariant: bool = setting(
        False, COMPUTING, "One numeric path at every batch size: a session's tokens never depend on its neighbours."
    )

    # How much
    slots: int = setting(8, "serve worker", "Sessions a worker advances at the same time.", ge=1, le=4096)
    chunk_tokens: int = setting(
        64, "serve worker", "Prompt tokens read per tick, beside the running streams.", ge=1, le=65536
    )
    max_queue: int = setting(256, SERVING, "Turns that may wait; one more is answered 429.", ge=1, le=1_000_000)
    max_tokens_default: int = setting(1024, SERVING, "max_tokens of a request that names none.", ge=1)
    max_tokens_limit: int = setting(32_768, SERVING, "The largest max_tokens a request may ask for.", ge=1)
    max_prompt_tokens: int = setting(131_072, SERVING, "The most new tokens one request may bring.", ge=1)
    max_body_bytes: int = setting(8_388_608, SERVING, "The largest request body; more is answered 413.", ge=1024)
    max_import_bytes: int = setting(
        268_435_456, SERVING, "The largest file that a session is imported from; more is answered 413.", ge=1024
    )
    ram_bytes: int = setting(
        536_870_912, "serve worker", "Memory in which a worker keeps states that lost their slot; 0 = none.", ge=0
    )
    max_concurrent: int = setting(
        0, SERVING, "Generations a tenant may have queued and running, unless its keys say otherwise; 0 = any.", ge=0
    )
    requests_per_minute: int = setting(
        0,
        SERVING,
        "Requests a tenant may send in a minute, unless its keys say otherwise; 0 = any.",
        ge=0,
        le=1_000_000_000,
    )
    max_stored_bytes: int = setting(
        0,
        SERVING,
        "Bytes a tenant's sessions may take in the store, unless its keys say otherwise; 0 = any.",
        ge=0,
    )
    max_wait_s: float = setting(60.0, SERVING, "The longest wait_s a request may ask for.", ge=0, allow_inf_nan=False)

    # How long
    snapshot_every: int = setting(512, "serve worker", "A state is saved at most every so many tokens.", ge=1)
    turns_kept: int = setting(
        64, "serve api worker", "Turns of a session that can be rewound to or forked at; older ones go.", ge=1, le=65536
    )
    session_ttl_s: int = setting(
        604_800, "serve api worker", "A session that is not used for so long is gone.", ge=1, le=10**9
    )
    events_ttl_s: int = setting(
        3600, "serve api worker", "How long an answer's events can be read again.", ge=1, le=10**9
    )
    store_patience_s: float = setting(
        30.0, "serve api worker", "How long a running answer outlasts an unreachable Redis.", gt=0, allow_inf_nan=False
    )
    ping_s: float = setting(15.0, SERVING, "A silent stream gets a comment line this often.", gt=0, allow_inf_nan=False)
    head_s: float = setting(
        30.0,
        SERVING,
        "How long a request's first line and headers may take to arrive, however slowly they drip in.",
        gt=0,
        allow_inf_nan=False,
    )
    drain_s: float = setting(
        10.0,
        "serve api worker",
        "How long running answers may take to finish at shutdown.",
        ge=0,
        allow_inf_nan=False,
    )

    # Cleaning memories unasked
    memory_clean_idle_s: float = setting(
        0.0, "serve worker", "Clean a session's memory when it has been idle for so long; 0 = never.", ge=0, le=10**9
    )
    memory_clean_every_writes: int = setting(
        0, "serve worker", "Clean a session's memory after so many writes to it (segments or tokens); 0 = never.", ge=0
    )
    memory_clean_rank: float = setting(
        0.0, "serve worker", "Clean a session's memory above this mean effective rank; 0 = never.", ge=0, le=10**6
    )
    memory_clean_energy: float = setting(
        0.95, "serve worker", "What such a cleaning keeps: the part of the energy that drop_top leaves.", gt=0, le=1
    )
    memory_clean_max_rank: int = setting(
        0, "serve worker", "What such a cleaning keeps: at most so many components; 0 = any.", ge=0
    )
    memory_clean_drop_top: int = setting(
        0, "serve worker", "What such a cleaning drops first: so many of the strongest components.", ge=0
    )

    # Who
    api_keys: Annotated[tuple[str, ...], NoDecode] = setting(
        (),
        SERVING,
        "Comma-separated sha256 hashes of the keys, or label:hash; the label names the tenant. Limits may follow, in "
        "place of the defaults: label:hash;concurrent=4;rpm=60;stored_bytes=1000000000;max_tokens=512 (0 lifts one). "
        "Keys of one label share sessions and limits; the tightest that any of them names counts.",
    )
    api_keys_file: Path | None = setting(None, SERVING, "A file with one such entry a line; # begins a comment.")
    allow_anonymous: bool = setting(
        False, SERVING, "Allow a listening address that is not loopback without any API key."
    )

    cors_origins: Annotated[tuple[str, ...], NoDecode] = setting(
        (),
        SERVING,
        "Comma-separated origins whose pages may call this server from a browser, as https://app.example; * = any. "
        "Cookies are never accepted.",
    )

    # What is told
    worker_metrics_port: int = setting(
        0, "serve worker", "Port of a worker's own Prometheus metrics, on HOST; 0 = none.", ge=0, le=65535
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", EVERYWHERE, "The least severe line shown."
    )
    log_format: Literal["auto", "console", "json"] = setting(
        "auto", EVERYWHERE, "auto is console on a terminal and JSON elsewhere."
    )

    @field_validator("api_keys", "cors_origins", "model_aliases", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("log_level", "log_format", "ops", "dtype", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("data_dir", "cache_dir", "api_keys_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @field_validator("memory", mode="before")
    @classmethod
    def _memory(cls, value: object) -> object:
        if not isinstance(value, str | Path):
            return value
        word = str(value).strip()
        known = word.lower() in ("", "auto", "shipped", "none")
        return (word.lower() or "auto") if known else str(Path(word).expanduser().absolute())

    @field_validator("redis_url", "api_keys_file", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise PydanticCustomError("redis_url", "a redis://, rediss:// or unix:// address")
        return value

    @field_validator("api_keys")
    @classmethod
    def _key_hashes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, entry in enumerate(value, 1):
            if not is_entry(entry):  # never repeated: it may be a key pasted where its hash belongs
                raise PydanticCustomError(
                    "api_keys",
                    "entries that are {known}; entry {number} is none of these",
                    {"known": AN_ENTRY, "number": number},
                )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not ORIGIN.match(entry):
                raise PydanticCustomError(
                    "cors_origins", "origins as https://app.example or http://localhost:3000, without a path, or *"
                )
        return value

    @field_validator("model_aliases")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not ALIAS.match(entry):
                raise PydanticCustomError("model_aliases", "names as gpt-4o-mini, or pairs as gpt-4o-mini=smollm2-135m")
        return value

    @model_validator(mode="after")
    def _default_within_limit(self) -> "Settings":
        if self.max_tokens_default > self.max_tokens_limit:
            raise PydanticCustomError(
                "max_tokens_default",
                "PERENNIAL_MAX_TOKENS_DEFAULT: expected at most PERENNIAL_MAX_TOKENS_LIMIT ({limit})",
                {"limit": self.max_tokens_limit},
            )
        return self

    def access(self) -> Access:
        """Who may come in and how much each may have. Raises SettingsError, naming an entry by its place only."""
        listed = [(f"{PREFIX}API_KEYS, entry {number}", entry) for number, entry in enumerate(self.api_keys, 1)]
        default = Limits(self.max_concurrent, self.requests_per_minute, self.max_stored_bytes)
        try:
            return read_access([*listed, *self._filed()], default)
        except ValueError as e:
            raise SettingsError([str(e)]) from None

    def _filed(self) -> Iterator[tuple[str, str]]:
        """Each entry of `api_keys_file`, and where it stands. Raises SettingsError for one that cannot be read."""
        if self.api_keys_file is None:
            return
        name = f"{PREFIX}API_KEYS_FILE: {self.api_keys_file}"
        try:
            text = self.api_keys_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError([f"{name}: cannot be read: {getattr(e, 'strerror', None) or 'not UTF-8'}"]) from e
        for number, raw in enumerate(text.splitlines(), 1):
            if line := raw.partition("#")[0].strip():
                yield f"{name}, line {number}", line

    def check_exposure(self) -> bool:
        """Whether anyone may use the server without a key. Raises SettingsError where that would reach the network."""
        anonymous = not self.access().tenants
        if anonymous and not self.allow_anonymous and not is_loopback(self.host):
            raise SettingsError(
                [
                    f"PERENNIAL_HOST: {self.host} can be reached from other machines, and no API keys are configured. "
                    "Set PERENNIAL_API_KEYS (or PERENNIAL_API_KEYS_FILE), or PERENNIAL_ALLOW_ANONYMOUS=true if "
                    "anyone may use it, or listen on 127.0.0.1."
                ]
            )
        return anonymous

    def environment(self) -> dict[str, str]:
        """The settings that differ from their defaults, as environment variables: what a child process is given."""
        out: dict[str, str] = {}
        for name in sorted(self.model_fields_set):
            value = getattr(self, name)
            if value is None:
                continue
            out[PREFIX + name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
        return out


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than localhost counts as reachable."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_settings(flags: Mapping[str, Any] | None = None, *, env_file: Path | None = Path(ENV_FILE)) -> Settings:
    """Settings from flags (by field name), the environment and a `.env` file, in that order of precedence.

    Raises SettingsError with every problem found, a line each.
    """
    flags = dict(flags or {})
    lines = [
        _unknown(name) for name in _given_names(env_file) if name[len(PREFIX) :].lower() not in Settings.model_fields
    ]
    try:
        sources: dict[str, Any] = {"_env_file": env_file, **flags}
        settings = Settings(**sources)
    except ValidationError as e:
        lines += [_readable(error, flags) for error in e.errors(include_url=False)]
        raise SettingsError(lines) from None
    if lines:
        raise SettingsError(lines)
    return settings


def _given_names(env_file: Path | None) -> list[str]:
    """Every name under our prefix that the environment or the file sets."""
    names = set(os.environ)
    if env_file is not None and env_file.is_file():
        try:
            names |= set(dotenv_values(env_file))
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError([f"{env_file}: cannot be read: {getattr(e, 'strerror', None) or 'not UTF-8'}"]) from e
    return sorted(name for name in names if name.upper().startswith(PREFIX))


def _unknown(variable: str) -> str:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    near = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=0.6)
    if LINK_VARIABLE.match(variable):
        return f"{variable}: set by Kubernetes for a Service named perennial; give the pod enableServiceLinks: false"
    if near:
        return f"{variable}: there is no such setting; did you mean {near[0]}?"
    return f"{variable}: there is no such setting; `perennial serve --help` lists them all"


def _readable(error: ErrorDetails, flags: Mapping[str, object]) -> str:
    """One line for a pydantic error: where it was set, what was set (never a key or an address), what is allowed."""
    if not error["loc"]:
        return error["msg"]
    name = str(error["loc"][0])
    where = "--" + name.replace("_", "-") if name in flags else PREFIX + name.upper()
    shown = "" if name.startswith("api_keys") or "url" in name else f"{str(error['input'])[:80]!r} is not allowed; "
    return f"{where}: {shown}expected {allowed(name, error['msg'])}"


def allowed(name: str, otherwise: str = "") -> str:
    """What a setting may be, in words: its choices, its range or its kind."""
    field = Settings.model_fields[name]
    annotation = field.annotation
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choices)
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        bounds = {key: getattr(m, key) for m in field.metadata for key in ("ge", "gt", "le") if hasattr(m, key)}
        kind = "a whole number" if annotation is int else "a number"
        low = f" of at least {bounds['ge']}" if "ge" in bounds else f" above {bounds['gt']}" if "gt" in bounds else ""
        high = f" and at most {bounds['le']}" if "le" in bounds else ""
        return kind + low + high
    pattern = next((m.pattern for m in field.metadata if getattr(m, "pattern", None)), None)
    return f"text that matches {pattern}" if pattern else otherwise[:1].lower() + otherwise[1:]
