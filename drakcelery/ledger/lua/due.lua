-- Take one analysis whose time to be sent has come.
--
-- KEYS[1] drak:due  zset, analysis uid -> time at which to send
-- returns uid, or nil
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local uids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)
if uids[1] then
  redis.call('ZREM', KEYS[1], uids[1])
  return uids[1]
end
return nil
