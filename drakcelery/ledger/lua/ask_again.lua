-- Put a new sample task on Karton's queue, and note in the record of the analysis that it repeats who asked again, in
-- the same instant. That analysis stays as it is otherwise.
--
-- KEY record   of the analysis that is repeated; it may have expired
-- KEY task     Karton's, of the new task
-- KEY queue    Karton's, of its priority
-- ARG task      Karton's uid of the new task
-- ARG declared  the task as it was declared: if it is another by now, this script has run before
-- ARG spawned   SPAWNED task (JSON)
-- ARG uid       of the new analysis
-- ARG most      how many are noted; the oldest go first
if redis.call('GET', KEY.task) ~= ARG.declared then
  return nil
end
redis.call('RPUSH', KEY.queue, ARG.task) -- before anything changes: it may be no list
redis.call('SET', KEY.task, ARG.spawned)
local known = redis.pcall('HGET', KEY.record, 'retries') -- the record may be no hash: nobody's, and left alone
if type(known) == 'table' or redis.call('EXISTS', KEY.record) == 0 then
  return nil
end
local uids = {}
for uid in string.gmatch(known or '', '%S+') do
  uids[#uids + 1] = uid
end
uids[#uids + 1] = ARG.uid
local first = math.max(1, #uids - tonumber(ARG.most) + 1)
redis.call('HSET', KEY.record, 'retries', table.concat(uids, ' ', first))
return nil
