-- What the current attempt's run did not leave is missing in an earlier one's, too: that is the sample's doing.
--
-- KEY record   the record
-- ARG attempt  the attempt
-- returns 1, or 0 where the attempt is stale
if redis.call('HGET', KEY.record, 'attempt') ~= ARG.attempt then
  return 0
end
redis.call('HSET', KEY.record, 'alike', '1')
return 1
