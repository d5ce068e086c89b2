-- Set a task aside that could not be dealt with, or take it back for its next try.
--
-- KEY from   drak:inbox or drak:aside: task uid -> time; the task leaves it
-- KEY to     the other one; emptied by open/refuse/wait as the inbox is
-- ARG task   its uid
-- returns 1, or 0 where the task is not there
if not redis.call('ZSCORE', KEY.from, ARG.task) then
  return 0
end
redis.call('ZADD', KEY.to, second(), ARG.task)
redis.call('ZREM', KEY.from, ARG.task) -- last: an error before it leaves the task where it is
return 1
