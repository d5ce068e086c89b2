-- Begin the first attempt of an analysis that was opened; only one caller gets to.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- returns the attempt's number, or nil where the analysis is not RECEIVED (any more)
local record = KEYS[1]
if redis.call('HGET', record, 'state') ~= 'RECEIVED' then
  return nil
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('HSET', record, 'state', 'QUEUED', 'updated', now, 'at:QUEUED', now)
return redis.call('HINCRBY', record, 'attempt', 1)
