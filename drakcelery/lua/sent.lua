-- Note that the chain of an attempt is with the broker, unless a later attempt has begun.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt
if redis.call('HGET', KEYS[1], 'attempt') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'sent', ARGV[1])
end
