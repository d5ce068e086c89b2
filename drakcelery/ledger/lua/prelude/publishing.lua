-- Publish an analysis: the analysis task is declared and queued, the sample task is FINISHED, the record says PUBLISHED:
-- all of it or nothing, and at most once (I2).
--
-- WITH ending
-- KEY record           the record
-- KEY analysis_task    Karton's; written
-- KEY reusable         the newest complete analysis under its conditions
-- KEY karton_tasks     Karton's list of unrouted tasks
-- KEY karton_consumed  Karton's count
-- KEY karton_produced  likewise
-- ARG uid              of the analysis
-- ARG ttl              of the record, in s
-- ARG attempt          the attempt
-- ARG finished         FINISHED sample task (JSON)
-- ARG analysis_task    analysis task (JSON)
-- ARG analysis_uid     its uid
-- ARG result           what came of it (JSON), or ''
-- ARG is_reusable      '1' if other tasks may have its result
-- ARG identity         of ours

-- Whether the attempt is current, and the analysis not over
local function may_publish()
  local attempt, state, done = unpack(redis.call('HMGET', KEY.record, 'attempt', 'state', 'done'))
  return attempt == ARG.attempt and state == 'UPLOADING' and done == 'upload'
end

-- field, value, …: what else the record says from then on. Returns the record
local function publish(...)
  redis.call('LLEN', KEY.karton_tasks) -- where it is no list, nothing has changed yet
  redis.call('SET', KEY.analysis_task, ARG.analysis_task)
  redis.call('RPUSH', KEY.karton_tasks, ARG.analysis_uid)
  local fields = end_analysis(now(), 'PUBLISHED', ARG.finished, 'analysis_task_uid', ARG.analysis_uid, 'result', ARG.result,
    ...)
  if ARG.is_reusable == '1' then
    redis.pcall('SET', KEY.reusable, ARG.uid)
    redis.pcall('EXPIRE', KEY.reusable, ARG.ttl)
  end
  redis.pcall('HINCRBY', KEY.karton_consumed, ARG.identity, 1)
  redis.pcall('HINCRBY', KEY.karton_produced, ARG.identity, 1)
  return fields
end

