"""RabbitMQ, by AMQP 0-9-1: versions 3.10 to 4.x.

opening      settings -> a checked queue with its dead-letter queue
url          what the URL of a queue says: nodes, login, virtual host, queue
amqp         the I/O thread: connections, channels, leases
queue        the contract of a queue on RabbitMQ
held_queue   messages that are looked at and given back
sender       sends with a confirmation for each message
copies       messages as RabbitMQ delivers them, and copies of them
topology     the queues of a stream, and how they are made
rights       what a user may do
management   the server's HTTP API
"""
