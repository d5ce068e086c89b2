-- Note that the chain of an attempt is with the broker, unless a later attempt has begun.
--
-- KEY record   the record
-- ARG attempt  the attempt
local attempt, finished = unpack(redis.call('HMGET', KEY.record, 'attempt', 'finished'))
if attempt == ARG.attempt and not finished then
  redis.call('HSET', KEY.record, 'sent', ARG.attempt)
end
