-- One attempt has failed. Either the next one is due after a while, or the analysis is over and Karton is told. Of
-- two deliveries of a stage only the one that has it, or that has just done it, may say so.
--
-- WITH ending
-- KEY record     the record
-- KEY live       read
-- KEY due        analysis uid -> time at which to send
-- KEY karton_consumed  Karton's count
-- KEY karton_crashed   likewise
-- ARG uid        of the analysis
-- ARG attempt    the attempt
-- ARG failure    what happened (JSON)
-- ARG final      '1' if the analysis ends with it
-- ARG crashed    CRASHED task (JSON), '' where Karton has dropped it
-- ARG identity   of ours
-- ARG delay      until the next attempt, in s
-- ARG token      of the delivery that failed ('' where somebody else ends the attempt)
-- returns the next attempt's number; 0 where the analysis is over; nil if the caller is stale
if not redis.call('ZSCORE', KEY.live, ARG.uid) or redis.call('HGET', KEY.record, 'attempt') ~= ARG.attempt then
  return nil
end
local busy, done_by = unpack(redis.call('HMGET', KEY.record, 'busy', 'done_by'))
if ARG.token ~= '' and (busy or done_by) ~= ARG.token then
  return nil
end
local at = now()
local failures = cjson.decode(redis.call('HGET', KEY.record, 'failures'))
local failure = cjson.decode(ARG.failure)
failure['at'] = tonumber(at)
failures[#failures + 1] = failure
redis.call('HSET', KEY.record, 'failures', cjson.encode(failures), 'updated', at)
redis.call('HDEL', KEY.record, 'busy', 'beat', 'waiting', 'postponed', 'resends', 'done_by')
if ARG.final ~= '1' then
  redis.call('HDEL', KEY.record, 'host', 'slot', 'done', 'sent', 'alike', 'at:PREPARING', 'at:RUNNING',
    'at:COLLECTING', 'at:UPLOADING')
  redis.call('HSET', KEY.record, 'state', 'QUEUED', 'at:QUEUED', at)
  -- Where that is no zset, reconcile sends it: it is unsent
  redis.pcall('ZADD', KEY.due, later(at, ARG.delay), ARG.uid)
  return redis.call('HINCRBY', KEY.record, 'attempt', 1)
end
end_analysis(at, 'FAILED', ARG.crashed)
redis.pcall('HINCRBY', KEY.karton_consumed, ARG.identity, 1)
redis.pcall('HINCRBY', KEY.karton_crashed, ARG.identity, 1)
return 0
