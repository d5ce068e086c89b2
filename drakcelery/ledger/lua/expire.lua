-- Take a task out of its line and into the inbox: it has waited for too long, and is about to be refused.
--
-- KEYS[1] drak:inbox            zset, task uid -> time taken
-- KEYS[2] drak:waiting          set of places that have a line
-- KEYS[3] drak:waiting:<place>  zset; the task leaves it
-- ARGV    task uid, place
-- returns 1, or 0 where the task has left the line
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1]) -- first: an error leaves the task where it is
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.pcall('SREM', KEYS[2], ARGV[2])
end
return 1
