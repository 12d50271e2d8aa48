"""What `push` sends to a router, and the form in which it travels: one JSON object on standard input."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dmvpn.errors import WrongInput
from dmvpn.operations import reading

VERSION = 1
LIMIT_OCTETS = 8 << 20
SECRETS_LIMIT = 128  # awall's files are among them
CONFIRM_LONGEST_S = 86400.0
WHERE = "delivery"


class Order(StrEnum):
    """What the router is to do: say what would change, or change it."""

    PREVIEW = "preview"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A network file for one router, with the secrets that its part of the file names, by their paths there."""

    order: Order
    network: str
    router: str
    text: str
    secrets: Mapping[str, bytes]
    why: str
    confirm_within_s: float


def encode(delivery: Delivery) -> bytes:
    """As it travels."""
    value = {
        "version": VERSION,
        "order": delivery.order,
        "network": delivery.network,
        "router": delivery.router,
        "file": delivery.text,
        "secrets": {name: base64.b64encode(octets).decode() for name, octets in delivery.secrets.items()},
        "why": delivery.why,
        "confirm_within_s": delivery.confirm_within_s,
    }
    return json.dumps(value).encode()


def decode(octets: bytes) -> Delivery:
    """Raises WrongInput, saying what is wrong with it."""
    if len(octets) > LIMIT_OCTETS:
        raise WrongInput(WHERE, f"is larger than {LIMIT_OCTETS} octets")
    try:
        value = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise WrongInput(WHERE, "is not JSON", "it comes from `dmvpn push`") from error
    if not isinstance(value, dict):
        raise WrongInput(WHERE, "is no JSON object", "it comes from `dmvpn push`")
    version = value.get("version")
    if version != VERSION:
        raise WrongInput(WHERE, f"is of version {version!r}, and this program reads version {VERSION}", "update both")
    order = _text(value, "order")
    if order not in tuple(Order):
        raise WrongInput(WHERE, f"order {order!r}")
    names = ("network", "router", "file", "why")
    network, router, text, why = (_text(value, name) for name in names)
    within = value.get("confirm_within_s")
    if not isinstance(within, int | float) or isinstance(within, bool) or not 0 < within <= CONFIRM_LONGEST_S:
        raise WrongInput(WHERE, f"confirm_within_s {within!r}", f"use more than 0, at most {CONFIRM_LONGEST_S:g}")
    return Delivery(Order(order), network, router, text, _secrets(value.get("secrets")), why, float(within))


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise WrongInput(WHERE, f"{name} is missing or no text")
    return found


def _secrets(value: Any) -> dict[str, bytes]:
    if not isinstance(value, dict) or len(value) > SECRETS_LIMIT:
        raise WrongInput(WHERE, f"secrets are no mapping of at most {SECRETS_LIMIT}")
    found = {}
    for name, text in value.items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise WrongInput(WHERE, f"secret {name!r} is not base64") from error
        if len(found[name]) > reading.SECRET_LIMIT_OCTETS:
            raise WrongInput(WHERE, f"secret {name!r} is larger than {reading.SECRET_LIMIT_OCTETS} octets")
    return found
