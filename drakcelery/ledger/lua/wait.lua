-- Put an accepted task in line: its place is full, and those behind it may go elsewhere.
--
-- KEY inbox    the task leaves it
-- KEY waiting  places that have a line
-- KEY line     of the place: task uid -> urgency and age; emptied by accept/expire
-- ARG task     its uid
-- ARG score    its urgency and age
-- ARG place    the place
-- returns 1, or 0 where the task has left the inbox
if not redis.call('ZSCORE', KEY.inbox, ARG.task) then
  return 0
end
redis.call('ZCARD', KEY.line)
redis.call('SADD', KEY.waiting, ARG.place)
redis.call('ZADD', KEY.line, ARG.score, ARG.task)
redis.call('ZREM', KEY.inbox, ARG.task) -- last: an error before it leaves the task where it is
return 1
