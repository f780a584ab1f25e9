"""Records, pictures and texts on RabbitMQ, and the stages of a model pipeline.

worker     one pipeline on the queue of one stream: a worker process
produce    rows of a table, pictures and texts are sent
collect    a stream becomes files, or lines of JSON
records    a body -> the columns of a record -> a line
content    the format of a picture, by its first bytes
headers    the headers that our producers add
progress   a bar on a terminal, a line a second anywhere else
"""
