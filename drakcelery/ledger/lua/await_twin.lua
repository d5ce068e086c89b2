-- Let a task wait for a live analysis under the same conditions, of which it may get the result; or, without one, for
-- somebody with the time to look for an earlier one.
--
-- KEY inbox          the task leaves it
-- KEY live           read
-- KEY twins_waiting  task -> since when it waits, and for which analysis
-- ARG task           its uid
-- ARG twin           the uid of the analysis; that of the task itself where it waits for none
-- ARG most           how many tasks may wait so
-- returns 1; 0 where the task has left the inbox; 2 where the analysis is over, or too many wait already
if not redis.call('ZSCORE', KEY.inbox, ARG.task) then
  return 0
end
local known = redis.call('HGET', KEY.twins_waiting, ARG.task)
if ARG.twin ~= ARG.task and not redis.call('ZSCORE', KEY.live, ARG.twin) then
  return 2
end
if not known and redis.call('HLEN', KEY.twins_waiting) >= tonumber(ARG.most) then
  return 2
end
local since = known and string.match(known, '^%S+') or now()
redis.call('HSET', KEY.twins_waiting, ARG.task, since .. ' ' .. ARG.twin)
redis.call('ZREM', KEY.inbox, ARG.task)
return 1
