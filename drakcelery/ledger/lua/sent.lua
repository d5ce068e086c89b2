-- Note that the chain of an attempt is with the broker, unless a later attempt has begun.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt
local fields = redis.call('HMGET', KEYS[1], 'attempt', 'finished')
if fields[1] == ARGV[1] and not fields[2] then
  redis.call('HSET', KEYS[1], 'sent', ARGV[1])
end
