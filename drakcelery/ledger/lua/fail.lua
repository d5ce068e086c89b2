-- One attempt has failed. Either the next one is due after a while, or the analysis is over and Karton is told. Of
-- two deliveries of a stage only the one that has it, or that has just done it, may say so.
--
-- KEYS[1] drak:analysis:{uid}      hash, the record
-- KEYS[2] drak:live                KEYS[3] drak:done    KEYS[4] drak:due (zsets)
-- KEYS[5] karton.task:<task uid>   Karton's; written only if it is still there
-- KEYS[6] karton.metrics.consumed  KEYS[7] karton.metrics.crashed (Karton's hashes)
-- KEYS[8] drak:inflight            hash, place -> number of live analyses; one less where this one is over
-- KEYS[9..11] as notify.lua has them
-- ARGV    uid, attempt, failure (JSON), '1' if final, CRASHED task (JSON), TTL in s, identity, delay in s,
--         token of the delivery that failed ('' where somebody else ends the attempt)
-- returns the next attempt's number; 0 where the analysis is over; nil where the caller is stale
local record = KEYS[1]
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('HGET', record, 'attempt') ~= ARGV[2] then
  return nil
end
local claim = redis.call('HMGET', record, 'busy', 'done_by')
if ARGV[9] ~= '' and (claim[1] or claim[2]) ~= ARGV[9] then
  return nil
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local failures = cjson.decode(redis.call('HGET', record, 'failures'))
local failure = cjson.decode(ARGV[3])
failure['at'] = tonumber(now)
failures[#failures + 1] = failure
redis.call('HSET', record, 'failures', cjson.encode(failures), 'updated', now)
redis.call('HDEL', record, 'busy', 'beat', 'waiting', 'postponed', 'resends', 'done_by')
if ARGV[4] ~= '1' then
  redis.call('HDEL', record, 'host', 'slot', 'done', 'sent', 'alike', 'at:PREPARING', 'at:RUNNING', 'at:COLLECTING',
    'at:UPLOADING')
  redis.call('HSET', record, 'state', 'QUEUED', 'at:QUEUED', now)
  -- Where that is no zset, reconcile sends it: it is unsent
  redis.pcall('ZADD', KEYS[4], string.format('%.6f', tonumber(now) + tonumber(ARGV[8])), ARGV[1])
  return redis.call('HINCRBY', record, 'attempt', 1)
end
redis.call('HSET', record, 'state', 'FAILED', 'finished', now)
redis.call('EXPIRE', record, ARGV[6])
redis.call('ZREM', KEYS[2], ARGV[1])
leave(KEYS[8], redis.call('HGET', record, 'place'))
redis.pcall('ZREM', KEYS[4], ARGV[1])
redis.pcall('ZADD', KEYS[3], now, ARGV[1])
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('SET', KEYS[5], ARGV[5])
end
redis.pcall('HINCRBY', KEYS[6], ARGV[7], 1)
redis.pcall('HINCRBY', KEYS[7], ARGV[7], 1)
notify(redis.call('HGETALL', record))
return 0
