-- Enter the state of a stage, fenced by attempt (I2).
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, new state, host, slot, then the states from which the new one may be entered
-- returns 1, or 0 where the attempt is stale or the analysis elsewhere
local record = KEYS[1]
if redis.call('HGET', record, 'attempt') ~= ARGV[1] then
  return 0
end
local state = redis.call('HGET', record, 'state')
for i = 5, #ARGV do
  if state == ARGV[i] then
    local time = redis.call('TIME')
    local now = string.format('%d.%06d', time[1], time[2])
    redis.call('HSET', record, 'state', ARGV[2], 'host', ARGV[3], 'slot', ARGV[4], 'updated', now)
    redis.call('HSETNX', record, 'at:' .. ARGV[2], now)
    return 1
  end
end
return 0
