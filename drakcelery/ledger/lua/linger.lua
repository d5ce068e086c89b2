-- A delivery waits on its host until it may begin: nobody need take its message for lost.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, stage before the one that it waits for ('' for the first)
-- returns 1, or 0 where there is nothing to wait for any more: stale, over, or another delivery has the stage
local fields = redis.call('HMGET', KEYS[1], 'attempt', 'done', 'busy', 'state')
local over = fields[4] == 'PUBLISHED' or fields[4] == 'FAILED' or fields[4] == 'CANCELLED'
if over or fields[1] ~= ARGV[1] or (fields[2] or '') ~= ARGV[2] or fields[3] then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'beat', string.format('%d.%06d', time[1], time[2]))
return 1
