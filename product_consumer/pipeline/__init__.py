"""The modules of every stream between its queue and its work.

base               the contract of a pipeline
consumer           the loop of one thread: receive, process, settle
batch              the messages of one receive, and how each gets its outcome
error_policy       error -> outcome: the one place that decides
stages             which thread is in which stage, and for how long
context            what all streams of a process share: stop event, counters, stages ...
circuit_breaker    while a dependency is down, nobody receives and messages in hand wait
hold               how long messages in hand may wait
outages            which dependencies are down, as logs and health pages tell it
guarded_queue      a queue behind a breaker: receive, hold, settle
group_commit       calls of several threads at the same time become one
backoff            growing random delays that end on stop
"""
