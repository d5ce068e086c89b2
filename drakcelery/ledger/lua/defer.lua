-- An attempt that came to a host which has no slot for it, and is not to have it, is sent again later.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- KEYS[2] drak:due             zset, analysis uid -> time at which to send
-- ARGV    uid, attempt, delay in s
-- returns 1, or 0 where the attempt is stale or has begun
local fields = redis.call('HMGET', KEYS[1], 'attempt', 'state', 'busy')
if fields[1] ~= ARGV[2] or fields[2] ~= 'QUEUED' or fields[3] then
  return 0
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], string.format('%d.%06d', time[1] + ARGV[3], time[2]), ARGV[1])
return 1
