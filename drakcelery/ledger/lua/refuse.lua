-- End a task that never became an analysis: CRASHED in Karton, or cancelled there, and a record that says why.
--
-- KEYS[1] drak:analysis:{uid}      hash; written only where no other task's record is there
-- KEYS[2] drak:inbox               zset; the task leaves it
-- KEYS[3] drak:done                zset, analysis uid -> time over; owner: ledger; trimmed by reconcile
-- KEYS[4] karton.task:<task uid>   Karton's; written only if it is still there
-- KEYS[5] karton.metrics.consumed  KEYS[6] karton.metrics.crashed (Karton's hashes)
-- KEYS[7..9] as notify.lua has them
-- ARGV    uid, task uid, root uid, reason, CRASHED task (JSON) or '' to leave Karton's alone, TTL of the record in s,
--         identity, state (FAILED, or CANCELLED)
-- returns 1, or 0 where the task has left the inbox, or has a record: it was opened, refused or cancelled before
if redis.call('ZREM', KEYS[2], ARGV[2]) == 0 then
  return 0
end
local record, state = KEYS[1], ARGV[8]
if redis.pcall('HGET', record, 'task_uid') == ARGV[2] then -- it may be no hash: nobody's, and left alone
  return 0
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local fields = {'uid', ARGV[1], 'task_uid', ARGV[2], 'root_uid', ARGV[3], 'refusal', ARGV[4],
  'state', state, 'attempt', '0', 'first_attempt', '1', 'failures', '[]',
  'received', now, 'updated', now, 'finished', now}
if redis.call('EXISTS', record) == 0 then
  redis.call('HSET', record, unpack(fields))
  redis.call('EXPIRE', record, ARGV[6])
  redis.pcall('ZADD', KEYS[3], now, ARGV[1])
end
if ARGV[5] ~= '' and redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('SET', KEYS[4], ARGV[5])
end
if state == 'FAILED' then
  redis.pcall('HINCRBY', KEYS[5], ARGV[7], 1)
  redis.pcall('HINCRBY', KEYS[6], ARGV[7], 1)
end
notify(fields)
return 1
