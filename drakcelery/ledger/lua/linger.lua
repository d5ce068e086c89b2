-- A delivery waits on its host until it may begin: nobody need take its message for lost.
--
-- KEY record   the record
-- ARG attempt  the attempt
-- ARG before   stage before the one that it waits for ('' for the first)
-- returns 1, or 0 where there is nothing to wait for any more: stale, over, or another delivery has the stage
local attempt, done, busy, state = unpack(redis.call('HMGET', KEY.record, 'attempt', 'done', 'busy', 'state'))
if is_over(state) or attempt ~= ARG.attempt or (done or '') ~= ARG.before or busy then
  return 0
end
redis.call('HSET', KEY.record, 'beat', now())
return 1
