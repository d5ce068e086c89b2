-- Begin an accepted analysis and its first attempt: the record is made, Karton's task is STARTED, and it leaves the
-- inbox, all in the same instant.
--
-- KEY record    the record; expires only once the analysis is over
-- KEY inbox     the task leaves it
-- KEY live      analysis uid -> time received; emptied by whatever ends an analysis
-- KEY inflight  place -> number of live analyses; emptied with live
-- KEY task      Karton's; written only if it is still there
-- KEY twins     conditions -> uid of the live analysis under them; emptied with live
-- KEY twins_waiting  tasks that wait for another analysis; the task leaves it
-- KEY making    who copies an earlier analysis to this uid; ends with that
-- KEY host?     of the host that the place names, if it names one
-- ARG uid       of the analysis
-- ARG task      Karton's uid
-- ARG root      Karton's root uid
-- ARG analysis  what is wanted (JSON)
-- ARG place     where
-- ARG started   STARTED task (JSON)
-- ARG limit     how many live analyses the place takes
-- ARG conditions  under which no second analysis need run; '' if there are none
-- ARG waits     '1' if the task waits for a live analysis under the same conditions
-- ARG read      Karton's task as the caller read it: its JSON is compared, and read by no script
-- returns the record's fields, also where this very task opened it before and nobody knows its first attempt to be
--         sent (an answer may be lost, and the script sent again);
--         'taken' where another live task is using the uid; 'full' where others have filled the place, or its host has gone;
--         'twin' where another analysis under the same conditions is live, and the task waits for it;
--         'changed' where Karton's task is another by now, a cancelled one for example;
--         nil if the task has left the inbox, or its analysis is over: an ingress that was considered dead (frozen, say)
--         must not give it a second life
local is_live = redis.call('ZSCORE', KEY.live, ARG.uid)
local owner, state, attempt, first, sent = unpack(redis.call('HMGET', KEY.record, 'task_uid', 'state', 'attempt',
  'first_attempt', 'sent'))
if is_live and owner == ARG.task then
  redis.call('ZREM', KEY.inbox, ARG.task)
  local unsent = state == 'QUEUED' and attempt == first and attempt ~= sent
  return unsent and redis.call('HGETALL', KEY.record)
end
if not redis.call('ZSCORE', KEY.inbox, ARG.task) then
  return nil
end
if owner == ARG.task and not is_live then
  redis.call('ZREM', KEY.inbox, ARG.task)
  return nil
end
local known = redis.call('GET', KEY.task)
if known and known ~= ARG.read then
  return 'changed'
end
if is_live then
  return 'taken'
end
local twin = ARG.conditions ~= '' and redis.pcall('HGET', KEY.twins, ARG.conditions)
local has_twin = type(twin) == 'string' and twin ~= ARG.uid and redis.call('ZSCORE', KEY.live, twin)
if has_twin and ARG.waits == '1' then
  return 'twin'
end
local is_gone = KEY.host and redis.call('EXISTS', KEY.host) == 0
local taken = tonumber(redis.call('HGET', KEY.inflight, ARG.place) or '0')
if not taken then -- what is no number would end nobody's wait
  redis.call('HDEL', KEY.inflight, ARG.place)
  taken = 0
end
if is_gone or taken >= tonumber(ARG.limit) then
  return 'full'
end
-- Attempts go on counting after an earlier life under this uid, so that its late messages stay stale (I2)
local following = tonumber(attempt or '0') + 1
local at = now()
redis.call('DEL', KEY.record, KEY.making)
redis.call('HSET', KEY.record, 'uid', ARG.uid, 'task_uid', ARG.task, 'root_uid', ARG.root, 'analysis', ARG.analysis,
  'place', ARG.place, 'state', 'QUEUED', 'attempt', following, 'first_attempt', following, 'failures', '[]',
  'received', at, 'updated', at, 'at:QUEUED', at)
redis.call('SET', KEY.task, ARG.started, 'XX')
redis.call('ZADD', KEY.live, at, ARG.uid)
redis.pcall('HINCRBY', KEY.inflight, ARG.place, 1) -- what is no whole number is put right by recount.lua
if ARG.conditions ~= '' then
  redis.call('HSET', KEY.record, 'conditions', ARG.conditions)
  if not has_twin then
    redis.pcall('HSET', KEY.twins, ARG.conditions, ARG.uid)
  end
end
redis.call('ZREM', KEY.inbox, ARG.task)
redis.pcall('HDEL', KEY.twins_waiting, ARG.task)
return redis.call('HGETALL', KEY.record)
