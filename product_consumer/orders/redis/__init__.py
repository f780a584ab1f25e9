"""The totals of orders in Redis, for dashboards. The only folder that imports redis.

stats       the totals: absolute values, never an older one over a newer
scripts     the Lua scripts that Redis runs for it
writer      writes current totals, and fills a Redis that may have lost some
rebuild     rebuilds and verifies all of Redis
client      the connections, which leave a server that no longer takes writes
address     ``REDIS_URL``, checked before anything connects
protocol    asks a port whether it is a Redis, and with or without TLS
sentinel    the connections to the primary that Sentinels name
errors      what an error of Redis means: to wait, or to refuse
"""
