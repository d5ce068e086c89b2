-- The analysis task is declared and queued, the sample task is FINISHED, the record says PUBLISHED:
-- all of it or nothing, and at most once (I2).
--
-- KEYS[1] drak:analysis:{uid}              hash, the record
-- KEYS[2] drak:live                        KEYS[3] drak:done (zsets)
-- KEYS[4] karton.task:<sample task uid>    Karton's; written only if it is still there
-- KEYS[5] karton.task:<analysis task uid>  Karton's; written
-- KEYS[6] karton.tasks                     Karton's list of unrouted tasks
-- KEYS[7] karton.metrics.consumed          KEYS[8] karton.metrics.produced (Karton's hashes)
-- KEYS[9] drak:due                         zset; a postponed stage that was delivered all the same leaves it
-- KEYS[10] drak:inflight                   hash, place -> number of live analyses; one less
-- KEYS[11..13] as notify.lua has them
-- ARGV    uid, attempt, FINISHED sample task (JSON), analysis task (JSON), its uid, TTL in s, identity
-- returns the record, or 0 where the attempt is stale or the analysis is over
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'state', 'done')
if fields[1] ~= ARGV[2] or fields[2] ~= 'UPLOADING' or fields[3] ~= 'upload' then
  return 0
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('LLEN', KEYS[6])  -- where it is no list, nothing has changed yet
redis.call('SET', KEYS[5], ARGV[4])
redis.call('RPUSH', KEYS[6], ARGV[5])
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('SET', KEYS[4], ARGV[3])
end
redis.call('HSET', record, 'state', 'PUBLISHED', 'updated', now, 'finished', now, 'analysis_task_uid', ARGV[5])
redis.call('HDEL', record, 'busy', 'beat')
redis.call('EXPIRE', record, ARGV[6])
redis.pcall('ZREM', KEYS[2], ARGV[1])
leave(KEYS[10], redis.call('HGET', record, 'place'))
redis.pcall('ZREM', KEYS[9], ARGV[1])
redis.pcall('ZADD', KEYS[3], now, ARGV[1])
redis.pcall('HINCRBY', KEYS[7], ARGV[7], 1)
redis.pcall('HINCRBY', KEYS[8], ARGV[7], 1)
local fields = redis.call('HGETALL', record)
notify(fields)
return fields
