"""``make demo-streams``: stages of a model pipeline on a RabbitMQ of its own.

__main__    runs it
run         pictures through three stages, records past an anomaly detector, and a summary
node        a RabbitMQ on this machine, started and ended with the demo
processes   the stages as processes
material    the messages: drawn pictures, and records with planted anomalies
summary     what is printed of it
"""
