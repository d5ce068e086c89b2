-- What the current attempt's run did not leave is missing in an earlier one's, too: that is the sample's doing.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt
-- returns 1, or 0 where the attempt is stale
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'alike', '1')
return 1
