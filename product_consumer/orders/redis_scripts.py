"""Lua scripts of ``redis_stats.py``: Redis runs each as one step, on one key (``KEYS[1]``).

A key per script also works on a Redis Cluster.
"""

# The type is checked before anything is written: Redis does not undo a script that fails half-way.
# So HSET is the one write that can change a field that readers know.
WRITE = """
local held_type = redis.call('TYPE', KEYS[1])['ok']
if held_type ~= 'none' and held_type ~= 'hash' then
  return redis.error_reply('WRONGTYPE ' .. held_type)
end
local held = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0') or 0
if ARGV[2] == '0' and held > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], unpack(ARGV, 3))
if ARGV[2] == '1' then
  local written = {revision = true}
  for position = 3, #ARGV, 2 do written[ARGV[position]] = true end
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not written[name] then redis.call('HDEL', KEYS[1], name) end
  end
end
return 1
"""
"""Arguments: revision, ``1`` to force else ``0``, then name and value of each field. Returns 0
where the key has a greater revision, so that nothing was written, else 1.
"""

# Read inside the script: on a cluster it must be the run of the server that holds the key. A server
# that does not tell its run has the same one always, and only an empty Redis is noticed.
_RUN = """
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%w+)') or ''
"""

IS_FILLED = f"{_RUN} return redis.call('HGET', KEYS[1], 'filled') == run and 1 or 0"
"""Returns 1 while this run of the server has been filled."""

START_FILLING = f"{_RUN} return redis.call('HSET', KEYS[1], ARGV[1], run)"
"""Argument: the name of the filler."""

# The filler's own field is gone, or of another run, if Redis has lost data since it was written.
FINISH_FILLING = f"""{_RUN}
if redis.call('HGET', KEYS[1], ARGV[1]) == run then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'filled', run)
end
return redis.call('HGET', KEYS[1], 'filled') == run and 1 or 0
"""
"""Argument: the name of the filler. Returns 0 if Redis may have lost data since the start."""
