"""Lua scripts of ``stats.py``: Redis runs each as one step, on one key (``KEYS[1]``).

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

_TRY = """
for _, step in ipairs(steps) do
  local reply = redis.pcall(step[1], KEYS[1], unpack(step, 2))
  if type(reply) == 'table' and reply['err'] then
    return redis.error_reply(reply['err'] .. ' (' .. step[1] .. ')')
  end
  if step[1] == 'TYPE' and reply['ok'] ~= 'none' and reply['ok'] ~= 'hash' then
    return redis.error_reply('WRONGTYPE ' .. reply['ok'])
  end
end
return 1
"""

TRY_COMMANDS = f"""
local steps = {{{{'TYPE'}}, {{'HGET', ARGV[1]}}, {{'HKEYS'}}, {{'HDEL', ARGV[1]}}}} {_TRY}"""
"""Runs every command of the other scripts but HSET, and changes nothing. Argument: a field that
nobody has. Returns 1, or the error of the first command that is refused, with its name.
"""

# In a script of its own: memory is asked for at the first write of a script only.
TRY_WRITE = f"""
local steps = {{{{'HSET', ARGV[1], '1'}}, {{'HDEL', ARGV[1]}}}} {_TRY}"""
"""Writes the field and removes it, which no reader sees: a key that was not there is not there
afterwards, and its time to live stays. Run it where ``TRY_COMMANDS`` has succeeded.
"""

# Read inside the script: it must be the run of the server that holds the key. It is another one
# after a restart (run_id), after a change of primaries (master_replid) and, on a cluster, after
# that of any shard (its epoch): any of these may have lost what was written last.
_RUN = """
local run = ''
for _, source in ipairs({
  {'run_id:(%w+)', 'INFO', 'server'},
  {'master_replid:(%w+)', 'INFO', 'replication'},
  {'cluster_current_epoch:(%d+)', 'CLUSTER', 'INFO'},
}) do
  local told = redis.pcall(source[2], source[3])
  run = run .. (type(told) == 'string' and string.match(told, source[1]) or '')
end
"""

IS_FILLED = f"""{_RUN}
if redis.call('HGET', KEYS[1], 'filled') ~= run then return 0 end
return run == '' and 1 or 2
"""
"""Returns 2 while this run of the server has been filled; 1 where it has been filled, too, but
does not tell its run, so that it may be another; 0 where it has not been filled.
"""

START_FILLING = f"{_RUN} return redis.call('HSET', KEYS[1], ARGV[1], run)"
"""Argument: the name of the filler."""

# The filler's own field is gone, or of another run, if Redis has lost data since it was written.
FINISH_FILLING = f"""{_RUN}
if redis.call('HGET', KEYS[1], ARGV[1]) == run then
  redis.call('HSET', KEYS[1], 'filled', run)
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if name ~= 'filled' then redis.call('HDEL', KEYS[1], name) end
  end
end
if redis.call('HGET', KEYS[1], 'filled') ~= run then return 0 end
return run == '' and 1 or 2
"""
"""Argument: the name of the filler. Returns 0 if Redis may have lost data since the start, else
what ``IS_FILLED`` returns.
"""
