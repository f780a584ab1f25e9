"""Where messages come from.

base            the contract: receive, acknowledge, retry later, reject, release, extend
opening         settings -> the queue that a URL names
memory          a queue in memory, for tests
sqs             AWS SQS, and servers that speak its API
rabbitmq        RabbitMQ, by AMQP 0-9-1
in_flight       keeps received messages hidden until they are settled
rejections      what the copy of a rejected message says about it
reject_log      where rejected messages wait without a dead-letter queue
dead_letters    rejected messages, looked at and sent back
"""
