-- Begin an attempt of an analysis that has not been sent on its way, or whose message is lost; every earlier
-- attempt is stale then (I2).
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    the attempt that the caller believes to be the current one, '1' if its message is known to be lost
-- returns the new attempt's number, or nil where the caller is stale or the current attempt was sent
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'state', 'sent')
local unsent = fields[3] ~= fields[1] or ARGV[2] == '1'
if fields[1] ~= ARGV[1] or fields[2] ~= 'QUEUED' or not unsent then
  return nil
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('HSET', record, 'state', 'QUEUED', 'updated', now, 'at:QUEUED', now)
return redis.call('HINCRBY', record, 'attempt', 1)
