"""A Milvus that confirms every upsert without storing it; other calls go to a real server.

    python -m benchmarks.support.canned_milvus http://127.0.0.1:PORT

Prints the port it listens on (loopback) and serves until it is killed. It does not decode requests,
so that a worker measures the client's work alone.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import grpc
from pymilvus.grpc_gen import milvus_pb2

UPSERT = "/milvus.proto.milvus.MilvusService/Upsert"
TIMEOUT_SECONDS = 30.0
THREADS = 16


class CannedMilvus(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A gRPC service that answers upserts itself and passes other calls, as bytes, to a server."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind
        self._confirmed = milvus_pb2.MutationResult(upsert_cnt=10, succ_index=range(10))
        self._confirmed.IDs.str_id.data.extend(f"0123456789-{number}" for number in range(10))

    def service(self, details: Any) -> Any:
        """Return the handler of one method; without (de)serialisers both sides are bytes."""
        if details.method == UPSERT:
            confirmed = self._confirmed.SerializeToString()
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: confirmed)
        return grpc.unary_unary_rpc_method_handler(self._passing_on(details.method))

    def _passing_on(self, method: str) -> Callable[[bytes, Any], bytes]:
        call = self._behind.unary_unary(method)

        def pass_on(request: bytes, context: Any) -> bytes:
            try:
                response: bytes = call(request, timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            return response

        return pass_on


def main() -> None:
    parser = argparse.ArgumentParser(description="Confirm upserts without storing them.")
    parser.add_argument("server", help="URL of a Milvus for everything else")
    behind = grpc.insecure_channel(urlsplit(parser.parse_args().server).netloc)
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((CannedMilvus(behind),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
