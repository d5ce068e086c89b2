-- Publish the result of an earlier analysis for a task of the inbox: the analysis task is declared and queued, the sample
-- task is FINISHED, and there is a record that says PUBLISHED. All of it or nothing, and at most once (I2).
--
-- WITH notify
-- WITH index
-- KEY record           the record
-- KEY origin           the record of the earlier analysis; read
-- KEY task             Karton's; read, and written
-- KEY inbox            the task leaves it
-- KEY live             read
-- KEY making           whose uid it is to be; removed
-- KEY done             the analysis joins it
-- KEY twins_waiting    the task leaves it
-- KEY analysis_task    Karton's; written
-- KEY karton_tasks     Karton's list of unrouted tasks
-- KEY karton_consumed  Karton's count
-- KEY karton_produced  likewise
-- ARG uid              of the analysis
-- ARG task             Karton's uid
-- ARG root             Karton's root uid
-- ARG analysis         what was wanted (JSON)
-- ARG place            where it would have run
-- ARG mark             of the try that has copied the artifacts
-- ARG attempt          the number that its first attempt would have
-- ARG origin_task      the analysis task of the earlier analysis
-- ARG read             Karton's task as the caller read it
-- ARG finished         FINISHED sample task (JSON)
-- ARG analysis_task    analysis task (JSON)
-- ARG analysis_uid     its uid
-- ARG result           what came of the earlier one (JSON)
-- ARG identity         of ours
-- ARG ttl              of the record, in s
-- returns the record's fields;
--         'changed' where Karton's task, or the record under this uid, is another by now;
--         'taken' where another live task is using the uid; 'gone' where the earlier analysis is not there any more;
--         nil if the task has left the inbox, or has a record, or the uid is another try's by now
if not redis.call('ZSCORE', KEY.inbox, ARG.task) then
  return nil
end
local owner, attempt = unpack(redis.call('HMGET', KEY.record, 'task_uid', 'attempt'))
if owner == ARG.task then
  redis.call('ZREM', KEY.inbox, ARG.task)
  return nil
end
if redis.call('GET', KEY.task) ~= ARG.read or tonumber(attempt or '0') + 1 ~= tonumber(ARG.attempt) then
  return 'changed'
end
if redis.call('ZSCORE', KEY.live, ARG.uid) then
  return 'taken'
end
if redis.call('GET', KEY.making) ~= ARG.task .. ' ' .. ARG.mark then
  return nil
end
local state, task = unpack(redis.call('HMGET', KEY.origin, 'state', 'analysis_task_uid'))
if state ~= 'PUBLISHED' or task ~= ARG.origin_task then
  return 'gone'
end
redis.call('LLEN', KEY.karton_tasks) -- where it is no list, nothing has changed yet
redis.call('SET', KEY.analysis_task, ARG.analysis_task)
redis.call('RPUSH', KEY.karton_tasks, ARG.analysis_uid)
local at = now()
redis.call('DEL', KEY.record, KEY.making)
-- No attempt was made: the first would be the one after this number, which no other life of the uid has had
redis.call('HSET', KEY.record, 'uid', ARG.uid, 'task_uid', ARG.task, 'root_uid', ARG.root, 'analysis', ARG.analysis,
  'place', ARG.place, 'state', 'PUBLISHED', 'attempt', ARG.attempt, 'first_attempt', ARG.attempt + 1, 'failures', '[]',
  'received', at, 'updated', at, 'finished', at, 'analysis_task_uid', ARG.analysis_uid, 'result', ARG.result)
redis.call('EXPIRE', KEY.record, ARG.ttl)
tell_karton(ARG.finished)
redis.call('ZREM', KEY.inbox, ARG.task)
redis.pcall('HDEL', KEY.twins_waiting, ARG.task)
redis.pcall('ZADD', KEY.done, at, ARG.uid)
local fields = redis.call('HGETALL', KEY.record)
enter_index(at, fields, ARG.ttl)
redis.pcall('HINCRBY', KEY.karton_consumed, ARG.identity, 1)
redis.pcall('HINCRBY', KEY.karton_produced, ARG.identity, 1)
notify(at, fields)
return fields
