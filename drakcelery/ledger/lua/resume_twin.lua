-- Take a task back into the inbox that waits for another analysis. Since when it has waited stays known, so that it does
-- not wait for ever.
--
-- KEY inbox          the task joins it
-- KEY twins_waiting  task -> since when it waits, and for which analysis
-- ARG task           its uid
-- returns 1, or 0 where it does not wait any more
local known = redis.call('HGET', KEY.twins_waiting, ARG.task)
local since = known and string.match(known, '^(%S+) %S')
if not since then
  return 0
end
redis.call('ZADD', KEY.inbox, second(), ARG.task)
redis.call('HSET', KEY.twins_waiting, ARG.task, since)
return 1
