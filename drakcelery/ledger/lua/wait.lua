-- Put an accepted task in line: its place is full, and those behind it may go elsewhere.
--
-- KEYS[1] drak:inbox            zset; the task leaves it
-- KEYS[2] drak:waiting          set of places that have a line
-- KEYS[3] drak:waiting:<place>  zset, task uid -> urgency and age; owner: ingress; no TTL, emptied by accept/expire
-- ARGV    task uid, score, place
-- returns 1, or 0 where the task has left the inbox
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZCARD', KEYS[3])
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1]) -- last: an error before it leaves the task where it is
return 1
