"""RabbitMQ, by AMQP 0-9-1: versions 3.10 to 4.x.

url      what the URL of a queue says: nodes, login, virtual host, queue
"""
