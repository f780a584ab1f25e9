"""The descriptions of AWS's services that boto3 brings: read once, not for each client."""

from functools import cache

import boto3
import botocore.session
from botocore.loaders import create_loader


def share_descriptions() -> None:
    """Let all sessions of this process read from one loader, as all clients of one session do."""
    vars(botocore.session).update(create_loader=cache(create_loader))


def read_descriptions() -> None:
    """Read what every client of SQS needs."""
    share_descriptions()
    boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="eu-west-1").client(
        "sqs"
    ).close()
