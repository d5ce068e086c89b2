-- The process that worked on a stage is known to be dead: the next delivery need not wait for its silence. That
-- death counts against the stage, in all attempts of this life.
--
-- KEY record   the record
-- ARG attempt  the attempt
-- ARG before   stage before the one that it worked on ('' for the first)
-- ARG stage    that stage
-- returns how many deaths the stage has cost with this one; 0 where nobody was at work on it
local attempt, done, busy = unpack(redis.call('HMGET', KEY.record, 'attempt', 'done', 'busy'))
if attempt ~= ARG.attempt or (done or '') ~= ARG.before or not busy then
  return 0
end
redis.call('HDEL', KEY.record, 'busy', 'beat')
return redis.call('HINCRBY', KEY.record, 'deaths:' .. ARG.stage, 1)
