-- End a live analysis because somebody no longer wants it. Whatever works on it notices by itself.
--
-- KEYS[1] drak:analysis:{uid}      hash, the record
-- KEYS[2] drak:live                KEYS[3] drak:done    KEYS[4] drak:due (zsets)
-- KEYS[5] karton.task:<task uid>   Karton's; written only if it is still there
-- KEYS[6] drak:inflight            hash, place -> number of live analyses; one less
-- KEYS[7..9] as notify.lua has them
-- ARGV    uid, reason, CRASHED task (JSON) or '' to leave Karton's task alone, TTL in s
-- returns 1, or 0 where the analysis is not live
local place = redis.call('HGET', KEYS[1], 'place') -- before anything changes: it may be no hash
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
leave(KEYS[6], place)
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'refusal', ARGV[2], 'updated', now, 'finished', now)
redis.call('HDEL', KEYS[1], 'busy', 'beat')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.pcall('ZADD', KEYS[3], now, ARGV[1])
redis.pcall('ZREM', KEYS[4], ARGV[1])
if ARGV[3] ~= '' and redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('SET', KEYS[5], ARGV[3])
end
notify(redis.call('HGETALL', KEYS[1]))
return 1
