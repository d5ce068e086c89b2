-- Set a task aside that could not be dealt with, or take it back for its next try.
--
-- KEYS[1] drak:inbox or drak:aside  zset, task uid -> time; the task leaves it
-- KEYS[2] the other one; owner: ingress; no TTL, emptied by open/refuse/wait as the inbox is
-- ARGV    task uid
-- returns 1, or 0 where the task is not there
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1]) -- last: an error before it leaves the task where it is
return 1
