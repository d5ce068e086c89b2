-- A stage cannot go on now (storage is away); it is sent again later, its workspace stays.
--
-- KEY record    the record
-- KEY due       analysis uid -> time at which to send; emptied by due/cancel
-- ARG uid       of the analysis
-- ARG attempt   the attempt
-- ARG token     of the delivery
-- ARG delay     in s
-- ARG patience  in s
-- returns seconds since the first postponement of this stage, or nil if the attempt is stale. Where that is all the
--         patience there is, nothing is changed: the delivery has the stage still, to fail it
local attempt, busy, waiting = unpack(redis.call('HMGET', KEY.record, 'attempt', 'busy', 'waiting'))
if attempt ~= ARG.attempt or busy ~= ARG.token then
  return nil
end
local at = now()
local begun = math.floor(at)
local waited = begun - tonumber(waiting or begun)
if waited >= tonumber(ARG.patience) then
  return waited
end
redis.call('ZCARD', KEY.due) -- an error leaves everything as it is
redis.call('HDEL', KEY.record, 'busy', 'beat')
redis.call('HSETNX', KEY.record, 'waiting', begun)
redis.call('HINCRBY', KEY.record, 'postponed', 1)
redis.call('HSET', KEY.record, 'updated', at)
redis.call('ZADD', KEY.due, later(at, ARG.delay), ARG.uid)
return waited
