"""The names in a network file, to complete a command line: without the model, whose import takes too long for that."""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dmvpn.errors import WrongInput


@dataclass(frozen=True, slots=True)
class Names:
    clouds: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()


def names(text: str) -> Names:
    """Those that are there, of a file that may be wrong otherwise. Raises WrongInput for what is no YAML mapping."""
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise WrongInput("network file", "cannot be read as YAML") from error
    sites = _mapping(_mapping(document).get("sites"))
    routers = [router for site in sites.values() for router in _mapping(_mapping(site).get("routers"))]
    return Names(_words(_mapping(_mapping(document).get("clouds"))), _words(sites), _words(routers))


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _words(found: Any) -> tuple[str, ...]:
    return tuple(name for name in found if isinstance(name, str))
