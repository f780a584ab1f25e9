"""Service links: what Kubernetes writes into variables, some of which have names of our settings.

For a Service named ``milvus`` every container gets ``MILVUS_PORT=tcp://10.0.0.1:19530``, and
``MILVUS_SERVICE_HOST`` beside it.
"""

import re
from collections.abc import Mapping

_LINK = re.compile(r"(?:tcp|udp|sctp)://([^/?#@]*):(\d+)/?", re.IGNORECASE)


def as_http(address: str) -> str:
    """Return ``http://10.0.0.1:19530`` for ``tcp://10.0.0.1:19530``; else the address as it is."""
    match = _LINK.fullmatch(address)
    return f"http://{match[1]}:{match[2]}" if match else address


def port_of(text: str) -> str:
    """Return the port of a link; any other text as it is."""
    match = _LINK.fullmatch(text)
    return match[2] if match else text


def is_accidental(name: str, values: Mapping[str, object]) -> bool:
    """Whether the variable ``name`` (in lower case) was set by Kubernetes, not by an operator.

    So it is with ``API_PORT`` where the cluster has a Service named ``api``.
    """
    beside = f"{name.removesuffix('_port')}_service_host"
    return bool(_LINK.fullmatch(str(values.get(name, "")))) and beside in values
