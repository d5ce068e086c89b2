-- The process that worked on a stage is known to be dead: the next delivery need not wait for its silence. That
-- death counts against the stage, in all attempts of this life.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, stage before the one that it worked on ('' for the first), that stage
-- returns how many deaths the stage has cost with this one; 0 where nobody was at work on it
local fields = redis.call('HMGET', KEYS[1], 'attempt', 'done', 'busy')
if fields[1] ~= ARGV[1] or (fields[2] or '') ~= ARGV[2] or not fields[3] then
  return 0
end
redis.call('HDEL', KEYS[1], 'busy', 'beat')
return redis.call('HINCRBY', KEYS[1], 'deaths:' .. ARGV[3], 1)
