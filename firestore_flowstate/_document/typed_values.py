"""Any value of a flow state, read back as a type."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import FlowStateDecodeError
from .json_text import decode, encode


def value_as(value: Any, as_: Any, *, path: str, flow_id: str) -> Any:
    """Return the value as a type that pydantic knows, from its JSON form: the same before it was stored and after.

    Args:
        value: The value, as it was put into the state or as it was loaded.
        as_: The type.
        path: Where it stands in the flow state, for errors.
        flow_id: The flow's id, for errors.

    Raises:
        FlowStateDecodeError: The value is not of the type.
        FlowStateEncodeError: The value has no JSON form.
    """
    text = encode(value, path)
    # Within a tuple, since a model or dataclass takes no configuration from outside.
    adapter = TypeAdapter(tuple[as_], config=ConfigDict(val_json_bytes="base64"))
    try:
        return _validated(adapter, text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        member_path = "".join(f"[{part!r:.80}]" for part in first["loc"][1:])
        raise FlowStateDecodeError(
            f"{path} of the flow state {flow_id!r} cannot be read as {getattr(as_, '__name__', as_)!s:.100}: "
            f"{path}{member_path}: {first['msg']}",
            flow_id=flow_id,
        ) from error


def _validated(adapter: TypeAdapter[Any], text: bytes) -> Any:
    try:
        return adapter.validate_json(b"[" + text + b"]")[0]
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        # Lone surrogates, or deeper than pydantic goes.
        return adapter.validate_python([decode(text)])[0]
