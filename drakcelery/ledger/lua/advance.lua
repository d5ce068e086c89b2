-- Enter a stage, fenced by attempt (I2): only the current attempt, in order, and only one delivery at a time.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, stage before this one ('' for the first), new state, host, slot, token of this delivery,
--         seconds without a sign of life after which this delivery may be held for dead: noted with its claim,
--         the stage, '1' where nothing else is at work on the host, or no matter if there is,
--         the machine ('' where that is no matter), '1' where the attempt's files are on it
-- returns the time, and the record as it was before; 0 where the attempt is stale; 2 where another delivery of this
--         stage is under way; 3 where the stage has cost a process before (abandon.lua), and has to be alone;
--         4 where the attempt is on another machine, which has, or had, the same host name; 5 where that was so
--         long ago that its message was sent again (resend.lua)
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'done', 'state', 'busy', 'beat', 'silence', 'deaths:' .. ARGV[8],
  'machine', 'resends')
local state = fields[3]
local over = not state or state == 'PUBLISHED' or state == 'FAILED' or state == 'CANCELLED'
if over or fields[1] ~= ARGV[1] or (fields[2] or '') ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
if fields[4] and fields[4] ~= ARGV[6] and tonumber(now) - tonumber(fields[5]) < tonumber(fields[6]) then
  return 2
end
if fields[7] and ARGV[9] ~= '1' then
  return 3
end
if ARGV[2] ~= '' and ARGV[10] ~= '' and fields[8] and fields[8] ~= ARGV[10] and ARGV[11] ~= '1' then
  return fields[9] and 5 or 4
end
local before = redis.call('HGETALL', record)
redis.call('HSET', record, 'state', ARGV[3], 'host', ARGV[4], 'slot', ARGV[5], 'busy', ARGV[6], 'beat', now,
  'silence', ARGV[7], 'updated', now)
if ARGV[10] ~= '' then
  redis.call('HSET', record, 'machine', ARGV[10])
end
redis.call('HSETNX', record, 'at:' .. ARGV[3], now)
return {now, before}
