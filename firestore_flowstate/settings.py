"""The settings of a store, from code or from the environment (``FLOWSTATE_*``)."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_serializer, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from typing_extensions import Self, override

from ._limits import check_collection_path
from .codecs import PayloadCodec
from .errors import shown

MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024  # https://firebase.google.com/docs/firestore/quotas
EMULATOR_REQUEST_BYTES: Final = 4 * 1024 * 1024  # gRPC's default message limit, which the emulator keeps
_PREFIX: Final = "FLOWSTATE_"
_GOOGLES_PROJECT: Final = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")
_SECONDS: Final = re.compile(r"\d+(\.\d+)?")
_AES_KEY_BYTES: Final = (16, 24, 32)
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_PROJECT_ID: Final = re.compile(r"([a-z0-9.-]+:)?[a-z0-9-]+")  # old ones have a domain in front
_DATABASE_ID: Final = re.compile(r"\(default\)|(?!\.{1,2}$|__.*__$)[A-Za-z0-9._-]{1,100}")
"""Ids of Google's have 4 to 63 characters of ``[a-z0-9-]``. The emulator takes all of these here. Its answer to another
id does not say what is wrong, so that calls would be tried again until their time is up."""
_IN_CODE_ONLY: Final = (f"{_PREFIX}CODECS", f"{_PREFIX}RETIRED_CODECS")
_LABEL: Final = r"[^\s\x00-\x1f:/@\[\]?#.]{1,63}"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+(%\w+)?\]")
"""A name, which a resolver takes in any script, or an IPv4 address, or an IPv6 address in brackets.

A label of a name has at most 63 octets: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
"""
_PORT: Final = re.compile(r"[0-9]{1,5}")
_COPYING: Final = object()
"""The context in which the values of a copy are checked."""
_CODEC_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")


class _Keys(Mapping[str, str | Callable[[], bytes]]):
    """Keys by their ids, which nobody changes. Unlike a mappingproxy it can be pickled and copied."""

    def __init__(self, keys: Mapping[str, str | Callable[[], bytes]]) -> None:
        self._keys = dict(keys)

    def __getitem__(self, key_id: str) -> str | Callable[[], bytes]:
        return self._keys[key_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class FlowStateSettings(BaseSettings):
    """Where flow states are kept, and how.

    Every field can be given by name or by an environment variable of the same name in upper case behind
    ``FLOWSTATE_``; a name given in code wins. An empty variable counts as absent.

    ::

        settings = FlowStateSettings(collection="tenants/acme/flows", expire_after=timedelta(days=30))

    Attributes:
        project: The id of the Google Cloud project. None: the first of the variables GOOGLE_CLOUD_PROJECT and
            GCLOUD_PROJECT, the ``projectId`` of FIREBASE_CONFIG, and the project that the credentials name. If none of
            these names one and the emulator is used, it is ``demo-flowstate``.
        database: The id of the Firestore database.
        collection: The collection of the flow states. A nested one is a path: ``tenants/acme/flows``.
        layout: How new documents are written. Documents of both layouts are read, whatever it is. "serialized" holds
            any JSON exactly. "native" writes what Genkit JS reads, for a collection that is shared with it, and goes
            with neither keys, codecs nor shards.
        page_size: How many states a page of `list` has if the query has no limit, 1 to 300.
        timeout: How many seconds a call may take, retries included. Each MiB beyond the first adds one second.
        expire_after: How long after its last write a state expires; None: never. As a variable: seconds, or
            ISO 8601 such as ``P30D``.
        expire_when: "finished": only states that are done or failed expire. "always": every state does.
        compress_over: Values with more bytes than this are compressed (zstd); smaller ones stay readable JSON.
        max_request_bytes: How many bytes a request may have, if what it writes can be sent in several: the parts of a
            large state, and the states of `save_many`. What has to be written at once is sent at once: a root or a part
            of up to 1 MiB, and the deletion of all parts. Firestore takes up to 10 MiB. The emulator takes up to 4 MiB,
            and with it no larger request is sent, whatever this says.
        keys: Encryption keys by id, each of 16, 24 or 32 bytes in base64. In code a key may be a function that returns
            its bytes, such as a call of a KMS; it is called when the key is first needed. As a variable: a JSON object.
        current_key: The id of the key to encrypt new values with; may be left out if there is one key.
        require_encryption: Refuse to read values that are not encrypted, and to read or update native documents, which
            never are.
        codecs: Codecs of the application's own, which values go through before compression. In code only.
        retired_codecs: Codecs that stored values have gone through. They are used to read these, and for no new value.
            In code only.
        shards: How many shards to spread writes over, 1 to 500. 1 is enough up to 500 writes a second.
        write_shards: How many of the shards to write to; None: all. Lists ask all of them. It lets you raise and lower
            `shards` while several processes run: docs/scale.md.
        emulator_host: ``host:port`` of the Firestore emulator; None: that of FIRESTORE_EMULATOR_HOST, if it is set.
        endpoint: Another address of the Firestore service than the usual one, ``host`` or ``host:port``.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=False,
        arbitrary_types_allowed=True,
    )

    project: str | None = None
    database: str = "(default)"
    collection: str = "genkit-flows"
    layout: Literal["serialized", "native"] = "serialized"
    page_size: int = Field(default=10, ge=1, le=300)
    timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    expire_after: timedelta | None = None
    expire_when: Literal["finished", "always"] = "finished"
    compress_over: int = Field(default=4096, ge=0)
    max_request_bytes: int = Field(default=MAX_REQUEST_BYTES, ge=64 * 1024, le=MAX_REQUEST_BYTES)
    keys: Mapping[str, str | Callable[[], bytes]] | None = Field(default=None, repr=False)
    current_key: str | None = None
    require_encryption: bool = False
    codecs: Sequence[PayloadCodec] = ()
    retired_codecs: Sequence[PayloadCodec] = ()
    shards: int = Field(default=1, ge=1, le=500)
    write_shards: int | None = Field(default=None, ge=1)
    emulator_host: str | None = None
    endpoint: str | None = None

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _naming_variables(error, given=values) from None
        except SettingsError as error:
            raise _naming_codecs(error) from None

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, which are checked as those of new settings are.

        No variable of the environment counts for a copy.

        ::

            native = FlowStateSettings().model_copy(update={"layout": "native"})

        Args:
            update: The other values by the names of their fields.
            deep: Whether to copy the values too.

        Raises:
            ValidationError: A value is wrong, does not fit together with the others, or has the name of no field.
        """
        copied = super().model_copy(update=update, deep=deep)
        if not update:
            return copied
        known = type(self).model_fields.keys() | update.keys()
        values = {name: value for name, value in copied.__dict__.items() if name in known}  # a cached_property is not
        values.update(copied.__pydantic_extra__ or {})
        checked = type(self).__new__(type(self))
        try:
            # Unlike `__init__`, which reads the environment.
            self.__pydantic_validator__.validate_python(values, self_instance=checked, context=_COPYING, by_name=True)
        except ValidationError as error:
            raise _naming_variables(error, given=values) from None
        object.__setattr__(copied, "__dict__", checked.__dict__)
        object.__setattr__(copied, "__pydantic_extra__", checked.__pydantic_extra__)
        return copied

    @field_validator(
        "page_size", "timeout", "compress_over", "max_request_bytes", "shards", "write_shards", mode="before"
    )
    @classmethod
    def _is_no_bool(cls, value: Any) -> Any:
        if isinstance(value, bool):  # which Python counts as 0 and 1
            raise ValueError(f"must be a number, not {value}")  # noqa: TRY004  # pydantic reports ValueError
        return value

    @field_validator("collection")
    @classmethod
    def _collection_is_a_path(cls, collection: str) -> str:
        check_collection_path(collection)
        return collection

    @field_validator("project", "database", "endpoint", "current_key")
    @classmethod
    def _is_one_name(cls, name: str | None) -> str | None:
        if name is not None and (not name or "/" in name or name.strip() != name):
            raise ValueError(f"must be a name without slashes and surrounding spaces, not {name!r}")
        return name

    @field_validator("database")
    @classmethod
    def _is_a_database_id(cls, database: str) -> str:
        if not _DATABASE_ID.fullmatch(database):
            raise ValueError(
                "must be the id of a database, of lower-case letters, digits and hyphens such as flows-eu, or "
                f"(default), not {shown(database)}"
            )
        return database

    @field_validator("project")
    @classmethod
    def _is_a_project_id(cls, project: str | None) -> str | None:
        if project is not None and not _PROJECT_ID.fullmatch(project):
            raise ValueError(
                "must be the id of a project, of lower-case letters, digits and hyphens such as my-project-1234, and "
                f"not its name: {project!r}"
            )
        return project

    @field_validator("emulator_host")
    @classmethod
    def _is_host_and_port(cls, host: str | None) -> str | None:
        return None if host is None else _host_and_port(host)

    @field_validator("endpoint")
    @classmethod
    def _is_host_perhaps_with_port(cls, endpoint: str | None) -> str | None:
        if endpoint is None or _HOST.fullmatch(endpoint):
            return endpoint
        name, _, port = endpoint.rpartition(":")
        if not (_HOST.fullmatch(name) and _is_port(port)):
            raise ValueError(f"must be host or host:port such as firestore.example.com:443, not {endpoint!r}")
        return endpoint

    @field_validator("expire_after", mode="before")
    @classmethod
    def _may_be_seconds(cls, duration: Any) -> Any:
        if isinstance(duration, bool):
            raise ValueError(f"must be a timedelta or a number of seconds, not {duration}")  # noqa: TRY004  # as above
        if isinstance(duration, str) and _SECONDS.fullmatch(duration.strip()):
            return float(duration)  # pydantic takes a number for seconds, and does not take the text of a number
        return duration

    @field_validator("expire_after")
    @classmethod
    def _is_positive(cls, duration: timedelta | None) -> timedelta | None:
        if duration is not None and duration <= timedelta(0):
            raise ValueError(f"must be longer than 0 seconds, not {duration}; leave it out to keep states for ever")
        return duration

    @field_validator("keys", mode="before")
    @classmethod
    def _are_not_text(cls, keys: Any) -> Any:
        if isinstance(keys, str):  # the text of a variable that is not JSON
            raise ValueError("must be a JSON object of the keys in base64 by their ids")  # noqa: TRY004  # as above
        return keys

    @field_validator("keys")
    @classmethod
    def _are_aes_keys(
        cls, keys: Mapping[str, str | Callable[[], bytes]] | None
    ) -> Mapping[str, str | Callable[[], bytes]] | None:
        for key_id, key in (keys or {}).items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError(f"key id {key_id!r} must be 1 to 64 ASCII letters, digits or . _ : / -")
            if callable(key):
                continue
            try:
                size = len(base64.b64decode(key, validate=True))
            except (binascii.Error, ValueError):
                raise ValueError(f"key {key_id!r} is not base64") from None
            if size not in _AES_KEY_BYTES:
                raise ValueError(f"key {key_id!r} has {size} bytes; AES takes 16, 24 or 32")
        return None if keys is None else _Keys(keys)

    @field_serializer("keys")
    def _as_dict(
        self, keys: Mapping[str, str | Callable[[], bytes]] | None
    ) -> Mapping[str, str | Callable[[], bytes]] | None:
        return None if keys is None else dict(keys)  # pydantic warns of any other mapping

    @field_validator("codecs", "retired_codecs")
    @classmethod
    def _have_names_of_their_own(cls, codecs: Sequence[PayloadCodec]) -> Sequence[PayloadCodec]:
        names = [codec.name for codec in codecs]
        for name in names:
            if not _CODEC_NAME.fullmatch(str(name)):
                raise ValueError(f"the codec name {name!r} must be 1 to 40 ASCII letters, digits or . _ -")
            if name in ("zstd", "aes-gcm"):
                raise ValueError(f"the codec name {name!r} is the package's own")
        if len(set(names)) < len(names):
            raise ValueError(f"two codecs have the same name: {', '.join(names)}")
        return tuple(codecs)

    @model_validator(mode="before")
    @classmethod
    def _look_where_google_looks(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if info.context is _COPYING:
            return values
        found = dict(values)
        if found.get("project") is None:
            found["project"] = _ambient_project()
        if found.get("emulator_host") is None:
            found["emulator_host"] = os.environ.get("FIRESTORE_EMULATOR_HOST") or None
        return found

    @model_validator(mode="after")
    def _fits_together(self) -> FlowStateSettings:
        keys = self.keys or {}
        if self.current_key is not None and self.current_key not in keys:
            raise ValueError(
                f"current_key {self.current_key!r} is not among keys ({', '.join(keys) or 'there are none'})"
            )
        if len(keys) > 1 and self.current_key is None:
            raise ValueError(f"current_key must name one of several keys ({', '.join(keys)})")
        if self.require_encryption and not keys:
            raise ValueError("require_encryption is on, but keys has none")
        if self.layout == "native":
            self._check_native(keys)
        if self.write_shards is not None and self.write_shards > self.shards:
            raise ValueError(
                f"write_shards is {self.write_shards}, but lists ask only the {self.shards} that shards says"
            )
        if both := {codec.name for codec in self.codecs} & {codec.name for codec in self.retired_codecs}:
            raise ValueError(f"codecs and retired_codecs both have the name {min(both)!r}")
        return self

    def _check_native(self, keys: Mapping[str, object]) -> None:
        """Refuse what native documents, which Genkit JS is to read, cannot have."""
        if keys:
            raise ValueError(
                "keys need the serialized layout: native documents are not encrypted. Leave the keys out to write in "
                "the clear; to decrypt a collection, `migrate` it with decrypt"
            )
        if self.codecs:
            raise ValueError(
                "codecs need the serialized layout: native documents go through none. retired_codecs still read what "
                "is serialized"
            )
        if self.shards > 1:
            raise ValueError("shards need the serialized layout: native documents carry no shard. Migrate them first")


def settings_or_default(settings: FlowStateSettings | None) -> FlowStateSettings:
    """Return the settings that a store is given, or those of the environment if it is given None.

    Raises:
        TypeError: It is given something else.
    """
    given: object = settings
    if settings is None:
        return FlowStateSettings()
    if not isinstance(given, FlowStateSettings):
        raise TypeError(f"settings are FlowStateSettings, as FlowStateSettings(collection='flows'), not {shown(given)}")
    return settings


def misspelt_variables() -> Mapping[str, str | None]:
    """Return the FLOWSTATE_ variables of the environment that set nothing, each with the one that was meant.

    The value is None if no name is close enough.
    """
    known = [name.upper() for name in FlowStateSettings.model_fields]
    found: dict[str, str | None] = {}
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(_PREFIX)
        if variable.upper() != name and name not in known:
            meant = get_close_matches(name, known, 1)
            found[variable] = _PREFIX + meant[0] if meant else None
    return found


def _ambient_project() -> str | None:
    for variable in _GOOGLES_PROJECT:
        if project := os.environ.get(variable):
            return project
    config = os.environ.get("FIREBASE_CONFIG", "")
    if config.startswith("{"):  # otherwise the name of a file, which firebase_admin reads and we leave to it
        try:
            parsed = json.loads(config)
        except ValueError:
            return None
        project = parsed.get("projectId") if isinstance(parsed, dict) else None
        return project if isinstance(project, str) and project else None
    return None


def _host_and_port(host: str) -> str:
    """Return host:port; a scheme in front, which breaks Google's own client, is dropped."""
    bare = host.removeprefix("http://").removeprefix("https://").rstrip("/")
    name, colon, port = bare.rpartition(":")
    if not (colon and _HOST.fullmatch(name) and _is_port(port)):
        raise ValueError(f"must be host:port such as 127.0.0.1:8080 or [::1]:8080, not {host!r}")
    return bare


def _is_port(text: str) -> bool:
    return bool(_PORT.fullmatch(text)) and 0 < int(text) < 65536


def _naming_variables(error: ValidationError, *, given: Mapping[str, Any]) -> ValidationError:
    """Return the error, in which each field that came from the environment has the name of its variable."""
    lines = []
    for line in error.errors(include_url=False):
        location = line["loc"]
        if location and location[0] not in given and isinstance(location[0], str):
            variable = _PREFIX + location[0].upper()
            if location[0] == "project" and not os.environ.get(variable):
                variable = next((name for name in _GOOGLES_PROJECT if os.environ.get(name)), "FIREBASE_CONFIG")
            if location[0] == "emulator_host" and not os.environ.get(variable):
                variable = "FIRESTORE_EMULATOR_HOST"
            location = (variable, *location[1:])
        message = line["msg"].replace("{", "{{").replace("}", "}}")
        lines.append(
            InitErrorDetails(type=PydanticCustomError(line["type"], message), loc=location, input=line["input"])
        )
    return ValidationError.from_exception_data(error.title, lines, hide_input=_names_a_key(error))


def _naming_codecs(error: SettingsError) -> SettingsError:
    """Return the error of a variable that is not JSON, by its name. It is one of the two whose values are lists."""
    names = [name for name in sorted(os.environ) if name.upper() in _IN_CODE_ONLY and os.environ[name]]
    if not names:
        return error  # of a field of a subclass
    return SettingsError(f"{' and '.join(names)}: codecs are objects, which are given in code only. Unset the variable")


def _names_a_key(error: ValidationError) -> bool:
    return any("keys" in line["loc"] for line in error.errors(include_url=False, include_input=False)) or any(
        not line["loc"] for line in error.errors(include_url=False, include_input=False)
    )
