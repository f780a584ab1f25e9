"""The modules of every stream between its queue and its work.

base               the contract of a pipeline
batch              the messages of one receive, and how each gets its outcome
error_policy       error -> outcome: the one place that decides
stages             which thread is in which stage, and for how long
context            stop event, counters and stages, shared by all streams of a process
circuit_breaker    while a dependency is down, nobody receives
group_commit       calls of several threads at the same time become one
backoff            growing random delays that end on stop
"""
