-- Take the next task off Karton's queues, if the fleet has room. Atomic: a task is either on a Karton
-- queue or in the inbox, at any instant (I1).
--
-- KEYS[1]   drak:inbox            zset, task uid -> time taken; owner: ingress; no TTL, emptied by open/refuse
-- KEYS[2]   drak:live             zset, analysis uid -> time received; read only
-- KEYS[3..] Karton's queues of our identity, most urgent first (lists of task uids)
-- ARGV[1]   how many analyses may be in flight
-- returns   task uid, or nil where there is no room or no task
if redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[1]) then
  return nil
end
for i = 3, #KEYS do
  local task = redis.call('LPOP', KEYS[i])
  if task then
    redis.call('ZADD', KEYS[1], redis.call('TIME')[1], task)
    return task
  end
end
return nil
