-- A stage is done; the next one may be entered.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, token of the delivery, stage, state from now on
-- returns 1 (also when asked again), or 0 where the attempt is stale or another delivery took over
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'busy', 'state', 'done')
local over = fields[3] == 'PUBLISHED' or fields[3] == 'FAILED' or fields[3] == 'CANCELLED'
if over or fields[1] ~= ARGV[1] then
  return 0
end
if fields[4] == ARGV[3] and not fields[2] then
  return 1
end
if fields[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('HDEL', record, 'busy', 'beat', 'waiting', 'postponed', 'resends')
redis.call('HSET', record, 'done', ARGV[3], 'done_by', ARGV[2], 'state', ARGV[4], 'updated', now)
redis.call('HSETNX', record, 'at:' .. ARGV[4], now)  -- COLLECTING begins when its slot is free
return 1
