-- A delivery shows that it is alive.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, token of the delivery
-- returns 1, also where there is no record (a Redis without its data says nothing of anybody); 0 where the attempt is stale, the analysis is over, or another delivery took over
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'busy', 'state')
if not fields[3] then
  return 1
end
local over = fields[3] == 'PUBLISHED' or fields[3] == 'FAILED' or fields[3] == 'CANCELLED'
if over or fields[1] ~= ARGV[1] or fields[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', record, 'beat', string.format('%d.%06d', time[1], time[2]))
return 1
