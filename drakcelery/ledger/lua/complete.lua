-- A stage is done; the next one may be entered.
--
-- KEY record   the record
-- ARG attempt  the attempt
-- ARG token    of the delivery
-- ARG stage    the stage
-- ARG state    the analysis' from now on
-- returns 1 (also when asked again), or 0 where the attempt is stale or another delivery took over
local attempt, busy, state, done = unpack(redis.call('HMGET', KEY.record, 'attempt', 'busy', 'state', 'done'))
if is_over(state) or attempt ~= ARG.attempt then
  return 0
end
if done == ARG.stage and not busy then
  return 1
end
if busy ~= ARG.token then
  return 0
end
local at = now()
redis.call('HDEL', KEY.record, 'busy', 'beat', 'waiting', 'postponed', 'resends')
redis.call('HSET', KEY.record, 'done', ARG.stage, 'done_by', ARG.token, 'state', ARG.state, 'updated', at)
redis.call('HSETNX', KEY.record, 'at:' .. ARG.state, at)  -- COLLECTING begins when its slot is free
return 1
