-- The process that worked on a stage is known to be dead: the next delivery need not wait for its silence.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, stage before the one that it worked on ('' for the first)
local fields = redis.call('HMGET', KEYS[1], 'attempt', 'done')
if fields[1] == ARGV[1] and (fields[2] or '') == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'busy', 'beat')
end
