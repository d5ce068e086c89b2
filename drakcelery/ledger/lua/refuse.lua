-- End a task that never became an analysis: CRASHED in Karton, or cancelled there, and a record that says why.
--
-- WITH notify
-- WITH index
-- KEY record    written only where no other task's record is there
-- KEY inbox     the task leaves it
-- KEY done      the analysis joins it
-- KEY twins_waiting  the task leaves it
-- KEY karton_consumed  Karton's count
-- KEY karton_crashed   likewise
-- ARG uid       of the analysis
-- ARG task      Karton's uid
-- ARG root      Karton's root uid
-- ARG reason    why
-- ARG ttl       of the record, in s
-- ARG sample    what is known of it (JSON), or ''
-- ARG crashed   CRASHED task (JSON) or '' to leave Karton's alone
-- ARG identity  of ours
-- ARG state     FAILED, or CANCELLED
-- returns 1, or 0 where the task has left the inbox, or has a record: it was opened, refused or cancelled before
if redis.call('ZREM', KEY.inbox, ARG.task) == 0 then
  return 0
end
redis.pcall('HDEL', KEY.twins_waiting, ARG.task)
if redis.pcall('HGET', KEY.record, 'task_uid') == ARG.task then -- it may be no hash: nobody's, and left alone
  return 0
end
local at = now()
local fields = {'uid', ARG.uid, 'task_uid', ARG.task, 'root_uid', ARG.root, 'refusal', ARG.reason, 'refused_sample', ARG.sample,
  'state', ARG.state, 'attempt', '0', 'first_attempt', '1', 'failures', '[]',
  'received', at, 'updated', at, 'finished', at}
if redis.call('EXISTS', KEY.record) == 0 then
  redis.call('HSET', KEY.record, unpack(fields))
  redis.call('EXPIRE', KEY.record, ARG.ttl)
  redis.pcall('ZADD', KEY.done, at, ARG.uid)
  enter_index(at, fields, ARG.ttl)
end
tell_karton(ARG.crashed)
if ARG.state == 'FAILED' then
  redis.pcall('HINCRBY', KEY.karton_consumed, ARG.identity, 1)
  redis.pcall('HINCRBY', KEY.karton_crashed, ARG.identity, 1)
end
notify(at, fields)
return 1
