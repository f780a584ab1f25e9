"""AWS SQS, and servers that speak its API.

opening        settings -> a checked queue with its dead-letter queue
client         the connection, and its errors
queue          the contract of a queue on SQS
batch_calls    calls of ten, every entry of the answer read
conversion     messages as SQS writes them
error_codes    what the codes of SQS mean
sender         sends with a confirmation for each message
admin          makes queues, publishes
"""
