"""One step of a model pipeline: messages of a queue -> results in the next queue.

base      what every stage does with its results: publish, record, answer, acknowledge
item      one message on its way, and its result
outlets   the queues that results go to
"""
