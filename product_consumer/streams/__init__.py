"""Records, pictures and texts on RabbitMQ, and the stages of a model pipeline.

worker     one pipeline on the queue of one stream: a worker process
produce    rows of a table, pictures and texts are sent
alerts     anomalies that are told at once: to a webhook or the log
anomaly    what does not fit what was there before, in a stream of records
collect    a stream becomes files, or lines of JSON
records    a body -> the columns of a record -> a line
content    the format of a picture, by its first bytes
headers    the headers that our producers add
stages     one step of a model pipeline from queue to queue
request    a client of stages: sends a file and waits for its answer
labels     labels for the stage that classifies
results    what became of each request, in SQL
tracing    traces that go from message to message
progress   a bar on a terminal, a line a second anywhere else
"""
