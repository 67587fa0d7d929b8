"""Settings come from code and environment, and a wrong one says which it is and what it should be."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
from datetime import timedelta
from functools import cached_property
from typing import Any

import pytest
from pydantic import Field, PrivateAttr, SecretStr
from pydantic_settings import SettingsConfigDict

from firestore_flowstate import FlowStateSettings

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has set says nothing about the defaults."""
    for variable in tuple(os.environ):
        if variable.startswith(("FLOWSTATE_", "GOOGLE_CLOUD_", "GCLOUD_", "FIREBASE_", "FIRESTORE_")):
            monkeypatch.delenv(variable)


def _message(**values: Any) -> str:
    with pytest.raises(ValueError) as refusal:
        FlowStateSettings(**values)
    return str(refusal.value)


class Codec:
    name = "mine"

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes) -> bytes:
        return data


def test_defaults() -> None:
    """They name Genkit's collection in the default database, and let nothing expire."""
    expected = {
        "project": None,
        "database": "(default)",
        "collection": "genkit-flows",
        "layout": "serialized",
        "page_size": 10,
        "timeout": 30.0,
        "expire_after": None,
        "expire_when": "finished",
        "compress_over": 4096,
        "max_request_bytes": 10 * 1024 * 1024,
        "keys": None,
        "current_key": None,
        "require_encryption": False,
        "codecs": (),
        "retired_codecs": (),
        "shards": 1,
        "write_shards": None,
        "emulator_host": None,
        "endpoint": None,
    }

    assert expected == FlowStateSettings().model_dump(include=set(expected))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("project", "my-project", "my-project"),
        ("database", "other", "other"),
        ("collection", "tenants/acme/flows", "tenants/acme/flows"),
        ("layout", "native", "native"),
        ("page_size", "300", 300),
        ("timeout", "2.5", 2.5),
        ("expire_after", "3600", timedelta(hours=1)),
        ("expire_after", "P30D", timedelta(days=30)),
        ("expire_when", "always", "always"),
        ("compress_over", "0", 0),
        ("max_request_bytes", "4194304", 4194304),
        ("keys", json.dumps({"one": KEY}), {"one": KEY}),
        ("shards", "8", 8),
        ("emulator_host", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("endpoint", "firestore.example.com:443", "firestore.example.com:443"),
    ],
)
def test_each_field_has_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
    """The variable is FLOWSTATE_ and the name in upper case. An empty one counts as absent, and code wins."""
    variable = f"FLOWSTATE_{name.upper()}"
    monkeypatch.setenv(variable, text)
    assert value == getattr(FlowStateSettings(), name)

    default = FlowStateSettings.model_fields[name].default
    assert default == getattr(FlowStateSettings(**{name: default}), name)
    monkeypatch.setenv(variable, "")
    assert default == getattr(FlowStateSettings(), name)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("project", "", "name without slashes"),
        ("project", "a/b", "name without slashes"),
        ("project", " a", "surrounding spaces"),
        ("project", 5, "valid string"),
        ("database", "", "name without slashes"),
        ("database", "a/b", "name without slashes"),
        ("database", "q q", "id of a database"),
        ("database", "a%20b", "id of a database"),
        ("database", "a:b", "id of a database"),
        ("database", "(other)", "id of a database"),
        ("database", "é", "id of a database"),
        ("database", "a\nb", "id of a database"),
        ("database", "a\n", "name without slashes"),
        ("database", "..", "id of a database"),
        ("database", "__a__", "id of a database"),
        ("database", "a" * 101, "id of a database"),
        ("collection", "", "is empty"),
        ("collection", "a/b", "odd number of names"),
        ("collection", "/a", "is empty"),
        ("collection", "a//b", "is empty"),
        ("collection", "a/../b", "reserves"),
        ("collection", "__a__", "reserves"),
        ("collection", "é" * 751, "1,502 bytes"),
        ("collection", "\ud800", "surrogate"),
        ("layout", "json", "'serialized' or 'native'"),
        ("page_size", 0, "greater than or equal to 1"),
        ("page_size", 301, "less than or equal to 300"),
        ("page_size", "ten", "valid integer"),
        ("page_size", True, "must be a number, not True"),
        ("page_size", 1.5, "valid integer"),
        ("timeout", 0, "greater than 0"),
        ("timeout", -1, "greater than 0"),
        ("timeout", float("inf"), "finite number"),
        ("timeout", float("nan"), "greater than 0|finite number"),
        ("timeout", "soon", "valid number"),
        ("timeout", True, "must be a number, not True"),
        ("expire_after", timedelta(0), "longer than 0 seconds"),
        ("expire_after", timedelta(days=-1), "longer than 0 seconds"),
        ("expire_after", True, "a timedelta or a number of seconds, not True"),
        ("expire_after", "a month", "valid timedelta|duration"),
        ("expire_when", "later", "'finished' or 'always'"),
        ("compress_over", -1, "greater than or equal to 0"),
        ("max_request_bytes", 1000, "greater than or equal to 65536"),
        ("max_request_bytes", 11 * 1024 * 1024, "less than or equal to 10485760"),
        ("shards", 0, "greater than or equal to 1"),
        ("shards", 501, "less than or equal to 500"),
        ("shards", False, "must be a number, not False"),
        ("emulator_host", "localhost", "host:port such as"),
        ("emulator_host", "localhost:", "host:port such as"),
        ("emulator_host", ":8080", "host:port such as"),
        ("emulator_host", "localhost:70000", "host:port such as"),
        ("emulator_host", "localhost:0", "host:port such as"),
        ("emulator_host", "localhost:port", "host:port such as"),
        ("emulator_host", "localhost:8080/path", "host:port such as"),
        ("emulator_host", " 127.0.0.1:8080", "host:port such as"),
        ("emulator_host", "127.0.0.1:8080 ", "host:port such as"),
        ("emulator_host", "127.0.0.1:8080\n", "host:port such as"),
        ("emulator_host", "a b:80", "host:port such as"),
        ("emulator_host", "u@h:80", "host:port such as"),
        ("emulator_host", "::1:8080", "host:port such as"),
        ("emulator_host", "[::1:8080", "host:port such as"),
        ("emulator_host", "http://http://h:80", "host:port such as"),
        ("emulator_host", "a..b:80", "host:port such as"),
        ("emulator_host", ".:80", "host:port such as"),
        ("emulator_host", ".a:80", "host:port such as"),
        ("emulator_host", "a..:80", "host:port such as"),
        ("emulator_host", f"{64 * 'x'}.example:80", "host:port such as"),
        ("endpoint", "https://firestore.example.com", "name without slashes"),
        ("endpoint", "host:port", "host or host:port such as"),
        ("endpoint", "host:99999", "host or host:port such as"),
        ("endpoint", "host:", "host or host:port such as"),
        ("endpoint", "a b", "host or host:port such as"),
        ("endpoint", ":443", "host or host:port such as"),
        ("endpoint", "::1", "host or host:port such as"),
        ("endpoint", "u@h", "host or host:port such as"),
        ("endpoint", "firestore.googleapis.com:443:1", "host or host:port such as"),
        ("endpoint", "a..b", "host or host:port such as"),
        ("endpoint", f"example.{64 * 'x'}:443", "host or host:port such as"),
        ("require_encryption", "perhaps", "valid boolean"),
        ("unknown", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: Any, rule: str) -> None:
    """The message names the field and the rule."""
    message = _message(**{name: value})

    assert name in message
    assert any(part in message for part in rule.split("|")), message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("COLLECTION", "a/b"),
        ("LAYOUT", "json"),
        ("PAGE_SIZE", "0"),
        ("PAGE_SIZE", "ten"),
        ("TIMEOUT", "-1"),
        ("EXPIRE_AFTER", "a month"),
        ("SHARDS", "1000"),
        ("EMULATOR_HOST", "8080"),
        ("ENDPOINT", "host:port"),
        ("CODECS", "x"),
        ("RETIRED_CODECS", "x"),
        ("CODECS", '["x"]'),
        ("KEYS", "no JSON"),
        ("KEYS", '{"one": "no key"}'),
        ("KEYS", "[1]"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Who reads the message sees which variable to correct."""
    monkeypatch.setenv(f"FLOWSTATE_{name}", text)

    assert f"FLOWSTATE_{name}" in _message()


@pytest.mark.parametrize(
    "endpoint",
    [
        "firestore.example.com",
        "emulated_by:8443",
        "10.0.0.1",
        "[::1]:8443",
        "[::1]",
        "ö.de:1",
        "a.de.",
        f"{63 * 'x'}.de",
    ],
)
def test_an_endpoint_is_a_host_with_a_port_or_without(endpoint: str) -> None:
    """It is kept as it is given."""
    assert endpoint == FlowStateSettings(endpoint=endpoint).endpoint


def test_the_variable_is_not_blamed_for_what_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong argument is named as the argument, whatever the environment says."""
    monkeypatch.setenv("FLOWSTATE_PAGE_SIZE", "5")

    assert "FLOWSTATE_PAGE_SIZE" not in _message(page_size=0)


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"": KEY}, "1 to 64"),
        ({"é": KEY}, "1 to 64"),
        ({"x" * 65: KEY}, "1 to 64"),
        ({"one": "not base64!"}, "not base64"),
        ({"one": base64.b64encode(b"short").decode()}, "has 5 bytes; AES takes 16, 24 or 32"),
    ],
    ids=range(5),
)
def test_wrong_keys_are_refused(keys: dict[str, str], rule: str) -> None:
    """The message names the rule, and no key."""
    message = _message(keys=keys)

    assert rule in message
    assert not any(key in message for key in keys.values())


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"keys": {"one": KEY}, "current_key": "two"}, "'two' is not among keys (one)"),
        ({"current_key": "one"}, "'one' is not among keys (there are none)"),
        ({"keys": {"one": KEY, "two": KEY}}, "current_key must name one of several keys (one, two)"),
        ({"require_encryption": True}, "require_encryption is on, but keys has none"),
        ({"shards": 2, "layout": "native"}, "shards need the serialized layout"),
        ({"keys": {"one": KEY}, "layout": "native"}, "keys need the serialized layout"),
        ({"keys": {"one": KEY}, "require_encryption": True, "layout": "native"}, "keys need the serialized layout"),
        ({"codecs": [Codec()], "layout": "native"}, "codecs need the serialized layout"),
        ({"codecs": [Codec()], "retired_codecs": [Codec()]}, "codecs and retired_codecs both have the name 'mine'"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_values_that_do_not_fit_together_are_refused(values: dict[str, Any], rule: str) -> None:
    """The message says which do not, and shows no key."""
    message = _message(**values)

    assert rule in message
    assert KEY not in message


def test_keys_are_not_shown() -> None:
    """Settings that end up in a log give no key away."""
    settings = FlowStateSettings(keys={"one": KEY})

    assert KEY not in repr(settings)
    assert KEY not in str(settings)


@pytest.mark.parametrize(
    ("environment", "project"),
    [
        ({}, None),
        ({"GOOGLE_CLOUD_PROJECT": "google"}, "google"),
        ({"GCLOUD_PROJECT": "gcloud"}, "gcloud"),
        ({"GOOGLE_CLOUD_PROJECT": "google", "GCLOUD_PROJECT": "gcloud"}, "google"),
        ({"GOOGLE_CLOUD_PROJECT": "", "GCLOUD_PROJECT": "gcloud"}, "gcloud"),
        ({"FIREBASE_CONFIG": '{"projectId": "firebase", "databaseURL": "x"}'}, "firebase"),
        ({"FIREBASE_CONFIG": '{"projectId": "firebase"}', "GCLOUD_PROJECT": "gcloud"}, "gcloud"),
        ({"FIREBASE_CONFIG": "{broken"}, None),
        ({"FIREBASE_CONFIG": '{"projectId": 5}'}, None),
        ({"FIREBASE_CONFIG": "{}"}, None),
        ({"FIREBASE_CONFIG": "config.json"}, None),
        ({"FLOWSTATE_PROJECT": "ours", "GOOGLE_CLOUD_PROJECT": "google"}, "ours"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_project_is_found_where_google_looks(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], project: str | None
) -> None:
    """It is our variable first, then Google's in the order of their own libraries. Code wins over all."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    assert project == FlowStateSettings().project
    assert "code" == FlowStateSettings(project="code").project


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:8080", "localhost:8080"),
        ("[::1]:8080", "[::1]:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("", None),
    ],
)
def test_the_emulators_variable_is_honoured(monkeypatch: pytest.MonkeyPatch, host: str, found: str | None) -> None:
    """A scheme in front and an empty value, both of which break Google's client, do no harm here."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)

    assert found == FlowStateSettings().emulator_host
    assert "other:1" == FlowStateSettings(emulator_host="other:1").emulator_host


def test_a_wrong_emulator_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names whichever of the two variables was wrong."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "8080")
    assert "FIRESTORE_EMULATOR_HOST" in _message()
    monkeypatch.setenv("FLOWSTATE_EMULATOR_HOST", "8081")

    assert "FLOWSTATE_EMULATOR_HOST" in _message()


def test_settings_do_not_change() -> None:
    """A store can rely on what it was given."""
    with pytest.raises(ValueError, match="frozen"):
        FlowStateSettings().page_size = 5  # type: ignore[misc]


def test_keys_do_not_change() -> None:
    """They do not, whatever becomes of the dict that they were given in. Who copies the settings copies the keys."""
    given = {"one": KEY}
    settings = FlowStateSettings(keys=given)
    given["two"] = KEY
    kept: Any = settings.keys
    with pytest.raises(TypeError):
        kept["two"] = KEY
    with pytest.raises(TypeError):
        del kept["one"]

    assert {"one": KEY} == kept == settings.model_dump()["keys"] == json.loads(settings.model_dump_json())["keys"]
    pickled = pickle.loads(pickle.dumps(settings))  # noqa: S301  # our own
    assert settings == pickled == settings.model_copy(deep=True) == FlowStateSettings(keys=kept)


def test_write_shards_have_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes with that of shards: no more can be written to than lists ask."""
    monkeypatch.setenv("FLOWSTATE_SHARDS", "8")
    monkeypatch.setenv("FLOWSTATE_WRITE_SHARDS", "4")
    assert (8, 4) == (FlowStateSettings().shards, FlowStateSettings().write_shards)
    monkeypatch.setenv("FLOWSTATE_SHARDS", "2")
    assert "write_shards is 4" in _message()
    monkeypatch.setenv("FLOWSTATE_WRITE_SHARDS", "0")
    assert "FLOWSTATE_WRITE_SHARDS" in _message()
    monkeypatch.setenv("FLOWSTATE_WRITE_SHARDS", "")

    assert FlowStateSettings().write_shards is None


@pytest.mark.parametrize(
    "update",
    [
        {"lay_out": "native"},
        {"layout": "Native"},
        {"shards": 0},
        {"shards": True},
        {"timeout": -5},
        {"collection": "a/b"},
        {"emulator_host": "localhost"},
        {"keys": {"one": base64.b64encode(b"short").decode()}},
        {"keys": {"one": KEY, "two": KEY}},
        {"write_shards": 9},
        {"layout": "native", "shards": 2},
        {"codecs": [Codec(), Codec()]},
    ],
    ids=lambda update: ", ".join(update),
)
def test_a_copy_is_checked(update: dict[str, Any]) -> None:
    """Who copies settings with others is told what is wrong, as who makes them is."""
    with pytest.raises(ValueError) as refusal:
        FlowStateSettings(shards=8).model_copy(update=update)

    assert _message(**{"shards": 8, **update}) == str(refusal.value)
    assert KEY not in str(refusal.value)


def test_a_copy_fits_together_with_what_it_is_a_copy_of() -> None:
    """What is wrong may lie in what is not updated."""
    with pytest.raises(ValueError, match="keys need the serialized layout"):
        FlowStateSettings(keys={"one": KEY}).model_copy(update={"layout": "native"})


def test_a_copy_has_its_values_as_settings_have_them() -> None:
    """They are what `FlowStateSettings` makes of them. What was set is known."""
    settings = FlowStateSettings(page_size=5)
    copied = settings.model_copy(update={"expire_after": 60, "shards": "3", "emulator_host": "http://localhost:80/"})

    assert (timedelta(seconds=60), 3, "localhost:80") == (copied.expire_after, copied.shards, copied.emulator_host)
    assert {"expire_after", "shards"} <= copied.model_fields_set - settings.model_fields_set
    assert FlowStateSettings(page_size=5, expire_after=60, shards=3, emulator_host="localhost:80") == copied
    assert (5, None, 1) == (settings.page_size, settings.expire_after, settings.shards)


def test_the_environment_is_not_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings were made before, or by a process that has other variables. Not even a broken variable counts."""
    settings = FlowStateSettings(keys={"one": KEY})
    monkeypatch.setenv("FLOWSTATE_KEYS", json.dumps({"two": KEY}))
    monkeypatch.setenv("FLOWSTATE_CODECS", "x")
    monkeypatch.setenv("FLOWSTATE_PAGE_SIZE", "0")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "other")
    copied = settings.model_copy(update={"shards": 2, "project": None})

    assert {"one": KEY} == copied.keys
    assert (10, None, None) == (copied.page_size, copied.emulator_host, copied.project)


class Client:
    """What can be compared with itself alone, and not be copied."""

    def __deepcopy__(self, memo: object) -> Client:
        raise TypeError("a client is not copied")


class OwnSettings(FlowStateSettings):
    """Settings of an application's own."""

    model_config = SettingsConfigDict(extra="allow")

    secret: SecretStr
    client: Client
    bucket: str = Field(default="none", validation_alias="APP_BUCKET")
    _opened: list[int] = PrivateAttr(default_factory=list)

    @cached_property
    def url(self) -> str:
        return f"gs://{self.bucket}"


def test_a_copy_has_the_same_objects() -> None:
    """Functions, codecs and clients of the application's own are not made again, in settings of its own either."""

    def key() -> bytes:
        return b"k" * 32

    codec, secret, client = Codec(), SecretStr("hush"), Client()
    settings = OwnSettings(
        keys={"one": key},
        codecs=[codec],
        secret=secret,
        client=client,
        region="eu",
        APP_BUCKET="a",  # type: ignore[call-arg]  # its alias
    )
    assert "gs://a" == settings.url
    copied = settings.model_copy(update={"shards": 2, "bucket": "b"})
    kept: Any = copied.keys

    assert kept["one"] is key
    assert copied.codecs[0] is codec
    assert copied.secret is secret
    assert copied.client is client
    assert copied._opened is settings._opened
    assert ("gs://b", OwnSettings, {"region": "eu"}) == (copied.url, type(copied), copied.model_extra)


def test_copies_without_changes_are_as_they_were() -> None:
    """Copies and pickles of settings are equal to them, also if the environment is another one by then."""
    settings = FlowStateSettings(keys={"one": KEY}, shards=3, codecs=[Codec()])
    pickled = pickle.loads(pickle.dumps(settings))  # noqa: S301  # our own

    assert settings == copy.copy(settings) == settings.model_copy() == settings.model_copy(update={})
    assert settings.keys == copy.deepcopy(settings).keys == pickled.keys
    assert settings.shards == copy.deepcopy(settings).shards == pickled.shards
