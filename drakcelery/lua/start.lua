-- Say in Karton that a task is STARTED, unless Karton has dropped it, somebody cancelled it there, or it has left
-- the inbox.
--
-- KEYS[1] karton.task:<task uid>  Karton's; written only if it is still there
-- KEYS[2] drak:inbox              zset; read, and left by a task that was cancelled
-- ARGV    task uid, STARTED task (JSON)
-- returns 1, or 0 where it has left the inbox (somebody else opened it, and it may be over) or was cancelled
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
local task = redis.call('GET', KEYS[1])
if task and cjson.decode(task)['status'] == 'Finished' then
  redis.call('ZREM', KEYS[2], ARGV[1])  -- karton-dashboard's cancel
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'XX')
return 1
