-- Say in Karton that a task is STARTED, unless Karton has dropped it or it has left the inbox.
--
-- KEYS[1] karton.task:<task uid>  Karton's; written only if it is still there
-- KEYS[2] drak:inbox              zset; read only
-- ARGV    task uid, STARTED task (JSON)
-- returns 1, or 0 where it has left the inbox: somebody else opened it, and it may be over
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'XX')
return 1
