-- Enter a stage, fenced by attempt (I2): only the current attempt, in order, and only one delivery at a time.
--
-- KEY record     the record
-- ARG attempt    the attempt
-- ARG before     stage before this one ('' for the first)
-- ARG stage      this one
-- ARG state      the analysis' from now on
-- ARG host       where it runs
-- ARG slot       in which slot
-- ARG token      of this delivery
-- ARG silence    seconds without a sign of life after which this delivery may be considered dead: noted with its claim
-- ARG alone      '1' where nothing else is at work on the host, or no matter if there is
-- ARG machine    the machine ('' where that is no matter)
-- ARG has_files  '1' where the attempt's files are on it
-- returns the time, and the record as it was before; 0 where the attempt is stale; 2 where another delivery of this
--         stage is under way; 3 where the stage has cost a process before (abandon.lua), and has to be alone;
--         4 where the attempt is on another machine, which has, or had, the same host name; 5 where that was so
--         long ago that its message was sent again (resend.lua)
local attempt, done, state, busy, beat, silence, deaths, machine, resends = unpack(redis.call('HMGET', KEY.record,
  'attempt', 'done', 'state', 'busy', 'beat', 'silence', 'deaths:' .. ARG.stage, 'machine', 'resends'))
if not state or is_over(state) or attempt ~= ARG.attempt or (done or '') ~= ARG.before then
  return 0
end
local at = now()
if busy and busy ~= ARG.token and tonumber(at) - tonumber(beat) < tonumber(silence) then
  return 2
end
if deaths and ARG.alone ~= '1' then
  return 3
end
if ARG.before ~= '' and ARG.machine ~= '' and machine and machine ~= ARG.machine and ARG.has_files ~= '1' then
  return resends and 5 or 4
end
local before = redis.call('HGETALL', KEY.record)
redis.call('HSET', KEY.record, 'state', ARG.state, 'host', ARG.host, 'slot', ARG.slot, 'busy', ARG.token, 'beat', at,
  'silence', ARG.silence, 'updated', at)
if ARG.machine ~= '' then
  redis.call('HSET', KEY.record, 'machine', ARG.machine)
end
redis.call('HSETNX', KEY.record, 'at:' .. ARG.state, at)
return {at, before}
