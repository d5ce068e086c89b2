-- End a live analysis, whatever ends it; the script before has made sure that it may, and that the record is a hash.
--
-- WITH notify
-- WITH index
-- KEY record    the record
-- KEY live      the analysis leaves it
-- KEY due       likewise; a postponed stage that was delivered all the same is there
-- KEY done      the analysis joins it
-- KEY inflight  one less at its place
-- KEY twins     its conditions leave it
-- ARG uid       of the analysis
-- ARG ttl       of the record, from now on, in s

-- One live analysis less at its place. A count that is none is put right by recount.lua
local function leave(place)
  local left = place and redis.pcall('HINCRBY', KEY.inflight, place, -1)
  if type(left) == 'number' and left <= 0 then
    redis.call('HDEL', KEY.inflight, place)
  end
end

-- No task need wait for it any more
local function leave_twins()
  local conditions = redis.call('HGET', KEY.record, 'conditions')
  if conditions and redis.pcall('HGET', KEY.twins, conditions) == ARG.uid then
    redis.pcall('HDEL', KEY.twins, conditions)
  end
end

-- task: what Karton's task is from now on (JSON), or ''; then field, value, … of how it ended. Returns the record
local function end_analysis(at, state, task, ...)
  redis.call('HSET', KEY.record, 'state', state, 'updated', at, 'finished', at, ...)
  redis.call('HDEL', KEY.record, 'busy', 'beat')
  redis.call('EXPIRE', KEY.record, ARG.ttl)
  redis.pcall('ZREM', KEY.live, ARG.uid)
  leave(redis.call('HGET', KEY.record, 'place'))
  leave_twins()
  redis.pcall('ZREM', KEY.due, ARG.uid)
  redis.pcall('ZADD', KEY.done, at, ARG.uid)
  tell_karton(task)
  local fields = redis.call('HGETALL', KEY.record)
  enter_index(at, fields, ARG.ttl)
  notify(at, fields)
  return fields
end

