"""A worker process, from its options to its exit code.

options               the command line
worker                one process with its streams
stream                a queue and the pipeline behind it, ready to be consumed
supervisor            consumer threads: started, watched, drained
signals               SIGTERM and SIGINT, and the bound of a stop
early_exit            a clean end while modules still load
exit_codes            the codes, and which errors lead to them
processes             several workers on one machine
process_supervisor    the parent: starts, watches and drains its children
child_process         one child as its parent sees it
deaths                too many deaths in a short time: a restart does not help
systemd               tells systemd the state of the service
health_server         /metrics, /healthz, /readyz
"""
