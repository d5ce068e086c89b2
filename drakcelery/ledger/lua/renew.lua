-- A delivery shows that it is alive.
--
-- KEY record   the record
-- ARG attempt  the attempt
-- ARG token    of the delivery
-- returns 1, also where there is no record (a Redis without its data says nothing of anybody); 0 where the attempt is
--         stale, the analysis is over, or another delivery took over
local attempt, busy, state = unpack(redis.call('HMGET', KEY.record, 'attempt', 'busy', 'state'))
if not state then
  return 1
end
if is_over(state) or attempt ~= ARG.attempt or busy ~= ARG.token then
  return 0
end
redis.call('HSET', KEY.record, 'beat', now())
return 1
