-- Take a task off Karton's queue that nobody waits for any more, and into the inbox, where it is ended.
--
-- KEY inbox  task uid -> time taken
-- KEY queue  of our identity: Karton's list of task uids; the task leaves it
-- ARG task   its uid
-- returns 1, or 0 where the task has left the queue
redis.call('ZCARD', KEY.inbox) -- an error leaves the task where it is
if redis.call('LREM', KEY.queue, 1, ARG.task) == 0 then
  return 0
end
redis.call('ZADD', KEY.inbox, second(), ARG.task)
return 1
