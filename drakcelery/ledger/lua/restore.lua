-- Make the record of a published analysis again that Redis has lost, as far as its artifacts tell it.
--
-- WITH index
-- KEY record   made only if there is none
-- KEY live     read
-- KEY done     the analysis joins it
-- ARG uid      of the analysis
-- ARG at       when it ended
-- ARG left     for how many seconds its record would have stayed
-- ARG ttl      of records, in s
-- ARG fields*  of the record: field, value, …
-- returns 1, or 0 where there is a record
if redis.call('EXISTS', KEY.record) == 1 or redis.call('ZSCORE', KEY.live, ARG.uid) then
  return 0
end
local fields = ARG.fields
redis.call('HSET', KEY.record, unpack(fields))
redis.call('EXPIRE', KEY.record, ARG.left)
redis.call('ZADD', KEY.done, ARG.at, ARG.uid)
enter_index(ARG.at, fields, ARG.ttl)
return 1
