-- Note that a server was heard just now; since when that has been so without a break is for whoever judges by silence.
--
-- KEY watch   since and last (times), run_id and role of the server
-- KEY gaps    '<from> <to>' -> to: the stretches in which nobody watched
-- ARG pause   longest one between two notes in s
-- ARG run_id  '' where it is not known
-- ARG role    likewise
-- ARG memory  seconds for which all of it is remembered
-- ARG most    gaps
-- returns the time, since when the watch is uninterrupted, and the gaps, oldest first
local at = now()
local since, last, run_id, role = unpack(redis.call('HMGET', KEY.watch, 'since', 'last', 'run_id', 'role'))
local pause = tonumber(last or '') and tonumber(at) - tonumber(last)
local function is_other(before, given)
  return before and before ~= '' and given ~= '' and before ~= given
end
local same = not is_other(run_id, ARG.run_id) and not is_other(role, ARG.role)
local begun = tonumber(since or '')
if not (begun and begun <= tonumber(at) and pause and pause >= 0 and pause <= tonumber(ARG.pause) and same) then
  since = at
  if not pause or pause > 0 then
    redis.call('ZADD', KEY.gaps, at, (last or '0') .. ' ' .. at)
  end
end
redis.call('HSET', KEY.watch, 'since', since, 'last', at)
for name, given in pairs({run_id = ARG.run_id, role = ARG.role}) do
  if given ~= '' then
    redis.call('HSET', KEY.watch, name, given)
  end
end
redis.call('ZREMRANGEBYSCORE', KEY.gaps, '-inf', tonumber(at) - tonumber(ARG.memory))
redis.call('ZREMRANGEBYRANK', KEY.gaps, 0, -1 - tonumber(ARG.most))
redis.call('EXPIRE', KEY.watch, ARG.memory)
redis.call('EXPIRE', KEY.gaps, ARG.memory)
return {at, since, unpack(redis.call('ZRANGE', KEY.gaps, 0, -1))}
