-- Take a task off Karton's queue that nobody waits for any more, and into the inbox, where it is ended.
--
-- KEYS[1] drak:inbox               zset, task uid -> time taken
-- KEYS[2] a queue of our identity  Karton's list of task uids; the task leaves it
-- ARGV    task uid
-- returns 1, or 0 where the task has left the queue
redis.call('ZCARD', KEYS[1]) -- an error leaves the task where it is
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
return 1
