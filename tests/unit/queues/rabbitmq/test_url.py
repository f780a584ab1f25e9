"""What the URL of a queue says, and what none can say."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_consumer.errors import ConfigurationError
from product_consumer.queues.rabbitmq.url import read_server, read_url

SECRET = "s3cret"
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40
)


def test_everything_in_a_url_is_read() -> None:
    url = read_url(
        "amqp://me:p%40ss@rabbit:5673/my%2Fhost?queue=products&heartbeat=30", "QUEUE_URL"
    )

    [node] = url.nodes
    assert (node.host, node.port, node.is_tls) == ("rabbit", 5673, False)
    assert (node.user, node.password, node.vhost) == ("me", "p@ss", "my/host")
    assert (url.queue, dict(node.options)) == ("products", {"heartbeat": "30"})


@pytest.mark.parametrize("path", ["", "/", "/%2F", "/%2f"])
def test_no_path_and_an_encoded_slash_are_the_default_virtual_host(path: str) -> None:
    assert read_url(f"amqp://rabbit{path}?queue=q", "QUEUE_URL").nodes[0].vhost == "/"


def test_port_and_login_have_defaults() -> None:
    plain = read_url("amqp://rabbit?queue=q", "QUEUE_URL").nodes[0]
    tls = read_url("amqps://rabbit?queue=q", "QUEUE_URL").nodes[0]

    assert (plain.port, plain.user, plain.password) == (5672, "guest", "guest")
    assert (tls.port, tls.is_tls) == (5671, True)


def test_several_urls_are_nodes_of_one_cluster() -> None:
    url = read_url("amqp://a:b@one/v?queue=q, amqp://a:b@two:5673/v", "QUEUE_URL")

    assert [node.address for node in url.nodes] == ["one:5672", "two:5673"]
    assert url.queue == "q"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("amqp://me:s3cret@rabbit/", "names no queue"),
        ("amqp://me:s3cret@rabbit/?queue=", "needs a queue name"),
        ("amqp://me:s3cret@rabbit/?queue=q&queue=r", "has a parameter twice"),
        ("amqp://me:s3cret@rabbit/?queue=q&colour=red", "none of queue, heartbeat"),
        ("amqp://me:s3cret@rabbit/?queue=q&heartbeat=soon", "heartbeat needs a whole number"),
        ("amqp://me:s3cret@rabbit/?queue=q&heartbeat=-1", "heartbeat needs a whole number"),
        ("amqp://me:s3cret@rabbit/?queue=q&connection_timeout=0", "connection_timeout needs"),
        ("amqp://me:s3cret@rabbit/?queue=q&verify=verify_none", "verify needs amqps://"),
        ("amqps://me:s3cret@rabbit/?queue=q&verify=no", "verify needs verify_peer or verify_none"),
        ("amqps://me:s3cret@rabbit/?queue=q&cacertfile=/no/such.pem", "cacertfile names no file"),
        ("http://me:s3cret@rabbit/?queue=q", "needs amqp://user:password@host:5672/vhost"),
        ("me:s3cret@rabbit", "needs amqp://user:password@host:5672/vhost"),
        ("amqp://me:s3cret@rabbit:0/?queue=q", "needs a port from 1 to 65535"),
        ("amqp://me:s3cret@rabbit:65536/?queue=q", "needs a port from 1 to 65535"),
        ("amqp://me:s3cret@rabbit:high/?queue=q", "needs a port from 1 to 65535"),
        ("amqp://me:s3cret@/?queue=q", "names no host"),
        ("amqp://me:s3@cret@rabbit/?queue=q", "has an '@' too many"),
        ("amqp://me:s3cret#@rabbit/?queue=q", "percent-encode"),
        ("amqp://me:s3cret@rabbit/a/b?queue=q", "has a '/' too many"),
        ("amqp://me:s3 cret@rabbit/?queue=q", "has a space"),
        ("amqp://me:s3cret@rabbit/?queue=amq.fanout", "begins with 'amq.'"),
        (f"amqp://me:s3cret@rabbit/?queue={'q' * 256}", "needs a queue name of 1 to 255"),
        ("amqp://me:s3cret@one/?queue=q,amqp://me:s3cret@two/?queue=r", "names two queues"),
        ("amqp://me:s3cret@[::1/?queue=q", "needs amqp://"),
    ],
)
def test_a_url_that_no_server_could_make_sense_of_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_url(url, "ORDERS_QUEUE_URL")

    assert problem in str(refused.value)
    assert refused.value.setting == "ORDERS_QUEUE_URL"
    assert not {SECRET, "s3@cret", "cret"} & set(str(refused.value).split())
    assert SECRET not in str(refused.value)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    file.touch()

    with pytest.raises(ConfigurationError, match="certfile and keyfile belong together"):
        read_url(f"amqps://rabbit?queue=q&certfile={file}", "QUEUE_URL")


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"amqp://{text}", f"amqp://u:p@h/v?{text}"):
        try:
            read_url(candidate, "QUEUE_URL")
        except ConfigurationError as error:
            assert error.setting == "QUEUE_URL"


@given(queue=NAMES)
def test_any_printable_name_can_be_a_queue(queue: str) -> None:
    url = read_url("amqp://u:p@host", "X", queue="q")

    if not queue.startswith("amq."):
        assert url.with_queue(queue).queue == queue


def test_neither_a_repr_nor_what_is_shown_has_a_password() -> None:
    url = read_url("amqp://me:s3cret@rabbit/v?queue=q", "QUEUE_URL")

    assert SECRET not in repr(url)
    assert url.shown == "amqp://me:***@rabbit:5672/v?queue=q"


@pytest.mark.parametrize(
    ("text", "address"),
    [("rabbit", "rabbit:5672"), ("rabbit:5673", "rabbit:5673"), ("[::1]:5673", "[::1]:5673")],
)
def test_a_server_is_named_by_its_host(text: str, address: str) -> None:
    url = read_server(text, "--rabbitmq_server", "images", user="me", password=SECRET)

    assert (url.nodes[0].address, url.nodes[0].user, url.queue) == (address, "me", "images")


def test_a_server_may_be_named_by_a_whole_url() -> None:
    text = "amqp://other:pass@rabbit/v"
    url = read_server(text, "--rabbitmq_server", "images", user="me", password=SECRET)

    assert (url.nodes[0].user, url.nodes[0].vhost, url.queue) == ("other", "v", "images")


@pytest.mark.parametrize(
    "text", ["", "rabbit:high", "me@rabbit", "rabbit/vhost", "a b", "rabbit?q"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--rabbitmq_server"):
        read_server(text, "--rabbitmq_server", "images", user="me", password=SECRET)
