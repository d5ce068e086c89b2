-- An attempt that came to a host which has no slot for it, and is not to have it, is sent again later.
--
-- KEY record   the record
-- KEY due      analysis uid -> time at which to send
-- ARG uid      of the analysis
-- ARG attempt  the attempt
-- ARG delay    in s; whole ones count
-- returns 1, or 0 where the attempt is stale or has begun
local attempt, state, busy = unpack(redis.call('HMGET', KEY.record, 'attempt', 'state', 'busy'))
if attempt ~= ARG.attempt or state ~= 'QUEUED' or busy then
  return 0
end
redis.call('ZADD', KEY.due, later(now(), math.floor(ARG.delay)), ARG.uid)
return 1
