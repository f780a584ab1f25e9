"""Records, pictures and texts on RabbitMQ, and the stages of a model pipeline.

worker     one pipeline on the queue of one stream: a worker process
"""
