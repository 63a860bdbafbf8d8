"""The Lua scripts behind `redis_records`: each changes its keys in one step, and again changes nothing."""

# KEYS: hash. ARGV: number, field, value, lifetime in seconds.
PUT_NEWER = """
local had = redis.call('HGET', KEYS[1], 'number')
if not had or tonumber(had) <= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'number', ARGV[1], ARGV[2], ARGV[3])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""

# KEYS: stored, fresh. ARGV: batch size, lifetime in seconds, then client and sequence by turns.
COUNT = """
for i = 3, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('RPUSH', KEYS[2], ARGV[i])
  end
end
local size = tonumber(ARGV[1])
local batches = {}
while size > 0 and redis.call('LLEN', KEYS[2]) >= size do
  table.insert(batches, redis.call('LPOP', KEYS[2], size))
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return {redis.call('HLEN', KEYS[1]), batches}
"""

# KEYS: online, marker. ARGV: milliseconds, milliseconds too old to keep, lifetime in seconds, then clients.
SEEN = """
for i = 4, #ARGV do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'NX')
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""

# KEYS: online, marker. ARGV: milliseconds. False when the marker is missing.
ONLINE = """
if redis.call('EXISTS', KEYS[2]) == 0 then return false end
return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES')
"""

# KEYS: taken, bytes, waiting. ARGV: now, lease's end, name, size, transfers at most, bytes at most, lifetime.
TAKE = """
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])) do
  redis.call('HDEL', KEYS[2], name)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[1])
local count = redis.call('ZCARD', KEYS[1])
local size = tonumber(ARGV[4])
local under_way = 0
for _, each in ipairs(redis.call('HVALS', KEYS[2])) do
  under_way = under_way + tonumber(each)
end
local fits = count < tonumber(ARGV[5]) and under_way + size <= tonumber(ARGV[6])
local waiting = 0
if redis.call('ZSCORE', KEYS[1], ARGV[3]) or count == 0 or fits then
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
  redis.call('ZREM', KEYS[3], ARGV[3])
else
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[3])
  waiting = redis.call('ZCARD', KEYS[3])
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[7])
end
return waiting
"""

# KEYS: taken, bytes, waiting. ARGV: name.
RELEASE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""
