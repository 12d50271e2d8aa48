"""The JSON Schema of the network file, so that editors complete it."""

from typing import Any

from dmvpn.network.model import Network

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. What needs two places of the file to judge is left to `dmvpn check`."""
    return {"$schema": DIALECT, **Network.model_json_schema(by_alias=True), "title": "OpenDMVPN network file"}
