"""A worker process: its threads, signals, health and end."""
