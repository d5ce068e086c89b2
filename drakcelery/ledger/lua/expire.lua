-- Take a task out of its line and into the inbox: it has waited for too long, and is about to be refused.
--
-- KEY inbox    task uid -> time taken
-- KEY waiting  places that have a line
-- KEY line     of the place; the task leaves it
-- ARG task     its uid
-- ARG place    the place
-- returns 1, or 0 where the task has left the line
if not redis.call('ZSCORE', KEY.line, ARG.task) then
  return 0
end
redis.call('ZADD', KEY.inbox, second(), ARG.task) -- first: an error leaves the task where it is
redis.call('ZREM', KEY.line, ARG.task)
if redis.call('EXISTS', KEY.line) == 0 then
  redis.pcall('SREM', KEY.waiting, ARG.place)
end
return 1
