"""What every stream needs between its queue and its work.

base               the contract of a pipeline
batch              the messages of one receive, and how each gets its outcome
error_policy       error -> outcome: the one place that decides
stages             which thread is in which stage, and for how long
context            what all streams of a process share
circuit_breaker    while a dependency is down, nobody receives
group_commit       what several threads ask at once is one call
backoff            growing random delays that end on stop
"""
