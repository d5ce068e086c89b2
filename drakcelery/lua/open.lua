-- Begin the record of an accepted analysis; the task leaves the inbox in the same instant.
--
-- KEYS[1] drak:analysis:{uid}   hash, the record; owner: ledger; expires only once the analysis is over
-- KEYS[2] drak:inbox            zset; the task leaves it
-- KEYS[3] drak:live             zset, analysis uid -> time received; owner: ledger; no TTL, emptied by fail/publish
-- KEYS[4] drak:inflight         hash, place -> number of live analyses; owner: ledger; no TTL, emptied with drak:live
-- ARGV    uid, task uid, root uid, analysis (JSON), place
-- returns the number of attempts begun under this uid, also where this very task opened the record before;
--         -1 where another live task is using the uid; nil where the task has left the inbox: an ingress that was
--         held for dead (frozen, say) must not give it a second life
local record, inbox, live = KEYS[1], KEYS[2], KEYS[3]
local uid, task = ARGV[1], ARGV[2]
if redis.call('ZSCORE', live, uid) then
  if redis.call('HGET', record, 'task_uid') ~= task then
    return -1
  end
  redis.call('ZREM', inbox, task)
  return tonumber(redis.call('HGET', record, 'attempt'))
end
if not redis.call('ZSCORE', inbox, task) then
  return nil
end
-- Attempts go on counting after an earlier life under this uid, so that its late messages stay stale (I2)
local attempt = tonumber(redis.call('HGET', record, 'attempt') or '0')
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
redis.call('DEL', record)
redis.call('HSET', record, 'uid', uid, 'task_uid', task, 'root_uid', ARGV[3], 'analysis', ARGV[4],
  'place', ARGV[5], 'state', 'RECEIVED', 'attempt', attempt, 'first_attempt', attempt + 1, 'failures', '[]',
  'received', now, 'updated', now)
redis.call('ZADD', live, now, uid)
redis.call('HINCRBY', KEYS[4], ARGV[5], 1)
redis.call('ZREM', inbox, task)
return attempt
