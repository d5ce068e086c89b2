-- Begin an accepted analysis and its first attempt: the record is made, Karton's task is STARTED, and it leaves the
-- inbox, all in the same instant.
--
-- KEYS[1] drak:analysis:{uid}     hash, the record; owner: ledger; expires only once the analysis is over
-- KEYS[2] drak:inbox              zset; the task leaves it
-- KEYS[3] drak:live               zset, analysis uid -> time received; owner: ledger; no TTL, emptied by fail/publish
-- KEYS[4] drak:inflight           hash, place -> number of live analyses; owner: ledger; no TTL, emptied with drak:live
-- KEYS[5] karton.task:<task uid>  Karton's; written only if it is still there
-- KEYS[6] drak:host:<host>        string; of the host that the place names, if it names one
-- ARGV    uid, task uid, root uid, analysis (JSON), place, STARTED task (JSON), how many live analyses the place takes,
--         Karton's task as the caller read it: its JSON is compared, and read by no script
-- returns the record's fields, also where this very task opened it before and nobody knows its first attempt to be
--         sent (an answer may be lost, and the script sent again);
--         'taken' where another live task is using the uid; 'full' where others have filled the place, or its host has gone;
--         'changed' where Karton's task is another by now, a cancelled one for example;
--         nil where the task has left the inbox, or its analysis is over: an ingress that was held for dead (frozen, say)
--         must not give it a second life
local record, inbox, live = KEYS[1], KEYS[2], KEYS[3]
local uid, task, place = ARGV[1], ARGV[2], ARGV[5]
local is_live = redis.call('ZSCORE', live, uid)
local fields = redis.call('HMGET', record, 'task_uid', 'state', 'attempt', 'first_attempt', 'sent')
if is_live and fields[1] == task then
  redis.call('ZREM', inbox, task)
  local unsent = fields[2] == 'QUEUED' and fields[3] == fields[4] and fields[3] ~= fields[5]
  return unsent and redis.call('HGETALL', record)
end
if not redis.call('ZSCORE', inbox, task) then
  return nil
end
if fields[1] == task and not is_live then
  redis.call('ZREM', inbox, task)
  return nil
end
local known = redis.call('GET', KEYS[5])
if known and known ~= ARGV[8] then
  return 'changed'
end
if is_live then
  return 'taken'
end
local is_gone = KEYS[6] and redis.call('EXISTS', KEYS[6]) == 0
local taken = tonumber(redis.call('HGET', KEYS[4], place) or '0')
if not taken then -- what is no number would end nobody's wait
  redis.call('HDEL', KEYS[4], place)
  taken = 0
end
if is_gone or taken >= tonumber(ARGV[7]) then
  return 'full'
end
-- Attempts go on counting after an earlier life under this uid, so that its late messages stay stale (I2)
local attempt = tonumber(fields[3] or '0') + 1
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('DEL', record)
redis.call('HSET', record, 'uid', uid, 'task_uid', task, 'root_uid', ARGV[3], 'analysis', ARGV[4], 'place', place,
  'state', 'QUEUED', 'attempt', attempt, 'first_attempt', attempt, 'failures', '[]',
  'received', now, 'updated', now, 'at:QUEUED', now)
redis.call('SET', KEYS[5], ARGV[6], 'XX')
redis.call('ZADD', live, now, uid)
redis.pcall('HINCRBY', KEYS[4], place, 1) -- what is no whole number is put right by recount.lua
redis.call('ZREM', inbox, task)
return redis.call('HGETALL', record)
