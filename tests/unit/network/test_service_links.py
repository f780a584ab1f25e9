"""What Kubernetes writes for a Service whose name is the beginning of a setting's name."""

from product_consumer.network.service_links import as_http, is_accidental, port_of


def test_a_link_is_host_and_port() -> None:
    assert as_http("tcp://10.0.0.1:19530") == "http://10.0.0.1:19530"
    assert port_of("tcp://10.0.0.1:19530") == "19530"


def test_anything_else_stays_as_it_is() -> None:
    assert as_http("https://milvus:19530") == "https://milvus:19530"
    assert port_of("19530") == "19530"


def test_a_port_is_an_accident_where_the_cluster_has_a_service_of_that_name() -> None:
    link = {"api_port": "tcp://10.0.0.1:8000"}

    assert is_accidental("api_port", link | {"api_service_host": "10.0.0.1"})
    assert not is_accidental("api_port", link)
    assert not is_accidental("api_port", {"api_port": "8000", "api_service_host": "10.0.0.1"})
