"""The error codes of SQS, grouped by their meaning.

AWS, its older protocol and the servers that speak it use different codes for the same error.
"""

STALE = {
    "ReceiptHandleIsInvalid",
    "InvalidParameterValue",
    "MessageNotInflight",
    "InvalidIdFormat",
}
"""The receipt no longer settles its message: it was settled, or delivered again."""
NO_SUCH_QUEUE = {"QueueDoesNotExist", "NonExistentQueue", "InvalidAddress"}
CONTENT_REFUSED = {
    "BatchRequestTooLong",
    "InvalidAttributeValue",
    "InvalidMessageContents",
    "InvalidParameterValue",
    "MessageTooLong",
    "RequestEntityTooLarge",
    "ValidationException",
    "413",
}
"""The queue will never take this body with these attributes: too long, or a character."""


def bare_code(code: str) -> str:
    """Return ``QueueDoesNotExist`` of ``com.amazonaws.sqs#QueueDoesNotExist`` and the like."""
    return code.rpartition("#")[2].rpartition(".")[2]
