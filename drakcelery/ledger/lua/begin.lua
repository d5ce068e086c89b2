-- Begin an attempt of an analysis that has not been sent on its way, or whose message is lost; every earlier
-- attempt is stale then (I2).
--
-- KEY record  the record
-- ARG after   the attempt that the caller believes to be the current one
-- ARG lost    '1' if its message is known to be lost
-- returns the new attempt's number, or nil if the caller is stale or the current attempt was sent
local attempt, state, sent = unpack(redis.call('HMGET', KEY.record, 'attempt', 'state', 'sent'))
local unsent = sent ~= attempt or ARG.lost == '1'
if attempt ~= ARG.after or state ~= 'QUEUED' or not unsent then
  return nil
end
local at = now()
redis.call('HSET', KEY.record, 'state', 'QUEUED', 'updated', at, 'at:QUEUED', at)
return redis.call('HINCRBY', KEY.record, 'attempt', 1)
