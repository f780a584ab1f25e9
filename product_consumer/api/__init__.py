"""HTTP: the order service.

service    settings -> a running server, alone or beside a worker
server     runs an app with uvicorn in a thread
app        the routes: totals, rankings, days, rejected orders, quality flags
results    the routes of results of stages, and the waits for them
schemas    queries and responses; money is a decimal string
guard      the key, and the sizes of query and body, before a request is routed
"""
